"""The members' maps and the labels: found, checked, read window by window."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.maps.geotiff import map_names, read_map
from data.maps.member import map_path
from data.maps.parquet import read_tag_maps
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene, Split, read_label
from data.scenes.tags import read_tags
from data.scenes.windows import Window, tile_windows

__all__ = ["WINDOW", "MemberMaps", "TagMaps", "open_maps"]

WINDOW = 2048
"""Pixels on a side of the windows in which maps are read, so that memory does not grow with scenes."""
MANY, MANY_SIDE = 40, 512
"""Planes of all members beyond which windows are smaller, and their side: at most 340 MB of 40 planes at a time."""


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

    def label(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint8]:
        """Read the label of a scene or a window, (H, W) uint8, `IGNORE` where there is none."""
        return read_label(scene, window)

    def windows(self, scene: Scene) -> Iterator[tuple[Window, NDArray[np.uint16]]]:
        """Yield windows that cover a scene exactly once, with what `read` gives for each."""
        side = self._side(scene)
        if max(scene.grid.height, scene.grid.width) <= side:
            yield scene.grid.window, self.read(scene)
            return
        for window in tile_windows(scene.grid.height, scene.grid.width, side):
            yield window, self.read(scene, window)

    def _side(self, scene: Scene) -> int:
        if max(scene.grid.height, scene.grid.width) <= MANY_SIDE:
            return WINDOW
        planes = len(self.names) * len(map_names(self.path(self.names[0], scene)))
        return WINDOW if planes <= MANY else MANY_SIDE

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
class TagMaps(MemberMaps):
    """What each member says of scenes as a whole, in memory: a scene is one pixel, and each class has its own label.

    Parameters
    ----------
    directories : dict
        Member → its folder.
    said : mapping
        (Member, split) → scene → (n_classes,) uint16, probabilities as stored.
    tags : callable
        Scene → (n_classes,) uint8, 1 for each tag that it has.
    """

    said: Mapping[tuple[str, Split], Mapping[str, NDArray[np.uint16]]]
    tags: Callable[[Scene], NDArray[np.uint8]]

    def read(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint16]:
        """Return what every member says of a scene, (n_members, n_classes, 1, 1) uint16 as stored."""
        return np.stack([self.said[member, scene.split][scene.id] for member in self.names])[..., None, None]

    def label(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint8]:
        """Return which tags a scene has, (n_classes, 1, 1) uint8 of 0 and 1."""
        return self.tags(scene)[:, None, None]

    def windows(self, scene: Scene) -> Iterator[tuple[Window, NDArray[np.uint16]]]:
        """Yield the one pixel that a scene is."""
        yield Window(0, 0, 1, 1), self.read(scene)

    def require(self, scenes: Sequence[Scene], classes: Sequence[str]) -> None:
        """Refuse members that do not speak of every scene, or of as many classes.

        Raises
        ------
        EnsembleError
            Naming the member, the number of scenes and the first few of them.
        """
        for member in self.names:
            missing = [scene.id for scene in scenes if scene.id not in self.said.get((member, scene.split), {})]
            if missing:
                raise EnsembleError(
                    f"member {member}: expected the tags of each of {len(scenes)} scenes, {len(missing)} are missing: "
                    f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}. "
                    "Train the member on all folds first: `terrablend run`."
                )
            for scene in scenes:
                count = len(self.said[member, scene.split][scene.id])
                if count != len(classes):
                    raise EnsembleError(
                        f"member {member}: expected {len(classes)} tags of scene {scene.id}, got {count}. "
                        "Train the member again with these classes."
                    )


def open_maps(directories: Mapping[str, Path], catalogue: Catalogue) -> MemberMaps:
    """Return the maps of members, as suits the task.

    Parameters
    ----------
    directories : mapping of str to Path
        Member → its folder.
    catalogue : Catalogue
    """
    if catalogue.classes.task != "multilabel":
        return MemberMaps(dict(directories))
    splits: list[Split] = [split for split in ("train", "val") if catalogue.split(split)]
    said = {
        (member, split): read_tag_maps(directory, split)
        for member, directory in directories.items()
        for split in splits
    }
    return TagMaps(dict(directories), said, partial(read_tags, n_classes=len(catalogue.classes.names)))
