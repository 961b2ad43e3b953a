"""Blending: the weighted mean of members' probabilities, and the weights worth trying."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.maps import NODATA

__all__ = ["blend_stored", "candidate_weights", "select_greedily"]

Weights = tuple[float, ...]

STEPS = 20
"""Convex weights are multiples of 1/20."""
MOST_CONVEX = 3
"""Members beyond which a grid has too many points."""
ROUNDS = 20
"""Members that greedy selection picks, with replacement."""


def blend_stored(stored: NDArray[np.uint16], weights: Weights) -> NDArray[np.uint16]:
    """Return the weighted mean of members' maps.

    Parameters
    ----------
    stored : (n_members, …) uint16
        Probabilities as stored.
    weights : tuple of float
        One a member, summing to 1. Where a member predicted nothing the others' weights are raised in proportion.

    Returns
    -------
    blend : (…) uint16
        `NODATA` where no member of positive weight predicted anything.
    """
    used = [position for position, weight in enumerate(weights) if weight > 0]
    if len(used) == 1:
        alone: NDArray[np.uint16] = stored[used[0]]
        return alone
    total = np.zeros(stored.shape[1:], np.float32)
    mass = np.zeros(stored.shape[1:], np.float32)
    for position in used:
        there = stored[position] != NODATA
        share = np.float32(weights[position])
        total += np.where(there, share * stored[position].astype(np.float32), 0)
        mass += share * there
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.rint(total / mass)
    return np.where(mass > 0, mean, NODATA).astype(np.uint16)


def candidate_weights(n_members: int, blend: str) -> Iterator[Weights]:
    """Yield weights to try, simplest first: each member alone, all equal, and a grid for ``convex``.

    Raises
    ------
    EnsembleError
        If a grid is asked for over so many members that it could not be searched.

    Examples
    --------
    >>> list(candidate_weights(2, "equal"))
    [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    """
    if blend == "convex" and n_members > MOST_CONVEX:
        raise EnsembleError(
            f"ensemble.blend convex: expected at most {MOST_CONVEX} members, got {n_members}. Use greedy for more."
        )
    for member in range(n_members):
        yield tuple(float(member == other) for other in range(n_members))
    if n_members > 1 and blend != "best":
        yield (1 / n_members,) * n_members
    if n_members > 1 and blend == "convex":
        for parts in product(range(STEPS + 1), repeat=n_members - 1):
            if sum(parts) <= STEPS:
                yield (*(part / STEPS for part in parts), (STEPS - sum(parts)) / STEPS)


def select_greedily(n_members: int, score: Callable[[Weights], float]) -> Weights:
    """Pick members one by one, with replacement, each time the one that raises the score most.

    Caruana et al. 2004, "Ensemble selection from libraries of models".

    Parameters
    ----------
    n_members : int
    score : callable
        Weights → score.

    Returns
    -------
    weights : tuple of float
        Of the best ensemble on the way, so never worse than the best member alone.
    """
    counts = np.zeros(n_members)
    best: float = -np.inf
    best_weights: Weights = (1.0,) + (0.0,) * (n_members - 1)
    for _ in range(ROUNDS):
        tries = []
        for member in range(n_members):
            counts[member] += 1
            tries.append(score(tuple((counts / counts.sum()).tolist())))
            counts[member] -= 1
        chosen = int(np.argmax(tries))
        counts[chosen] += 1
        if tries[chosen] > best + 1e-9:
            best, best_weights = tries[chosen], tuple((counts / counts.sum()).tolist())
    return best_weights
