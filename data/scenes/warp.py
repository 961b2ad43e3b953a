"""Bring the pixels of a file onto the grid of its scene by GDAL's warper, block by block."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling as GdalResampling
from rasterio.warp import reproject

from data.scenes.control import Control, SensorModel
from data.scenes.grids import corners, move_points, pixel_size, same_system
from data.scenes.windows import Grid, Window, tile_windows
from data.settings import Resampling

__all__ = ["default_resampling", "warp_window"]

BLOCK = 512
"""Pixels on a side of what is warped at a time. Blocks start at the scene's corner, whatever the window that is asked
for: so a window holds the same bits as the whole scene."""

REACH = {"nearest": 1, "bilinear": 1, "cubic": 2, "lanczos": 3}
"""Pixels of the file, or where it is finer of the scene, around a place that its value is made of."""

MARGIN = 16
"""Pixels of a file more where a sensor model places them, as hills between the points that are tried may move them."""

ANY = CRS.from_epsg(3857)
"""Stands for the coordinates of two files that both name no system."""


def default_resampling(found: Grid, grid: Grid, control: Control | None = None) -> Resampling:
    """Return how a file is brought onto a grid unless the user says how.

    A file whose pixels are whole multiples of the scene's keeps its values (nearest), a finer one is averaged, any
    other, and one that control points place, is interpolated (cubic).

    >>> default_resampling(Grid(5, 5, None, (20, 0, 0, 0, -20, 0)), Grid(10, 10, None, (10, 0, 0, 0, -10, 0)))
    'nearest'
    >>> default_resampling(Grid(50, 50, None, (2, 0, 0, 0, -2, 0)), Grid(10, 10, None, (10, 0, 0, 0, -10, 0)))
    'average'
    """
    if control is None and _is_nested(found, grid):
        return "nearest"
    return "average" if _ratio(found, grid) > 1.5 else "cubic"


def warp_window(
    read: Callable[[Window], NDArray[Any]],
    found: Grid,
    grid: Grid,
    area: Window,
    resampling: str,
    nodata: float,
    control: Control | None = None,
) -> NDArray[Any]:
    """Return the planes of a file within a window of its scene.

    Parameters
    ----------
    read : callable
        Returns the file's own pixels (n, height, width) in a window that lies within it, ``nodata`` where there are
        none.
    found, grid : Grid
        The file's and the scene's, both with a transform; with a ``control``, the one that GDAL suggests for the file.
    area : Window
        Of the scene; within it.
    resampling : str
        One of `data.settings.Resampling`.
    nodata : float
        What lies outside the file.
    control : Control, optional
        What places the file's pixels in place of a transform.

    Returns
    -------
    planes : (n, height, width) of the type of what is read
    """
    cover = area.cover(BLOCK)
    model = None if control is None else SensorModel.open(control)
    own = found.window if control is None else Window(0, 0, control.height, control.width)
    place = _Placement(found, own, model)
    out: NDArray[Any] | None = None
    for tile in tile_windows(cover.height, cover.width, BLOCK):
        block = Window(cover.row + tile.row, cover.col + tile.col, BLOCK, BLOCK).meet(grid.window)
        both = block.meet(area)
        if both.height and both.width:
            planes = _warp_block(read, place, grid, block, resampling, nodata)
            if out is None:
                out = np.empty((len(planes), area.height, area.width), planes.dtype)
            out[:, *both.within(area)] = planes[:, *both.within(block)]
    assert out is not None
    return out


@dataclass(frozen=True)
class _Placement:
    """Where a file lies: by its grid, or by a model, which the grid then stands for; and the window of its pixels."""

    grid: Grid
    window: Window
    model: SensorModel | None

    def source(self, window: Window, grid: Grid) -> dict[str, Any]:
        """Return where a window lies, and where a grid does, as `reproject` takes it."""
        if self.model is not None:
            return {**self.model.within(window), "dst_crs": CRS.from_wkt(str(grid.crs))}
        systems = (CRS.from_wkt(crs) if crs else ANY for crs in (self.grid.crs, grid.crs))
        source, target = (ANY, ANY) if same_system(self.grid.crs, grid.crs) else systems
        return {"src_transform": _affine(self.grid, window), "src_crs": source, "dst_crs": target}

    def to_pixels(self, places: NDArray[np.float64], crs: str | None) -> NDArray[np.float64]:
        """Return column and row (n, 2) of places in another system, of those for which the file has any."""
        moved = move_points(places, crs, self.grid.crs)
        moved = moved[np.isfinite(moved).all(axis=1)]
        if not len(moved):
            return moved
        pixels: NDArray[np.float64] = (np.linalg.inv(_matrix(self.grid)) @ [*moved.T, np.ones(len(moved))])[:2].T
        if self.model is None:
            return pixels
        # Far from its points a polynomial leads anywhere.
        near = (np.abs(pixels / (self.grid.width, self.grid.height) - 0.5) <= 1).all(axis=1)
        pixels = self.model.to_pixels(moved[near]) if near.any() else moved[:0]
        return pixels[np.isfinite(pixels).all(axis=1)]


def _warp_block(
    read: Callable[[Window], NDArray[Any]], place: _Placement, grid: Grid, block: Window, resampling: str, nodata: float
) -> NDArray[Any]:
    source = _source_window(place, grid, block, resampling)
    if not (source.height and source.width):
        one = read(Window(0, 0, 1, 1))
        return np.full((len(one), block.height, block.width), nodata, one.dtype)
    pixels = read(source)
    planes = np.empty((len(pixels), block.height, block.width), pixels.dtype)
    reproject(
        pixels,
        planes,
        src_nodata=nodata,
        dst_transform=_affine(grid, block),
        dst_nodata=nodata,
        resampling=GdalResampling[resampling],
        # Each band has its own pixels without data.
        UNIFIED_SRC_NODATA="NO",
        **place.source(source, grid),
    )
    return planes


def _source_window(place: _Placement, grid: Grid, block: Window, resampling: str) -> Window:
    """Return the part of a file that a block of its scene is made of; empty if it is made of none."""
    # Points along the edges of the block, and across it: straight edges are curves in another projection.
    along = np.linspace(0, 1, 17 if place.model is None else 65)
    cols, rows = np.meshgrid(block.col + along * block.width, block.row + along * block.height)
    places = (_matrix(grid) @ [cols.ravel(), rows.ravel(), np.ones(cols.size)])[:2]
    found = place.to_pixels(places.T, grid.crs)
    if not len(found):
        return Window(0, 0, 0, 0)
    x, y = found.T
    ratio = _ratio(place.grid, grid)
    if place.model is not None:
        # Its own pixels may be longer one way, and turned.
        ratio = max(ratio, np.ptp(x) / block.width, np.ptp(y) / block.height)
    reach = REACH.get(resampling, 1) * math.ceil(max(ratio, 1)) + (2 if place.model is None else MARGIN)
    top, left = math.floor(y.min()) - reach, math.floor(x.min()) - reach
    bottom, right = math.ceil(y.max()) + reach, math.ceil(x.max()) + reach
    return Window(top, left, bottom - top, right - left).meet(place.window)


def _matrix(grid: Grid) -> NDArray[np.float64]:
    """Return the matrix (3, 3) that takes column, row and 1 of a pixel to x, y and 1."""
    assert grid.transform is not None
    return np.array([*grid.transform, 0, 0, 1], np.float64).reshape(3, 3)


def _affine(grid: Grid, window: Window) -> Affine:
    """Return where the pixels of a window lie."""
    corner = np.eye(3)
    corner[:2, 2] = window.col, window.row
    return Affine(*(_matrix(grid) @ corner)[:2].ravel().tolist())


def _ratio(found: Grid, grid: Grid) -> float:
    """Return how many pixels of a file a pixel of its scene is wide."""
    middle = corners(grid).mean(axis=0)
    a, b, _, d, e, _ = grid.transform or (1, 0, 0, 0, 1, 0)
    steps = move_points(middle + np.array([(0, 0), (a, d), (b, e)]), grid.crs, found.crs)
    sides = np.hypot(*(steps[1:] - steps[0]).T)
    return float(sides.max() / pixel_size(found)) if np.isfinite(sides).all() else 1.0


def _is_nested(found: Grid, grid: Grid) -> bool:
    """Return whether each pixel of a grid lies within one of the file's."""
    if not same_system(found.crs, grid.crs):
        return False
    a, b, c, d, e, f = (np.linalg.inv(_matrix(found)) @ _matrix(grid))[:2].ravel()
    if max(abs(b), abs(d)) > 1e-9:
        return False
    # Pixels of the scene to one of the file, and the offset of the corners in pixels of the scene.
    steps = np.array([1 / a, 1 / e, c / a, f / e])
    return bool(np.abs(steps[:2]).min() >= 1 - 1e-6 and np.abs(steps - np.rint(steps)).max() < 1e-2)
