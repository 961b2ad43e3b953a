"""Intervals: how far a score could move if other groups had been labelled."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from data.metrics.metric import labelled
from data.pages.numbers import format_number
from ensemble.objective import Objective

__all__ = ["FEWEST", "Estimate", "GroupCounts", "Interval", "Places", "Score", "degrees_of_freedom", "spread_of"]

Score = Callable[[Any], NDArray[np.float64]]
"""Counts (…, Q, n_labels, n_labels + 1) → scores (…) or, of each of the names of labels, (…, n)."""
Places = Sequence[tuple[int, int]]
"""Questions and labels."""

Floats = NDArray[np.float64]

FEWEST = 4
"""Groups in which a class must lie for an interval: of fewer nothing can be said about others."""

FURTHEST = 3
"""An interval on the logit scale reaches no further than so many of the plain scale's: a score near 1 is infinitely far
away, there, from that without the one group that has all of its errors."""


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
    """A score, or one of each label, and the same without each group.

    The difference of two estimates is paired: taken without the same group of both, so that what is hard for both, such
    as a cloudy scene, does not widen its interval.

    Parameters
    ----------
    value : () or (n,) float64
    without : (n_groups, …) float64
    enough : () or (n,) bool
        Whether what is scored lies in groups enough for an interval.
    gain : bool
        Whether it is a difference, which has no bounds.
    """

    value: Floats
    without: Floats
    enough: NDArray[np.bool_]
    gain: bool = False

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.without - other.without, self.enough & other.enough, gain=True)

    def intervals(self, confidence_level: float) -> list[Interval]:
        """Return each score with its interval: by Student's t and what leaving out each group does to the score.

        Scores from 0 to 1 have theirs on the logit scale, so that it ends within these bounds. A score of 0 or 1
        has none: where no group differs, nothing is known of how much groups do. See `spread_of`.
        """
        values, without = np.atleast_1d(self.value).tolist(), np.atleast_2d(self.without.T)
        return [
            Interval(value, *self._ends(value, others, confidence_level) if enough else (math.nan, math.nan))
            for value, others, enough in zip(values, without, np.atleast_1d(self.enough), strict=True)
        ]

    def interval(self, confidence_level: float) -> Interval:
        """Return the one score with its interval."""
        (only,) = self.intervals(confidence_level)
        return only

    def _ends(self, value: float, without: Floats, confidence_level: float) -> tuple[float, float]:
        every = np.append(without, value)
        if not np.isfinite(every).all():
            return math.nan, math.nan
        half = _half_width(value, without, confidence_level)
        if self.gain or every.min() < 0 or every.max() > 1:
            return value - half, value + half
        if value in (0, 1):
            return math.nan, math.nan
        center = float(_logit(value))
        on_scale = _half_width(center, _logit(without), confidence_level)
        low, high = (1 / (1 + math.exp(-end)) for end in (center - on_scale, center + on_scale))
        return max(low, value - FURTHEST * half), min(high, value + FURTHEST * half)


@dataclass(frozen=True)
class GroupCounts:
    """Counts of scenes, and the group of each.

    Parameters
    ----------
    scenes : (n_scenes, …, Q, n_labels, n_labels + 1) int64
        Confusion counts.
    group : (n_scenes,) int64
        0 … n_groups - 1, the same for all that is to be compared.
    """

    scenes: NDArray[np.int64]
    group: NDArray[np.int64]

    def pooled(self, score: Score, places: Places = ()) -> Estimate:
        """Score the counts of all scenes together.

        Parameters
        ----------
        score : callable
        places : sequence of (int, int)
            What is scored: the one place of each score, or all places that a single score is made of.
        """
        total = self._sums.sum(axis=0)
        value = np.asarray(score(total))
        enough = self.lies_in_enough(places)
        if value.ndim == 0 or not places:
            enough = np.full(value.shape, enough.all())
        return Estimate(value, np.asarray(score(total - self._sums)), enough)

    def scene_mean(self, score: Score) -> Estimate:
        """Score each scene, and average over those in which the score has a meaning."""
        scores = np.asarray(score(self.scenes))
        seen = np.isfinite(scores)
        sums, counts = self._add(np.where(seen, scores, 0)), self._add(seen)
        total, number = sums.sum(axis=0), counts.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return Estimate(total / number, (total - sums) / (number - counts), (counts > 0).sum(axis=0) >= FEWEST)

    def score(self, objective: Objective) -> Estimate:
        """Score by what was optimised, whichever way that adds scenes up."""
        if objective.by_scene:
            return self.scene_mean(objective.score)
        return self.pooled(objective.score, () if objective.pooled else objective.places or ())

    def lies_in_enough(self, places: Places) -> NDArray[np.bool_]:
        """Return whether each place lies in groups enough; one that is nowhere, in map or label, asks for none."""
        if not places:
            return np.array([self.n_groups >= FEWEST])
        questions, labels = map(list, zip(*places, strict=True))
        groups = (labelled(self._sums) > 0).sum(axis=0)[questions, labels]
        total = self._sums.sum(axis=0)
        nowhere = (labelled(total) + total[..., :-1].sum(axis=-2))[questions, labels] == 0
        enough: NDArray[np.bool_] = (groups >= FEWEST) | nowhere
        return enough

    @property
    def n_groups(self) -> int:
        """The number of groups."""
        return int(self.group.max()) + 1

    @cached_property
    def _sums(self) -> Floats:
        """The counts of each group."""
        return self._add(self.scenes)

    def _add(self, values: NDArray[Any]) -> Floats:
        sums = np.zeros((self.n_groups, *values.shape[1:]))
        np.add.at(sums, self.group, values)
        return sums


def spread_of(value: float, without: Floats) -> tuple[float, float]:
    """Return the standard error of a score by leaving out each group, and its degrees of freedom.

    The error is the root of the summed squares of what leaving out a group changes: a jackknife, in its cautious form
    (Hansen 2024, "Jackknife standard errors for clustered regression"). Where few groups make most of that sum it is
    known as badly as if there were these alone. So the degrees of freedom are Satterthwaite's, from how uneven the
    squares are, at least 2 and below the number of groups (Bell and McCaffrey 2002).

    Parameters
    ----------
    value : float
    without : (n_groups,) float64

    Examples
    --------
    >>> error, freedom = spread_of(0.5, np.array([0.4, 0.6, 0.4, 0.6]))
    >>> round(error, 6), freedom
    (0.2, 3.0)
    """
    squares = (without - value) ** 2
    return math.sqrt(squares.sum()), degrees_of_freedom(squares)


def degrees_of_freedom(squares: Floats) -> float:
    """Return the degrees of freedom of the sum of squares of units, by how uneven they are (Satterthwaite 1946)."""
    n, mean, uneven = len(squares), float(squares.mean()), float(squares.var(ddof=1)) if len(squares) > 1 else 0.0
    freedom = 2 * n * mean**2 / uneven if uneven > 0 else math.inf
    return max(min(n - 1.0, max(freedom, 2.0)), 1.0)


def _half_width(value: float, without: Floats, confidence_level: float) -> float:
    error, freedom = spread_of(value, without)
    return error * float(stdtrit(freedom, (1 + confidence_level) / 2))


def _logit(share: Any) -> Any:
    inside = np.clip(share, 1e-12, 1 - 1e-12)
    return np.log(inside / (1 - inside))
