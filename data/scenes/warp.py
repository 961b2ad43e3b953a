"""Bring the pixels of a file onto the grid of its scene by GDAL's warper, block by block."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling as GdalResampling
from rasterio.warp import reproject

from data.scenes.grids import corners, move_points, pixel_size, same_system
from data.scenes.windows import Grid, Window, tile_windows
from data.settings import Resampling

__all__ = ["default_resampling", "warp_window"]

BLOCK = 512
"""Pixels on a side of what is warped at a time. Blocks start at the scene's corner, whatever the window that is asked
for: so a window holds the same bits as the whole scene."""

REACH = {"nearest": 1, "bilinear": 1, "cubic": 2, "lanczos": 3}
"""Pixels of the file, or where it is finer of the scene, around a place that its value is made of."""

ANY = CRS.from_epsg(3857)
"""Stands for the coordinates of two files that both name no system."""


def default_resampling(found: Grid, grid: Grid) -> Resampling:
    """Return how a file is brought onto a grid unless the user says how.

    A file whose pixels are whole multiples of the scene's keeps its values (nearest), a finer one is averaged, any
    other is interpolated (cubic).

    >>> default_resampling(Grid(5, 5, None, (20, 0, 0, 0, -20, 0)), Grid(10, 10, None, (10, 0, 0, 0, -10, 0)))
    'nearest'
    >>> default_resampling(Grid(50, 50, None, (2, 0, 0, 0, -2, 0)), Grid(10, 10, None, (10, 0, 0, 0, -10, 0)))
    'average'
    """
    if _is_nested(found, grid):
        return "nearest"
    return "average" if _ratio(found, grid) > 1.5 else "cubic"


def warp_window(
    read: Callable[[Window], NDArray[Any]], found: Grid, grid: Grid, area: Window, resampling: str, nodata: float
) -> NDArray[Any]:
    """Return the planes of a file within a window of its scene.

    Parameters
    ----------
    read : callable
        Returns the file's own pixels (n, height, width) in a window that lies within it, ``nodata`` where there are
        none.
    found, grid : Grid
        The file's and the scene's, both with a transform.
    area : Window
        Of the scene; within it.
    resampling : str
        One of `data.settings.Resampling`.
    nodata : float
        What lies outside the file.

    Returns
    -------
    planes : (n, height, width) of the type of what is read
    """
    cover = area.cover(BLOCK)
    out: NDArray[Any] | None = None
    for tile in tile_windows(cover.height, cover.width, BLOCK):
        block = Window(cover.row + tile.row, cover.col + tile.col, BLOCK, BLOCK).meet(grid.window)
        both = block.meet(area)
        if both.height and both.width:
            planes = _warp_block(read, found, grid, block, resampling, nodata)
            if out is None:
                out = np.empty((len(planes), area.height, area.width), planes.dtype)
            out[:, *both.within(area)] = planes[:, *both.within(block)]
    assert out is not None
    return out


def _warp_block(
    read: Callable[[Window], NDArray[Any]], found: Grid, grid: Grid, block: Window, resampling: str, nodata: float
) -> NDArray[Any]:
    source = _source_window(found, grid, block, resampling)
    if not (source.height and source.width):
        one = read(Window(0, 0, 1, 1))
        return np.full((len(one), block.height, block.width), nodata, one.dtype)
    pixels = read(source)
    planes = np.empty((len(pixels), block.height, block.width), pixels.dtype)
    systems = (CRS.from_wkt(crs) if crs else ANY for crs in (found.crs, grid.crs))
    source_crs, target_crs = (ANY, ANY) if same_system(found.crs, grid.crs) else systems
    reproject(
        pixels,
        planes,
        src_transform=_affine(found, source),
        src_crs=source_crs,
        src_nodata=nodata,
        dst_transform=_affine(grid, block),
        dst_crs=target_crs,
        dst_nodata=nodata,
        resampling=GdalResampling[resampling],
        # Each band has its own pixels without data.
        UNIFIED_SRC_NODATA="NO",
    )
    return planes


def _source_window(found: Grid, grid: Grid, block: Window, resampling: str) -> Window:
    """Return the part of a file that a block of its scene is made of; empty if it is made of none."""
    # Points along the edges of the block, and across it: straight edges are curves in another projection.
    along = np.linspace(0, 1, 17)
    cols, rows = np.meshgrid(block.col + along * block.width, block.row + along * block.height)
    places = (_matrix(grid) @ [cols.ravel(), rows.ravel(), np.ones(cols.size)])[:2]
    moved = move_points(places.T, grid.crs, found.crs)
    moved = moved[np.isfinite(moved).all(axis=1)]
    if not len(moved):
        return Window(0, 0, 0, 0)
    x, y = (np.linalg.inv(_matrix(found)) @ [*moved.T, np.ones(len(moved))])[:2]
    reach = REACH.get(resampling, 1) * math.ceil(max(_ratio(found, grid), 1)) + 2
    top, left = math.floor(y.min()) - reach, math.floor(x.min()) - reach
    bottom, right = math.ceil(y.max()) + reach, math.ceil(x.max()) + reach
    return Window(top, left, bottom - top, right - left).meet(found.window)


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
