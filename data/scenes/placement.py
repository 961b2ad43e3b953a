"""Bring the files of a scene together: choose its grid, and tell which files are to be warped onto it."""

from collections.abc import Sequence
from dataclasses import replace

from data.errors import SceneError
from data.scenes.decoding import decoding_problem
from data.scenes.grids import choose_grid, is_placed, offset_pixels, own_grid
from data.scenes.image import ImageFile, band_problem, order_bands
from data.scenes.rasters import open_raster, read_grid
from data.scenes.warp import default_resampling
from data.scenes.windows import Grid

__all__ = ["place_images"]


def place_images(
    images: Sequence[ImageFile], framing: Sequence[int] = ()
) -> tuple[tuple[ImageFile, ...], Grid, list[str]]:
    """Return the files of a scene as they lie on its grid, the grid, and what looks odd about that.

    Parameters
    ----------
    images : sequence of ImageFile
        As the experiment file names them; with the grid that a catalogue declares for a file, if one does.
    framing : sequence of int, optional
        Positions of the files that may give the grid; all by default. It is that of the finest.

    Raises
    ------
    SceneError
        If a file cannot be read or has other bands, lies elsewhere, or is of another shape and says not where it lies.
    """
    warnings, ordered, grids = list[str](), list[ImageFile](), list[Grid]()
    for image in images:
        with open_raster(image.path) as raster:
            image, warning = order_bands(image, raster)
            problem = band_problem(image, raster)
            if problem is None and image.decoding is not None:
                problem = decoding_problem(image.decoding, image.path, raster)
        if problem:
            raise SceneError(problem)
        found, odd = _agree(image.path, read_grid(image.path)[0], image.grid)
        ordered.append(image)
        warnings += [warning, odd]
        grids.append(found)
    frames = [grids[position] for position in (framing or range(len(grids)))]
    placed = [grid for grid in frames if is_placed(grid)]
    grid = choose_grid(placed) if placed else frames[0]
    files = []
    for image, found in zip(ordered, grids, strict=True):
        own, warning = own_grid(image.path, found, grid)
        how = image.resampling or (default_resampling(own, grid) if own else "")
        files.append(replace(image, grid=own, resampling=how))
        warnings.append(warning)
    return tuple(files), grid, [warning for warning in warnings if warning]


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
