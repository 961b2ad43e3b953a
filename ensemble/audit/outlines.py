"""Outlines of regions of pixels: in pixels of their scene, on the ground, and as GeoJSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform

from data.files import replacing
from data.scenes.windows import Grid
from ensemble.audit.geopackage import Polygons, Ring, Value

__all__ = ["to_coordinates", "to_longitude_latitude", "trace_outlines", "write_geojson"]

DIGITS = 7
"""Decimals of a degree in GeoJSON: about a centimetre."""


def trace_outlines(mask: NDArray[np.bool_], row: int = 0, col: int = 0) -> Polygons:
    """Return the outlines of a mask's pixels, as (column, row) of pixel corners.

    Parameters
    ----------
    mask : (H, W) bool
    row, col : int
        Of the mask's upper left pixel in the scene.

    Returns
    -------
    polygons : Polygons
        Pixels that touch at a corner alone are polygons of their own, as polygons must not cross themselves.

    Examples
    --------
    >>> trace_outlines(np.array([[True, True]]), row=3, col=5)
    [[[(5.0, 3.0), (5.0, 4.0), (7.0, 4.0), (7.0, 3.0), (5.0, 3.0)]]]
    """
    shapes = rasterio.features.shapes(
        mask.astype(np.uint8), mask=mask, connectivity=4, transform=rasterio.Affine.translation(col, row)
    )
    return [[[(float(x), float(y)) for x, y in ring] for ring in shape["coordinates"]] for shape, _ in shapes]


def to_coordinates(polygons: Polygons, grid: Grid) -> Polygons:
    """Return outlines in the coordinates of a grid, outer rings anticlockwise and inner ones clockwise.

    Without georeferencing x is the column and y is minus the row: where QGIS shows such an image.
    """
    a, b, c, d, e, f = grid.transform or (1, 0, 0, 0, -1, 0)
    return [
        [
            _turned([(a * col + b * row + c, d * col + e * row + f) for col, row in ring], inner=number > 0)
            for number, ring in enumerate(rings)
        ]
        for rings in polygons
    ]


def to_longitude_latitude(polygons: Polygons, crs: str) -> Polygons:
    """Return polygons of a reference system in degrees (WGS 84, longitude first)."""

    def convert(ring: Ring) -> Ring:
        longitudes, latitudes = transform(crs, "OGC:CRS84", *map(list, zip(*ring, strict=True)))
        return [(round(x, DIGITS), round(y, DIGITS)) for x, y in zip(longitudes, latitudes, strict=True)]

    return [[convert(ring) for ring in rings] for rings in polygons]


def write_geojson(path: Path, features: Sequence[tuple[Polygons, Mapping[str, Value]]]) -> None:
    """Write polygons in longitude and latitude as GeoJSON (RFC 7946)."""
    collection = {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": dict(values),
                "geometry": {"type": "MultiPolygon", "coordinates": polygons},
            }
            for polygons, values in features
        ],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(collection, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _turned(ring: Ring, inner: bool) -> Ring:
    return ring if bool(shapely.is_ccw(shapely.LinearRing(ring))) != inner else ring[::-1]
