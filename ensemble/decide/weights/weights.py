"""Search for weights: a grid, greedy selection, and the weights under which the labels are likeliest."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ensemble.decide.decision.blend import Weights

__all__ = ["grid_weights", "likeliest_weights", "select_greedily", "take_best"]

STEPS = 20
"""Weights on the grid are multiples of 1/20."""
ROUNDS, PATIENCE = 20, 4
"""Members that greedy selection picks at most, and without gain, with replacement."""
ITERATIONS = 200
"""Most of expectation maximisation; it stops where weights move by less than `STILL`."""
STILL = 1e-5
TIE = 1e-6


def grid_weights(n_members: int) -> Iterator[Weights]:
    """Yield every weighting by multiples of 1/20.

    >>> len(list(grid_weights(2))), len(list(grid_weights(3)))
    (21, 231)
    """
    for parts in product(range(STEPS + 1), repeat=n_members - 1):
        if sum(parts) <= STEPS:
            yield (*(part / STEPS for part in parts), (STEPS - sum(parts)) / STEPS)


def take_best(candidates: list[Weights], scores: NDArray[np.float64]) -> Weights:
    """Return the weights of the highest score; of equals those nearest to equal weights."""
    worth = np.nan_to_num(scores, nan=-np.inf)
    top = np.flatnonzero(worth >= worth.max() - TIE)
    lopsided = [sum((weight - 1 / len(candidates[place])) ** 2 for weight in candidates[place]) for place in top]
    return candidates[int(top[int(np.argmin(lopsided))])]


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
    idle = 0
    for _ in range(ROUNDS):
        tries = []
        for member in range(n_members):
            counts[member] += 1
            tries.append(score(tuple((counts / counts.sum()).tolist())))
            counts[member] -= 1
        chosen = int(np.argmax(np.nan_to_num(tries, nan=-np.inf)))
        counts[chosen] += 1
        idle += 1
        if tries[chosen] > best + TIE:
            best, best_weights, idle = tries[chosen], tuple((counts / counts.sum()).tolist()), 0
        if idle > PATIENCE:
            break
    return best_weights


def likeliest_weights(likelihood: NDArray[np.float64], weight: NDArray[np.float64]) -> Weights:
    """Return the weights of a mixture of members under which what is labelled is likeliest.

    Expectation maximisation of a mixture's shares (Dempster et al. 1977): the least log loss of the blend of
    probabilities, which has no second optimum.

    Parameters
    ----------
    likelihood : (n_members, n) float64
        Probability that each member gives to what is there, above 0.
    weight : (n,) float64
    """
    n_members = len(likelihood)
    shares = np.full(n_members, 1 / n_members)
    total = max(float(weight.sum()), 1e-9)
    for _ in range(ITERATIONS):
        mixture = shares[:, None] * likelihood
        worth = weight / mixture.sum(axis=0)
        moved = (mixture * worth).sum(axis=1) / total
        moved /= max(float(moved.sum()), 1e-9)
        if np.abs(moved - shares).max() < STILL:
            break
        shares = moved
    # What would take for ever to reach 0 is 0.
    shares = np.where(shares < 0.5 / STEPS / n_members, 0, shares)
    return tuple((shares / shares.sum()).tolist())
