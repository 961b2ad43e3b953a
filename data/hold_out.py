"""Whole groups kept out of training, to see when it has learned enough."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["hold_out_groups"]

DEALS = 50
"""Ways of holding groups out that are tried, to find one whose labels are like those of all."""


def hold_out_groups(
    groups: NDArray[np.str_],
    label: NDArray[np.uint8],
    weight: NDArray[np.float32],
    share: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Choose whole groups to hold out, with about a share of the rows and labels like those of all.

    Parameters
    ----------
    groups : (n,) str
        Group of each row.
    label : (n,) uint8
    weight : (n,) float32
    share : float
    rng : Generator

    Returns
    -------
    held : (n,) bool
        All False where there are fewer than two groups, or the share is 0.
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2 or share == 0:
        return np.zeros(len(label), bool)
    mass = np.zeros((len(names), int(label.max()) + 1))
    np.add.at(mass, (group, label), weight)
    per_label = mass / mass.sum(axis=0).clip(min=1e-12)
    best, best_miss = np.zeros(len(names), bool), np.inf
    for _ in range(DEALS):
        held = np.zeros(len(names), bool)
        for candidate in rng.permutation(len(names)):
            if not held.any() or per_label[held].sum(axis=0).mean() < share:
                held[candidate] = True
        # A class wholly on one side is worst of all; else the nearer to the share in every class the better.
        shares = per_label[held].sum(axis=0)
        miss = np.abs(shares - share).sum() + 10.0 * ((shares <= 0) | (shares >= 1)).sum()
        if miss < best_miss:
            best, best_miss = held, miss
    return best[group]
