"""Probability maps and class maps as GeoTIFFs on the scene's own grid.

A probability p is stored as the integer q = round(65534 p), with the scale 1/65534 and the nodata value
65535 declared, so that QGIS and GDAL show probabilities. The step is far finer than any model's noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from data.errors import MapError, SceneError
from data.files import replacing
from data.maps.cog import replacing_cog
from data.maps.whole import require_whole, writing_pixels
from data.scenes.classes import IGNORE, Classes
from data.scenes.rasters import GDAL_OPTIONS, maybe_ungeoreferenced, open_raster
from data.scenes.scene import recode
from data.scenes.windows import Grid, Window

__all__ = [
    "NODATA",
    "TOP",
    "FlagWriter",
    "MapWriter",
    "dequantise",
    "flag_writer",
    "is_prediction",
    "map_names",
    "map_tags",
    "map_writer",
    "quantise",
    "read_class_map",
    "read_map",
    "read_proba",
    "write_class_map",
]

TOP = 65534
NODATA = 65535


def quantise(proba: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Turn probabilities into stored integers, NaN into `NODATA`.

    >>> quantise(np.array([0.0, 0.5, 1.0, np.nan], np.float32))
    array([    0, 32767, 65534, 65535], dtype=uint16)
    """
    scaled = np.rint(np.clip(proba, 0, 1) * np.float32(TOP))
    return np.where(np.isnan(proba), NODATA, np.nan_to_num(scaled)).astype(np.uint16)


def dequantise(stored: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Turn stored integers into probabilities, `NODATA` into NaN."""
    proba = stored.astype(np.float32) / np.float32(TOP)
    proba[stored == NODATA] = np.nan
    return proba


class MapWriter:
    """An open map of probabilities, or of other values from 0; made by `map_writer`."""

    def __init__(self, raster: Any, path: Path, tops: Sequence[float]) -> None:
        self._raster, self._path = raster, path
        self._tops = np.array(tops, np.float32)[:, None, None]

    def write(self, window: Window, proba: NDArray[np.float32]) -> None:
        """Write the values (n, height, width) of one window."""
        area = RasterWindow(window.col, window.row, window.width, window.height)
        with writing_pixels(self._path):
            self._raster.write(quantise(proba / self._tops), window=area)


@contextmanager
def map_writer(
    path: Path,
    grid: Grid,
    names: Sequence[str],
    tags: Mapping[str, str],
    cloud_optimized: bool = False,
    tops: Sequence[float] | None = None,
) -> Iterator[MapWriter]:
    """Open a probability map for writing; it appears under its name once it is complete.

    Parameters
    ----------
    path : Path
        Ends in ``.tif``.
    grid : Grid
        The scene's.
    names : sequence of str
        Band descriptions, one class each.
    tags : mapping
        What else the file says of itself.
    cloud_optimized : bool
        Whether it is handed on: with overviews, for readers anywhere, rather than written and read here as fast
        as can be.
    tops : sequence of float, optional
        Largest value of each band, beyond which values are cut; 1 by default.
    """
    tops = tops or [1.0] * len(names)
    with (
        replacing_cog(path, "average") if cloud_optimized else replacing(path) as temporary,
        _create(temporary, grid, len(names), "uint16", NODATA, predictor="2") as raster,
    ):
        raster.scales = [top / TOP for top in tops]
        raster.descriptions = tuple(names)
        raster.update_tags(**tags)
        yield MapWriter(raster, path, tops)


class FlagWriter:
    """An open map of what holds and what does not; made by `flag_writer`."""

    def __init__(self, raster: Any, path: Path) -> None:
        self._raster, self._path = raster, path

    def write(self, window: Window, flags: NDArray[np.uint8]) -> None:
        """Write the flags (n, height, width) of one window: 0, 1, or `IGNORE` where nothing was predicted."""
        with writing_pixels(self._path):
            self._raster.write(flags, window=RasterWindow(window.col, window.row, window.width, window.height))


@contextmanager
def flag_writer(path: Path, grid: Grid, names: Sequence[str], tags: Mapping[str, str]) -> Iterator[FlagWriter]:
    """Open a Cloud Optimized GeoTIFF of flags in uint8, a band each; it appears under its name once it is complete.

    Parameters
    ----------
    path : Path
        Ends in ``.tif``.
    grid : Grid
        The scene's.
    names : sequence of str
        Band descriptions: what holds where there is a 1.
    tags : mapping
        What else the file says of itself.
    """
    with replacing_cog(path, "mode") as temporary, _create(temporary, grid, len(names), "uint8", IGNORE) as raster:
        raster.descriptions = tuple(names)
        raster.update_tags(**tags)
        yield FlagWriter(raster, path)


def read_map(path: Path, window: Window | None = None) -> NDArray[np.uint16]:
    """Read the stored integers of a probability map, (n, height, width).

    Raises
    ------
    MapError
        If the file is missing or is no map of ours.
    """
    area = window and RasterWindow(window.col, window.row, window.width, window.height)
    with _open_map(path) as raster:
        stored: NDArray[np.uint16] = raster.read(window=area)
    return stored


def read_proba(path: Path, window: Window | None = None) -> NDArray[np.float32]:
    """Read a probability map, (n, height, width) float32, NaN where nothing was predicted."""
    return dequantise(read_map(path, window))


def map_names(path: Path) -> tuple[str, ...]:
    """Return the class names of a probability map's bands."""
    with _open_map(path) as raster:
        return tuple(description or "" for description in raster.descriptions)


def map_tags(path: Path) -> dict[str, str]:
    """Return what else a probability map says of itself, such as the member and the folds that made it."""
    with _open_map(path) as raster:
        tags: dict[str, str] = raster.tags()
    return tags


def is_prediction(path: Path) -> bool:
    """Return whether a file is a map that an ensemble of ours made."""
    try:
        with open_raster(str(path)) as raster:
            return "terrablend" in raster.tags()
    except SceneError:
        return False


def write_class_map(
    path: Path, label: NDArray[np.uint8], grid: Grid, classes: Classes, tags: Mapping[str, str]
) -> None:
    """Write a class map that QGIS shows in the classes' colours, with their names: a Cloud Optimized GeoTIFF.

    Parameters
    ----------
    path : Path
        Ends in ``.tif``.
    label : (H, W) uint8
        Indices into ``classes.label_names``; `IGNORE` where nothing was predicted. The file holds class ids.
    grid : Grid
    classes : Classes
    tags : mapping
    """
    ids = np.full(256, IGNORE, np.uint8)
    ids[: len(classes.label_ids)] = classes.label_ids
    _write_category_names(path, classes)
    with (
        replacing_cog(path, "mode") as temporary,
        _create(temporary, grid, 1, "uint8", IGNORE, photometric="palette") as raster,
    ):
        raster.write_colormap(
            1, {key: (*color, 255) for key, color in zip(classes.label_ids, classes.label_colors, strict=True)}
        )
        raster.update_tags(**tags)
        with writing_pixels(path):
            raster.write(ids[label], 1)


def read_class_map(path: Path, classes: Classes) -> NDArray[np.uint8]:
    """Read a class map as indices into ``classes.label_names``, `IGNORE` where nothing was predicted.

    Raises
    ------
    MapError
        If the file cannot be read or holds a value that is no class's id.
    """
    with open_raster(str(path)) as raster:
        values = raster.read(1)
    index = {value: position for position, value in enumerate(classes.label_ids)} | {IGNORE: IGNORE}
    label, unknown = recode(values, index)
    if unknown:
        raise MapError(
            f"{path}: expected class ids {', '.join(map(str, classes.label_ids))}, got also {unknown[:5]}. "
            "Score maps that were made with these classes."
        )
    return label


def _write_category_names(path: Path, classes: Classes) -> None:
    # GDAL keeps category names beside a GeoTIFF, in a PAM file that rasterio cannot write.
    names = dict(zip(classes.label_ids, classes.label_names, strict=True))
    dataset = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(dataset, "PAMRasterBand", band="1")
    categories = ElementTree.SubElement(band, "CategoryNames")
    for value in range(max(names) + 1):
        ElementTree.SubElement(categories, "Category").text = names.get(value, "")
    with replacing(path.with_name(path.name + ".aux.xml")) as temporary:
        ElementTree.ElementTree(dataset).write(temporary, encoding="utf-8")


@contextmanager
def _create(path: Path, grid: Grid, count: int, dtype: str, nodata: int, **options: str) -> Iterator[Any]:
    layout: dict[str, Any] = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    if max(grid.height, grid.width) <= 512:
        layout = {"tiled": False, "blockysize": grid.height}
    where = {} if grid.transform is None else {"crs": grid.crs, "transform": rasterio.Affine(*grid.transform)}
    with rasterio.Env(**GDAL_OPTIONS), maybe_ungeoreferenced(), rasterio.open(
        path, "w", driver="GTiff", height=grid.height, width=grid.width, count=count, dtype=dtype, nodata=nodata,
        compress="zstd", zstd_level=1, interleave="band", BIGTIFF="IF_SAFER", **layout, **where, **options,
    ) as raster:  # fmt: skip
        yield raster
    require_whole(path)


@contextmanager
def _open_map(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise MapError(f"{path}: expected a probability map, got no such file. Run the stage that writes it again.")
    with open_raster(str(path)) as raster:
        # A damaged count of bands is told by those without a name: there can be thousands, which take minutes to read.
        if set(raster.dtypes) != {"uint16"} or raster.nodata != NODATA or None in raster.descriptions:
            raise MapError(f"{path}: expected a probability map written by Terrablend, got another raster.")
        yield raster
