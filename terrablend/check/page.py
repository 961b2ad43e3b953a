"""The page of `terrablend check`: classes, examples, bands, outliers and groups of a catalogue."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.folds.distances import Distances
from data.folds.groups import linking_rules
from data.pages.axis import Axis
from data.pages.page import label_marks, write_page
from data.progress import Track
from data.scenes.catalogue import Catalogue
from data.scenes.histogram import Histogram
from data.scenes.scene import Scene
from data.settings import GroupSettings
from data.survey.overview import FAR, Measure, Overview
from features.unlike import Unlike
from terrablend.check.pictures import Shot, draw_album
from terrablend.check.tables import blank_scenes

__all__ = ["CheckFacts", "write_check_page"]

NAMES = 60
"""Names in a list that are shown."""

FAR_NAMES = 3
"""Scenes that are named beside a strip."""

UNLIKE_NAMES = 12
"""Scenes that are listed with the share that is unlike training."""

STEPS = 120
"""Distances at which shares of scenes are drawn."""

GRAIN = 0.25
"""Percent of a strip's width that scenes must differ by to be drawn as two."""


@dataclass(frozen=True)
class Curve:
    """The histogram of a split: corners of an area, in percent from the left and from the top."""

    split: str
    points: str


@dataclass(frozen=True)
class Strip:
    """A measure of all scenes: a lane of strokes for each split, and the scenes that lie far off."""

    name: str
    axis: Axis
    lanes: tuple[tuple[str, str], ...]
    usual: float
    far: tuple[str, ...]
    n_far: int
    constant: bool


@dataclass(frozen=True)
class CheckFacts:
    """What the page shows beside the catalogue.

    Parameters
    ----------
    name : str
        Of the experiment.
    settings : GroupSettings
        The rules that made the groups.
    root : Path
        Folder that their file starts from.
    leakage, warnings : sequence of str
        Lines of the report on folds, and what else looks odd.
    distances : sequence of Distances
        How far the scenes to be mapped lie from the training scenes.
    unlike : sequence of Unlike
        How much of them is unlike the training scenes.
    """

    name: str
    settings: GroupSettings
    root: Path
    leakage: Sequence[str] = ()
    warnings: Sequence[str] = ()
    distances: Sequence[Distances] = ()
    unlike: Sequence[Unlike] = ()


def write_check_page(
    path: Path, catalogue: Catalogue, overview: Overview, facts: CheckFacts, executor: Executor | None, track: Track
) -> None:
    """Write the page: one HTML file that works offline.

    Parameters
    ----------
    path : Path
    catalogue : Catalogue
        With groups and folds.
    overview : Overview
        Of it.
    facts : CheckFacts
    executor : Executor or None
        Where pictures are drawn.
    track : Track
    """
    album = draw_album(catalogue, overview, executor, track)
    splits = [part for part in overview.parts if not part.name.startswith("fold")]
    write_page(
        path,
        "terrablend.check",
        "check.html",
        experiment=facts.name,
        task=catalogue.classes.task,
        marks=label_marks(catalogue.classes),
        overview=overview,
        splits=splits,
        n_folds=len(catalogue.folds),
        highest=[_highest(overview, label) for label in range(len(catalogue.classes.label_names))],
        blank=blank_scenes(catalogue, overview),
        names=NAMES,
        histograms=[_plot(histogram) for histogram in catalogue.histograms],
        overlaps={histogram.band: _overlaps(histogram) for histogram in catalogue.histograms},
        strips=[_strip(measure, catalogue) for measure in overview.measures],
        far=FAR,
        album=album,
        groups=[_sheet(group, shots, facts) for group, shots in zip(overview.groups, album.groups, strict=False)],
        outliers=list(zip(overview.outliers, album.outliers, strict=False)),
        distances=[_draw_distances(found) for found in facts.distances],
        unlike=facts.unlike,
        unlike_names=UNLIKE_NAMES,
        leakage=facts.leakage,
        warnings=facts.warnings,
    )


def _highest(overview: Overview, label: int) -> float:
    """Return the largest share of a label in any part, which its bars are drawn against."""
    return max((part.share(label) for part in overview.parts if part.labels and part.whole), default=0.0) or 1.0


def _overlaps(histogram: Histogram) -> dict[str, float]:
    if "train" not in histogram.shares:
        return {}
    return {split: histogram.overlap("train", split) for split in histogram.shares if split != "train"}


def _plot(histogram: Histogram) -> dict[str, Any]:
    axis = Axis.spanning([histogram.edges[0], histogram.edges[-1]])
    edges = [axis.place(edge) for edge in histogram.edges]
    top = max(max(shares[1:-1]) for shares in histogram.shares.values()) or 1.0
    curves = []
    for split, shares in histogram.shares.items():
        heights = [round(100 - 96 * share / top, 2) for share in shares[1:-1]]
        corners = [(x, y) for left, right, y in zip(edges[:-1], edges[1:], heights, strict=True) for x in (left, right)]
        corners = [(edges[0], 100.0), *corners, (edges[-1], 100.0)]
        curves.append(Curve(split, " ".join(f"{x:g},{y:g}" for x, y in corners)))
    return {"band": histogram.band, "axis": axis, "curves": curves, "overlaps": _overlaps(histogram)}


def _draw_distances(found: Distances) -> dict[str, Any]:
    """Return the shares of scenes that are nearer than a distance, as curves."""
    axis = Axis.spanning([0.0, *np.quantile(np.concatenate([found.folds, found.mapped]), [0.98]).tolist()])
    curves = []
    for name, distances in (("train", found.folds), (found.split, found.mapped)):
        ends = np.linspace(0, axis.high, STEPS)
        shares = np.searchsorted(distances, ends, side="right") / len(distances)
        corners = [(axis.place(end), round(100 - 96 * share, 2)) for end, share in zip(ends, shares, strict=True)]
        curves.append(Curve(name, " ".join(f"{x:g},{y:g}" for x, y in corners)))
    title = "on the ground, km" if found.kind == "ground" else "in looks, standard deviations"
    return {"title": title, "split": found.split, "sentence": found.sentence, "axis": axis, "curves": curves}


def _strip(measure: Measure, catalogue: Catalogue) -> Strip:
    axis = Axis.spanning(measure.values.tolist())
    split_of = np.array([scene.split for scene in catalogue.scenes])
    lanes = []
    for split in dict.fromkeys(split_of.tolist()):
        values = measure.values[(split_of == split) & np.isfinite(measure.values)]
        places = np.unique(np.rint((values - axis.low) / (axis.high - axis.low) * 100 / GRAIN)) * GRAIN
        lanes.append((split, "".join(f"M{place:g} 0v1" for place in places)))
    far = np.flatnonzero(np.abs(measure.scores) >= FAR)
    far = far[np.argsort(-np.abs(measure.scores[far]), kind="stable")]
    named = tuple(_name(catalogue.scenes[place]) for place in far[:FAR_NAMES])
    known = measure.values[np.isfinite(measure.values)]
    constant = not len(known) or float(np.ptp(known)) == 0
    return Strip(measure.name, axis, tuple(lanes), measure.usual, named, len(far), constant)


def _name(scene: Scene) -> str:
    return str(scene.id) if scene.split == "train" else f"{scene.id} ({scene.split})"


def _sheet(group: Sequence[Scene], shots: tuple[Shot, ...], facts: CheckFacts) -> dict[str, Any]:
    scenes = [shot.scene for shot in shots]
    return {
        "name": group[0].group,
        "split": group[0].split,
        "fold": group[0].fold,
        "size": len(group),
        "rules": [_describe_rule(rule, facts.settings) for rule in linking_rules(scenes, facts.settings, facts.root)]
        or ["the same ground, by what their pixels hold, or a shape that they show together"],
        "shots": shots,
    }


def _describe_rule(rule: str, settings: GroupSettings) -> str:
    return {
        "pattern": f"the same name by the pattern {settings.pattern}",
        "file": f"the same group in {settings.file}",
        "overlap": "overlap on the ground",
        "similar": f"alike on {settings.similar}, by a correlation of {settings.similarity:g} or more",
    }[rule]
