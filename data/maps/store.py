"""Stores of a member's maps: a GeoTIFF a scene or, of tagged scenes, parquet by the thousand."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import MapError
from data.maps.geotiff import map_names, map_writer, read_map
from data.maps.member import Member, predict_unseen, require_folds, unseen_by
from data.maps.parquet import PART_SCENES, part_name, read_parts, write_part
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, Split
from data.scenes.windows import Grid, Window, tile_windows
from data.worker_pool import Workers
from data.workers import held, map_ordered

__all__ = [
    "LIGHT",
    "MAP_FOLDERS",
    "MOST_BYTES",
    "MapStore",
    "ParquetStore",
    "RasterStore",
    "in_windows",
    "map_path",
    "open_store",
    "read_windows",
    "worth_windows",
    "worth_workers",
    "write_maps",
]

logger = logging.getLogger(__name__)

MAP_FOLDERS: Mapping[Split, str] = {"train": "oof", "val": "val", "test": "test"}
"""Folder of a member's maps for each split."""

BLOCK = 512
"""Pixels on a side of the tiles of a GeoTIFF: none is read twice by windows that begin with one."""
MOST_BYTES = 48 * 2**20
"""That the planes of a window take; what is made of them takes several times as much."""
MOST_SIDE = 2048
"""Pixels on a side of a window of few planes."""

LIGHT = 0.125
"""Work on a pixel of finished maps, as a share of that of mapping it."""


class MapStore(Protocol):
    """The probability maps of one member, in its folder."""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, a plane of a map each."""
        ...

    def files(self, scenes: Sequence[Scene]) -> dict[Path, tuple[Scene, ...]]:
        """Return the files that hold the maps of scenes, whether they are there or not, and the scenes in each.

        What lies where follows from all scenes, in the catalogue's order.
        """
        ...

    def write(self, path: Path, member: Member, scenes: Sequence[Scene]) -> None:
        """Write one of the `files`, atomically, each scene predicted by the models that never saw it."""
        ...

    def missing(self, scenes: Sequence[Scene]) -> list[Scene]:
        """Return the scenes that have no map."""
        ...

    def names_of(self, scene: Scene) -> tuple[str, ...]:
        """Return the classes of a scene's map as its file names them."""
        ...

    def grid(self, scene: Scene) -> Grid:
        """Return the grid of a scene's map."""
        ...

    def read(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint16]:
        """Read a scene's map or a window of it, (n_classes, height, width) as `data.maps.geotiff.quantise` stores it.

        Raises
        ------
        MapError
            If it is missing, not one of ours, or not of the size of `grid`.
        """
        ...


def open_store(directory: Path, classes: Classes, planes: tuple[str, ...] | None = None) -> MapStore:
    """Return the store of the maps in a member's folder, as suits the task; ``planes`` if these are not the classes.

    >>> tags = Classes("multilabel", (0,), ("haze",), ((0, 0, 255),))
    >>> type(open_store(Path("members/net"), tags)).__name__
    'ParquetStore'
    """
    return (ParquetStore if classes.task == "multilabel" else RasterStore)(directory, planes or classes.names)


def map_path(directory: Path, scene: Scene) -> Path:
    """Return where the GeoTIFF of a scene lies in a member's folder; the blocks of a scene share one."""
    return directory / MAP_FOLDERS[scene.split] / f"{scene.whole.id}.tif"


@dataclass(frozen=True)
class RasterStore:
    """Maps of pixels: a GeoTIFF a scene, on its grid."""

    directory: Path
    names: tuple[str, ...]

    def files(self, scenes: Sequence[Scene]) -> dict[Path, tuple[Scene, ...]]:
        """Return one file a scene, or for all of its blocks; see `MapStore`."""
        files: dict[Path, tuple[Scene, ...]] = {}
        for scene in scenes:
            path = map_path(self.directory, scene)
            files[path] = (*files.get(path, ()), scene)
        return files

    def write(self, path: Path, member: Member, scenes: Sequence[Scene]) -> None:
        """Write the map of a scene, or of all of its blocks; see `MapStore`."""
        whole = scenes[0].whole
        folds = sorted({fold for scene in scenes for fold in unseen_by(member, scene)})
        tags = {"member": member.name, "folds": ",".join(map(str, folds)), "scene": whole.id}
        with keep_open(), map_writer(path, whole.grid, self.names, tags) as writer:
            for scene, window, proba in predict_unseen(member, scenes):
                writer.write(_in_whole(scene, window), proba)

    def missing(self, scenes: Sequence[Scene]) -> list[Scene]:
        """Return the scenes that have no file."""
        return [scene for scene in scenes if not map_path(self.directory, scene).exists()]

    def names_of(self, scene: Scene) -> tuple[str, ...]:
        """Return the names of the bands."""
        return map_names(map_path(self.directory, scene))

    def grid(self, scene: Scene) -> Grid:
        """Return the scene's own grid."""
        return scene.grid

    def read(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint16]:
        """Read pixels; see `MapStore`."""
        path, area = map_path(self.directory, scene), window or scene.grid.window
        stored = read_map(path, window if scene.block is None else _in_whole(scene, area))
        if stored.shape[1:] != (area.height, area.width):
            raise MapError(
                f"{path}: expected {area.height} × {area.width} pixels like scene {scene.id}, "
                f"got {stored.shape[1]} × {stored.shape[2]}. Write the member's maps again: --overwrite."
            )
        return stored


@dataclass(frozen=True)
class ParquetStore:
    """Maps of tagged scenes, a single pixel each: many in a file, all in memory once they are read.

    Parameters
    ----------
    directory : Path
    names : tuple of str
    part_scenes : int
        Most scenes of a file.
    """

    directory: Path
    names: tuple[str, ...]
    part_scenes: int = PART_SCENES
    _read: dict[Split, tuple[tuple[str, ...], dict[str, NDArray[np.uint16]]]] = field(default_factory=dict, init=False)

    def files(self, scenes: Sequence[Scene]) -> dict[Path, tuple[Scene, ...]]:
        """Return the parts of each split; see `MapStore`."""
        parts = {}
        for split, folder in MAP_FOLDERS.items():
            of_split = tuple(scene for scene in scenes if scene.split == split)
            for number, start in enumerate(range(0, len(of_split), self.part_scenes)):
                parts[self.directory / folder / part_name(number)] = of_split[start : start + self.part_scenes]
        return parts

    def write(self, path: Path, member: Member, scenes: Sequence[Scene]) -> None:
        """Write a part; see `MapStore`."""
        proba = {scene.id: pixel[:, 0, 0] for scene, _, pixel in predict_unseen(member, scenes)}
        about = {"member": member.name, "folds": ",".join(map(str, member.folds))}
        ids = [scene.id for scene in scenes]
        write_part(path, ids, np.stack([proba[scene] for scene in ids]), self.names, about)

    def missing(self, scenes: Sequence[Scene]) -> list[Scene]:
        """Return the scenes that are in no part."""
        return [scene for scene in scenes if scene.id not in self._maps(scene.split)[1]]

    def names_of(self, scene: Scene) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self._maps(scene.split)[0]

    def grid(self, scene: Scene) -> Grid:
        """Return the grid of a single pixel."""
        return Grid(1, 1)

    def read(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint16]:
        """Return the single pixel, (n_classes, 1, 1)."""
        return self._maps(scene.split)[1][scene.id][:, None, None]

    def _maps(self, split: Split) -> tuple[tuple[str, ...], dict[str, NDArray[np.uint16]]]:
        if split not in self._read:
            self._read[split] = read_parts(self.directory / MAP_FOLDERS[split])
        return self._read[split]


def _in_whole(scene: Scene, window: Window) -> Window:
    """Return a window of a scene in the pixels of the scene that it is a block of."""
    return window if scene.block is None else window.shift(scene.block.window)


def write_maps(
    member: Member,
    catalogue: Catalogue,
    store: MapStore,
    track: Track = untracked,
    executor: Executor | None = None,
    load: Callable[[], Member] | None = None,
) -> None:
    """Write a member's maps of every scene; files that exist are kept.

    Parameters
    ----------
    member : Member
        With a model for every fold of the catalogue.
    catalogue : Catalogue
    store : MapStore
        The member's.
    track : Track
    executor : Executor, optional
        Where scenes are mapped in parallel, if there are enough of them.
    load : callable, optional
        Picklable; loads the member in a process, where it writes the same bytes.

    Raises
    ------
    MemberError
        If the member lacks the model of a fold.
    """
    require_folds(member, catalogue.folds)
    files = {path: scenes for path, scenes in store.files(catalogue.scenes).items() if not path.exists()}
    wholes = [scenes[0].whole for scenes in files.values()]
    apart = None if load is None or in_windows(executor, wholes) else worth_workers(executor, wholes)
    work = partial(_write_loaded, store, load) if apart and load else partial(_write, store, member)
    for _ in track(map_ordered(work, files.items(), apart), f"{member.name}: maps", len(files)):
        pass
    logger.info("member %s: maps of %d scenes", member.name, len(catalogue.scenes))


def _write(store: MapStore, member: Member, file: tuple[Path, tuple[Scene, ...]]) -> None:
    store.write(file[0], member, file[1])


def _write_loaded(store: MapStore, load: Callable[[], Member], file: tuple[Path, tuple[Scene, ...]]) -> None:
    _write(store, held(load), file)


def worth_workers(executor: Executor | None, scenes: Sequence[Scene], work: float = 1.0) -> Executor | None:
    """Return an executor where scenes take longer than its processes take to load libraries and models; else None.

    Parameters
    ----------
    executor : Executor or None
    scenes : sequence of Scene
    work : float
        On a pixel, as a share of that of mapping it.
    """
    if len(scenes) < 2:
        return None
    return _worth_pixels(executor, work * sum(scene.grid.height * scene.grid.width for scene in scenes))


def worth_windows(executor: Executor | None, scene: Scene) -> Executor | None:
    """Return an executor where the windows of a scene take longer than its processes take to start; else None."""
    return _worth_pixels(executor, scene.grid.height * scene.grid.width)


def _worth_pixels(executor: Executor | None, pixels: float) -> Executor | None:
    return executor if not isinstance(executor, Workers) or pixels >= executor.worth_pixels else None


def in_windows(executor: Executor | None, scenes: Sequence[Scene], pixels: int = 2**24) -> bool:
    """Return whether scenes are so few and large that processes had better share the windows of each."""
    few = len(scenes) < (executor.slots if isinstance(executor, Workers) else 2)
    return len(scenes) < 2 or (few and min(scene.grid.height * scene.grid.width for scene in scenes) >= pixels)


def read_windows(height: int, width: int, planes: int, most_bytes: int = MOST_BYTES) -> Iterator[Window]:
    """Yield the windows in which maps of many planes are read together: all of them fit the memory that may be used.

    Parameters
    ----------
    height, width : int
        Of the maps.
    planes : int
        Of all maps that are read together, two bytes a pixel each.
    most_bytes : int
        That the planes of a window may take.

    Examples
    --------
    >>> [len(list(read_windows(2048, 2048, planes))) for planes in (1, 20, 80, 160)]
    [1, 4, 16, 32]
    """
    pixels = max(most_bytes // (2 * planes), 1)
    side = min(math.isqrt(pixels) // BLOCK * BLOCK, MOST_SIDE)
    # Below a tile of the file, whole rows of it: fewer windows then share its tiles than if they were square.
    size = (side, side) if side else (1 << max(pixels // BLOCK, 1).bit_length() - 1, BLOCK)
    yield from tile_windows(height, width, size)
