"""Channels from other members' maps, of probabilities or of a layer's features, out of fold wherever a model learns.

A model that has seen a scene's labels is too sure of them, and another that learns to trust its maps is let down by the
honest ones of new scenes. So a training scene's map is refused unless it says that the one model made it that never saw
the scene's group.
"""

from collections.abc import Collection, Iterator, Sequence
from copy import copy
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
from features.stack_settings import LayerSettings, StackEntry, derived_members, stack_names, strict_members
from features.table import RowGroup, Table, read_columns, table_path

__all__ = ["StackedChannels", "inner_folder", "input_channels", "inside_fold", "open_channel_rows", "stacked_names"]


@dataclass(frozen=True)
class StackedMaps:
    """Maps of one entry of a stack.

    Parameters
    ----------
    name : str
        Of their folder.
    planes : tuple of str
        A channel each: classes, or components of a layer's features.
    layer : LayerSettings or None
    strict : bool
        Whether a fold's model learns from maps by models inside of the fold.
    """

    name: str
    planes: tuple[str, ...]
    layer: LayerSettings | None = None
    strict: bool = False

    @classmethod
    def of(cls, entry: StackEntry, classes: Sequence[str]) -> "StackedMaps":
        """Return the maps of an entry."""
        [name], layers = stack_names([entry]), derived_members([entry])
        layer = layers.get(name)
        planes = tuple(classes) if layer is None else layer.planes
        return cls(name, planes, layer, bool(strict_members([entry])))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(f"{self.name}:{plane}" for plane in self.planes)

    def describe(self) -> Iterator[dict[str, str | int]]:
        """Describe each channel, as `FeatureSet.describe` does."""
        for channel, plane in zip(self.channels, self.planes, strict=True):
            unit, text = "probability", f"probability of {plane} that member {self.name} gives"
            if self.layer is not None:
                what = f"component {plane} of the features of {self.layer.layer} of member {self.layer.member}"
                unit, text = "", f"{what}, on axes common to its folds"
            about: dict[str, str | int] = {"name": channel, "kind": "stacked", "halo": 0, "reference": "", "unit": unit}
            yield about | {"definition": f"{text}, the mean of its folds' models"}


def stacked_names(stack: Sequence[StackEntry], classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the channels that a stack gives: of a member one a class, of a layer one a component.

    >>> from features.stack_settings import Stacked
    >>> stacked_names(["lightgbm", Stacked(member="unet", layer="decoder", components=2)], ["water", "kelp"])
    ('lightgbm:water', 'lightgbm:kelp', 'unet@decoder:1', 'unet@decoder:2')
    """
    return tuple(channel for entry in stack for channel in StackedMaps.of(entry, classes).channels)


def input_channels(
    feature_set: FeatureSet, stack: Sequence[StackEntry], classes: Sequence[str], members: Path
) -> Channels:
    """Return the channels of a model: features, then those of its stack.

    Parameters
    ----------
    feature_set : FeatureSet
    stack : sequence of str or Stacked
        Names of members, and layers.
    classes : sequence of str
        Of the members' maps, in order.
    members : Path
        Holds the folders of the members.
    """
    return StackedChannels(feature_set, stack, classes, members) if stack else feature_set


def inner_folder(members: Path, member: str, fold: int) -> Path:
    """Return the folder of the models and maps of a member that was fitted inside of a fold: without its scenes."""
    return members / f"{member}@inner" / f"fold{fold}"


def inside_fold(channels: Channels, fold: int) -> Channels:
    """Return channels whose strict maps of the scenes outside a fold are by models that saw nothing of the fold."""
    if not isinstance(channels, StackedChannels):
        return channels
    return channels.inside(fold)


class StackedChannels:
    """Features, then the planes of other members' maps; parameters are those of `input_channels`.

    Attributes
    ----------
    names : tuple of str
    """

    def __init__(
        self, feature_set: FeatureSet, stack: Sequence[StackEntry], classes: Sequence[str], members: Path
    ) -> None:
        self.feature_set, self.members = feature_set, members
        self.stack = tuple(StackedMaps.of(entry, classes) for entry in stack)
        self.names = (*feature_set.names, *stacked_names(stack, classes))
        self._checked: set[Path] = set()
        self._fold: int | None = None

    def inside(self, fold: int) -> "StackedChannels":
        """Return the same channels for learning the model of a fold; see `inside_fold`."""
        other = copy(self)
        other._checked, other._fold = set(), fold
        return other

    def describe(self) -> list[dict[str, str | int]]:
        """Describe each channel, as `FeatureSet.describe` does."""
        return [*self.feature_set.describe(), *(about for maps in self.stack for about in maps.describe())]

    def only(self, names: Collection[str]) -> "StackedChannels":
        """Return those of the features that are named, in order, and all planes of the maps."""
        other = copy(self)
        other.feature_set = self.feature_set.only(names)
        other.names = (*other.feature_set.names, *(channel for maps in self.stack for channel in maps.channels))
        return other

    def open(self, scene: Scene) -> "OpenStack":
        """Return the scene, ready to have its channels read window by window.

        Raises
        ------
        MapError
            If a member has no map of the scene, or one that is in-sample, of another scene, member, grid or planes.
        """
        paths = [map_path(self._folder(maps, scene), scene) for maps in self.stack]
        for maps, path in zip(self.stack, paths, strict=True):
            if path not in self._checked:
                _check_map(path, maps.name, scene, maps.planes)
                self._checked.add(path)
        return OpenStack(self.feature_set.open(scene), paths, len(self.names), scene)

    def _folder(self, maps: StackedMaps, scene: Scene) -> Path:
        if self._fold is None or scene.fold in (None, self._fold) or not maps.strict:
            return self.members / maps.name
        return inner_folder(self.members, maps.name, self._fold)


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
        """Return what the maps say of a window within the scene, (planes, height, width)."""
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


def _check_map(path: Path, member: str, scene: Scene, planes: Sequence[str]) -> None:
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
    if map_names(path) != tuple(planes):
        raise MapError(f"{path}: expected maps of {', '.join(planes)}, got {', '.join(map_names(path))}. {again}")
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
