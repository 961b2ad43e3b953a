"""Compare where rasters lie: by coordinate system, corners and orientation. Equal shape proves nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as transform_points

from data.errors import SceneError
from data.scenes.windows import Grid

__all__ = [
    "choose_grid",
    "corners",
    "distance_text",
    "edges",
    "grid_problem",
    "ground_system",
    "is_geographic",
    "is_placed",
    "move_points",
    "offset_pixels",
    "own_grid",
    "parse_system",
    "pixel_size",
    "same_system",
]

SAME = 0.01
"""Pixels by which corners may be off: digits of a header, not another place."""


NO_GROUND = ("LOCAL_CS", "ENGCRS", "ENGINEERINGCRS", 'GEOGCS["Undefined', 'GEOGCRS["Undefined')


def is_placed(grid: Grid) -> bool:
    """Return whether a grid says where on the ground it lies, and in which coordinate system."""
    return grid.crs is not None and grid.transform is not None


def pixel_size(grid: Grid) -> float:
    """Return the shorter side of a pixel in the units of its coordinate system."""
    a, b, _, d, e, _ = grid.transform or (1, 0, 0, 0, 1, 0)
    return min(float(np.hypot(a, d)), float(np.hypot(b, e)))


def is_geographic(crs: str | None) -> bool:
    """Return whether coordinates are longitude and latitude."""
    return crs is not None and bool(CRS.from_wkt(crs).is_geographic)


def ground_system(crs: str) -> str | None:
    """Return a coordinate system as WKT; None where it is one of no ground, as programs write where they know none."""
    return None if crs.startswith(NO_GROUND) else crs


def parse_system(text: str) -> str:
    """Return a coordinate system, such as ``EPSG:32630``, as WKT.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        return str(CRS.from_user_input(text).to_wkt())
    except CRSError as error:
        raise ValueError(str(error)) from error


def same_system(crs: str | None, other: str | None) -> bool:
    """Return whether two coordinate systems are the same by their definitions, or one is not known."""
    return crs is None or other is None or crs == other or CRS.from_wkt(crs) == CRS.from_wkt(other)


def move_points(points: NDArray[np.float64], source: str | None, target: str | None) -> NDArray[np.float64]:
    """Return points (n, 2) of one coordinate system in another; infinite where it has no coordinates for them."""
    if same_system(source, target):
        return points
    try:
        x, y = transform_points(CRS.from_wkt(source), CRS.from_wkt(target), *points.T.tolist())
    except CRSError:
        return np.full_like(points, np.inf)
    return np.column_stack([x, y])


def own_grid(path: str, found: Grid, grid: Grid) -> tuple[Grid | None, str]:
    """Tell whether a file lies on the grid of its scene or is to be warped onto it.

    Parameters
    ----------
    path : str
    found : Grid
        The file's.
    grid : Grid
        The scene's.

    Returns
    -------
    own : Grid or None
        The file's grid if the file is to be warped; None if its pixels are the scene's.
    warning : str
        What looks odd but changes no pixel; else empty.

    Raises
    ------
    SceneError
        If it is of another shape and says not where it lies, or lies elsewhere.
    """
    alike = (found.height, found.width) == (grid.height, grid.width)
    if found.transform is None or grid.transform is None:
        if alike:
            lost = "it" if found.transform is None else "its scene"
            unknown = (found.transform is None) != (grid.transform is None)
            return None, f"{path}: {lost} says not where it lies, so it is read pixel by pixel." if unknown else ""
        raise SceneError(
            f"{path}: expected {grid.height} × {grid.width} pixels like its scene, got {found.height} × {found.width} "
            "and nothing that says where both lie. Georeference them, or resample it to that grid."
        )
    if alike and offset_pixels(found, grid) <= SAME:
        return None, _other_name(path, found, grid)
    if (found.crs is None) != (grid.crs is None):
        lacking = "it" if found.crs is None else "the scene"
        raise SceneError(
            f"{path}: expected the grid of its scene, got one that lies {_distance(found, grid)} off, and {lacking} "
            "names no coordinate system. Georeference it, or export it on the scene's grid."
        )
    found = _turned(found, grid)
    if not _meet(found, grid):
        raise SceneError(
            f"{path}: expected a file that covers its scene, got one that lies {_distance(found, grid)} off. "
            "Correct its georeferencing, or pair it with its own scene."
        )
    return found, ""


def choose_grid(grids: Sequence[Grid]) -> Grid:
    """Return the grid with the smallest pixels on the ground, the first of those that are alike; see `is_placed`."""
    sizes = [_ground_size(grid, grids[0]) for grid in grids]
    return next(grid for grid, size in zip(grids, sizes, strict=True) if size <= min(sizes) * (1 + SAME))


def grid_problem(found: Grid, grid: Grid) -> str | None:
    """Return why a map does not lie on the grid of its scene; None if it does.

    >>> grid_problem(Grid(4, 4), Grid(4, 5))
    'expected 4 × 5 pixels like its scene, got 4 × 4. Write it on the grid of its scene.'
    """
    advice = "Write it on the grid of its scene."
    if (found.height, found.width) != (grid.height, grid.width):
        return (
            f"expected {grid.height} × {grid.width} pixels like its scene, got {found.height} × {found.width}. {advice}"
        )
    if (found.crs is None) != (grid.crs is None) or (found.transform is None) != (grid.transform is None):
        lacks = "no georeferencing, the scene has" if found.transform is None else "georeferencing, the scene has none"
        return f"expected the georeferencing of its scene, got {lacks}. {advice}"
    off = 0.0 if found.transform is None else offset_pixels(found, grid)
    if off > SAME and not same_system(found.crs, grid.crs):
        names = (CRS.from_wkt(str(crs)).to_string() for crs in (grid.crs, found.crs))
        return "expected the coordinate system {} like its scene, got {}. {}".format(*names, advice)
    return f"expected the corners of its scene, got some {off:.3g} pixels off. {advice}" if off > SAME else None


def offset_pixels(found: Grid, grid: Grid) -> float:
    """Return by how many pixels of a grid the corners of another are off; infinite where it has none there."""
    moved = move_points(corners(found), found.crs, grid.crs)
    off = np.abs(moved - corners(grid)).max() / pixel_size(grid)
    return float(off) if np.isfinite(off) else np.inf


def corners(grid: Grid) -> NDArray[np.float64]:
    """Return x and y (4, 2) of the corners: upper left, upper right, lower left, lower right in the file."""
    a, b, c, d, e, f = grid.transform or (1, 0, 0, 0, 1, 0)
    places = ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height))
    return np.array([(a * col + b * row + c, d * col + e * row + f) for col, row in places])


def edges(grid: Grid) -> NDArray[np.float64]:
    """Return x and y (68, 2) of points along the edges, once around: straight edges are curves in another system."""
    around = corners(grid)
    return np.concatenate([np.linspace(around[a], around[b], 17) for a, b in ((0, 1), (1, 3), (3, 2), (2, 0))])


def distance_text(point: NDArray[np.float64], crs: str | None, grid: Grid) -> str:
    """Return in words how far a point (2,) lies from the middle of a grid."""
    [moved] = move_points(point[None], crs, grid.crs)
    off = float(np.hypot(*(moved - corners(grid).mean(axis=0))))
    if not np.isfinite(off):
        return "out of reach of its coordinate system"
    unit = "" if grid.crs is None else "°" if is_geographic(grid.crs) else " m"
    return f"{off / pixel_size(grid):,.0f} pixels ({off:,.4g}{unit})"


def _turned(found: Grid, grid: Grid) -> Grid:
    """Return a grid with longitudes that meet those of another: one may count them from 0 to 360, one from -180."""
    if not is_geographic(found.crs) or found.transform is None:
        return found
    a, b, c, d, e, f = found.transform
    turned = (replace(found, transform=(a, b, c + turn, d, e, f)) for turn in (0, 360, -360))
    return next((each for each in turned if _meet(each, grid)), found)


def _meet(found: Grid, grid: Grid) -> bool:
    moved, ours = move_points(corners(found), found.crs, grid.crs), corners(grid)
    if not np.isfinite(moved).all():
        # A layer of the whole world has corners where no map projection reaches: it is asked from the other side.
        moved, ours = corners(found), move_points(corners(grid), grid.crs, found.crs)
    low, high = np.maximum(moved.min(axis=0), ours.min(axis=0)), np.minimum(moved.max(axis=0), ours.max(axis=0))
    return bool((low < high).all())


def _distance(found: Grid, grid: Grid) -> str:
    """Return in words how far the middle of one grid lies from that of another."""
    return distance_text(corners(found).mean(axis=0), found.crs, grid)


def _other_name(path: str, found: Grid, grid: Grid) -> str:
    if same_system(found.crs, grid.crs):
        return ""
    names = [CRS.from_wkt(crs).to_string()[:60] for crs in (found.crs, grid.crs) if crs]
    return f"{path}: its coordinate system {names[0]} is taken for that of its scene, {names[1]}: no corner moves."


def _ground_size(grid: Grid, first: Grid) -> float:
    """Return the side of a pixel in the middle of a grid in the units of the first one."""
    middle = corners(grid).mean(axis=0)
    a, b, _, d, e, _ = grid.transform or (1, 0, 0, 0, 1, 0)
    steps = move_points(middle + np.array([(0, 0), (a, d), (b, e)]), grid.crs, first.crs)
    return math.sqrt(abs(float(np.linalg.det(steps[1:] - steps[0]))))
