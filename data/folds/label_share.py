"""Choose the groups whose labels are learned from, where only a share of them is to be: for learning curves."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["learned_groups"]

DEALS, MOST_PLACES = 200, 2_000_000
"""Orders that are tried, to find one of which every beginning is like the whole; fewer where groups are many."""

BEGINNINGS = (0.0, 0.1, 0.25, 0.5)
"""Shares of an order that are compared with the whole; the least is one group of each fold."""


def learned_groups(
    group_of: Sequence[str], fold_of: Sequence[int], counts: NDArray[np.int64], share: float, seed: int
) -> set[str]:
    """Choose a share of the labelled groups of every fold, alike in the share of each class.

    The groups of a smaller share are among those of a larger.

    Parameters
    ----------
    group_of, fold_of : sequence (n_scenes,)
        Of each training scene.
    counts : (n_scenes, n_labels) int64
        Labelled pixels.
    share : float
        0 … 1; at least one group of each fold.
    seed : int
    """
    names, group = np.unique(np.array(group_of), return_inverse=True)
    mass = np.zeros((len(names), counts.shape[1]))
    np.add.at(mass, group, counts)
    fold = np.zeros(len(names), np.int64)
    fold[group] = np.array(fold_of)
    labelled = np.flatnonzero(mass.any(axis=1))
    shown = np.concatenate([mass > 0, mass], axis=1)[labelled]
    shown = shown[:, shown.any(axis=0)]
    shares = shown / shown.sum(axis=0)
    rng, folds = np.random.default_rng(seed), fold[labelled]
    best, least = _places(folds, rng), np.inf
    for _ in range(min(DEALS, MOST_PLACES // len(labelled) + 1)):
        place = _places(folds, rng)
        miss = sum(_miss(shares, folds, place, beginning) for beginning in BEGINNINGS)
        if miss < least:
            best, least = place, miss
    return set(names[labelled[_is_among(best, folds, share)]].tolist())


def _miss(shares: NDArray[np.float64], folds: NDArray[np.int64], place: NDArray[np.int64], beginning: float) -> float:
    """Return how unlike the whole the beginning of an order is; worst is a class that a fold's model cannot learn."""
    among = _is_among(place, folds, beginning)
    lacking = [
        (shares[among & (folds != fold)].sum(axis=0) <= 0) & (shares[folds != fold].sum(axis=0) > 0)
        for fold in np.unique(folds)
    ]
    unlike = np.abs(shares[among].sum(axis=0) - beginning).mean() if beginning else 0.0
    return float(unlike + 10 * np.mean(lacking))


def _places(folds: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the place of each group among those of its fold, in an order drawn at random."""
    place = np.zeros(len(folds), np.int64)
    for fold in np.unique(folds):
        members = np.flatnonzero(folds == fold)
        place[members] = rng.permutation(len(members))
    return place


def _is_among(place: NDArray[np.int64], folds: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    sizes = np.bincount(folds)[folds]
    among: NDArray[np.bool_] = place < np.maximum(np.rint(share * sizes), 1)
    return among
