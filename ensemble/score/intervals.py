"""Intervals: how far a score could move if other groups had been labelled."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.pages.numbers import format_number
from ensemble.objective import Objective

__all__ = ["Estimate", "Interval", "Resampled", "Score", "resample_groups"]

Score = Callable[[Any], NDArray[np.float64]]
"""Counts (…, Q, n_labels, n_labels + 1) → scores (…) or, of each of the names of labels, (…, n)."""


@dataclass(frozen=True)
class Interval:
    """A score with its interval; the ends are NaN where there is none.

    Parameters
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float

    def words(self, digits: int = 3) -> str:
        """Write the score and, if there is one, its interval.

        >>> Interval(0.91234, 0.9, 0.92).words(), Interval(0.5, float("nan"), float("nan")).words(2)
        ('0.912 (0.900–0.920)', '0.50')
        """
        ends = (
            f" ({format_number(self.low, digits)}–{format_number(self.high, digits)})"
            if math.isfinite(self.low)
            else ""
        )
        return format_number(self.value, digits) + ends


@dataclass(frozen=True)
class Estimate:
    """A score, or one of each label, and the same of every bootstrap resample of the groups.

    The difference of two estimates is paired: taken within each resample, so that what is hard for both, such as a
    cloudy scene, does not widen its interval.

    Parameters
    ----------
    value : () or (n,) float64
    resampled : (n_resamples, …) float64
        Empty with a single group: it allows no statement about others.
    """

    value: NDArray[np.float64]
    resampled: NDArray[np.float64]

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.resampled - other.resampled)

    def intervals(self, confidence_level: float) -> list[Interval]:
        """Return each score with its percentile interval; resamples in which it has no meaning are left out."""
        return [
            Interval(float(value), *_percentiles(resampled[np.isfinite(resampled)], confidence_level))
            for value, resampled in zip(np.atleast_1d(self.value), np.atleast_2d(self.resampled.T), strict=True)
        ]

    def interval(self, confidence_level: float) -> Interval:
        """Return the one score with its interval."""
        (only,) = self.intervals(confidence_level)
        return only


@dataclass(frozen=True)
class Resampled:
    """Counts of scenes, and how often each scene's group is drawn in each bootstrap resample.

    Parameters
    ----------
    scenes : (n_scenes, …) int64
        Confusion counts.
    group : (n_scenes,) int64
        0 … n_groups - 1.
    draws : (n_resamples, n_groups) int64
        As `resample_groups` returns them; the same for all that is to be compared.
    """

    scenes: NDArray[np.int64]
    group: NDArray[np.int64]
    draws: NDArray[np.int64]

    def pooled(self, score: Score) -> Estimate:
        """Score the counts of all scenes together."""
        total = self.scenes.sum(axis=0).astype(np.float64)
        return Estimate(np.asarray(score(total)), np.asarray(score(self._totals)))

    def scene_mean(self, score: Score) -> Estimate:
        """Score each scene, and average over those in which the score has a meaning."""
        scores = np.asarray(score(self.scenes))
        seen = np.isfinite(scores)
        sums, counts = np.where(seen, scores, 0), seen.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return Estimate(sums.sum(axis=0) / counts.sum(axis=0), self._add(sums) / self._add(counts))

    def score(self, objective: Objective) -> Estimate:
        """Score by what was optimised, whichever way that adds scenes up."""
        return self.scene_mean(objective.score) if objective.by_scene else self.pooled(objective.score)

    @cached_property
    def _totals(self) -> NDArray[np.float64]:
        return self._add(self.scenes)

    def _add(self, scenes: NDArray[Any]) -> NDArray[np.float64]:
        """Sum a value of each scene over each resample, (n_resamples, …)."""
        n_groups = self.draws.shape[1]
        shape = scenes.shape[1:]
        if n_groups < 2:
            return np.empty((0, *shape))
        sums = np.zeros((n_groups, *shape))
        np.add.at(sums, self.group, scenes)
        draws, flat = self.draws.astype(np.float64), sums.reshape(n_groups, -1)
        if scenes.dtype.kind == "i":
            # BLAS adds in an order that depends on its threads; counts are exact in any order up to 2^53.
            return (draws @ flat).reshape(-1, *shape)
        added: NDArray[np.float64] = np.einsum("rg,gv->rv", draws, flat)
        return added.reshape(-1, *shape)


def resample_groups(n_groups: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each group is drawn in each bootstrap resample, (n_resamples, n_groups)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)


def _percentiles(values: NDArray[np.float64], confidence_level: float) -> tuple[float, float]:
    if not len(values):
        return float("nan"), float("nan")
    tail = (1 - confidence_level) / 2 * 100
    low, high = np.percentile(values, (tail, 100 - tail))
    return float(low), float(high)
