"""Compare how far the scenes to be mapped lie from the training scenes with how far folds lie from each other.

Cross-validation tells how well a map will be only where a fold is as far from what is learned from as the map is.
Distances are to the nearest scene, on the ground and in what scenes look like.

References
----------
.. [1] Linnenbrink et al. 2024, kNNDM CV, doi:10.5194/gmd-17-5897-2024
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform
from scipy.spatial import cKDTree
from scipy.stats import mannwhitneyu, wasserstein_distance

from data.scenes.catalogue import Catalogue
from data.scenes.footprints import has_footprint
from data.scenes.scene import Scene

__all__ = ["Distances", "compare_distances", "scene_looks", "scene_places"]

Floats = NDArray[np.float64]

EARTH = 6371.0088
"""Mean radius, km."""

ALIKE = 0.15
"""How far from one half the chance may be that a scene to be mapped is the farther, before that is worth a word."""

CHANCE = 0.1
"""Probability of such a difference, were there none, above which it is not spoken of."""


@dataclass(frozen=True)
class Distances:
    """Distances of scenes to the nearest training scene.

    Parameters
    ----------
    kind : {"ground", "looks"}
        In km, or in standard deviations of what training scenes look like.
    split : {"val", "test"}
        Whose scenes are to be mapped.
    folds : (n,) float64
        Of each training scene to the nearest of another fold, rising.
    mapped : (m,) float64
        Of each scene to be mapped to the nearest training scene, rising.
    """

    kind: Literal["ground", "looks"]
    split: Literal["val", "test"]
    folds: Floats
    mapped: Floats

    @property
    def gap(self) -> float:
        """The Wasserstein distance of the two distributions: 0 where they are the same."""
        return float(wasserstein_distance(self.folds, self.mapped))

    @property
    def farther(self) -> float:
        """The chance that a scene to be mapped is farther than a training scene; one half where they are alike."""
        below = np.searchsorted(self.folds, self.mapped, "left") + np.searchsorted(self.folds, self.mapped, "right")
        return float(below.mean() / (2 * len(self.folds)))

    @property
    def sentence(self) -> str:
        """What that means, in one sentence."""
        near, far = float(np.median(self.folds)), float(np.median(self.mapped))
        where = "On the ground" if self.kind == "ground" else "In what they look like"
        unit = " km" if self.kind == "ground" else ""
        found = f"{self.split} scenes lie {far:.3g}{unit} from the nearest training scene, folds {near:.3g}{unit} apart"
        if abs(self.farther - 0.5) > ALIKE and mannwhitneyu(self.folds, self.mapped).pvalue > CHANCE:
            meaning = "the scenes are too few to tell whether cross-validation is as hard as the maps"
        elif abs(self.farther - 0.5) <= ALIKE:
            meaning = "cross-validation is about as hard as the maps"
        elif self.farther > 0.5:
            meaning = "the maps are harder, and scores out of fold will be too good for them"
        else:
            meaning = "the maps are easier, and scores out of fold will be too low for them"
        return f"{where} {found} (medians): {meaning}."


def compare_distances(catalogue: Catalogue) -> Iterator[Distances]:
    """Yield the distances of val and test scenes, on the ground where all scenes lie somewhere, and in their looks.

    Parameters
    ----------
    catalogue : Catalogue
        With folds.
    """
    train = catalogue.split("train")
    folds = np.array([scene.fold for scene in train])
    splits: tuple[Literal["val", "test"], ...] = ("val", "test")
    for split in splits:
        mapped = catalogue.split(split)
        if not mapped or len(set(folds.tolist())) < 2:
            continue
        places, looks = scene_places([*train, *mapped]), scene_looks(catalogue, [*train, *mapped])
        if places is not None:
            ground = fold_distances(places[: len(train)], folds), nearest(places[len(train) :], places[: len(train)])
            yield Distances("ground", split, *(np.sort(to_km(chords)) for chords in ground))
        if looks is not None:
            apart = fold_distances(looks[: len(train)], folds), nearest(looks[len(train) :], looks[: len(train)])
            yield Distances("looks", split, *map(np.sort, apart))


def fold_distances(points: Floats, folds: NDArray[np.int64]) -> Floats:
    """Return the distance of each point (n, d) to the nearest of another fold."""
    distances = np.empty(len(points))
    for fold in np.unique(folds):
        held = folds == fold
        distances[held] = nearest(points[held], points[~held])
    return distances


def nearest(points: Floats, others: Floats) -> Floats:
    """Return the distance of each point (n, d) to the nearest of others (m, d)."""
    return np.asarray(cKDTree(others).query(points)[0], np.float64)


def to_km(chords: Floats) -> Floats:
    """Return the distances on the ground of places whose chords through a sphere of radius 1 are given."""
    arcs: Floats = 2 * EARTH * np.arcsin(np.minimum(chords / 2, 1))
    return arcs


def scene_places(scenes: Sequence[Scene]) -> Floats | None:
    """Return where the middles of scenes lie, (n, 3) on a sphere of radius 1; None unless all are georeferenced."""
    if not all(map(has_footprint, scenes)):
        return None
    by_crs: dict[str, list[int]] = {}
    for position, scene in enumerate(scenes):
        by_crs.setdefault(str(scene.grid.crs), []).append(position)
    degrees = np.empty((2, len(scenes)))
    for crs, positions in by_crs.items():
        middles = [_middle(scenes[position]) for position in positions]
        degrees[:, positions] = transform(crs, "EPSG:4326", *map(list, zip(*middles, strict=True)))[:2]
    if not np.isfinite(degrees).all():
        return None
    east, north = np.deg2rad(degrees)
    return np.column_stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])


def _middle(scene: Scene) -> tuple[float, float]:
    grid = scene.grid
    assert grid.transform is not None
    a, b, c, d, e, f = grid.transform
    col, row = grid.width / 2, grid.height / 2
    return a * col + b * row + c, d * col + e * row + f


def scene_looks(catalogue: Catalogue, scenes: Sequence[Scene]) -> Floats | None:
    """Return what scenes look like, (n, 2 · bands): mean and deviation of each band, as training scenes differ in them.

    Unknown values count as usual ones. None without statistics of bands.
    """
    rows = [_look(catalogue, scene) for scene in scenes]
    if not all(rows):
        return None
    looks = np.array(rows, np.float64)
    known = looks[[scene.split == "train" for scene in scenes]]
    usual = np.array([np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else 0 for column in known.T])
    spread = np.where(np.isfinite(known), known, usual).std(axis=0)
    scaled = (np.where(np.isfinite(looks), looks, usual) - usual) / np.where(spread > 0, spread, np.inf)
    # As long on average as a single column: so a number means the same whatever the number of bands.
    return np.asarray(scaled / math.sqrt(max(int((spread > 0).sum()), 1)))


def _look(catalogue: Catalogue, scene: Scene) -> list[float]:
    found = catalogue.statistics.get((scene.split, scene.id))
    bands: Mapping[str, Mapping[str, float]] = {} if found is None else {str(row["band"]): row for row in found.bands}
    return [
        float(bands[band][key]) if bands[band]["count"] else np.nan
        for band in catalogue.bands
        if band in bands
        for key in ("mean", "deviation")
    ]
