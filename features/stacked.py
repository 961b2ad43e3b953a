"""Channels from other members' probability maps, out of fold wherever a model learns.

A model that has seen a scene's labels is too sure of them, and another that learns to trust its maps is let down by the
honest ones of new scenes. So a training scene's map is refused unless it says that the one model made it that never saw
the scene's group.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import MapError
from data.maps.geotiff import map_names, map_tags, read_proba
from data.maps.store import map_path
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import read_grid
from data.scenes.scene import Scene
from data.scenes.windows import Grid, Window
from features.channels import Channels, OpenChannels
from features.feature_set import FeatureSet
from features.scene_features import SceneFeatureSet
from features.scene_table import open_rows
from features.table import RowGroup, Table, read_columns, table_path

__all__ = ["StackedChannels", "input_channels", "open_channel_rows", "stacked_names"]


def stacked_names(stack: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the channels that members give: one a class of each.

    >>> stacked_names(["lightgbm"], ["water", "kelp"])
    ('lightgbm:water', 'lightgbm:kelp')
    """
    return tuple(f"{member}:{name}" for member in stack for name in classes)


def input_channels(feature_set: FeatureSet, stack: Sequence[str], classes: Sequence[str], members: Path) -> Channels:
    """Return the channels of a model: features, then the probabilities of the members of its stack.

    Parameters
    ----------
    feature_set : FeatureSet
    stack : sequence of str
        Names of the members.
    classes : sequence of str
        Of their maps, in order.
    members : Path
        Holds the folders of the members.
    """
    return StackedChannels(feature_set, stack, classes, members) if stack else feature_set


class StackedChannels:
    """Features, then the probabilities of other members; parameters are those of `input_channels`.

    Attributes
    ----------
    names : tuple of str
    """

    def __init__(self, feature_set: FeatureSet, stack: Sequence[str], classes: Sequence[str], members: Path) -> None:
        self.feature_set, self.stack, self.classes, self.members = feature_set, tuple(stack), tuple(classes), members
        self.names = (*feature_set.names, *stacked_names(stack, classes))
        self._checked: set[Path] = set()

    def describe(self) -> list[dict[str, str | int]]:
        """Describe each channel, as `FeatureSet.describe` does."""
        stacked: list[dict[str, str | int]] = [
            {
                "name": f"{member}:{name}",
                "kind": "stacked",
                "halo": 0,
                "reference": "",
                "unit": "probability",
                "definition": f"probability of {name} that member {member} gives, the mean of its folds' models",
            }
            for member in self.stack
            for name in self.classes
        ]
        return [*self.feature_set.describe(), *stacked]

    def only(self, names: Collection[str]) -> "StackedChannels":
        """Return those of the features that are named, in order, and all probabilities."""
        return StackedChannels(self.feature_set.only(names), self.stack, self.classes, self.members)

    def open(self, scene: Scene) -> "OpenStack":
        """Return the scene, ready to have its channels read window by window.

        Raises
        ------
        MapError
            If a member has no map of the scene, or one that is in-sample, of another scene, member, grid or classes.
        """
        paths = [map_path(self.members / member, scene) for member in self.stack]
        for member, path in zip(self.stack, paths, strict=True):
            if path not in self._checked:
                _check_map(path, member, scene, self.classes)
                self._checked.add(path)
        return OpenStack(self.feature_set.open(scene), paths, len(self.names), scene)


class OpenStack:
    """A scene whose features and maps are read."""

    def __init__(self, features: OpenChannels, paths: Sequence[Path], channels: int, scene: Scene) -> None:
        self._features, self._paths, self._channels, self._grid = features, paths, channels, scene.grid
        self._place = scene.grid.window if scene.block is None else scene.block.window

    def compute(self, window: Window | None = None) -> NDArray[np.float32]:
        """Return the channels (C, height, width) of a window, NaN where a feature or a map has nothing."""
        area = window or self._grid.window
        out = np.full((self._channels, area.height, area.width), np.nan, np.float32)
        features = self._features.compute(window)
        out[: len(features)] = features
        inner = area.meet(self._grid.window)
        if inner.height and inner.width:
            # Of a scene in blocks the map is one.
            out[len(features) :, *inner.within(area)] = self.maps(inner)
        return out

    def maps(self, window: Window) -> NDArray[np.float32]:
        """Return what the members say of a window within the scene, (members × classes, height, width)."""
        # Of a scene in blocks the map is one.
        return np.concatenate([read_proba(path, window.shift(self._place)) for path in self._paths])

    def valid(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return where a window of the scene was seen, (height, width) bool."""
        return self._features.valid(window)


@dataclass(frozen=True)
class StackedRows:
    """Rows of the pixel table that are read together, and what other members say of their pixels.

    Parameters
    ----------
    rows : RowGroup
    scene : Scene
        Of all of them.
    channels : StackedChannels
    """

    rows: RowGroup
    scene: Scene
    channels: StackedChannels

    def __len__(self) -> int:
        return len(self.rows)

    def read(self) -> NDArray[np.float32]:
        """Return the columns (n, F) of the table, then those of members, in C order."""
        columns = read_columns(self.rows.path, ("row", "col"), self.rows.number)
        row, col = (columns[name].to_numpy() for name in ("row", "col"))
        top, left = int(row.min(initial=0)), int(col.min(initial=0))
        around = Window(top, left, int(row.max(initial=0)) - top + 1, int(col.max(initial=0)) - left + 1)
        said = self.channels.open(self.scene).maps(around)[:, row - top, col - left]
        return np.ascontiguousarray(np.concatenate([self.rows.read(), said.T], axis=1))


def open_channel_rows(
    pixels: Path, catalogue: Catalogue, channels: Channels | SceneFeatureSet, folds: Sequence[int] | None = None
) -> Table:
    """Open the training rows of either table, or those that some folds hold out, with the columns that channels name.

    Parameters
    ----------
    pixels : Path
        Folder of the table.
    catalogue : Catalogue
        With folds.
    channels : Channels or SceneFeatureSet
        Those of members are read from their maps, at the pixels of the rows.
    folds : sequence of int, optional
    """
    if not isinstance(channels, StackedChannels):
        return open_rows(pixels, catalogue, channels.names, folds)
    table = open_rows(pixels, catalogue, channels.feature_set.names, folds)
    scene_of = {table_path(pixels, scene): scene for scene in catalogue.split("train")}
    blocks = [StackedRows(rows, scene_of[rows.path], channels) for rows in table.blocks if isinstance(rows, RowGroup)]
    return replace(table, blocks=blocks, names=channels.names)


def _check_map(path: Path, member: str, scene: Scene, classes: Sequence[str]) -> None:
    again = f"Remove stages/{member}.json from the run folder, if it is there, and give `terrablend run`."
    if not path.exists():
        raise MapError(f"{path}: expected the map of scene {scene.id} by member {member}, got no such file. {again}")
    tags = map_tags(path)
    source = tags.get("member"), tags.get("scene")
    if source != (member, scene.whole.id):
        raise MapError(
            f"{path}: expected the map of scene {scene.id} by member {member}, got that of scene {source[1]} by member "
            f"{source[0]}. {again}"
        )
    folds = tags.get("folds", "").split(",")
    if scene.split == "train" and (str(scene.fold) not in folds or (scene.block is None and len(folds) > 1)):
        raise MapError(
            f"{path}: expected an out-of-fold map, by the model of fold {scene.fold} alone, which never saw scene "
            f"{scene.id}, got one by those of folds {tags.get('folds')}, which is in-sample. {again}"
        )
    if map_names(path) != tuple(classes):
        raise MapError(f"{path}: expected maps of {', '.join(classes)}, got {', '.join(map_names(path))}. {again}")
    grid, ours = read_grid(str(path))[0], scene.whole.grid
    if not _same_grid(grid, ours):
        raise MapError(
            f"{path}: expected the grid of scene {scene.id}, {ours.height} × {ours.width} pixels from "
            f"{ours.transform}, got {grid.height} × {grid.width} from {grid.transform}. {again}"
        )


def _same_grid(ours: Grid, other: Grid) -> bool:
    if (ours.height, ours.width) != (other.height, other.width):
        return False
    if ours.transform is None or other.transform is None:
        return ours.transform == other.transform
    return np.allclose(ours.transform, other.transform, rtol=1e-9, atol=0)
