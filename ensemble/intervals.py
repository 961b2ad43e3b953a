"""Intervals: how far a score could move if other groups had been labelled."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.metrics import Metric

__all__ = ["Interval", "resample_groups", "score_interval", "sum_by_group"]


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap interval.

    Parameters
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float


def sum_by_group(counts: Mapping[str, NDArray[np.int64]], groups: Mapping[str, str]) -> NDArray[np.int64]:
    """Sum the confusion counts of scenes by group, (n_groups, n_labels, n_labels + 1), groups in sorted order."""
    names = sorted({groups[scene] for scene in counts})
    sums = np.zeros((len(names), *next(iter(counts.values())).shape), np.int64)
    for scene, scene_counts in counts.items():
        sums[names.index(groups[scene])] += scene_counts
    return sums


def resample_groups(n_groups: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each group is drawn in each bootstrap resample, (resamples, n_groups)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples)


def score_interval(
    sums: NDArray[np.int64],
    draws: NDArray[np.int64],
    metric: Metric,
    coverage: float,
    against: NDArray[np.int64] | None = None,
) -> list[Interval]:
    """Score pooled counts, with percentile intervals over resampled groups.

    Parameters
    ----------
    sums : (n_groups, n_labels, n_labels + 1) int64
    draws : (resamples, n_groups) int64
    metric : Metric
    coverage : float
        Such as 0.95.
    against : like ``sums``, optional
        Then the scores are differences from the scores of these, in the same resamples.

    Returns
    -------
    intervals : list of Interval
        One, or one a class for a class metric.
    """
    value, resampled = metric.of(sums.sum(axis=0)), metric.of(np.tensordot(draws, sums, axes=1))
    if against is not None:
        value = value - metric.of(against.sum(axis=0))
        resampled = resampled - metric.of(np.tensordot(draws, against, axes=1))
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
