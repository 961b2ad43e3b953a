"""Open arrays that numpy saved (.npy) as rasters, without a copy of their values."""

from typing import Any

import numpy as np
import rasterio

from data.addresses import is_elsewhere
from data.errors import SceneError

__all__ = ["is_array", "open_array"]

OTHER_NAMES = {"bool": "Byte", "uint8": "Byte", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64"}
GDAL_TYPES = OTHER_NAMES | {
    name: name.capitalize() for name in ["int8", "int16", "int32", "int64", "float32", "float64"]
}


def is_array(path: str) -> bool:
    """Return whether a path is that of an array."""
    return path.lower().endswith(".npy")


def open_array(path: str) -> Any:
    """Open an array of rows and columns, or of rows, columns and bands, as a raster without georeferencing.

    Raises
    ------
    SceneError
        If it cannot be read, or is of another shape or type.
    """
    if is_elsewhere(path):
        raise SceneError(
            f"{path}: expected arrays (.npy) on this disk, got an address. Download it, or write a GeoTIFF."
        )
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SceneError(
            f"{path}: expected an array of numbers, got: {error}. Save it with numpy.save, or remove it."
        ) from error
    planes = values[..., None] if values.ndim == 2 else values
    if planes.ndim != 3 or not planes.size:
        raise SceneError(
            f"{path}: expected an array (rows, columns) or (rows, columns, bands), got the shape {values.shape}. "
            "Save it as such."
        )
    if planes.dtype == np.float16:
        planes = planes.astype(np.float32)
    planes = planes if planes.dtype.isnative else planes.astype(planes.dtype.newbyteorder("="))
    kind = GDAL_TYPES.get(planes.dtype.name)
    if kind is None:
        raise SceneError(f"{path}: expected an array of numbers, got {planes.dtype}. Save it as float32.")
    height, width, bands = planes.shape
    line, pixel, band = planes.strides
    name = (
        f"MEM:::DATAPOINTER={planes.ctypes.data},PIXELS={width},LINES={height},BANDS={bands},DATATYPE={kind},"
        f"PIXELOFFSET={pixel},LINEOFFSET={line},BANDOFFSET={band},"
        # GDAL would place it otherwise, at the corner of its coordinates.
        "GEOTRANSFORM=0/1/0/0/0/1"
    )
    with rasterio.Env(GDAL_MEM_ENABLE_OPEN="YES"):
        raster = rasterio.open(name, sharing=False)
    # The raster points to the array's values: they must live as long.
    raster.values = planes
    return raster
