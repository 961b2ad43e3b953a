"""Hold out groups of the training scenes for early stopping, so that the fold itself stays unseen."""

import numpy as np
from numpy.typing import NDArray

from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene

__all__ = ["hold_out_groups", "hold_out_scenes"]

DEALS = 50
"""Ways of holding groups out that are tried, to find one whose labels are like those of all."""


def hold_out_scenes(catalogue: Catalogue, fold: int, share: float, rng: np.random.Generator) -> tuple[Scene, ...]:
    """Choose whole groups of a fold's training scenes to hold out, with about a share of each class's pixels or tags.

    Parameters
    ----------
    catalogue : Catalogue
        With folds and statistics.
    fold : int
        Its own scenes are never chosen.
    share : float
    rng : Generator

    Returns
    -------
    held : tuple of Scene
        None where there are fewer than two groups, or the share is 0.
    """
    scenes = catalogue.outside_fold(fold)
    if share == 0:
        return ()
    counts = np.stack([catalogue.label_counts(scene.id) for scene in scenes])
    labels = counts.shape[1]
    _, group = np.unique([scene.group for scene in scenes], return_inverse=True)
    held = hold_out_groups(
        np.repeat(group, labels),
        np.tile(np.arange(labels, dtype=np.uint8), len(scenes)),
        counts.ravel().astype(np.float32),
        share,
        rng,
    )
    return tuple(scene for scene, chosen in zip(scenes, held[::labels], strict=True) if chosen)


def hold_out_groups(
    groups: NDArray[np.str_] | NDArray[np.int64],
    label: NDArray[np.uint8],
    weight: NDArray[np.float32],
    share: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Choose whole groups to hold out, with about a share of the rows and labels like those of all.

    Parameters
    ----------
    groups : (n,) str or int64
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
    if len(names) < 2 or share == 0 or not weight.any():
        return np.zeros(len(label), bool)
    mass = np.zeros((len(names), int(label.max()) + 1))
    np.add.at(mass, (group, label), weight)
    # Of a label that no row has there is no share to hold out.
    mass = mass[:, mass.any(axis=0)]
    per_label = mass / mass.sum(axis=0).clip(min=1e-12)
    best, best_miss = np.zeros(len(names), bool), np.inf
    for _ in range(DEALS):
        order = rng.permutation(len(names))
        reached = np.cumsum(per_label[order].mean(axis=1))
        held = np.zeros(len(names), bool)
        held[order[: np.searchsorted(reached, share) + 1]] = True
        # A class wholly on one side is worst of all; else the nearer to the share in every class the better.
        shares = per_label[held].sum(axis=0)
        miss = np.abs(shares - share).sum() + 10.0 * ((shares <= 0) | (shares >= 1)).sum()
        if miss < best_miss:
            best, best_miss = held, miss
    return best[group]
