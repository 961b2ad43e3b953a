"""Draw the weighted sample of out-of-fold pixels that everything fitted is fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.files import scene_rng
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene
from data.scenes.windows import Window, tile_windows
from ensemble.maps import MemberMaps

__all__ = ["PixelPool", "sample_pool", "share_out"]

MOST_VALUES = 25_000_000
"""Most probabilities of all members and classes that are drawn: of 500 000 pixels those of 50 planes."""

EXACT = 2**20
"""Weights are multiples of 1/2²⁰, so that their sums and differences are exact: nothing is left of nothing."""


@dataclass(frozen=True)
class PixelPool:
    """A weighted sample of out-of-fold pixels.

    Parameters
    ----------
    stored : (n_members, n_classes, n) uint16
        Probabilities as stored.
    label : (Q, n) uint8
    weight : (n,) float64
        Pixels of the scenes that a sampled one stands for.
    fold : (n,) int16
    scene : (n,) int32
        Index of the scene among the training scenes, sorted by id.
    """

    stored: NDArray[np.uint16]
    label: NDArray[np.uint8]
    weight: NDArray[np.float64]
    fold: NDArray[np.int16]
    scene: NDArray[np.int32]

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp] | slice) -> "PixelPool":
        """Return some of the pixels."""
        return PixelPool(
            self.stored[:, :, chosen], self.label[:, chosen], self.weight[chosen], self.fold[chosen], self.scene[chosen]
        )

    def thin(self, per_fold: int) -> "PixelPool":
        """Return a sample of about ``per_fold`` pixels of each fold; what one fold holds does not change another's."""
        chosen, weight = np.ones(len(self.weight), bool), self.weight.copy()
        for fold in np.unique(self.fold):
            inside = np.flatnonzero(self.fold == fold)
            step = -(-len(inside) // per_fold)
            # Within a scene pixels are ordered by label, so every step-th is a fair share of each.
            chosen[inside] = np.arange(len(inside)) % step == 0
            weight[inside] *= step
        return replace(self.take(chosen), weight=weight[chosen])


def sample_pool(
    maps: MemberMaps, catalogue: Catalogue, size: int, seed: int, track: Track = untracked, strip_pixels: int = 2048**2
) -> PixelPool:
    """Draw labelled pixels of every training scene, rare labels as completely as ``size`` allows.

    Each fold has an equal share, each label an equal share of that, and each scene as many pixels of a label as
    the others, or all it has. What one fold holds does not change what is drawn of another. Multilabel scenes are all
    taken. Labels are read ``strip_pixels`` at a time.

    Raises
    ------
    EnsembleError
        If no training scene has a labelled pixel.
    """
    n_labels = catalogue.classes.n_labels
    scenes = sorted(catalogue.split("train"), key=lambda scene: scene.id)
    tags = catalogue.classes.task == "multilabel"
    size = min(size, MOST_VALUES // (len(maps.names) * len(catalogue.classes.names)))
    quotas = {} if tags else {fold: _fold_quotas(catalogue, fold, size) for fold in catalogue.folds}
    sample = _whole_scene if tags else partial(_sample_scene, n_labels=n_labels, seed=seed, strip_pixels=strip_pixels)
    quota = [quotas.get(scene.fold or 0) for scene in scenes]
    drawn = maps.each(sample, scenes, range(len(scenes)), quota)
    parts = list(track(drawn, "out-of-fold maps read", len(scenes)))
    pool = PixelPool(
        np.concatenate([part.stored for part in parts], axis=2),
        np.concatenate([part.label for part in parts], axis=1),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.fold for part in parts]),
        np.concatenate([part.scene for part in parts]),
    )
    if not len(pool.weight):
        raise EnsembleError(
            "expected labelled pixels to decide on, got none. Check label.ignore in the experiment file."
        )
    return pool


def _fold_quotas(catalogue: Catalogue, fold: int, size: int) -> NDArray[np.int64]:
    counts = np.stack([catalogue.label_counts(scene.id) for scene in catalogue.in_fold(fold)])
    return share_out(counts, size // max(len(catalogue.folds), 1))


def share_out(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return how many pixels of each label to draw from a scene at most.

    Parameters
    ----------
    counts : (n_scenes, n_labels) int64
        Pixels that there are.
    size : int
        Of all scenes and labels. What rare labels leave of their share goes to the others.

    Returns
    -------
    quotas : (n_labels,) int64
        At least 1.

    Examples
    --------
    >>> share_out(np.array([[100, 0], [100, 3], [10, 5]]), 60)
    array([21,  5])
    """
    quotas = np.ones(counts.shape[1], np.int64)
    left = size
    for rank, label in enumerate(np.argsort(counts.sum(axis=0), kind="stable")):
        pixels = counts[:, label]
        share = left // (counts.shape[1] - rank)
        low, high = 1, max(int(pixels.max()), 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if np.minimum(pixels, middle).sum() <= share else (low, middle - 1)
        quotas[label] = low
        left = max(left - int(np.minimum(pixels, low).sum()), 0)
    return quotas


def _whole_scene(maps: MemberMaps, scene: Scene, index: int, quota: None) -> PixelPool:
    stored, label = maps.read(scene), maps.label(scene)
    count = stored[0, 0].size
    return PixelPool(
        stored.reshape(*stored.shape[:2], -1),
        label.reshape(len(label), -1),
        np.rint(maps.weight(scene).ravel() * EXACT) / EXACT,
        np.full(count, scene.fold, np.int16),
        np.full(count, index, np.int32),
    )


def _sample_scene(
    maps: MemberMaps, scene: Scene, index: int, quotas: NDArray[np.int64], n_labels: int, seed: int, strip_pixels: int
) -> PixelPool:
    height, width = scene.grid.height, scene.grid.width
    # As wide as the scene, so that pixels that are counted strip by strip are counted row by row.
    strips = [*tile_windows(height, width, (max(strip_pixels // width, 1), width))]
    pixels = np.zeros(n_labels, np.int64)
    for strip in strips:
        pixels += np.bincount(maps.label(scene, strip).ravel(), minlength=256)[:n_labels]
    rng = scene_rng(seed, scene.id)
    # Which of a label's pixels, counted row by row, are drawn.
    drawn = [
        np.sort(rng.choice(count, min(count, quota), replace=False))
        for count, quota in zip(pixels, quotas, strict=True)
    ]
    row, col = np.concatenate(_find_pixels(maps, scene, strips, drawn), axis=1)
    stored, own = np.empty((len(maps.names), len(maps.classes.names), len(row)), np.uint16), np.ones(len(row))
    for window, values in maps.windows(scene):
        down, right = row - window.row, col - window.col
        inside = (down >= 0) & (down < window.height) & (right >= 0) & (right < window.width)
        stored[:, :, inside] = values[:, :, down[inside], right[inside]]
        if maps.weighted:
            own[inside] = maps.weight(scene, window)[down[inside], right[inside]]
    label = np.repeat(np.arange(n_labels, dtype=np.uint8), [len(ranks) for ranks in drawn])
    weight = (pixels / np.maximum([len(ranks) for ranks in drawn], 1))[label] * own
    return PixelPool(
        stored,
        label[None],
        np.rint(weight * EXACT) / EXACT,
        np.full(len(label), scene.fold, np.int16),
        np.full(len(label), index, np.int32),
    )


def _find_pixels(
    maps: MemberMaps, scene: Scene, strips: Sequence[Window], drawn: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """Return the rows and columns (2, n) of pixels of each label, given by their sorted ranks among the label's."""
    pixels = [np.empty((2, len(ranks)), np.int64) for ranks in drawn]
    seen = [0] * len(drawn)
    for strip in strips:
        [label] = maps.label(scene, strip)
        for value, ranks in enumerate(drawn):
            row, col = np.nonzero(label == value)
            first, last = np.searchsorted(ranks, [seen[value], seen[value] + len(row)])
            chosen = ranks[first:last] - seen[value]
            pixels[value][:, first:last] = row[chosen] + strip.row, col[chosen]
            seen[value] += len(row)
    return pixels
