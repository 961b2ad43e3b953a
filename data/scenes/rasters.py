"""Open raster files: one way, with one set of options, and errors that name the file."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.session import DummySession

from data.addresses import gdal_options, is_elsewhere
from data.errors import SceneError
from data.names import list_names
from data.scenes.arrays import is_array, open_array
from data.scenes.formats import allowed_vrt, check_vrt, open_plain
from data.scenes.grids import ground_system
from data.scenes.windows import Grid

__all__ = ["GDAL_OPTIONS", "keep_open", "maybe_ungeoreferenced", "open_raster", "read_grid"]

GDAL_OPTIONS: dict[str, Any] = {
    # A folder of thousands of tiles is otherwise listed at every open. Side-car files are still found, by their names.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    # Bytes of decoded blocks; by default it is a share of the machine's memory, for every worker.
    "GDAL_CACHEMAX": 64 * 2**20,
}

_kept: ContextVar[dict[str, Any] | None] = ContextVar("_kept", default=None)
"""Rasters by path that stay open for now, those used last at the end."""

MOST_OPEN = 64
"""Rasters that stay open; systems allow a few hundred."""


@contextmanager
def maybe_ungeoreferenced() -> Iterator[None]:
    """Silence rasterio's warning of files without georeferencing: scenes may have none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def keep_open() -> Iterator[None]:
    """Keep the rasters open that were read last within this block, or within the block around it that does so.

    Parts of a file that windows share are then decoded once, not once a window.
    """
    if _kept.get() is not None:
        yield
        return
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

    Parameters
    ----------
    path : str
        Of a raster that holds its own pixels, see `data.scenes.formats`.

    Raises
    ------
    SceneError
        If GDAL cannot open the file, or may not, or fails while the ``with`` block reads it.
    """
    kept, options = _kept.get(), {**GDAL_OPTIONS, **gdal_options()} if is_elsewhere(path) else GDAL_OPTIONS
    try:
        # GDAL finds credentials itself; rasterio would ask another library, if there is one, at every open.
        with rasterio.Env(DummySession(), **options), maybe_ungeoreferenced(), ExitStack() as closing:
            raster = None if kept is None else kept.pop(path, None)
            if raster is None:
                raster = _of_bands(path, open_array(path) if is_array(path) else _open(path))
            if kept is None:
                closing.enter_context(raster)
            else:
                kept[path] = raster
                if len(kept) > MOST_OPEN:
                    kept.pop(next(iter(kept))).close()
            yield raster
    except RasterioError as error:
        raise SceneError(
            f"{path}: expected a readable raster, got: {error.__cause__ or error}. "
            "Download or export the file again, or remove the scene."
        ) from error


def _open(path: str) -> Any:
    if allowed := allowed_vrt(path):
        check_vrt(*allowed)
        return rasterio.open(allowed[0], driver="VRT", sharing=False)
    return open_plain(path)


def _of_bands(path: str, raster: Any) -> Any:
    if raster.count:
        return raster
    within = list_names(raster.subdatasets)
    raster.close()
    raise SceneError(
        f"{path}: expected a raster with bands, got a file without"
        + (f" that holds several rasters: {within}. Name one of them in its place." if within else ". Export it again.")
    )


def read_grid(path: str) -> tuple[Grid, int]:
    """Return the grid of a raster file and its number of bands."""
    with open_raster(path) as raster:
        transform = None if raster.transform.is_identity else tuple(raster.transform)[:6]
        crs = ground_system(raster.crs.to_wkt()) if raster.crs else None
        return Grid(raster.height, raster.width, crs, transform), raster.count
