"""Measure how uncertain a class area is that was not labelled: because of the rates of errors, and of the scenes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ensemble.score.intervals import GroupCounts, Interval, degrees_of_freedom, spread_of

__all__ = ["Spread", "area_interval", "spread_of_rates", "spread_of_scenes"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """How an area varies.

    Parameters
    ----------
    variance : float
    freedom : float
        Degrees of freedom with which it is known.
    skewness : float
        Of the area, at least 0: how much further it may lie above than below.
    learned : bool
        Whether the variance is that of an estimate, which is too small when the estimate is, rather than of scenes.
    """

    variance: float
    freedom: float
    skewness: float
    learned: bool


def spread_of_rates(value: float, without: Floats) -> Spread:
    """Return how an area varies with the groups that the rates of errors were learned from.

    Parameters
    ----------
    value : float
    without : (n_groups,) float64
        The area by the rates without each group.
    """
    error, freedom = spread_of(value, without)
    return Spread(error**2, freedom, _skewness(value - without) / np.sqrt(len(without)), learned=True)


def spread_of_scenes(counts: GroupCounts, rest: Floats, group: NDArray[np.integer]) -> list[Spread]:
    """Return how the area of each class in the rest varies because its scenes do.

    The labelled scenes show it: their labels less what the rates of all say of their maps, as shares of the scene. So
    do their groups, whose scenes resemble each other; the larger of the two counts.

    Parameters
    ----------
    counts : GroupCounts
        Of labelled scenes, of one question.
    rest : (n_scenes,) float64
        Mapped area of each scene that is not labelled.
    group : (n_scenes,) int64
        Of these, from 0.
    """
    seen = counts.scenes[:, 0, :, :-1].astype(np.float64)
    total = seen.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = np.nan_to_num(total / total.sum(axis=0))
    surplus, pixels = seen.sum(axis=2) - seen.sum(axis=1) @ rates.T, seen.sum(axis=(1, 2))
    by_unit = [
        _spread_of_units(_sum_by(of_labelled, surplus), _sum_by(of_labelled, pixels), _sum_by(of_rest, rest))
        for of_labelled, of_rest in ((np.arange(len(seen)), np.arange(len(rest))), (counts.group, group))
    ]
    return [max(spreads, key=lambda spread: spread.variance) for spreads in zip(*by_unit, strict=True)]


def _spread_of_units(surplus: Floats, pixels: Floats, rest: Floats) -> list[Spread]:
    """Return the spread of each class by units: scenes, or groups of them."""
    surplus, pixels = surplus[pixels > 0], pixels[pixels > 0]
    n_units = len(pixels)
    # Weighted by size: of a few pixels the share says little.
    squares = surplus**2 / pixels[:, None] / pixels.sum()
    variances = squares.sum(axis=0) * (rest**2).sum() * n_units / max(n_units - 1, 1)
    uneven = (rest**3).sum() / (rest**2).sum() ** 1.5 if rest.any() else 0.0
    return [
        Spread(float(variance), degrees_of_freedom(column), _skewness(extra) * float(uneven), learned=False)
        for variance, column, extra in zip(variances, squares.T, surplus.T, strict=True)
    ]


def area_interval(value: float, whole: float, spreads: tuple[Spread, ...], confidence_level: float) -> Interval:
    """Return an area with its interval on the logit scale of its share of the whole.

    Degrees of freedom are Satterthwaite's (1946). The upper end lies as much further off as the skewness of what was
    seen asks for (Cornish and Fisher 1938; of estimates Johnson 1978): of a class that is in few scenes, a few groups
    show too little more often than too much, and then their spread is too small as well.
    """
    variance = sum(spread.variance for spread in spreads)
    if variance <= 0:
        return Interval(value, value, value)
    freedom = variance**2 / sum(spread.variance**2 / spread.freedom for spread in spreads)
    quantile = float(stdtrit(freedom, (1 + confidence_level) / 2))
    third = sum(
        spread.variance**1.5 * spread.skewness * (1 + 2 * quantile**2 if spread.learned else quantile**2 - 1) / 6
        for spread in spreads
    )
    share = value / whole
    reach = np.array([-quantile * np.sqrt(variance), quantile * np.sqrt(variance) + max(third, 0) / variance])
    low, high = whole / (1 + np.exp(-(np.log(share / (1 - share)) + reach / whole / (share * (1 - share)))))
    return Interval(value, float(low), float(high))


def _skewness(values: Floats) -> float:
    if np.ptp(values) <= 1e-9 * np.abs(values).max():
        return 0.0
    off = values - values.mean()
    return max(float((off**3).mean() / (off**2).mean() ** 1.5), 0.0)


def _sum_by(unit: NDArray[np.integer], values: Floats) -> Floats:
    sums = np.zeros((int(unit.max()) + 1, *values.shape[1:]))
    np.add.at(sums, unit, values)
    return sums
