"""Read colour-coded labels: an image with one colour for each class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from data.errors import LabelError
from data.scenes.classes import IGNORE

__all__ = ["pack_color", "read_color_label", "read_palette", "recode_colors", "unpack_color"]


def pack_color(color: Sequence[int]) -> int:
    """Return red, green and blue, 0 … 255 each, as one number.

    >>> hex(pack_color((255, 0, 16)))
    '0xff0010'
    """
    red, green, blue = color
    return red << 16 | green << 8 | blue


def unpack_color(value: int) -> tuple[int, int, int]:
    """Return the red, green and blue of a number that `pack_color` made."""
    return value >> 16, value >> 8 & 255, value & 255


def read_palette(raster: Any) -> NDArray[np.uint8] | None:
    """Return the red, green, blue and alpha (4, 256) of each value of an open raster that has a palette, else None."""
    if raster.count != 1 or raster.dtypes[0] != "uint8" or raster.colorinterp[0] != ColorInterp.palette:
        return None
    palette = np.zeros((4, 256), np.uint8)
    for value, color in raster.colormap(1).items():
        palette[:, value] = color
    return palette


def recode_colors(
    packed: NDArray[np.int32], meanings: Mapping[int, int], nearest: bool
) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """Replace each colour by what it means; also return the colours that have no meaning, which become `IGNORE`.

    Parameters
    ----------
    packed : int32 array
        Colours, as `pack_color` makes them.
    meanings : mapping of int to int
        Label index of each colour.
    nearest : bool
        Take other colours for the nearest of these by Euclidean distance, the first of them in case of a tie.

    Returns
    -------
    codes : uint8 array of the same shape
    unknown : list of (colour, pixels)
        The commonest first; none if ``nearest``.
    """
    codes = np.full(packed.shape, IGNORE, np.uint8)
    left = np.ones(packed.shape, bool)
    for value, code in meanings.items():
        here = packed == value
        codes[here] = code
        left &= ~here
    if not left.any():
        return codes, []
    found, which, counts = np.unique(packed[left], return_inverse=True, return_counts=True)
    if nearest:
        known = np.array([unpack_color(value) for value in meanings])
        others = np.array([unpack_color(value) for value in found.tolist()])
        distance = ((others[:, None] - known) ** 2).sum(axis=2)
        meant = np.array([*meanings.values()], np.uint8)
        codes[left] = meant[distance.argmin(axis=1)][which]
        return codes, []
    commonest = np.argsort(-counts, kind="stable")
    return codes, [(int(found[k]), int(counts[k])) for k in commonest]


def read_color_label(raster: Any, window: Window, meanings: Mapping[int, int], nearest: bool) -> NDArray[np.uint8]:
    """Read a window of a label that is a picture as label indices.

    Parameters
    ----------
    raster : rasterio dataset
        Open; of red, green and blue bytes, maybe with alpha, which is not looked at; or of one band with a palette.
    window : rasterio Window
    meanings : mapping of int to int
    nearest : bool
        See `recode_colors`.

    Raises
    ------
    LabelError
        If the raster is no colour-coded image, or holds a colour that has no meaning.
    """
    palette = read_palette(raster)
    if palette is None and (raster.count not in (3, 4) or set(raster.dtypes) != {"uint8"}):
        raise LabelError(
            f"{raster.name}: expected a picture of red, green and blue bytes, got {raster.count} bands of "
            f"{raster.dtypes[0]}. If it holds class values, leave label.colors out."
        )
    drawn = raster.read((1, 2, 3), window=window) if palette is None else palette[:3, raster.read(1, window=window)]
    red, green, blue = drawn.astype(np.int32)
    codes, unknown = recode_colors(red << 16 | green << 8 | blue, meanings, nearest)
    if unknown:
        known = ", ".join(str(unpack_color(value)) for value in meanings)
        commonest = ", ".join(f"{unpack_color(value)} in {count} pixels" for value, count in unknown[:5])
        raise LabelError(
            f"{raster.name}: expected the colours {known}; got also {commonest}. "
            "Name what they mean under classes or in label.colors, or set label.nearest: true to take each for the "
            "nearest colour."
        )
    return codes
