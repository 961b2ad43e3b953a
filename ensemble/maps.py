"""The members' out-of-fold maps: found, checked, read scene by scene, sampled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.catalogue import Catalogue
from data.classes import IGNORE
from data.errors import EnsembleError
from data.files import scene_rng
from data.maps import map_names, read_map
from data.members import MAP_FOLDERS
from data.progress import Track, untracked
from data.scene import Scene, read_label
from data.windows import Window

__all__ = ["MemberMaps", "PixelPool", "draw_pool"]


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
        return self.directories[member] / MAP_FOLDERS[scene.split] / f"{scene.id}.tif"

    def read(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint16]:
        """Read every member's map of a scene or a window, (n_members, n_classes, H, W) uint16 as stored."""
        return np.stack([read_map(self.path(member, scene), window) for member in self.names])

    def require(self, scenes: Sequence[Scene], classes: Sequence[str]) -> None:
        """Refuse maps that are missing or of other classes.

        Raises
        ------
        EnsembleError
            Naming the member, the number of maps and the first of them.
        """
        for member in self.names:
            missing = [scene for scene in scenes if not self.path(member, scene).exists()]
            if missing:
                raise EnsembleError(
                    f"member {member}: expected a map of each of {len(scenes)} scenes, got none of "
                    f"{len(missing)}, such as {self.path(member, missing[0])}. Train the member first."
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
    stored : (n, n_members, n_classes) uint16
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
        return PixelPool(self.stored[chosen], self.label[chosen], self.weight[chosen], self.fold[chosen])


def draw_pool(maps: MemberMaps, catalogue: Catalogue, size: int, seed: int, track: Track = untracked) -> PixelPool:
    """Draw pixels of every training scene, as many of each label in a scene, so that rare classes are kept.

    Raises
    ------
    EnsembleError
        If no training scene has a labelled pixel.
    """
    scenes = catalogue.split("train")
    n_labels = len(catalogue.classes.label_names)
    quota = max(1, size // (len(scenes) * n_labels))
    parts = []
    for scene in track(scenes, "out-of-fold maps read", len(scenes)):
        label = read_label(scene).ravel()
        rng = scene_rng(seed, scene.id)
        drawn, weight = [], []
        for value in range(n_labels):
            members = np.flatnonzero(label == value)
            some = members if len(members) <= quota else np.sort(rng.choice(members, quota, replace=False))
            drawn.append(some)
            weight.append(np.full(len(some), len(members) / max(len(some), 1)))
        chosen = np.concatenate(drawn)
        stored = maps.read(scene)
        pixels = stored.reshape(*stored.shape[:2], -1)[:, :, chosen].transpose(2, 0, 1)
        parts.append((pixels, label[chosen], np.concatenate(weight), np.full(len(chosen), scene.fold, np.int16)))
    pool = PixelPool(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if not len(pool.label) or (pool.label == IGNORE).all():
        raise EnsembleError(
            "expected labelled pixels to decide on, got none. Check label.ignore in the experiment file."
        )
    return pool
