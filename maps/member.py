"""A member whose maps another tool made: it reads them, where others compute."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.addresses import is_elsewhere
from data.errors import MemberError
from data.maps.member import Prediction
from data.records import FileKind, read_record
from data.scenes.classes import Classes
from data.scenes.scene import Scene, read_scene, valid_mask
from data.scenes.windows import Window, tile_windows
from maps.settings import MapsSettings
from maps.source import open_reading
from maps.tags import read_rows, row_of

__all__ = ["MapsMember", "MemberRecord", "load_member", "map_files"]

MEMBER = FileKind("a member that was checked", MemberError, "terrablend maps")


@dataclass(frozen=True)
class MemberRecord:
    """``member.json``: what a member's maps tell; where they lie the experiment file says."""

    name: str
    branch: Literal["maps"]
    folds: tuple[int, ...]
    classes: Classes


@dataclass(frozen=True)
class MapsMember:
    """A member that reads its probabilities.

    Parameters
    ----------
    name : str
    settings : MapsSettings
    folds : tuple of int
        Of the experiment.
    classes : Classes
    root : Path
        Folder that patterns start from.
    given : str or None
        Pattern of the maps of scenes that the experiment does not know.
    size : int
        Pixels on a side of the windows that are read at a time.
    """

    name: str
    settings: MapsSettings
    folds: tuple[int, ...]
    classes: Classes
    root: Path
    given: str | None = None
    size: int = 1024

    def files(self, scene: Scene, folds: Sequence[int]) -> list[Path]:
        """Return the files of a scene's maps by the models of some folds; one where they are not told apart."""
        pattern = self.settings.pattern(scene.split) if self.given is None else self.given
        if pattern is None:
            raise MemberError(
                f"member {self.name}: expected maps of the {scene.split} scenes, path names none. "
                f"Add path.{scene.split}."
            )
        return map_files(self.root if self.given is None else Path(), pattern, scene.id, folds)

    def predict(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[Prediction]:
        """Yield the mean of the maps by some folds' models; see `data.maps.member.Member`."""
        for scene in scenes:
            if self.classes.task == "multilabel":
                yield scene, Window(0, 0, 1, 1), self._row(scene, folds)[:, None, None]
                continue
            readings = [open_reading(path, self.settings, self.classes.names) for path in self.files(scene, folds)]
            for window in tile_windows(scene.grid.height, scene.grid.width, self.size):
                proba = _mean([np.clip(reading.read(window), 0, 1) for reading in readings])
                proba[:, ~valid_mask(scene, read_scene(scene, window))] = np.nan
                yield scene, window, proba

    def _row(self, scene: Scene, folds: Sequence[int]) -> NDArray[np.float32]:
        rows = []
        for path in self.files(scene, folds):
            row = row_of(scene, self.table(path))
            if row is None:
                raise MemberError(f"{path}: expected a row of scene {scene.id}, got none. Add it.")
            rows.append(row)
        return _mean(rows)

    def table(self, path: Path) -> dict[str, NDArray[np.float32]]:
        """Return the rows of a table of tags, read once."""
        if path not in self._tables:
            self._tables[path] = read_rows(path, self.settings, self.classes.names)
        return self._tables[path]

    @cached_property
    def _tables(self) -> dict[Path, dict[str, NDArray[np.float32]]]:
        return {}


def _mean(probas: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = np.mean(probas, axis=0, dtype=np.float32)
    return mean


def map_files(root: Path, pattern: str, scene_id: str, folds: Sequence[int]) -> list[Path]:
    """Return the files that a pattern names: one for each fold where it tells them apart.

    >>> [str(path) for path in map_files(Path("data"), "fold{fold}/{id}.tif", "a", [0, 2])]
    ['data/fold0/a.tif', 'data/fold2/a.tif']
    """
    named = pattern.replace("{id}", scene_id)
    if is_elsewhere(pattern) or is_elsewhere(str(root / pattern)):
        raise MemberError(
            f"{pattern}: expected maps on this disk, got an address, or a path below one. Download them, and name them "
            "by a path that begins with /."
        )
    return [root / path for path in dict.fromkeys(named.replace("{fold}", str(fold)) for fold in folds)]


def load_member(directory: Path, settings: MapsSettings, root: Path, given: str | None = None) -> MapsMember:
    """Load a member that `maps.fit.fit_member` checked; see `MapsMember`.

    Raises
    ------
    MemberError
        If there is none.
    """
    record = read_record(directory / "member.json", MemberRecord, MEMBER)
    return MapsMember(record.name, settings, record.folds, record.classes, root, given)
