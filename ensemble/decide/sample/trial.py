"""Trials: candidates are counted group by group on the same pixels, and what is fitted is tried on groups left out.

Each departure from what is simple is fitted to halves of the groups, many times over. How far it moves from half to
half tells how much of it is chance, and by that share it is pulled back: empirical Bayes (Efron and Morris 1973) with
the variance of balanced half-samples (McCarthy 1969). What a half gave, pulled back as much, is scored on the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.metrics.confusion import group_counts
from data.scenes.classes import Classes
from ensemble.decide.sample.choice import jackknife, jackknife_mean
from ensemble.decide.sample.pool import PixelPool
from ensemble.objective import Objective

__all__ = ["HALVES", "Departure", "Trial", "halve", "shrink"]

Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]

HALVES = 16
"""Halves that are drawn: eight divisions, of each both."""


def halve(groups: NDArray[np.int64], n_halves: int = HALVES) -> list[NDArray[np.int64]]:
    """Return halves of groups, each followed by the other; the same for the same groups.

    >>> [half.tolist() for half in halve(np.array([3, 5, 8, 9]), 2)]
    [[3, 9], [5, 8]]
    """
    rng = np.random.default_rng(len(groups))
    halves: list[NDArray[np.int64]] = []
    for _ in range(n_halves // 2):
        drawn = rng.permutation(groups)
        halves += [np.sort(drawn[: len(groups) // 2]), np.sort(drawn[len(groups) // 2 :])]
    return halves


def shrink(best: Floats, of_halves: Floats, simple: Floats, size: Callable[[Floats], Floats] = np.square) -> Floats:
    """Return the share of a departure from what is simple that is no chance, in [0, 1]: of each value or of all.

    Parameters
    ----------
    best : (n,) float64
        Fitted to all groups.
    of_halves : (n_halves, n) float64
        Fitted to each half.
    simple : (n,) float64
    size : callable
        Differences (…, n) → their squared size, of each (…, n) or, where values work together, of all (…).

    Examples
    --------
    >>> shrink(np.array([2.0, 2.0]), np.array([[2.1, 5.0], [1.9, -1.0]]), np.zeros(2)).round(2)
    array([1., 0.])
    """
    noise, signal = size(of_halves - best).mean(axis=0), size(best - simple)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept: Floats = np.where(signal > noise, 1 - noise / signal, 0.0)
    return kept


@dataclass(frozen=True)
class Departure:
    """Values that depart from what is simple.

    Parameters
    ----------
    values : (n,) float64
        Shrunk.
    spread : (n,) float64
        Standard error of what was fitted, over groups.
    replicates : (1 + n_groups,) float64
        Scores on the halves that they were not fitted to, and without each group in turn.
    evidence : (1 + n_groups,) float64
        Minus the log loss there; 0 where none was asked for.
    """

    values: Floats
    spread: Floats
    replicates: Floats
    evidence: Floats


@dataclass(frozen=True)
class Trial:
    """Sampled pixels of some scenes.

    Parameters
    ----------
    pool : PixelPool
    place : (n,) int64
        The scene of each pixel among those that there are.
    groups : (n_scenes,) int64
    classes : Classes
    objective : Objective
    """

    pool: PixelPool
    place: NDArray[np.int64]
    groups: NDArray[np.int64]
    classes: Classes
    objective: Objective

    @classmethod
    def of(cls, pool: PixelPool, groups: NDArray[np.int64], classes: Classes, objective: Objective) -> "Trial":
        """Return the trial on a pool; ``groups`` are those of all scenes, by the pool's ``scene``."""
        scenes, place = np.unique(pool.scene, return_inverse=True)
        return cls(pool, place.astype(np.int64), groups[scenes], classes, objective)

    def within(self, groups: NDArray[np.int64]) -> Chosen:
        """Return which pixels lie in some groups."""
        return np.isin(self.groups, groups)[self.place]

    def count(self, prediction: NDArray[np.uint8], chosen: Chosen | slice = slice(None)) -> Floats:
        """Count the labels (Q, n_chosen) of chosen pixels by scene, (n_scenes, Q, n_labels, n_labels + 1)."""
        pool, n = self.pool, len(self.groups)
        weight, place = pool.weight[chosen], self.place[chosen]
        return group_counts(pool.label[:, chosen], prediction, weight, self.classes.n_labels, place, n)

    def score(self, counts: Floats) -> Floats:
        """Score counts of scenes, then those without each group in turn, (1 + n_groups,)."""
        return jackknife(counts, self.groups, self.objective)

    def weigh(self, loss: Floats, pixels: NDArray[np.intp] | slice = slice(None)) -> Floats:
        """Return minus the mean loss of pixels, then that without each group in turn, (1 + n_groups,)."""
        return jackknife_mean(-loss, self.pool.weight[pixels], self.groups[self.place[pixels]])

    def depart(
        self,
        simple: Floats,
        fit: Callable[[Chosen], Floats],
        label: Callable[[Floats, Chosen], NDArray[np.uint8]],
        loss: Callable[[Floats, Chosen], Floats] | None = None,
        size: Callable[[Floats], Floats] = np.square,
    ) -> Departure:
        """Fit values, shrink them towards what is simple, and score them on groups that they were not fitted to.

        Parameters
        ----------
        simple : (n_values,) float64
        fit : callable
            Pixels → the values that suit these best.
        label : callable
            Values and pixels → the labels that they give, (Q, n_chosen).
        loss : callable, optional
            Values and pixels → the log loss of each, (n_chosen,).
        size : callable
            As of `shrink`.
        """
        halves = [self.within(half) for half in halve(np.unique(self.groups))]
        others = [half for pair in zip(halves[1::2], halves[::2], strict=True) for half in pair]
        best = fit(np.ones(len(self.place), bool))
        of_halves = np.stack([fit(half) for half in halves])
        kept = shrink(best, of_halves, simple, size)
        tried = [(simple + kept * (values - simple), other) for values, other in zip(of_halves, others, strict=True)]
        counts = np.sum([self.count(label(values, other), other) for values, other in tried], axis=0)
        losses = np.concatenate([loss(values, other) if loss else np.zeros(other.sum()) for values, other in tried])
        return Departure(
            simple + kept * (best - simple),
            np.sqrt(((of_halves - best) ** 2).mean(axis=0)),
            self.score(counts / (len(halves) // 2)),
            self.weigh(losses, np.concatenate([np.flatnonzero(other) for _, other in tried])),
        )
