"""How large pixels are on the ground, whatever the coordinate system."""

import numpy as np
from rasterio.crs import CRS

from data.scenes.grids import corners, edges, move_points, pixel_size
from data.scenes.windows import Grid

__all__ = ["pixel_area", "pixel_metres"]

EQUAL_AREA = CRS.from_epsg(6933).to_wkt()
"""A map of the world on which areas are true, m."""

DEGREES = CRS.from_epsg(4326).to_wkt()


def pixel_area(grid: Grid) -> float | None:
    """Return the area of a pixel on the ground in m², the mean over a grid; None where it does not lie anywhere.

    In degrees, or a Mercator's metres, pixels are smaller the farther they lie from the equator.

    >>> pixel_area(Grid(8, 8, CRS.from_epsg(32633).to_wkt(), (10, 0, 0, 0, -10, 0)))
    100.0
    """
    if grid.crs is None or grid.transform is None:
        return None
    crs = CRS.from_wkt(grid.crs)
    if _has_true_metres(crs):
        a, b, _, d, e, _ = grid.transform
        return float(abs(a * e - b * d) * crs.linear_units_factor[1] ** 2)
    if not (crs.is_projected or crs.is_geographic):
        return None
    ring = edges(grid)
    # No area depends on the longitude, and so none lies across the date line.
    x, y = move_points(ring - (ring[:, 0].mean(), 0), grid.crs, EQUAL_AREA).T
    area = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    return area / (grid.height * grid.width) if np.isfinite(area) else None


def pixel_metres(grid: Grid) -> float | None:
    """Return the shorter side of a pixel in the middle of a grid in metres; None where it does not lie anywhere.

    Without a coordinate system coordinates are taken for metres.
    """
    if grid.transform is None:
        return None
    crs = None if grid.crs is None else CRS.from_wkt(grid.crs)
    if crs is None or _has_true_metres(crs):
        return pixel_size(grid) * (1 if crs is None else float(crs.linear_units_factor[1]))
    a, b, _, d, e, _ = grid.transform
    middle = corners(grid).mean(axis=0)
    [[lon, lat]] = move_points(middle[None], grid.crs, DEGREES)
    if not np.isfinite(lon + lat):
        return None
    around = CRS.from_dict(proj="aeqd", lat_0=float(lat), lon_0=float(lon), datum="WGS84", units="m").to_wkt()
    start, right, below = move_points(middle + np.array([(0, 0), (a, d), (b, e)]), grid.crs, around)
    side = min(float(np.hypot(*(right - start))), float(np.hypot(*(below - start))))
    return side if np.isfinite(side) else None


def _has_true_metres(crs: CRS) -> bool:
    """Return whether the unit of a coordinate system is one of length everywhere, as nearly as maps can."""
    # A Mercator's metres are true at the equator alone; at 60° its pixels are four times too large.
    return bool(crs.is_projected and crs.to_dict().get("proj") not in ("merc", "webmerc"))
