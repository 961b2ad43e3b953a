"""The area of applicability: where a map lies outside of what its model has learned from.

The dissimilarity index of a pixel is its distance to the nearest training pixel, in standardised columns that are
weighted by their importance, over the mean distance of training pixels from each other. It is too large where it
exceeds what training pixels of one fold have to those of the others, outliers left out.

References
----------
.. [1] Meyer and Pebesma 2021, Predicting into unknown space? doi:10.1111/2041-210X.13650
.. [2] Schumacher et al. 2025, the local point density, doi:10.5194/gmd-18-10185-2025
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.maps.geotiff import map_writer
from data.records import FileKind, read_record, write_record
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene
from data.scenes.windows import Window
from features.explanation import Explanation
from features.feature_set import FeatureSet
from features.subsample import sample_rows
from features.table import Table

__all__ = [
    "LAYERS",
    "Applicability",
    "Measure",
    "ScopedMeasure",
    "compare_rows",
    "learn_applicability",
    "load_applicability",
    "weigh_columns",
    "write_applicability",
]

Floats = NDArray[np.float64]

Measure = Callable[[Scene, Window], NDArray[np.float32]]
"""(scene, window) → layers (3, height, width) of `LAYERS`."""

APPLICABILITY = FileKind("an area of applicability", MemberError, "terrablend explain")

LAYERS = ("dissimilarity", "density", "applicable")
"""What is told of a pixel."""

REFERENCES = 1000
"""Training pixels that others are compared with: more cost time for each pixel of a map, and change little."""

SHARE, MOST = 0.95, 24
"""Columns are compared that have this share of the importance, and no more than so many."""

LARGEST = 16.0
"""Dissimilarity index that the map ends at."""

WINDOW = 2**20
"""Pixels whose columns are held at a time."""

CHUNK = 256
"""Pixels compared at a time: their distances then stay in the processor's cache."""


@dataclass(frozen=True)
class Applicability:
    """What pixels are compared with.

    Parameters
    ----------
    columns : tuple of str
    offset, scale : tuple of float
        Of each column: compared is (value - offset) · scale, whose standard deviation is the column's weight.
    references : tuple of tuple of float
        Training pixels, one row each, so scaled; 0 where a column has no value.
    mean_distance : float
        Of training pixels from each other.
    threshold : float
        Largest dissimilarity of a pixel that the model may be applied to.
    """

    columns: tuple[str, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    references: tuple[tuple[float, ...], ...]
    mean_distance: float
    threshold: float

    def __post_init__(self) -> None:
        if not 0 < len(self.columns) == len(self.offset) == len(self.scale) or not self.references:
            raise ValueError("expected an offset and a scale of each column, and references")
        if {len(row) for row in self.references} != {len(self.columns)} or not self.mean_distance > 0:
            raise ValueError("expected references of all columns, and some distance between them")

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_record(path, self)

    def measure(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Measure how far pixels are from what was learned from.

        Parameters
        ----------
        features : (F, …) float32
            Values of the columns; NaN counts as the column's mean, a pixel without any value is not measured.

        Returns
        -------
        layers : (3, …) float32
            Of `LAYERS`: the dissimilarity index; how many training pixels are within the threshold; 1 where the index
            is, else 0. NaN where nothing is measured.
        """
        flat = features.reshape(len(self.columns), -1)
        layers = np.full((len(LAYERS), flat.shape[1]), np.nan, np.float32)
        measured = np.flatnonzero(np.isfinite(flat).any(axis=0))
        for start in range(0, len(measured), CHUNK):
            places = measured[start : start + CHUNK]
            squares = self._squares(_scaled(flat[:, places].T, self.offset, self.scale))
            index = np.sqrt(squares.min(axis=1)) / self.mean_distance
            reach = (self.threshold * self.mean_distance) ** 2
            layers[0, places] = index
            layers[1, places] = np.count_nonzero(squares <= reach, axis=1)
            layers[2, places] = index <= self.threshold
        return layers.reshape(len(LAYERS), *features.shape[1:])

    @cached_property
    def _points(self) -> Floats:
        return np.array(self.references)

    def _squares(self, pixels: Floats) -> Floats:
        """Return the squared distances (n, n_references) of pixels (n, F) from all references."""
        squares: Floats = pixels @ (-2 * self._points.T)
        squares += (self._points**2).sum(axis=1)
        squares += (pixels**2).sum(axis=1)[:, None]
        return np.maximum(squares, 0, out=squares)


def load_applicability(path: Path) -> Applicability:
    """Read what `Applicability.save` wrote; raises MemberError if it is missing or damaged."""
    return read_record(path, Applicability, APPLICABILITY)


def weigh_columns(explanation: Explanation, columns: Container[str]) -> dict[str, float]:
    """Return those of some columns that matter and their weights, the heaviest first, with the mean 1.

    A weight is the mean, over the classes, of the share that a column has of the rises of the class's log loss when
    columns are shuffled. All columns weigh the same where shuffling harms nothing.
    """
    shares: dict[str, float] = {}
    for use in explanation.classes:
        rises = {column.name: max(column.log_loss.mean, 0.0) for column in use.columns if column.name in columns}
        total = sum(rises.values())
        for name, rise in rises.items():
            shares[name] = shares.get(name, 0.0) + (rise / total if total else 0.0)
    ranked = sorted(shares, key=lambda name: (-shares[name], name))
    reached = np.cumsum([shares[name] for name in ranked])
    if reached[-1] <= 0:
        return dict.fromkeys(ranked[:MOST], 1.0)
    count = min(int(np.searchsorted(reached, SHARE * reached[-1])) + 1, MOST)
    return {name: shares[name] * count / reached[count - 1] for name in ranked[:count]}


def learn_applicability(
    table: Table, catalogue: Catalogue, weights: dict[str, float], *, seed: int, references: int = REFERENCES
) -> Applicability:
    """Learn what pixels are compared with from a sample of the training rows, which stands for all of them.

    Parameters
    ----------
    table : Table
        Opened with the columns of ``weights``.
    catalogue : Catalogue
        With folds.
    weights : dict of str to float
        Column → weight; see `weigh_columns`.
    seed : int
    references : int
        About how many rows.
    """
    rng = np.random.default_rng(seed)
    labels = len(catalogue.classes.label_names)
    places, _ = sample_rows(table.label, table.weight, min(references, len(table)), labels, rng)
    chosen = np.zeros(len(table), bool)
    chosen[places] = True
    fold_of = {scene.id: scene.fold for scene in catalogue.split("train")}
    folds = np.array([fold_of[table.scenes[scene]] for scene in table.scene[places].tolist()])
    rows = table.read(chosen).astype(np.float64)
    rows[~np.isfinite(rows)] = np.nan
    return compare_rows(rows, folds, weights)


@dataclass(frozen=True)
class ScopedMeasure:
    """Measures windows of scenes, whose columns it computes.

    Parameters
    ----------
    applicability : Applicability
    formulas : mapping of str to str
        The user's features, by name.
    """

    applicability: Applicability
    formulas: Mapping[str, str]

    def __call__(self, scene: Scene, window: Window) -> NDArray[np.float32]:
        """Return the layers of a window; NaN where the scene has no data."""
        opened = self.feature_set(scene).open(scene)
        features = opened.compute(window)
        features[:, ~opened.valid(window)] = np.nan
        return self.applicability.measure(features)

    def feature_set(self, scene: Scene) -> FeatureSet:
        """Return the columns, as features of a scene."""
        return FeatureSet(scene.bands, self.applicability.columns, self.formulas, window_pixels=WINDOW)


def write_applicability(
    applicability: Applicability, formulas: Mapping[str, str], scene: Scene, path: Path, tags: Mapping[str, str]
) -> None:
    """Write the layers of a scene as a Cloud Optimized GeoTIFF, a band each; see `Applicability.measure`.

    Indices end at 16. Tags of the file tell the threshold, and with how many training pixels pixels are compared.
    """
    facts = {"threshold": f"{applicability.threshold:.6g}", "references": str(len(applicability.references))}
    tops = (LARGEST, float(len(applicability.references)), 1.0)
    measure = ScopedMeasure(applicability, formulas)
    with keep_open(), map_writer(path, scene.grid, LAYERS, {**tags, **facts}, True, tops) as writer:
        for window in measure.feature_set(scene).windows(scene.grid):
            writer.write(window, measure(scene, window))


def compare_rows(rows: Floats, folds: NDArray[np.int64], weights: dict[str, float]) -> Applicability:
    """Return what pixels are compared with.

    Parameters
    ----------
    rows : (n, F) float64
        Of training pixels; NaN where a column has no value.
    folds : (n,) int64
    weights : dict of str to float
        Column → weight.
    """
    empty = np.isnan(rows).all(axis=0)
    known = np.where(empty, 0.0, rows)
    offset = np.nanmean(known, axis=0)
    deviation = np.nanstd(known, axis=0, ddof=1 if len(rows) > 1 else 0)
    scale = np.where(deviation > 0, np.array([*weights.values()]) / np.where(deviation > 0, deviation, 1), 0.0)
    points = _scaled(rows, tuple(offset), tuple(scale))
    total, nearest = 0.0, np.full(len(points), np.nan)
    for place, distances in enumerate(_distances(points)):
        total += float(distances.sum())
        others = distances[folds != folds[place]]
        nearest[place] = others.min() if len(others) else np.nan
    mean = total / max(len(points) * (len(points) - 1), 1) or 1.0
    return Applicability(
        tuple(weights),
        tuple(offset.tolist()),
        tuple(scale.tolist()),
        tuple(map(tuple, points.tolist())),
        mean,
        _whisker(nearest[np.isfinite(nearest)] / mean),
    )


def _distances(points: Floats) -> Iterator[Floats]:
    """Yield the distances of each point from all."""
    for point in points:
        yield np.sqrt(((points - point) ** 2).sum(axis=1))


def _scaled(rows: NDArray[np.floating], offset: tuple[float, ...], scale: tuple[float, ...]) -> Floats:
    scaled: Floats = (rows - np.array(offset)) * np.array(scale)
    scaled[~np.isfinite(scaled)] = 0
    return scaled


def _whisker(values: Floats) -> float:
    """Return the end of a boxplot's upper whisker: the largest value that is no outlier, by Tukey's hinges.

    >>> _whisker(np.array([1.0, 2, 3, 4, 5, 100]))
    5.0
    """
    ordered = np.sort(values)
    if not len(ordered):
        return 0.0
    depth = (len(ordered) + 3) // 2 / 2
    lower, upper = (
        (ordered[int(np.floor(at)) - 1] + ordered[int(np.ceil(at)) - 1]) / 2 for at in (depth, len(ordered) + 1 - depth)
    )
    return float(ordered[ordered <= upper + 1.5 * (upper - lower)].max())
