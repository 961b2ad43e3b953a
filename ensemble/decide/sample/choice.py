"""Choose among candidates by scores on folds left out, the simpler one unless another gains more than noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.objective import Objective

__all__ = ["CLEAR", "LEAST", "Choice", "choose", "clarity", "jackknife", "jackknife_mean", "standard_error"]

TIE, LEAST = 1e-6, 1e-4
"""Scores that are closer than this are equal; and the least gain for which anything is fitted."""
CLEAR = 2.0
"""Standard errors that other evidence must gain."""


@dataclass(frozen=True)
class Choice:
    """The candidates of a choice, their scores, and the one that was chosen.

    Parameters
    ----------
    names : tuple of str
        Simplest first.
    scores : tuple of float
        On folds left out, higher is better; None where it has no meaning.
    gains, errors : tuple of float
        Score less that of the chosen one, and the standard error of that difference over groups; None if unknown.
    chosen : int
    """

    names: tuple[str, ...]
    scores: tuple[float | None, ...]
    gains: tuple[float | None, ...]
    errors: tuple[float | None, ...]
    chosen: int

    def __post_init__(self) -> None:
        lengths = {len(values) for values in (self.names, self.scores, self.gains, self.errors)}
        if len(lengths) != 1 or not 0 <= self.chosen < len(self.names):
            raise ValueError("expected a score of each candidate, and one of them chosen")

    @property
    def name(self) -> str:
        """The name of what was chosen."""
        return self.names[self.chosen]


def choose(
    names: Sequence[str],
    replicates: NDArray[np.float64],
    fitted: Sequence[float],
    evidence: NDArray[np.float64] | None = None,
) -> Choice:
    """Choose the best candidate, but a more intricate one only if it gains more than one standard error.

    Candidates are gone through in order. One that has nothing fitted takes the place of an earlier one if its score is
    higher. One that is fitted must gain more than the standard error of the paired difference over groups, and more
    than 0.0001: the rule of Breiman et al. 1984, by which the simplest of indistinguishable candidates is taken. Where
    there is other evidence, which knows more of few groups than a score does, it is enough if that gains more than two
    standard errors, and the score more than 0.0001.

    Parameters
    ----------
    names : sequence of str
        Simplest first.
    replicates : (n_candidates, 1 + n_blocks) float64
        The score on all that was left out, then without each block of groups in turn, as `jackknife` gives them.
        A score that is NaN is the worst.
    fitted : sequence of float
        How many standard errors a candidate must gain: 0 if it has no more that is fitted than the first one, else 1,
        or more where many are tried.
    evidence : (n_candidates, 1 + n_blocks) float64, optional
        Such as minus the log loss, in the same way.
    """
    values = np.nan_to_num(replicates, nan=-np.inf)
    chosen = 0
    for position in range(1, len(names)):
        errors = fitted[position]
        margin = max(errors * standard_error(replicates[position] - replicates[chosen]), LEAST) if errors else TIE
        if evidence is not None and clarity(evidence[position] - evidence[chosen]) > CLEAR:
            margin = min(margin, LEAST)
        if values[position, 0] > values[chosen, 0] + margin:
            chosen = position
    differences = [row - replicates[chosen] for row in replicates]
    return Choice(
        tuple(names),
        tuple(_known(row[0]) for row in replicates),
        tuple(_known(row[0]) for row in differences),
        tuple(_known(standard_error(row)) for row in differences),
        chosen,
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def standard_error(replicates: NDArray[np.float64]) -> float:
    """Return the jackknife's standard error of a score (Efron and Stein 1981); infinite where it cannot be estimated.

    Parameters
    ----------
    replicates : (1 + n_blocks,) float64
        The score of everything, then without each block.
    """
    without = replicates[1:]
    if len(without) < 2 or not np.isfinite(without).all():
        return float("inf")
    return float(np.sqrt((len(without) - 1) * np.var(without)))


def clarity(replicates: NDArray[np.float64]) -> float:
    """Return how many standard errors a difference is above 0; 0 where that cannot be told."""
    error = standard_error(replicates)
    return float(replicates[0] / error) if 0 < error < np.inf else 0.0


def jackknife(counts: NDArray[np.float64], blocks: NDArray[np.int64], objective: Objective) -> NDArray[np.float64]:
    """Score the counts of scenes, then those without each block of scenes in turn, (1 + n_blocks,) float64.

    Parameters
    ----------
    counts : (n_scenes, …) float64
        Confusion counts.
    blocks : (n_scenes,) int64
        Scenes of a group are in one block.
    objective : Objective
    """
    distinct = np.unique(blocks)
    if objective.by_scene:
        parts = [counts, *(counts[blocks != block] for block in distinct if len(distinct) > 1)]
        return np.array([float(objective.over(part)) for part in parts])
    sums = np.stack([counts[blocks == block].sum(axis=0) for block in distinct])
    total = sums.sum(axis=0)
    return np.asarray(objective.score(np.concatenate([total[None], total - sums])), np.float64)


def jackknife_mean(
    values: NDArray[np.float64], weight: NDArray[np.float64], blocks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the weighted mean of pixels' values, then that without each block in turn, (1 + n_blocks,) float64."""
    _, place = np.unique(blocks, return_inverse=True)
    sums, mass = np.bincount(place, values * weight), np.bincount(place, weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.append(sums.sum() / mass.sum(), (sums.sum() - sums) / (mass.sum() - mass))
