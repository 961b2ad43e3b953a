"""Suggest where labels would help most: places to digitise, as a GeoPackage."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from data.errors import ExperimentError
from data.files import require_replaceable
from data.maps.geotiff import dequantise
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene
from data.scenes.windows import Window, tile_windows
from ensemble.audit.geopackage import Layer, layer_for, write_geopackage
from ensemble.audit.outlines import to_coordinates
from ensemble.ensemble import Ensemble
from ensemble.maps import MemberMaps, open_maps
from ensemble.uncertainty import UNCERTAINTIES, measure_uncertainty
from features.applicability import LAYERS, Measure, ScopedMeasure
from terrablend.run.scene_run import Run

__all__ = ["Place", "choose_places", "measure_places", "suggest_places"]

logger = logging.getLogger(__name__)

REASONS = ("entropy", "disagreement", "outside", "rare")
"""What makes a place worth a label, each a mean over its pixels."""

LEAST = 0.5
"""Share of a place that must be predicted."""


@dataclass(frozen=True)
class Place:
    """A square of a scene, and why it may be worth a label.

    Parameters
    ----------
    scene : str
    window : Window
    entropy, disagreement : float in [0, 1]
        See `ensemble.uncertainty.measure_uncertainty`.
    outside : float in [0, 1]
        Share outside of the area of applicability; 0 where the run knows none.
    rare : float
        Sum of the probabilities of the classes, each over its share of the training labels.
    likely : str
        The class whose probability is highest compared with its share of the training labels.
    """

    scene: str
    window: Window
    entropy: float
    disagreement: float
    outside: float
    rare: float
    likely: str


def suggest_places(run: Run, out: Path, count: int, side: int) -> list[tuple[float, Place]]:
    """Write the places of the test scenes whose labels would help most as a GeoPackage, and return them.

    A place's worth is the mean of its ranks in `REASONS`. The layers have an empty column ``class`` for what is found.

    Parameters
    ----------
    run : Run
        With a finished ensemble.
    out : Path
        Ends in ``.gpkg``.
    count : int
        Places.
    side : int
        Of a place, pixels.

    Raises
    ------
    ExperimentError
        If the run has no test scenes, or its scenes have tags.
    OutputError
        If a file is there that is no such GeoPackage.
    """
    ensemble, catalogue = run.load_ensemble(), run.load_catalogue()
    run.require_models(ensemble)
    scenes = catalogue.split("test")
    if catalogue.classes.task == "multilabel" or not scenes:
        got = "the task multilabel" if scenes else "none"
        raise ExperimentError(f"{run.source}: expected test scenes to look for places in, got {got}.")
    require_replaceable(out, _is_suggestion)
    maps = open_maps({name: run.member_path(name) for name in ensemble.used}, catalogue.classes)
    member = run.applicable_member(ensemble)
    measure = None if member is None else ScopedMeasure(run.load_applicability(member), run.formulas)
    places = [
        place
        for scene in run.track(scenes, "scenes searched", len(scenes))
        for place in measure_places(scene, maps, ensemble, label_shares(catalogue), side, measure)
    ]
    chosen = choose_places(places, count)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_geopackage(out, _layers(chosen, {scene.id: scene for scene in scenes}))
    logger.info("%d places of %d, in %s", len(chosen), len(places), out)
    return chosen


def label_shares(catalogue: Catalogue) -> NDArray[np.float64]:
    """Return the share of each label among the labelled pixels of the training scenes, above 0."""
    counts = np.sum([catalogue.label_counts(scene.id) for scene in catalogue.split("train")], axis=0) + 1.0
    return np.asarray(counts / counts.sum())


def measure_places(
    scene: Scene,
    maps: MemberMaps,
    ensemble: Ensemble,
    shares: NDArray[np.float64],
    side: int,
    measure: Measure | None = None,
) -> Iterator[Place]:
    """Yield the squares of a scene of which half or more is predicted.

    Parameters
    ----------
    scene : Scene
    maps : MemberMaps
        Of the members in ``ensemble.used``, in that order.
    ensemble : Ensemble
    shares : (n_labels,) float64
        Of the labels in training scenes.
    side : int
    measure : callable, optional
        (scene, window) → layers of the area of applicability.
    """
    labels = ensemble.classes.label_names
    for window in tile_windows(scene.grid.height, scene.grid.width, side):
        stored = maps.read(scene, window)
        shown = ensemble.show(ensemble.proba(stored))
        doubt = dict(zip(UNCERTAINTIES, measure_uncertainty(shown, stored), strict=True))
        known = np.isfinite(doubt["entropy"])
        if known.mean() < LEAST:
            continue
        proba = dequantise(shown)[:, known].mean(axis=1, dtype=np.float64)
        full = np.array([1 - proba[0], proba[0]]) if len(labels) == 2 else proba
        lift = full / shares
        applicable = None if measure is None else measure(scene, window)[LAYERS.index("applicable")]
        yield Place(
            scene.id,
            window,
            float(doubt["entropy"][known].mean()),
            float(doubt["disagreement"][known].mean()),
            0.0 if applicable is None else float((applicable[known] == 0).mean()),
            float(lift.sum()),
            labels[int(lift.argmax())],
        )


def choose_places(places: Sequence[Place], count: int) -> list[tuple[float, Place]]:
    """Return the places of the highest worth, spread over the scenes, with their worth in [0, 1].

    What is chosen next is worth half as much for each place that was chosen in its scene before, and nothing where it
    touches one of them.
    """
    values = np.array([[getattr(place, reason) for reason in REASONS] for place in places]).reshape(-1, len(REASONS))
    telling = values[:, np.ptp(values, axis=0) > 0] if len(values) else values
    if telling.shape[1]:
        worth = ((rankdata(telling, axis=0) - 0.5) / len(telling)).mean(axis=1)
    else:
        worth = np.ones(len(values))
    left, chosen = worth.copy(), list[tuple[float, Place]]()
    while len(chosen) < count and (left > 0).any():
        # Of equals the first: order is that of scenes and rows.
        best = int(left.argmax())
        chosen.append((float(worth[best]), places[best]))
        for position, place in enumerate(places):
            if place.scene == places[best].scene:
                left[position] = 0 if _touch(place.window, places[best].window) else left[position] / 2
    return chosen


def _touch(first: Window, second: Window) -> bool:
    return (
        first.row <= second.row + second.height
        and second.row <= first.row + first.height
        and first.col <= second.col + second.width
        and second.col <= first.col + first.width
    )


NAME = "suggested"


def _layers(chosen: Sequence[tuple[float, Place]], scenes: dict[str, Scene]) -> list[Layer]:
    layers: dict[str, Layer] = {}
    for rank, (worth, place) in enumerate(chosen, 1):
        grid, window = scenes[place.scene].grid, place.window
        left, top = float(window.col), float(window.row)
        right, bottom = left + window.width, top + window.height
        corners = [(left, top), (left, bottom), (right, bottom), (right, top), (left, top)]
        told = {key: value for key, value in asdict(place).items() if key != "window"}
        values = {"rank": rank, "worth": worth, **told, "row": window.row, "col": window.col, "class": ""}
        layer = layer_for(grid, NAME)
        layers.setdefault(layer.name, layer).features.append((to_coordinates([[corners]], grid), values))
    return list(layers.values())


def _is_suggestion(path: Path) -> bool:
    content = path.read_bytes()
    return content.startswith(b"SQLite format 3") and f"{NAME}_".encode() in content
