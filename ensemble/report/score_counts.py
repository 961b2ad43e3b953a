"""Counts of pixels by class and probability: all that thresholds, curves and calibration plots need."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene
from ensemble.decide.decision.thresholds import is_class, threshold_bin
from ensemble.maps import MemberMaps

__all__ = [
    "CELLS",
    "JointCounts",
    "ScoreCounts",
    "count_joint",
    "count_scores",
    "gather_scores",
    "threshold_edges",
    "truth_of",
]

STEPS = 512
"""Thresholds are multiples of 1/512, and those that were decided."""

CELLS = 64
"""Of each member's probability in joint counts."""

Ints = NDArray[np.int64]
Stored = NDArray[np.uint16]
Sources = Callable[[Stored], Mapping[str, Stored]]
"""Members' maps (n_members, n_classes, …) → name → probabilities (n_classes, …), all as stored."""
Pair = Callable[[Stored], tuple[Stored, Stored]]
"""Members' maps → those of two members (n_classes, …) that are blended with other weights."""


@dataclass(frozen=True)
class ScoreCounts:
    """Pixels by class and probability.

    Parameters
    ----------
    edges : (n,) int64
        Stored probabilities, rising from 0: bin b holds those from ``edges[b]`` to below ``edges[b + 1]``.
    counts : (K, 2, n + 1) int64
        Of each class the pixels of all others and its own pixels; the last bin holds those without a prediction. When
        binary, K is 1.
    """

    edges: Ints
    counts: Ints

    def cumulate(self) -> tuple[Ints, Ints]:
        """Return hits and false alarms (K, n) each of every threshold: the pixels at or above each edge."""
        above = np.cumsum(self.counts[..., -2::-1], axis=-1)[..., ::-1]
        return above[:, 1], above[:, 0]

    @property
    def pixels(self) -> Ints:
        """Pixels of all others and own pixels of each class, (K, 2), those without a prediction too."""
        pixels: Ints = self.counts.sum(axis=-1)
        return pixels


@dataclass(frozen=True)
class JointCounts:
    """Pixels by class and the probabilities of two members.

    Parameters
    ----------
    counts : (K, 2, CELLS + 1, CELLS + 1) int64
        As in `ScoreCounts`; the first member's cell, then the second's. The last of each is without a prediction.
    """

    counts: Ints

    def blend(self, weight: float, edges: Ints) -> ScoreCounts:
        """Return the counts of a blend in which the second member has a weight, each cell taken as its middle."""
        middle = (np.arange(CELLS) + 0.5) / CELLS
        score = np.full((CELLS + 1, CELLS + 1), np.nan)
        score[:CELLS, :CELLS] = (1 - weight) * middle[:, None] + weight * middle
        # Where one member predicted nothing, the other is alone, unless it has no weight.
        if weight < 1:
            score[:CELLS, CELLS] = middle
        if weight > 0:
            score[CELLS, :CELLS] = middle
        bins = np.where(np.isnan(score), len(edges), np.searchsorted(edges, score * TOP, "right") - 1)
        n = len(edges) + 1
        flat = [np.bincount(bins.ravel(), cells.ravel(), minlength=n) for cells in self.counts.reshape(-1, *bins.shape)]
        return ScoreCounts(edges, np.array(flat).astype(np.int64).reshape(*self.counts.shape[:2], n))


def threshold_edges(decided: Iterable[float]) -> Ints:
    """Return the stored probabilities that are tried as thresholds: evenly spaced ones, and those that were decided."""
    even = (step / STEPS for step in range(STEPS + 1))
    thresholds = {*even, *(threshold for threshold in decided if 0 <= threshold <= 1)}
    return np.unique([threshold_bin(threshold) for threshold in thresholds]).astype(np.int64)


def truth_of(label: NDArray[np.uint8], n_classes: int, exclusive: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return of labels (Q, …) which pixels are of each class, and which are labelled: (K, …) bool each."""
    own = is_class(label, n_classes, exclusive)
    return own, np.broadcast_to(label != IGNORE, own.shape)


def count_scores(stored: Stored, own: NDArray[np.bool_], labelled: NDArray[np.bool_], edges: Ints) -> Ints:
    """Count pixels by class and stored probability.

    Parameters
    ----------
    stored, own, labelled : (K, …)
        Probabilities; what is of the class; what counts.
    edges : (n,) int64

    Returns
    -------
    counts : (K, 2, n + 1) int64
    """
    n = len(edges) + 1
    bins = np.empty(NODATA + 1, np.int64)
    bins[:NODATA] = np.searchsorted(edges, np.arange(NODATA), "right") - 1
    bins[NODATA] = n - 1
    counts = np.empty((len(stored), 2, n), np.int64)
    for place, proba in enumerate(stored):
        seen = labelled[place]
        cell = bins[proba[seen]] + n * own[place][seen]
        counts[place] = np.bincount(cell, minlength=2 * n).reshape(2, n)
    return counts


def count_joint(first: Stored, second: Stored, own: NDArray[np.bool_], labelled: NDArray[np.bool_]) -> Ints:
    """Count pixels by class and the stored probabilities of two members, as `JointCounts` keeps them."""
    side = CELLS + 1
    bins = np.minimum(np.arange(NODATA + 1) * CELLS // TOP, CELLS - 1)
    bins[NODATA] = CELLS
    counts = np.empty((len(first), 2, side, side), np.int64)
    for place in range(len(first)):
        seen = labelled[place]
        cell = (own[place][seen] * side + bins[first[place][seen]]) * side + bins[second[place][seen]]
        counts[place] = np.bincount(cell, minlength=2 * side**2).reshape(2, side, side)
    return counts


def gather_scores(
    maps: MemberMaps, catalogue: Catalogue, sources: Sources, pair: Pair | None, edges: Ints, track: Track = untracked
) -> tuple[dict[str, dict[int, ScoreCounts]], JointCounts | None]:
    """Count the out-of-fold pixels of every training scene, exactly, in one pass over the maps.

    Parameters
    ----------
    maps : MemberMaps
    catalogue : Catalogue
    sources : callable
        Such as the blend and each member.
    pair : callable, optional
        Two members, to count their blends with other weights.
    edges : (n,) int64
    track : Track

    Returns
    -------
    scores : dict
        Source → fold → ScoreCounts.
    joint : JointCounts or None
    """
    classes, scenes = catalogue.classes, catalogue.split("train")
    scores: dict[str, dict[int, ScoreCounts]] = {}
    joint: Ints | None = None
    work = partial(_count_scene, classes=classes, sources=sources, pair=pair, edges=edges)
    counted = track(maps.each(work, scenes), "probabilities counted", len(scenes))
    for scene, (by_source, more) in zip(scenes, counted, strict=True):
        for name, counts in by_source.items():
            by_fold = scores.setdefault(name, {})
            before = by_fold.get(scene.fold or 0)
            by_fold[scene.fold or 0] = ScoreCounts(edges, counts if before is None else before.counts + counts)
        if more is not None:
            joint = more if joint is None else joint + more
    return scores, None if joint is None else JointCounts(joint)


def _count_scene(
    maps: MemberMaps, scene: Scene, classes: Classes, sources: Sources, pair: Pair | None, edges: Ints
) -> tuple[dict[str, Ints], Ints | None]:
    """Return the counts of a scene by source, and those of a pair."""
    scores: dict[str, Ints] = {}
    joint: Ints | None = None
    for window, stored in maps.windows(scene):
        own, labelled = truth_of(maps.label(scene, window), len(classes.names), classes.exclusive)
        for name, proba in sources(stored).items():
            counts = count_scores(proba, own, labelled, edges)
            scores[name] = scores[name] + counts if name in scores else counts
        if pair is not None:
            more = count_joint(*pair(stored), own, labelled)
            joint = more if joint is None else joint + more
    return scores, joint
