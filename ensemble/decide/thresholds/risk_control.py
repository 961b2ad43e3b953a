"""Control risks by groups: thresholds that keep a promise about groups that were not seen.

A group's loss is the share of its pixels of a class that a threshold misses. Groups, not pixels, are what resembles the
places to be mapped; so a promise counts groups, whatever their sizes. Two kinds of promise are made:

- with confidence: in at least 95 % of cases the mean loss of groups is at most so high. It is tested from the lowest
  threshold upwards, which misses the least, until a test fails (Bates et al. 2021, doi:10.1145/3478535; Angelopoulos
  et al. 2021, arXiv:2110.01052). The test bets against the promise being broken (Waudby-Smith and Ramdas 2024,
  doi:10.1093/jrsssb/qkad009): it holds for any number of groups and any distribution of losses.
- in expectation: the mean loss of the next group is at most so high, over all that could have been seen (conformal risk
  control; Angelopoulos et al. 2022, arXiv:2208.02814). That asks for far fewer groups.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["count_groups", "expected_bin", "fewest_groups", "promised_bins", "test_loss"]

Floats = NDArray[np.float64]

MOST_GROUPS = 100_000
"""Beyond which a promise is no longer counted on."""

STEP = 64
"""Thresholds that are tested at a time, from the lowest on."""

BOLDEST = 0.99
"""Share of the capital that a bet risks at most."""


def count_groups(
    bins: NDArray[np.integer], weight: Floats, group: NDArray[np.integer], n_groups: int, n_bins: int
) -> Floats:
    """Count the pixels of a class by group and bin, (n_groups, n_bins + 1), those that are always missed last.

    Parameters
    ----------
    bins : (n,) int
        From 0 to n_bins: the higher, the higher the thresholds at which a pixel is found; n_bins: it never is.
    weight : (n,) float64
    group : (n,) int
        From 0 to n_groups - 1; those without a pixel of the class are left out.
    n_groups, n_bins : int
    """
    cell = group.astype(np.int64) * (n_bins + 1) + bins
    counts = np.bincount(cell, weight, n_groups * (n_bins + 1)).astype(np.float64).reshape(n_groups, n_bins + 1)
    lying: Floats = counts[counts.sum(axis=1) > 0]
    return lying


def losses_of(counts: Floats) -> Floats:
    """Return the share of each group's pixels that a threshold at each bin misses, (n_bins, n_groups)."""
    found = np.cumsum(counts[:, -2::-1], axis=1)[:, ::-1]
    losses: Floats = (1 - found / counts.sum(axis=1, keepdims=True)).T
    return losses


def test_loss(losses: Floats, bound: float, confidence: float) -> Floats:
    """Return p-values of the mean loss being above a bound.

    Someone bets, group by group in an order drawn once, that losses are below the bound. If they are not, the bets gain
    nothing in the mean, and capital that ever grows by a factor of 1/p has a probability of p at most.

    Parameters
    ----------
    losses : (…, n_groups) float64 in [0, 1]
    bound : float
    confidence : float
        With which the bound is to be kept, which says how boldly to bet.

    Examples
    --------
    >>> test_loss(np.zeros((1, 50)), 0.1, 0.95).round(3), test_loss(np.full((1, 50), 0.2), 0.1, 0.95).round(3)
    (array([0.006]), array([1.]))
    """
    drawn = losses[..., np.random.default_rng(0).permutation(losses.shape[-1])]
    seen = np.arange(1, drawn.shape[-1] + 1)
    mean = (0.5 + np.cumsum(drawn, axis=-1)) / (seen + 1)
    spread = (0.25 + np.cumsum((drawn - mean) ** 2, axis=-1)) / (seen + 1)
    # What is bet on a group is known before the group is.
    before = np.concatenate([np.full((*spread.shape[:-1], 1), 0.25), spread[..., :-1]], axis=-1)
    bets = np.minimum(np.sqrt(2 * np.log(1 / (1 - confidence)) / (drawn.shape[-1] * before)), BOLDEST / (1 - bound))
    capital = np.cumsum(np.log1p(bets * (bound - drawn)), axis=-1).max(axis=-1)
    p_values: Floats = np.exp(-np.maximum(capital, 0))
    return p_values


test_loss.__test__ = False  # type: ignore[attr-defined]


@cache
def fewest_groups(bound: float, confidence: float) -> int:
    """Return how many groups a promise needs where none of them loses anything.

    >>> fewest_groups(0.1, 0.95), fewest_groups(0.2, 0.95)
    (29, 14)
    """
    low, high = 1, MOST_GROUPS
    while low < high:
        middle = (low + high) // 2
        kept = float(test_loss(np.zeros((1, middle)), bound, confidence)[0]) <= 1 - confidence
        low, high = (low, middle) if kept else (middle + 1, high)
    return low


def promised_bins(counts: Floats, bound: float, confidence: float) -> int:
    """Return up to which bin thresholds keep a promise with confidence, as a number of bins: 0 if none does.

    Parameters
    ----------
    counts : (n_groups, n_bins + 1) float64
        As `count_groups` counts a class.
    bound : float
        On the mean loss.
    confidence : float
    """
    losses = losses_of(counts)
    for start in range(0, len(losses), STEP):
        kept = test_loss(losses[start : start + STEP], bound, confidence) <= 1 - confidence
        if not kept.all():
            return start + int(np.argmin(kept))
    return len(losses)


def expected_bin(counts: Floats, bound: float) -> int:
    """Return the highest bin at which the next group's expected loss is within a bound; 0 where groups are too few.

    Parameters
    ----------
    counts : (n_groups, n_bins + 1) float64
        As `count_groups` counts a class.
    bound : float
    """
    losses = losses_of(counts)
    within = (losses.sum(axis=1) + 1) / (losses.shape[1] + 1) <= bound
    return int(np.flatnonzero(within)[-1]) if within.any() else 0
