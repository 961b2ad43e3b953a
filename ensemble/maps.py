"""Find, check and read the members' maps and the labels, window by window."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.maps.store import LIGHT, MOST_BYTES, MapStore, open_store, read_windows, worth_workers
from data.scenes.classes import Classes
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene
from data.scenes.tags import read_map_label
from data.scenes.windows import Grid, Window
from data.workers import map_ordered

__all__ = ["MemberFolder", "MemberMaps", "open_maps"]

R = TypeVar("R")


@dataclass(frozen=True)
class MemberFolder:
    """Where the maps of a member lie, and what may be done with them.

    Parameters
    ----------
    path : Path
    branch : str
    decides : bool
        Whether its maps of training scenes are out of fold, so that something may be decided on them.
    """

    path: Path
    branch: str
    decides: bool = True


@dataclass(frozen=True)
class MemberMaps:
    """The maps of some members.

    Parameters
    ----------
    stores : mapping of str to MapStore
        Member → its maps.
    classes : Classes
    most_bytes : int
        That the members' maps of a window may take; see `data.maps.store.read_windows`.
    executor : Executor, optional
        Where scenes are worked on in parallel.
    """

    stores: Mapping[str, MapStore]
    classes: Classes
    most_bytes: int = MOST_BYTES
    executor: Executor | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in order."""
        return tuple(self.stores)

    @property
    def weighted(self) -> bool:
        """Whether pixels count differently: see `weight`."""
        return False

    def grid(self, scene: Scene) -> Grid:
        """Return the grid of a scene's maps: its own, or that of a single pixel where it has tags."""
        return next(iter(self.stores.values())).grid(scene)

    def read(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint16]:
        """Read every member's map of a scene or a window, (n_members, n_classes, H, W) uint16 as stored.

        Raises
        ------
        MapError
            If a map is not of the scene's size.
        """
        area = window or self.grid(scene).window
        stored = np.empty((len(self.stores), len(self.classes.names), area.height, area.width), np.uint16)
        for planes, store in zip(stored, self.stores.values(), strict=True):
            planes[:] = store.read(scene, window)
        return stored

    def label(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint8]:
        """Read the label of a scene's map or a window of it, (Q, H, W) uint8, `IGNORE` where there is none."""
        return read_map_label(scene, self.classes, window)

    def weight(self, scene: Scene, window: Window | None = None) -> NDArray[np.float64]:
        """Return how much each pixel of a scene's map or a window of it counts, (H, W): all the same."""
        area = window or self.grid(scene).window
        return np.ones((area.height, area.width))

    def each(self, work: Callable[..., R], scenes: Sequence[Scene], *columns: Sequence[Any]) -> Iterator[R]:
        """Yield ``work(maps, scene, *values)`` of every scene, with its values of the columns, in order.

        In the executor's processes, where there is enough to do: then ``work`` and what it returns are pickled.
        """
        # The maps of scenes with tags are in memory.
        apart = None if self.classes.task == "multilabel" else worth_workers(self.executor, scenes, LIGHT)
        maps = replace(self, executor=None) if apart else self
        yield from map_ordered(partial(_work, work, maps), zip(scenes, *columns, strict=True), apart)

    def windows(self, scene: Scene, area: Window | None = None) -> Iterator[tuple[Window, NDArray[np.uint16]]]:
        """Yield windows that cover a scene's maps, or an area of them, exactly once, with what `read` gives for each.

        They are as small as it takes to read the maps of all members at once.
        """
        whole = area or self.grid(scene).window
        planes = len(self.names) * len(self.classes.names)
        for part in read_windows(whole.height, whole.width, planes, self.most_bytes):
            window = Window(whole.row + part.row, whole.col + part.col, part.height, part.width)
            yield window, self.read(scene, window)

    def require(self, scenes: Sequence[Scene]) -> None:
        """Refuse maps that are missing or of other classes.

        Raises
        ------
        EnsembleError
            Naming the member, the number of maps and the first few of them.
        """
        for member, store in self.stores.items():
            missing = store.missing(scenes)
            if missing:
                paths = {scene: path for path, held in store.files(scenes).items() for scene in held}
                some = ", ".join(f"{scene.id} ({paths[scene]})" for scene in missing[:3])
                raise EnsembleError(
                    f"member {member}: expected a map of each of {len(scenes)} scenes, {len(missing)} are missing: "
                    f"{some}{' …' if len(missing) > 3 else ''}. Train the member on all folds first: `terrablend run`."
                )
            for scene in scenes:
                names = store.names_of(scene)
                if names != self.classes.names:
                    raise EnsembleError(
                        f"member {member}, scene {scene.id}: expected maps of {', '.join(self.classes.names)}, "
                        f"got {', '.join(names)}. Train the member again with these classes."
                    )


def _work(work: Callable[..., R], maps: MemberMaps, row: tuple[Any, ...]) -> R:
    with keep_open():
        return work(maps, *row)


def open_maps(
    directories: Mapping[str, Path], classes: Classes, most_bytes: int = MOST_BYTES, executor: Executor | None = None
) -> MemberMaps:
    """Return the maps of members, as suits the task.

    Parameters
    ----------
    directories : mapping of str to Path
        Member → its folder.
    classes : Classes
    most_bytes : int
        That the members' maps of a window may take.
    executor : Executor, optional
        Where scenes are worked on in parallel.
    """
    stores = {name: open_store(path, classes) for name, path in directories.items()}
    return MemberMaps(stores, classes, most_bytes, executor)
