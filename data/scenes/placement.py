"""Bring the files of a scene together: choose its grid, and tell which files are to be warped onto it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data.errors import ExperimentError, SceneError
from data.scenes.decoding import decoding_problem
from data.scenes.grids import choose_grid, edges, is_placed, move_points, offset_pixels, own_grid, parse_system
from data.scenes.image import ImageFile, band_problem, order_bands
from data.scenes.rasters import open_raster, read_grid
from data.scenes.warp import default_resampling
from data.scenes.windows import Grid

__all__ = ["Framing", "place_images"]


@dataclass(frozen=True)
class Framing:
    """What gives a scene its grid.

    Parameters
    ----------
    places : tuple of int
        Positions of the files that may; any may if there are none. Of these it is that of the finest.
    resolution : float or None
        Side of the pixels instead of its own, over the same ground.
    crs : str or None
        Coordinate system of such pixels; by default its own.
    """

    places: tuple[int, ...] = ()
    resolution: float | None = None
    crs: str | None = None


FINEST = Framing()


def place_images(
    images: Sequence[ImageFile], framing: Framing = FINEST
) -> tuple[tuple[ImageFile, ...], Grid, list[str]]:
    """Return the files of a scene as they lie on its grid, the grid, and what looks odd about that.

    Parameters
    ----------
    images : sequence of ImageFile
        As the experiment file names them; with the grid that a catalogue declares for a file, if one does.
    framing : Framing, optional
        By default the grid is that of the finest file.

    Raises
    ------
    SceneError
        If a file cannot be read or has other bands, lies elsewhere, or is of another shape and says not where it lies.
    ExperimentError
        If pixels of a size are wanted of a coordinate system that is none.
    """
    warnings, ordered, grids = list[str](), list[ImageFile](), list[Grid]()
    for image in images:
        with open_raster(image.path) as raster:
            image, warning = order_bands(image, raster)
            problem, control = band_problem(image, raster), _control(image.path, raster)
            if problem is None and image.decoding is not None:
                problem = decoding_problem(image.decoding, image.path, raster)
        if problem:
            raise SceneError(problem)
        found, odd = _agree(image.path, read_grid(image.path)[0], image.grid)
        ordered.append(image)
        warnings += [warning, odd, control]
        grids.append(found)
    frames = [grids[position] for position in (framing.places or range(len(grids)))]
    placed = [grid for grid in frames if is_placed(grid)]
    grid = choose_grid(placed) if placed else frames[0]
    if framing.resolution is not None:
        grid = _resized(images[0].path, grid, framing.resolution, framing.crs)
    files = []
    for image, found in zip(ordered, grids, strict=True):
        own, warning = own_grid(image.path, found, grid)
        how = image.resampling or (default_resampling(own, grid) if own else "")
        files.append(replace(image, grid=own, resampling=how))
        warnings.append(warning)
    return tuple(files), grid, [warning for warning in warnings if warning]


def _resized(path: str, grid: Grid, resolution: float, crs: str | None) -> Grid:
    """Return a grid of pixels of a size over the ground of another; corners lie at multiples of the size."""
    if not is_placed(grid):
        raise SceneError(
            f"{path}: expected a scene that says where it lies, to give it pixels of {resolution:g}, got one without "
            "georeferencing. Georeference it, or leave scenes.grid out."
        )
    try:
        system = grid.crs if crs is None else parse_system(crs)
    except ValueError as error:
        raise ExperimentError(f"scenes.grid.crs: expected a coordinate system, got {crs}: {error}.") from error
    ground = move_points(edges(grid), grid.crs, system)
    if not np.isfinite(ground).all():
        raise SceneError(
            f"{path}: expected a scene within reach of {crs}, got one beyond it. Choose another scenes.grid.crs."
        )
    # A hundredth of a pixel is a rounding error, no column more.
    left, bottom = (np.floor(ground.min(axis=0) / resolution + 0.01) * resolution).tolist()
    right, top = (np.ceil(ground.max(axis=0) / resolution - 0.01) * resolution).tolist()
    height, width = round((top - bottom) / resolution), round((right - left) / resolution)
    return Grid(height, width, system, (resolution, 0.0, left, 0.0, -resolution, top))


def _control(path: str, raster: Any) -> str:
    """Return what to do about a file that is placed by control points or a sensor model; empty where it is not."""
    points = bool(raster.gcps[0])
    if not raster.transform.is_identity or not (points or raster.rpcs):
        return ""
    means, option = ("ground control points", "-tps") if points else ("a sensor model (RPC)", "-rpc")
    return (
        f"{path}: it is placed by {means}, which are not read: its pixels are taken as they lie in the file, and maps "
        f"of it lie nowhere. Warp it first: gdalwarp {option} IMAGE WARPED.tif"
    )


def _agree(path: str, found: Grid, declared: Grid | None) -> tuple[Grid, str]:
    """Return the grid of a file by what it says itself, or else by what is declared of it, and what looks odd."""
    if declared is None:
        return found, ""
    if is_placed(found):
        off = offset_pixels(declared, found)
        return found, "" if off <= 1 else (
            f"{path}: its corners lie {off:,.3g} pixels off those that its STAC item names. It is read where it lies."
        )
    if (found.height, found.width) == (declared.height, declared.width):
        return declared, ""
    return found, (
        f"{path}: expected {declared.height} × {declared.width} pixels as its STAC item says, got {found.height} × "
        f"{found.width}: where it lies is not known."
    )
