"""Choose folds that lie as far apart as the scenes to be mapped lie from the training scenes.

Groups that lie close to each other are joined, more and more of them, and each time dealt out to folds; those folds are
taken whose nearest-neighbour distances are most like those of the maps (Linnenbrink et al. 2024, see
`data.folds.distances`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from sklearn.cluster import AgglomerativeClustering

from data.errors import FoldError
from data.folds.distances import fold_distances, nearest, scene_looks, scene_places
from data.scenes.catalogue import Catalogue

__all__ = ["match_folds"]

logger = logging.getLogger(__name__)

TRIES = 12
"""Numbers of clusters that are tried."""

Deal = Callable[[Mapping[str, str]], dict[str, int]]
"""Scene → group that must not be split; returns scene → fold."""


def match_folds(catalogue: Catalogue, groups: Mapping[str, str], count: int, deal: Deal) -> dict[str, int]:
    """Deal groups out to folds that are as far apart as test scenes are from training scenes.

    Parameters
    ----------
    catalogue : Catalogue
    groups : mapping
        Training scene → group.
    count : int
        Folds.
    deal : callable
        Deals groups out; raises FoldError where that cannot be.

    Raises
    ------
    FoldError
        If there are no test scenes, nothing is known of where scenes lie or what they look like, or no number of
        clusters can be dealt out.
    """
    train, test = catalogue.split("train"), catalogue.split("test")
    if not test:
        raise FoldError("folds.match: expected test scenes, got none. Name them under scenes.test, or leave match out.")
    scenes = [*train, *test]
    places = scene_places(scenes)
    points = scene_looks(catalogue, scenes) if places is None else places
    if points is None:
        raise FoldError("folds.match: expected scenes with pixels in them, got none. Leave match out.")
    ours, theirs = points[: len(train)], points[len(train) :]
    wanted = nearest(theirs, ours)
    names = sorted({groups[scene.id] for scene in train})
    place = {name: number for number, name in enumerate(names)}
    group_of = np.array([place[groups[scene.id]] for scene in train])
    middles = _means(ours, group_of, len(names))
    found: list[tuple[float, int, dict[str, int]]] = []
    problem: FoldError | None = None
    for number in _numbers(count, len(names)):
        cluster_of = _join(middles, number)[group_of]
        try:
            folds = deal(
                {scene.id: f"{cluster:06d}" for scene, cluster in zip(train, cluster_of.tolist(), strict=True)}
            )
        except FoldError as error:
            problem = error
            continue
        dealt = np.array([folds[scene.id] for scene in train])
        found.append((float(wasserstein_distance(fold_distances(ours, dealt), wanted)), -number, folds))
    if not found:
        raise problem or FoldError("folds.match: expected groups, got none.")
    # Of those that are alike, the one that joins least.
    _, number, folds = min(found, key=lambda one: one[:2])
    logger.info("folds.match: %d groups in %d clusters, of %d numbers tried", len(names), -number, len(found))
    return folds


def _numbers(least: int, most: int) -> Sequence[int]:
    """Return numbers of clusters, each about the same factor more than the last."""
    numbers: list[int] = np.unique(np.geomspace(least, max(most, least), TRIES).round().astype(int)).tolist()
    return numbers


def _means(points: NDArray[np.float64], group_of: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    sums = np.zeros((count, points.shape[1]))
    np.add.at(sums, group_of, points)
    return sums / np.bincount(group_of, minlength=count)[:, None]


def _join(points: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """Return the cluster of each point, of so many."""
    if number >= len(points):
        return np.arange(len(points))
    clusters: NDArray[np.int64] = AgglomerativeClustering(number).fit_predict(points)
    return clusters
