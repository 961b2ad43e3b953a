"""A scene: its files, and how its pixels and labels are read."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from data.errors import LabelError, SceneError
from data.scenes.classes import IGNORE
from data.scenes.color_labels import read_color_label, read_palette
from data.scenes.windows import Grid, Window

__all__ = [
    "ImageFile",
    "LabelFile",
    "Scene",
    "Split",
    "band_problem",
    "keep_open",
    "open_raster",
    "read_grid",
    "read_label",
    "read_scene",
    "recode",
    "valid_mask",
]

Split = Literal["train", "val", "test"]

GDAL_OPTIONS: dict[str, Any] = {
    # A folder of thousands of tiles is otherwise listed at every open, to look for side-car files.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # MB of decoded blocks; by default it is a share of the machine's memory, for every worker.
    "GDAL_CACHEMAX": 256,
}

_kept: ContextVar[dict[str, Any] | None] = ContextVar("_kept", default=None)
"""Rasters by path that stay open for now."""


@dataclass(frozen=True)
class ImageFile:
    """One file of a scene.

    Parameters
    ----------
    path : str
        Anything GDAL opens: a local path, ``s3://``, ``https://``.
    bands : tuple of str
        Names of its bands, in file order.
    nodata : tuple of float
        Values that mean "no data", besides NaN and the value that the file itself declares.
    """

    path: str
    bands: tuple[str, ...]
    nodata: tuple[float, ...] = ()


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
    """

    path: str
    values: tuple[tuple[int, int], ...]
    colors: bool = False
    nearest: bool = False


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

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of all bands, in the order of `read_scene`."""
        return tuple(band for image in self.images for band in image.bands)


@contextmanager
def maybe_ungeoreferenced() -> Iterator[None]:
    """Silence rasterio's warning of files without georeferencing: scenes may have none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def keep_open() -> Iterator[None]:
    """Keep every raster open that is read within this block.

    Blocks of a file that windows share are then decoded once, not once a window.
    """
    rasters: dict[str, Any] = {}
    token = _kept.set(rasters)
    try:
        yield
    finally:
        _kept.reset(token)
        for raster in rasters.values():
            raster.close()


@contextmanager
def open_raster(path: str) -> Iterator[Any]:
    """Open a raster for reading; a file that cannot be opened or read is named in the error.

    Raises
    ------
    SceneError
        If GDAL cannot open the file, or fails while the ``with`` block reads it.
    """
    kept = _kept.get()
    try:
        with rasterio.Env(**GDAL_OPTIONS), maybe_ungeoreferenced(), ExitStack() as closing:
            raster = None if kept is None else kept.get(path)
            if raster is None:
                raster = rasterio.open(path, sharing=False)
                if kept is None:
                    closing.enter_context(raster)
                else:
                    kept[path] = raster
            yield raster
    except RasterioError as error:
        raise SceneError(
            f"{path}: expected a readable raster, got: {error.__cause__ or error}. "
            "Download or export the file again, or remove the scene."
        ) from error


def read_grid(path: str) -> tuple[Grid, int]:
    """Return the grid of a raster file and its number of bands."""
    with open_raster(path) as raster:
        transform = None if raster.transform.is_identity else tuple(raster.transform)[:6]
        crs = raster.crs.to_wkt() if raster.crs else None
        return Grid(raster.height, raster.width, crs, transform), raster.count


def band_problem(image: ImageFile, raster: Any) -> str | None:
    """Return why an open raster does not fit the bands named for it; None if it does.

    A raster of one band with a palette has one, or the red, green, blue (and alpha) of its palette.
    """
    wanted = len(image.bands)
    if raster.count == wanted:
        return None
    palette = read_palette(raster) is not None
    if palette and wanted in (3, 4):
        return None
    advice = "Name the bands of this file in scenes.bands, in file order."
    if palette:
        advice = "It has a palette: name one band for the values, or red, green and blue for the colours."
    elif raster.colorinterp[-1] == ColorInterp.alpha and raster.count == wanted + 1:
        advice = "The last is its alpha: name it too, and set scenes.invalid: {alpha: [0]}."
    return f"{image.path}: expected {wanted} bands ({', '.join(image.bands)}), the file has {raster.count}. {advice}"


def read_scene(
    scene: Scene, window: Window | None = None, halo: int = 0, bands: Sequence[str] | None = None
) -> NDArray[np.float32]:
    """Read a scene's pixels.

    Parameters
    ----------
    scene : Scene
    window : Window, optional
        The whole scene by default. It may reach over the scene's edge.
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
    masks = dict(scene.invalid)
    order = [*wanted, *(band for band in masks if band not in wanted)]
    pixels = np.empty((len(order), area.height, area.width), np.float32)
    for image in scene.images:
        places = {band: order.index(band) for band in image.bands if band in order}
        if places:
            _read_image(image, places, area, scene, pixels)
    for mask_band, values in masks.items():
        invalid = _is_invalid(pixels[order.index(mask_band)], values)
        for position, band in enumerate(wanted):
            if band not in masks:
                pixels[position, invalid] = np.nan
    return pixels[: len(wanted)]


def read_label(scene: Scene, window: Window | None = None) -> NDArray[np.uint8]:
    """Read a scene's label as indices into ``Classes.label_names``.

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
    if scene.label is None:
        raise LabelError(f"scene {scene.id}: expected a label, the {scene.split} split has none.")
    area = window or scene.grid.window
    label = np.full((area.height, area.width), IGNORE, np.uint8)
    inside = _inside(area, scene.grid)
    if inside is None:
        return label
    target, source = inside
    values = dict(scene.label.values)
    with open_raster(scene.label.path) as raster:
        if raster.shape != (scene.grid.height, scene.grid.width):
            raise LabelError(
                f"{scene.label.path}: expected {scene.grid.height} × {scene.grid.width} pixels like the image of scene "
                f"{scene.id}, got {raster.height} × {raster.width}. Export the label on the image's grid."
            )
        if scene.label.colors:
            label[target] = read_color_label(raster, source, values, scene.label.nearest)
        else:
            label[target] = _read_values(raster, source, values)
    return label


def _read_values(raster: Any, window: RasterWindow, declared: Mapping[int, int]) -> NDArray[np.uint8]:
    if raster.count > 2:
        raise LabelError(
            f"{raster.name}: expected one band of class values, got {raster.count}. If it is a colour-coded "
            "image, set label.colors: true and give each class its color."
        )
    values = raster.read(1, window=window)
    undeclared = {} if raster.nodata is None else {raster.nodata: IGNORE}
    meanings = {**undeclared, **declared}
    codes, unknown = recode(values, meanings)
    if unknown:
        raise LabelError(
            f"{raster.name}: expected the values {', '.join(map(str, sorted(meanings)))}, got also "
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


def _read_image(
    image: ImageFile, places: Mapping[str, int], area: Window, scene: Scene, pixels: NDArray[np.float32]
) -> None:
    """Read bands of one file into the planes of ``pixels`` that they have their places in."""
    inside = _inside(area, scene.grid)
    if inside is None:
        pixels[[*places.values()]] = np.nan
        return
    target, source = inside
    with open_raster(image.path) as raster:
        problem = band_problem(image, raster)
        if problem:
            raise SceneError(problem)
        indexes = [image.bands.index(band) for band in places]
        if raster.count == len(image.bands):
            stored = values = raster.read([index + 1 for index in indexes], window=source)
            declared = [raster.nodatavals[index] for index in indexes]
        else:
            palette = read_palette(raster)
            assert palette is not None
            stored = np.repeat(raster.read([1], window=source), len(indexes), axis=0)
            values = palette[indexes][:, stored[0]]
            declared = [raster.nodata] * len(indexes)
    whole = values.shape[1:] == pixels.shape[1:]
    for place, read, raw, nodata_value in zip(places.values(), values, stored, declared, strict=True):
        if not whole:
            pixels[place] = np.nan
        plane = pixels[place][target]
        plane[...] = read
        # Compared before the conversion to float32, which can change a large integer.
        for nodata in image.nodata:
            plane[read == nodata] = np.nan
        if nodata_value is not None:
            plane[raw == nodata_value] = np.nan
        if read.dtype.kind == "f":
            plane[~np.isfinite(plane)] = np.nan


def _inside(area: Window, grid: Grid) -> tuple[tuple[slice, slice], RasterWindow] | None:
    """Return the part of ``area`` that lies on the grid: its slices within ``area``, and the file's window."""
    top, left = max(area.row, 0), max(area.col, 0)
    bottom, right = min(area.row + area.height, grid.height), min(area.col + area.width, grid.width)
    if bottom <= top or right <= left:
        return None
    target = slice(top - area.row, bottom - area.row), slice(left - area.col, right - area.col)
    return target, RasterWindow(left, top, right - left, bottom - top)


def _is_invalid(mask: NDArray[np.float32], values: tuple[int, ...]) -> NDArray[np.bool_]:
    listed: NDArray[np.bool_] = np.isin(np.nan_to_num(mask), values or (0,))
    return listed if values else ~listed
