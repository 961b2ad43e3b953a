"""Rasters that ground control points or a sensor model (RPC) place, in place of a transform."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.rpc import RPC
from rasterio.transform import GCPTransformer, RPCTransformer
from rasterio.warp import calculate_default_transform

from data.addresses import gdal_name
from data.errors import SceneError
from data.scenes.formats import allowed_vrt
from data.scenes.rasters import open_raster, read_grid
from data.scenes.windows import Grid, Window

__all__ = ["Control", "SensorModel", "find_control", "placed_grid", "suggest_grid"]

DEGREES = CRS.from_epsg(4326)
"""What a sensor model takes: longitude and latitude."""


@dataclass(frozen=True)
class Control:
    """What places the pixels of a file that has no transform.

    Parameters
    ----------
    path : str
        Of the raster with the points or the model: the file itself, or the one that it lies upon pixel by pixel.
    height, width : int
        Of that raster, in pixels.
    heights : str
        Elevation raster, m, for a sensor model; without one all ground is at height 0.
    """

    path: str
    height: int
    width: int
    heights: str = ""


@dataclass(frozen=True)
class SensorModel:
    """How places on the ground become pixels of a file, as GDAL computes it.

    Parameters
    ----------
    crs : CRS
        Of the places.
    points : tuple of GroundControlPoint
        A polynomial fits them, of the first order where they are fewer than six, else of the second.
    rpcs : RPC or None
        Where there are no points.
    options : dict
        How GDAL is to use ``rpcs``.
    """

    crs: CRS
    points: tuple[GroundControlPoint, ...]
    rpcs: RPC | None
    options: dict[str, Any]

    @classmethod
    def open(cls, control: Control) -> Self:
        """Read the points or the model of a raster."""
        with open_raster(control.path) as raster:
            return cls.of(raster, control.heights)

    @classmethod
    def of(cls, raster: Any, heights: str) -> Self:
        """Return that of an open raster."""
        points, crs = raster.gcps
        if points and crs:
            return cls(crs, tuple(_joined(points, crs)), None, {})
        options: dict[str, Any] = {"RPC_HEIGHT": 0}
        if heights:
            # GDAL opens it by its name alone: here it is opened first, as a raster that holds its own pixels.
            with open_raster(heights):
                options = {"RPC_DEM": gdal_name((allowed_vrt(heights) or (heights,))[0])}
        return cls(DEGREES, (), raster.rpcs, options)

    def to_pixels(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return column and row (n, 2) of places (n, 2); infinite where the file has none for them."""
        model = GCPTransformer(self.points) if self.points else RPCTransformer(self.rpcs, **self.options)
        with model:
            rows, cols = model.rowcol(*places.T, op=np.float64)
        pixels = np.column_stack([cols, rows]).astype(np.float64)
        pixels[~np.isfinite(pixels).all(axis=1)] = np.inf
        return pixels

    def within(self, window: Window) -> dict[str, Any]:
        """Return what `rasterio.warp.reproject` takes to place a window of the file."""
        if self.points:
            points = [GroundControlPoint(p.row - window.row, p.col - window.col, p.x, p.y, p.z) for p in self.points]
            return {"gcps": points, "src_crs": self.crs}
        assert self.rpcs is not None
        values = self.rpcs.to_dict()
        values["line_off"] -= window.row
        values["samp_off"] -= window.col
        return {"rpcs": RPC(**values), "src_crs": self.crs, **self.options}


def find_control(path: str, raster: Any, heights: str) -> tuple[Control | None, str]:
    """Return what places an open raster that has no transform, and what to say of it; None where nothing does.

    Parameters
    ----------
    path : str
    raster : rasterio dataset
    heights : str
        Elevation raster for a sensor model; empty if there is none.

    Raises
    ------
    SceneError
        If the elevation raster is not there.
    """
    points, crs = raster.gcps
    if not raster.transform.is_identity:
        return None, ""
    if points and not crs:
        return None, (
            f"{path}: its {len(points)} ground control points name no coordinate system: its pixels are taken as they "
            "lie in the file, and maps of it lie nowhere. Name it: gdal_translate -a_srs EPSG:… IMAGE NEW.tif"
        )
    if not points and not raster.rpcs:
        arrays = raster.tags(ns="GEOLOCATION")
        return None, "" if not arrays else (
            f"{path}: it is placed by arrays of longitudes and latitudes, which are not read: its pixels are taken as "
            "they lie in the file, and maps of it lie nowhere. Warp it first: gdalwarp -geoloc IMAGE WARPED.tif"
        )
    control = Control(path, raster.height, raster.width, "" if points else heights)
    if not points:
        return control, "" if heights else (
            f"{path}: its sensor model (RPC) is read as if all ground were at height 0, which moves hills and whatever "
            "lies high. Name an elevation raster: scenes.heights."
        )
    with _named(path):
        model = SensorModel.of(raster, "")
        found = model.to_pixels(np.array([(point.x, point.y) for point in model.points]))
    off = np.hypot(*(found - [(point.col, point.row) for point in points]).T)
    return control, "" if off.max() <= 1 else (
        f"{path}: its {len(points)} ground control points lie up to {off.max():,.3g} pixels (mean {off.mean():,.2g}) "
        "from the polynomial that is fitted to them. If they are exact, warp it first: gdalwarp -tps IMAGE WARPED.tif"
    )


def suggest_grid(control: Control) -> Grid:
    """Return the grid that GDAL suggests for a file: pixels as large as its own, in the system of its points.

    Raises
    ------
    SceneError
        If its points or its model place it nowhere.
    """
    model = SensorModel.open(control)
    with _named(control.path):
        transform, width, height = calculate_default_transform(
            model.crs,
            model.crs,
            control.width,
            control.height,
            gcps=[*model.points] or None,
            rpcs=model.rpcs,
            **model.options,
        )
    assert width is not None
    assert height is not None
    return Grid(height, width, model.crs.to_wkt(), tuple(transform)[:6])


def placed_grid(path: str) -> Grid:
    """Return the grid of a raster file; where control points or a sensor model place it, the one that is suggested."""
    with open_raster(path) as raster:
        control, _ = find_control(path, raster, "")
    return read_grid(path)[0] if control is None else suggest_grid(control)


def _joined(points: list[GroundControlPoint], crs: CRS) -> Iterator[GroundControlPoint]:
    """Yield points whose longitudes do not jump at the date line."""
    across = crs.is_geographic and max(point.x for point in points) - min(point.x for point in points) > 180
    for point in points:
        x = point.x + 360 if across and point.x < 0 else point.x
        yield GroundControlPoint(point.row, point.col, x, point.y, point.z)


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise SceneError(
            f"{path}: expected control points or a sensor model that place it, got: {error}. Warp it first, or remove "
            "them: gdal_translate -nogcp IMAGE NEW.tif"
        ) from error
