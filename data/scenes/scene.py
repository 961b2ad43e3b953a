"""A scene: its files, and how its pixels and labels are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterWindow

from data.errors import LabelError, SceneError
from data.scenes.classes import IGNORE
from data.scenes.color_labels import read_color_label
from data.scenes.control import Control
from data.scenes.image import ImageFile, hides_pixels, raster_window, read_image
from data.scenes.rasters import open_raster
from data.scenes.warp import warp_window
from data.scenes.windows import Grid, Window

__all__ = ["Block", "LabelFile", "Scene", "Split", "read_label", "read_labels", "read_scene", "recode", "valid_mask"]

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class LabelFile:
    """A scene's label raster, and what its values mean.

    Parameters
    ----------
    path : str
    values : tuple of (file value, label index or `IGNORE`)
    colors : bool
        The raster is a picture, and the values are colours as `data.scenes.color_labels.pack_color` makes them.
    nearest : bool
        Other colours stand for the nearest of these.
    grid : Grid or None
        Its own, where that is not the scene's: each pixel of the scene then has the label of the nearest of its pixels.
    control : Control or None
        What places its pixels, where that is no transform; ``grid`` is then the one that GDAL suggests for it.
    opinions : int
        Bands after the first: what is to be learned of each pixel, where it is not one thing; see
        `data.scenes.opinions`. The first band is what is scored.
    """

    path: str
    values: tuple[tuple[int, int], ...]
    colors: bool = False
    nearest: bool = False
    grid: Grid | None = None
    control: Control | None = None
    opinions: int = 0


@dataclass(frozen=True)
class Block:
    """The place of a block in the scene that it is a part of.

    Parameters
    ----------
    whole : str
        Id of that scene.
    grid : Grid
        Of that scene.
    window : Window
        In that scene.
    """

    whole: str
    grid: Grid
    window: Window


@dataclass(frozen=True)
class Scene:
    """One raster with named bands, and maybe a label. Nothing is read until it is asked for.

    Parameters
    ----------
    id : str
        Unique within its split.
    split : {"train", "val", "test"}
    images : tuple of ImageFile
        The scene's bands are those of each file in turn.
    grid : Grid
    label : LabelFile or None
    invalid : tuple of (band, values)
        Where ``band`` has one of ``values`` (any but 0 if there are none) the other bands are no data.
    group : str
        Scenes of one group stay in one fold.
    fold : int or None
        The fold that holds this training scene out.
    tags : tuple of int or None
        The tags that it has as a whole, as sorted indices into ``Classes.names``; None where they are not known.
    block : Block or None
        Where the scene is a part of a larger one: its files are those of the whole, and around it lies more.
    """

    id: str
    split: Split
    images: tuple[ImageFile, ...]
    grid: Grid
    label: LabelFile | None = None
    invalid: tuple[tuple[str, tuple[int, ...]], ...] = ()
    group: str = ""
    fold: int | None = None
    tags: tuple[int, ...] | None = None
    block: Block | None = None

    def __post_init__(self) -> None:
        for name in (self.id, self.block.whole if self.block else self.id):
            if not name or "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
                raise SceneError(
                    f"expected a scene's id that can be the name of a file, got {name[:200]!r}. Rename the scene."
                )

    @property
    def whole(self) -> "Scene":
        """The scene that this is a block of; itself if it is none."""
        if self.block is None:
            return self
        return replace(self, id=self.block.whole, grid=self.block.grid, group="", fold=None, block=None)

    @property
    def place(self) -> Window:
        """The window that this takes of the whole scene."""
        return self.grid.window if self.block is None else self.block.window

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of all bands, in the order of `read_scene`."""
        return tuple(band for image in self.images for band in image.bands)

    @property
    def opinions(self) -> int:
        """Number of its labels besides the one that is scored: learned from are these then."""
        return 0 if self.label is None else self.label.opinions


def read_scene(
    scene: Scene, window: Window | None = None, halo: int = 0, bands: Sequence[str] | None = None
) -> NDArray[np.float32]:
    """Read a scene's pixels.

    Parameters
    ----------
    scene : Scene
    window : Window, optional
        The whole scene by default. It may reach over the scene's edge; around a block lies more of the whole.
    halo : int
        Extra pixels on every side of the window.
    bands : sequence of str, optional
        Names of the bands wanted, in the order wanted; all by default.

    Returns
    -------
    pixels : (C, height + 2 halo, width + 2 halo) float32
        NaN where there is no data: nodata values, pixels that a mask band marks as invalid, and all outside the scene.

    Raises
    ------
    SceneError
        If a file cannot be read, or the scene has no band of a name asked for.
    """
    wanted = scene.bands if bands is None else tuple(bands)
    missing = [band for band in wanted if band not in scene.bands]
    if missing:
        raise SceneError(
            f"scene {scene.id}: expected bands {', '.join(missing)}; the scene has {', '.join(scene.bands)}. "
            "Correct scenes.bands, or ask for bands that it has."
        )
    area = (window or scene.grid.window).grow(halo)
    if scene.block is not None:
        return read_scene(scene.whole, area.shift(scene.block.window), bands=bands)
    masks = dict(scene.invalid)
    order = list(dict.fromkeys([*wanted, *masks]))
    pixels = np.empty((len(order), area.height, area.width), np.float32)
    for image in scene.images:
        places = {band: order.index(band) for band in image.bands if band in order}
        if places:
            read_image(image, places, tuple(masks), area, scene.grid, pixels)
    for mask_band, values in masks.items():
        invalid = _is_invalid(pixels[order.index(mask_band)], values)
        for position, band in enumerate(order):
            if band not in masks:
                pixels[position, invalid] = np.nan
    if len(set(wanted)) < len(wanted):
        return pixels[[order.index(band) for band in wanted]]
    return pixels[: len(wanted)]


def read_label(scene: Scene, window: Window | None = None) -> NDArray[np.uint8]:
    """Read a scene's label as indices into ``Classes.label_names``: what is scored, not opinions.

    Parameters
    ----------
    scene : Scene
    window : Window, optional
        The whole scene by default. It may reach over the scene's edge.

    Returns
    -------
    label : (height, width) uint8
        `IGNORE` where the label is to be ignored or has no data, and outside the scene.

    Raises
    ------
    LabelError
        If the scene has no label, or the label holds a value that no class declares.
    """
    label: NDArray[np.uint8] = read_labels(scene, window, [0])[0]
    return label


def read_labels(scene: Scene, window: Window | None = None, bands: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """Read a scene's label and the opinions that it is made of; see `read_label`.

    Parameters
    ----------
    scene : Scene
    window : Window, optional
    bands : sequence of int, optional
        0 is what is scored, 1 … the opinions; all by default.

    Returns
    -------
    labels : (n, height, width) uint8
    """
    if scene.label is None:
        raise LabelError(f"scene {scene.id}: expected a label, the {scene.split} split has none.")
    wanted = range(1 + scene.label.opinions) if bands is None else bands
    area = window or scene.grid.window
    labels = np.full((len(wanted), area.height, area.width), IGNORE, np.uint8)
    inner = area.meet(scene.grid.window)
    if not (inner.height and inner.width):
        return labels
    target = (slice(None), *inner.within(area))
    if scene.block is not None:
        # What lies around a block may be held out.
        labels[target] = read_labels(scene.whole, inner.shift(scene.block.window), wanted)
        return labels
    with open_raster(scene.label.path) as raster:
        if scene.label.grid is not None:
            read = partial(_read_codes, raster, scene.label, wanted)
            labels[target] = warp_window(
                read, scene.label.grid, scene.grid, inner, "nearest", IGNORE, scene.label.control
            )
        elif raster.shape == (scene.grid.height, scene.grid.width):
            labels[target] = _read_codes(raster, scene.label, wanted, inner)
        else:
            raise LabelError(
                f"{scene.label.path}: expected {scene.grid.height} × {scene.grid.width} pixels like the image of scene "
                f"{scene.id}, got {raster.height} × {raster.width}. Export the label on the image's grid."
            )
    return labels


def _read_codes(raster: Any, label: LabelFile, bands: Sequence[int], window: Window) -> NDArray[np.uint8]:
    """Return the label indices (n, height, width) of a window of a label's own pixels, `IGNORE` where it has none."""
    area, values = raster_window(window), dict(label.values)
    if label.opinions:
        return recode(raster.read([band + 1 for band in bands], window=area), values)[0]
    if label.colors:
        codes = read_color_label(raster, area, values, label.nearest)
    else:
        codes = _read_values(raster, area, values)
    if hides_pixels(raster, raster.count - 1):
        codes[raster.read_masks(1, window=area) == 0] = IGNORE
    return codes[None]


def _read_values(raster: Any, window: RasterWindow, declared: Mapping[int, int]) -> NDArray[np.uint8]:
    if raster.count > 2 or (raster.count == 2 and raster.colorinterp[1] != ColorInterp.alpha):
        raise LabelError(
            f"{raster.name}: expected one band of class values, got {raster.count}. If it is a colour-coded "
            "image, set label.colors: true and give each class its color."
        )
    values = raster.read(1, window=window)
    undeclared = {} if raster.nodata is None else {raster.nodata: IGNORE}
    meanings: dict[float, int] = {value: code for value, code in {**undeclared, **declared}.items() if value == value}
    codes, unknown = recode(values, meanings)
    unknown = [value for value in unknown if value == value]
    if unknown:
        raise LabelError(
            f"{raster.name}: expected the values {', '.join(f'{value:g}' for value in sorted(meanings))}, got also "
            f"{', '.join(f'{value:g}' for value in unknown[:5])}. "
            "Declare them under classes, in label.values or in label.ignore."
        )
    return codes


def recode(values: NDArray[Any], meanings: Mapping[Any, int]) -> tuple[NDArray[np.uint8], list[float]]:
    """Replace each value by what it means; also return the values that have no meaning, which become `IGNORE`.

    >>> recode(np.uint8([7, 0, 9]), {0: 0, 7: 1})
    (array([  1,   0, 255], dtype=uint8), [9])
    """
    found = np.unique(values)
    codes = np.array([meanings.get(value, IGNORE) for value in found.tolist()], np.uint8)
    return codes[np.searchsorted(found, values)], [value for value in found.tolist() if value not in meanings]


def valid_mask(scene: Scene, pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where a scene has data: any band finite, mask bands not counted.

    Parameters
    ----------
    scene : Scene
    pixels : (C, H, W) float32
        All of the scene's bands, as read by `read_scene`.

    Returns
    -------
    valid : (H, W) bool
    """
    masks = dict(scene.invalid)
    valid = np.zeros(pixels.shape[1:], bool)
    for band, plane in zip(scene.bands, pixels, strict=True):
        if band not in masks:
            valid |= np.isfinite(plane)
            if valid.all():
                break
    return valid


def _is_invalid(mask: NDArray[np.float32], values: tuple[int, ...]) -> NDArray[np.bool_]:
    listed: NDArray[np.bool_] = np.isin(np.nan_to_num(mask), values or (0,))
    return listed if values else ~listed
