"""The files of a scene's image: how their values become pixels, NaN where there is no data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RasterWindow

from data.errors import SceneError
from data.scenes.color_labels import read_palette
from data.scenes.control import Control
from data.scenes.decoding import Decoding, open_decoder
from data.scenes.rasters import open_raster
from data.scenes.warp import warp_window
from data.scenes.windows import Grid, Window

__all__ = ["ImageFile", "band_problem", "hides_pixels", "is_masked", "order_bands", "raster_window", "read_image"]


@dataclass(frozen=True)
class ImageFile:
    """One file of a scene.

    Parameters
    ----------
    path : str
        Anything GDAL opens: a local path, ``s3://``, ``https://``.
    bands : tuple of str
        Names of its bands, in file order.
    nodata : tuple of float
        Values that mean "no data", besides NaN and what the file itself declares: a value, a mask, an alpha.
    scale : tuple of (factor, offset) or None
        Of each band; None for those that the file declares.
    grid : Grid or None
        Its own, where that is not the scene's: it is warped. With a ``control``, the one that GDAL suggests for it.
    resampling : str
        How it is warped, one of `data.settings.Resampling`; empty until it is known.
    order : tuple of int
        Place in the file of each of ``bands``, from 0, where the file's own names say that it is another.
    decoding : Decoding or None
        How whole numbers become an embedding; scales do not apply then.
    control : Control or None
        What places its pixels, where that is no transform.
    masked : bool or None
        Whether a mask or an alpha hides pixels; None where that is looked up at each read.
    """

    path: str
    bands: tuple[str, ...]
    nodata: tuple[float, ...] = ()
    scale: tuple[tuple[float, float], ...] | None = None
    grid: Grid | None = None
    resampling: str = ""
    order: tuple[int, ...] = ()
    decoding: Decoding | None = None
    control: Control | None = None
    masked: bool | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it is read from."""
        return (self.path, self.decoding.path) if self.decoding and self.decoding.path else (self.path,)


def band_problem(image: ImageFile, raster: Any) -> str | None:
    """Return why an open raster does not fit the bands named for it; None if it does.

    A raster of one band with a palette has one, or the red, green, blue (and alpha) of its palette. An alpha that is
    not named is no band, but tells where there is no data.
    """
    wanted = max(raster.count, *(place + 1 for place in image.order)) if image.order else len(image.bands)
    if any(kind.startswith("complex") for kind in raster.dtypes):
        return f"{image.path}: expected real numbers, got {raster.dtypes[0]}. Export their magnitude, and their phase."
    if raster.count == wanted or (raster.count == wanted + 1 and raster.colorinterp[-1] == ColorInterp.alpha):
        return None
    palette = read_palette(raster) is not None
    if palette and wanted in (3, 4):
        return None
    advice = "Name the bands of this file in scenes.bands, in file order."
    if palette:
        advice = "It has a palette: name one band for the values, or red, green and blue for the colours."
    return f"{image.path}: expected {wanted} bands ({', '.join(image.bands)}), the file has {raster.count}. {advice}"


def read_image(
    image: ImageFile,
    places: Mapping[str, int],
    masks: Sequence[str],
    area: Window,
    grid: Grid,
    pixels: NDArray[np.float32],
) -> None:
    """Read bands of one file into the planes of ``pixels`` (C, area.height, area.width).

    Parameters
    ----------
    image : ImageFile
    places : mapping of str to int
        Band → its plane.
    masks : sequence of str
        Bands whose values are not to be mixed.
    area : Window
        Of the scene; it may reach over the edge, where there is no data.
    grid : Grid
        The scene's.
    pixels : (C, H, W) float32
    """
    inner = area.meet(grid.window)
    if not (inner.height and inner.width):
        pixels[[*places.values()]] = np.nan
        return
    target = inner.within(area)
    with open_raster(image.path) as raster:
        problem = band_problem(image, raster)
        if problem:
            raise SceneError(problem)
        own_grid = image.control or image.grid or grid
        if raster.shape != (own_grid.height, own_grid.width):
            raise SceneError(
                f"{image.path}: expected {own_grid.height} × {own_grid.width} pixels as when it was checked, got "
                f"{raster.height} × {raster.width}. Bring the file back, or check the scenes again."
            )
        if inner != area:
            pixels[[*places.values()]] = np.nan
        if image.grid is None:
            _read_own(raster, image, places, inner, pixels[:, *target])
            return
        for exact in (False, True):
            bands = [band for band in places if (band in masks) == exact]
            if bands:
                own = {band: place for place, band in enumerate(bands)}
                how = "nearest" if exact else image.resampling

                def read(window: Window, own: Mapping[str, int] = own) -> NDArray[np.float32]:
                    planes = np.empty((len(own), window.height, window.width), np.float32)
                    _read_own(raster, image, own, window, planes)
                    return planes

                warped = warp_window(read, image.grid, grid, inner, how, np.nan, image.control)
                for band, plane in zip(bands, warped, strict=True):
                    pixels[places[band]][target] = plane


def _read_own(
    raster: Any, image: ImageFile, places: Mapping[str, int], window: Window, pixels: NDArray[np.float32]
) -> None:
    """Read bands of a file into planes, NaN where they have no data; the window lies within the file."""
    area = raster_window(window)
    indexes = [image.bands.index(band) for band in places]
    if image.order:
        indexes = [image.order[index] for index in indexes]
    palette = read_palette(raster) if raster.count == 1 and len(image.bands) > 1 else None
    if palette is None:
        stored = values = raster.read([index + 1 for index in indexes], window=area)
        declared = [raster.nodatavals[index] for index in indexes]
    else:
        stored = np.repeat(raster.read([1], window=area), len(indexes), axis=0)
        values = palette[indexes][:, stored[0]]
        declared = [raster.nodata] * len(indexes)
    # Some programs write a factor of 0 where there is none.
    scales = _scales_of(image) or tuple(
        (factor, offset) if factor else (1.0, 0.0) for factor, offset in zip(raster.scales, raster.offsets, strict=True)
    )
    decode = None if image.decoding is None else open_decoder(image.decoding, image.path, area)
    masked = is_masked(image, raster) if image.masked is None else image.masked
    hidden = raster.read_masks(1, window=area) == 0 if masked else None
    for index, place, read, raw, nodata_value in zip(indexes, places.values(), values, stored, declared, strict=True):
        plane = pixels[place]
        with np.errstate(over="ignore"):
            plane[...] = read if decode is None else decode(read)
        if palette is None and decode is None and scales[index] != (1.0, 0.0):
            factor, offset = scales[index]
            plane[...] = read.astype(np.float64) * factor + offset
        # Compared before the conversion to float32, which can change a large integer.
        for nodata in image.nodata:
            plane[read == nodata] = np.nan
        if nodata_value is not None:
            plane[raw == nodata_value] = np.nan
        if read.dtype.kind == "f" or decode is not None:
            plane[~np.isfinite(plane)] = np.nan
        if hidden is not None:
            plane[hidden] = np.nan


def order_bands(image: ImageFile, raster: Any) -> tuple[ImageFile, str]:
    """Return a file with the order of its bands that its own names tell, and what to say of them.

    Parameters
    ----------
    image : ImageFile
    raster : rasterio dataset
        Open.

    Returns
    -------
    image : ImageFile
        With ``order`` where the file names all of its bands' names, but at other places.
    warning : str
        Empty if the names agree, or have nothing to do with ours.
    """
    names = [(name or "").strip().lower() for name in raster.descriptions]
    wanted = [band.lower() for band in image.bands]
    known = [band for band in wanted if names.count(band) == 1]
    if not known or names[: len(wanted)] == wanted:
        return image, ""
    said = ", ".join(name or "(no name)" for name in raster.descriptions)
    if len(known) < len(wanted):
        misplaced = [band for band in known if names.index(band) != wanted.index(band)]
        return image, "" if not misplaced else (
            f"{image.path}: its bands are named {said} in the file, read as {', '.join(image.bands)}. "
            "Correct the order in scenes.bands, or the names in the file."
        )
    order = tuple(names.index(band) for band in wanted)
    return replace(image, order=order), f"{image.path}: its bands are read by the names in the file, in order {said}."


def _scales_of(image: ImageFile) -> tuple[tuple[float, float], ...] | None:
    """Return the scales given for a file, by place in the file."""
    if image.scale is None or not image.order:
        return image.scale
    by_place = dict(zip(image.order, image.scale, strict=True))
    return tuple(by_place.get(place, (1.0, 0.0)) for place in range(max(image.order) + 1))


def is_masked(image: ImageFile, raster: Any) -> bool:
    """Return whether a mask, or an alpha that is not one of its bands, hides pixels of a file that is open."""
    return hides_pixels(raster, max(image.order, default=-1) + 1 or len(image.bands))


def hides_pixels(raster: Any, bands: int) -> bool:
    """Return whether an open raster has a mask, or an alpha besides a number of bands, that hides pixels."""
    flags = raster.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and (MaskFlags.alpha not in flags or raster.count > bands)


def raster_window(window: Window) -> RasterWindow:
    """Return a window as rasterio takes it."""
    return RasterWindow(window.col, window.row, window.width, window.height)
