"""Bring the files of a scene together: choose its grid, and tell which files, and labels, are warped onto it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.errors import ExperimentError, SceneError
from data.scenes.control import Control, find_control, suggest_grid
from data.scenes.decoding import decoding_problem
from data.scenes.grids import choose_grid, edges, is_placed, move_points, offset_pixels, own_grid, parse_system
from data.scenes.image import ImageFile, band_problem, is_masked, order_bands
from data.scenes.rasters import open_raster, read_grid
from data.scenes.scene import LabelFile
from data.scenes.warp import default_resampling
from data.scenes.windows import Grid

__all__ = ["Framing", "place_images", "place_label"]


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
    heights : str
        Elevation raster, m, by which sensor models place files; empty if there is none.
    """

    places: tuple[int, ...] = ()
    resolution: float | None = None
    crs: str | None = None
    heights: str = ""


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
            image = replace(image, masked=is_masked(image, raster))
            problem = band_problem(image, raster)
            control, said = (None, "") if image.grid else find_control(image.path, raster, framing.heights)
            if problem is None and image.decoding is not None:
                problem = decoding_problem(image.decoding, image.path, raster)
        if problem:
            raise SceneError(problem)
        found, odd = _agree(image.path, read_grid(image.path)[0], image.grid)
        ordered.append(replace(image, control=control))
        warnings += [warning, odd, said]
        grids.append(found if control is None else suggest_grid(control))
    for place, (image, found) in enumerate(zip(ordered, grids, strict=True)):
        control, odd = _borrowed(image.path, found, ordered)
        if control is not None:
            ordered[place], grids[place] = replace(image, control=control), suggest_grid(control)
            warnings.append(odd)
    frames = [grids[position] for position in (framing.places or range(len(grids)))]
    placed = [grid for grid in frames if is_placed(grid)]
    grid = choose_grid(placed) if placed else frames[0]
    if framing.resolution is not None:
        grid = _resized(images[0].path, grid, framing.resolution, framing.crs)
    files = []
    for image, found in zip(ordered, grids, strict=True):
        own, warning = own_grid(image.path, found, grid)
        own = found if image.control else own
        how = image.resampling or (default_resampling(own, grid, image.control) if own else "")
        files.append(replace(image, grid=own, resampling=how))
        warnings.append(warning)
    return tuple(files), grid, [warning for warning in warnings if warning]


def place_label(
    label: LabelFile, grid: Grid, images: Sequence[ImageFile] = (), heights: str = ""
) -> tuple[LabelFile, str]:
    """Return a label as it lies on the grid of its scene, and what looks odd about that.

    Parameters
    ----------
    label : LabelFile
    grid : Grid
    images : sequence of ImageFile
        Of its scene, as `place_images` returns them.
    heights : str
        As in `Framing`.

    Raises
    ------
    SceneError
        If it does not lie there, or cannot be read.
    """
    found = read_grid(label.path)[0]
    with open_raster(label.path) as raster:
        control, odd = find_control(label.path, raster, heights)
    if control is None and not odd:
        control, odd = _borrowed(label.path, found, images)
    if control is not None:
        found = suggest_grid(control)
    own, warning = own_grid(label.path, found, grid)
    own = found if control else own
    return replace(label, grid=own, control=control), " ".join(filter(None, [odd, warning]))


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


def _borrowed(path: str, found: Grid, images: Sequence[ImageFile]) -> tuple[Control | None, str]:
    """Return what places a file that says not where it lies but has the pixels of one that control points place."""
    for control in (image.control for image in images if image.control is not None):
        if found.transform is None and (found.height, found.width) == (control.height, control.width):
            return control, f"{path}: it says not where it lies, so its pixels are taken for those of {control.path}."
    return None, ""


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
