"""The members' maps: found, checked, read window by window, sampled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.catalogue import Catalogue
from data.errors import EnsembleError
from data.files import scene_rng
from data.maps import map_names, read_map
from data.members import map_path
from data.progress import Track, untracked
from data.scene import Scene, read_label
from data.windows import Window, tile_windows

__all__ = ["WINDOW", "MemberMaps", "PixelPool", "draw_pool"]

WINDOW = 2048
"""Pixels on a side of the windows in which maps are read, so that memory does not grow with scenes."""


@dataclass(frozen=True)
class MemberMaps:
    """Where the maps of each member lie.

    Parameters
    ----------
    directories : dict
        Member → its folder.
    """

    directories: Mapping[str, Path]

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in order."""
        return tuple(self.directories)

    def path(self, member: str, scene: Scene) -> Path:
        """Return a member's map of a scene."""
        return map_path(self.directories[member], scene)

    def read(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint16]:
        """Read every member's map of a scene or a window, (n_members, n_classes, H, W) uint16 as stored.

        Raises
        ------
        EnsembleError
            If a map is not of the scene's size.
        """
        area = window or scene.grid.window
        planes = []
        for member in self.names:
            stored = read_map(self.path(member, scene), window)
            if stored.shape[1:] != (area.height, area.width):
                raise EnsembleError(
                    f"{self.path(member, scene)}: expected {area.height} × {area.width} pixels like scene {scene.id}, "
                    f"got {stored.shape[1]} × {stored.shape[2]}. Write the member's maps again: --overwrite."
                )
            planes.append(stored)
        return np.stack(planes)

    def windows(self, scene: Scene) -> Iterator[tuple[Window, NDArray[np.uint16]]]:
        """Yield windows that cover a scene exactly once, with what `read` gives for each."""
        height, width = scene.grid.height, scene.grid.width
        if max(height, width) <= WINDOW:
            yield scene.grid.window, self.read(scene)
            return
        for window in tile_windows(height, width, WINDOW):
            yield window, self.read(scene, window)

    def require(self, scenes: Sequence[Scene], classes: Sequence[str]) -> None:
        """Refuse maps that are missing or of other classes.

        Raises
        ------
        EnsembleError
            Naming the member, the number of maps and the first few of them.
        """
        for member in self.names:
            missing = [scene for scene in scenes if not self.path(member, scene).exists()]
            if missing:
                some = ", ".join(str(self.path(member, scene)) for scene in missing[:3])
                raise EnsembleError(
                    f"member {member}: expected a map of each of {len(scenes)} scenes, {len(missing)} are missing: "
                    f"{some}{' …' if len(missing) > 3 else ''}. Train the member on all folds first: `terrablend run`."
                )
            for scene in scenes:
                found = map_names(self.path(member, scene))
                if found != tuple(classes):
                    raise EnsembleError(
                        f"{self.path(member, scene)}: expected maps of {', '.join(classes)}, got {', '.join(found)}. "
                        "Train the member again with these classes."
                    )


@dataclass(frozen=True)
class PixelPool:
    """A weighted sample of out-of-fold pixels, on which weights are searched.

    Parameters
    ----------
    stored : (n_members, n_classes, n) uint16
        Probabilities as stored.
    label : (n,) uint8
    weight : (n,) float64
        Pixels of the scenes that a sampled one stands for.
    fold : (n,) int16
    """

    stored: NDArray[np.uint16]
    label: NDArray[np.uint8]
    weight: NDArray[np.float64]
    fold: NDArray[np.int16]

    def take(self, chosen: NDArray[np.bool_]) -> "PixelPool":
        """Return some of the pixels."""
        return PixelPool(self.stored[:, :, chosen], self.label[chosen], self.weight[chosen], self.fold[chosen])


def draw_pool(maps: MemberMaps, catalogue: Catalogue, size: int, seed: int, track: Track = untracked) -> PixelPool:
    """Draw labelled pixels of every training scene, rare labels as completely as ``size`` allows.

    Each fold has an equal share, each label an equal share of that, and each scene as many pixels of a label as
    the others, or all it has. What one fold holds does not change what is drawn of another.

    Raises
    ------
    EnsembleError
        If no training scene has a labelled pixel.
    """
    n_labels = len(catalogue.classes.label_names)
    share = size // max(len(catalogue.folds), 1)
    quotas = {}
    for fold in catalogue.folds:
        counts = np.stack([catalogue.label_counts(scene.id) for scene in catalogue.in_fold(fold)])
        quotas[fold] = share_out(counts, share)
    scenes = catalogue.split("train")
    parts = [
        _draw_scene(maps, scene, quotas[scene.fold or 0], n_labels, seed)
        for scene in track(scenes, "out-of-fold maps read", len(scenes))
    ]
    pool = PixelPool(
        np.concatenate([part.stored for part in parts], axis=2),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.fold for part in parts]),
    )
    if not len(pool.label):
        raise EnsembleError(
            "expected labelled pixels to decide on, got none. Check label.ignore in the experiment file."
        )
    return pool


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
        there = counts[:, label]
        share = left // (counts.shape[1] - rank)
        low, high = 1, max(int(there.max()), 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if np.minimum(there, middle).sum() <= share else (low, middle - 1)
        quotas[label] = low
        left = max(left - int(np.minimum(there, low).sum()), 0)
    return quotas


def _draw_scene(maps: MemberMaps, scene: Scene, quotas: NDArray[np.int64], n_labels: int, seed: int) -> PixelPool:
    windows = tile_windows(scene.grid.height, scene.grid.width, WINDOW)
    there = np.zeros(n_labels, np.int64)
    for window in windows:
        there += np.bincount(read_label(scene, window).ravel(), minlength=256)[:n_labels]
    rng = scene_rng(seed, scene.id)
    # Which of a label's pixels, counted window by window in row order, are drawn.
    drawn = [
        np.sort(rng.choice(count, min(count, quota), replace=False)) for count, quota in zip(there, quotas, strict=True)
    ]
    stored_parts, label_parts = [], []
    seen = np.zeros(n_labels, np.int64)
    for window, stored in maps.windows(scene):
        label = read_label(scene, window).ravel()
        places = [np.flatnonzero(label == value) for value in range(n_labels)]
        chosen = np.concatenate([
            here[ranks[np.searchsorted(ranks, before) : np.searchsorted(ranks, before + len(here))] - before]
            for here, ranks, before in zip(places, drawn, seen, strict=True)
        ])  # fmt: skip
        seen += [len(here) for here in places]
        stored_parts.append(stored.reshape(*stored.shape[:2], -1)[:, :, chosen])
        label_parts.append(label[chosen])
    label = np.concatenate(label_parts)
    weight = there / np.maximum([len(ranks) for ranks in drawn], 1)
    fold = np.full(len(label), scene.fold, np.int16)
    return PixelPool(np.concatenate(stored_parts, axis=2), label, weight[label], fold)
