"""The report's look at where not to believe the map: how much of each scene is unlike what was learned from."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data.scenes.scene import Scene, Split
from data.scenes.windows import Window
from ensemble.maps import MemberMaps
from ensemble.report.section import ReportSource, Row
from features.applicability import LAYERS

__all__ = ["applicability_values"]

SCENES = 40
"""Scenes of a split that are looked at, evenly through it."""
SQUARES, SIDE = 4, 256
"""Squares of a scene that are looked at, evenly over it, and their side in pixels."""
SHOWN = 12
"""Scenes that are listed, those with the largest share outside first."""


def applicability_values(source: ReportSource) -> Row | None:
    """Return the share of val and test scenes outside of the area of applicability, by scene and class; else None."""
    measure = source.run.applicability
    splits: tuple[Split, ...] = ("val", "test")
    chosen = {split: _spread(source.catalogue.split(split), SCENES) for split in splits}
    if measure is None or not any(chosen.values()):
        return None
    ensemble = source.fitted.ensemble
    maps = MemberMaps({name: source.maps.stores[name] for name in ensemble.used}, source.classes)
    n_labels = source.classes.n_labels
    parts = []
    for split, scenes in chosen.items():
        outside = {}
        for scene in source.track(scenes, f"{split} scenes compared", len(scenes)):
            counts = np.zeros((2, n_labels), np.int64)
            for window in _squares(scene):
                label = ensemble.decide(ensemble.proba(maps.read(scene, window)))[0]
                counts += _count(measure(scene, window), label, n_labels)
            outside[scene.id] = counts
        if outside:
            parts.append({"split": split, "n_scenes": len(source.catalogue.split(split)), **_shares(outside)})
    return {"parts": parts}


def _count(layers: NDArray[np.float32], label: NDArray[np.uint8], n_labels: int) -> NDArray[np.int64]:
    """Return the pixels of each mapped label (2, n_labels) that are measured, and that lie outside."""
    applicable = layers[LAYERS.index("applicable")]
    measured = np.isfinite(applicable) & (label < n_labels)
    counts = [np.bincount(label[mask], minlength=n_labels) for mask in (measured, measured & (applicable == 0))]
    return np.stack(counts).astype(np.int64)


def _shares(outside: dict[str, NDArray[np.int64]]) -> Row:
    total = sum(outside.values(), np.zeros_like(next(iter(outside.values()))))
    with np.errstate(invalid="ignore"):
        by_label = total[1] / total[0]
        shares = {scene: float(counts[1].sum() / counts[0].sum()) for scene, counts in outside.items() if counts.sum()}
    ranked = sorted(shares.items(), key=lambda share: (-share[1], share[0]))
    return {
        "looked_at": len(outside),
        "whole": float(total[1].sum() / max(total[0].sum(), 1)),
        "by_label": by_label.tolist(),
        "scenes": ranked[:SHOWN],
        "more": max(len(ranked) - SHOWN, 0),
    }


def _spread(scenes: Sequence[Scene], most: int) -> list[Scene]:
    places = np.unique(np.linspace(0, len(scenes) - 1, min(most, len(scenes))).round().astype(int)) if scenes else ()
    return [scenes[place] for place in places]


def _squares(scene: Scene) -> Iterator[Window]:
    """Yield squares on the diagonal lattice of a scene; all of it if it is small."""
    height, width = scene.grid.height, scene.grid.width
    per_side = round(SQUARES**0.5)
    rows, cols = (
        np.unique(np.linspace(0, max(size - SIDE, 0), per_side if size > SIDE else 1).round().astype(int)).tolist()
        for size in (height, width)
    )
    for row in rows:
        for col in cols:
            yield Window(row, col, min(SIDE, height - row), min(SIDE, width - col))
