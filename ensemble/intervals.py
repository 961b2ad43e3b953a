"""Intervals: how far a score could move if other groups had been labelled."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.metrics import Metric

__all__ = ["Interval", "Pooled", "pool_groups", "resample_groups", "score_interval", "sum_by_group"]


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap interval; the ends are NaN where there is none.

    Parameters
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pooled:
    """Confusion counts summed over all groups, and over each bootstrap resample of them.

    Parameters
    ----------
    total : (n_labels, n_labels + 1) float64
    resampled : (resamples, n_labels, n_labels + 1) float64
        Empty with a single group: nothing can then be said of others.
    """

    total: NDArray[np.float64]
    resampled: NDArray[np.float64]


def sum_by_group(counts: Mapping[str, NDArray[np.int64]], groups: Mapping[str, str]) -> NDArray[np.int64]:
    """Sum the confusion counts of scenes by group, (n_groups, n_labels, n_labels + 1), groups in sorted order."""
    place = {name: position for position, name in enumerate(sorted({groups[scene] for scene in counts}))}
    sums = np.zeros((len(place), *next(iter(counts.values())).shape), np.int64)
    for scene, scene_counts in counts.items():
        sums[place[groups[scene]]] += scene_counts
    return sums


def resample_groups(n_groups: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each group is drawn in each bootstrap resample, (resamples, n_groups)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples)


def pool_groups(sums: NDArray[np.int64], draws: NDArray[np.int64]) -> Pooled:
    """Sum groups' counts over all of them and over each resample.

    Parameters
    ----------
    sums : (n_groups, n_labels, n_labels + 1) int64
    draws : (resamples, n_groups) int64
    """
    # In float64 the product runs in BLAS, and counts of pixels stay exact up to 2^53.
    flat = sums.reshape(len(sums), -1).astype(np.float64)
    resampled = draws.astype(np.float64) @ flat if len(sums) > 1 else np.empty((0, flat.shape[1]))
    return Pooled(sums.sum(axis=0).astype(np.float64), resampled.reshape(-1, *sums.shape[1:]))


def score_interval(pooled: Pooled, metric: Metric, coverage: float, against: Pooled | None = None) -> list[Interval]:
    """Score pooled counts, with percentile intervals over resampled groups.

    Parameters
    ----------
    pooled : Pooled
    metric : Metric
    coverage : float
        Such as 0.95.
    against : Pooled, optional
        Then the scores are differences from the scores of these, paired: in the same resamples.

    Returns
    -------
    intervals : list of Interval
        One, or one a class for a class metric.
    """
    value, resampled = metric.of(pooled.total), metric.of(pooled.resampled)
    if against is not None:
        value, resampled = value - metric.of(against.total), resampled - metric.of(against.resampled)
    return [
        Interval(float(one), *_percentiles(many[np.isfinite(many)], coverage))
        for one, many in zip(np.atleast_1d(value), np.atleast_2d(resampled.T), strict=True)
    ]


def _percentiles(values: NDArray[np.float64], coverage: float) -> tuple[float, float]:
    if not len(values):
        return float("nan"), float("nan")
    tail = (1 - coverage) / 2 * 100
    low, high = np.percentile(values, (tail, 100 - tail))
    return float(low), float(high)
