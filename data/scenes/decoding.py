"""Decode embeddings that are stored as small integers: AlphaEarth's by formula, TESSERA's by a scale of each pixel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from data.errors import SceneError
from data.scenes.grids import grid_problem, is_placed
from data.scenes.rasters import open_raster, read_grid

__all__ = ["Decoding", "decode_alphaearth", "decoding_problem", "open_decoder"]

CODES = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64)
"""The numbers that eight bits stand for, in the order of these bits."""

ALPHAEARTH = np.where(CODES == -128, np.nan, np.sign(CODES) * (CODES / 127.5) ** 2).astype(np.float32)


@dataclass(frozen=True)
class Decoding:
    """How the integers of a file become an embedding.

    Parameters
    ----------
    kind : {"alphaearth", "scale"}
    path : str
        Raster of one band, or array (.npy): the scale of each pixel; empty for ``alphaearth``.
    """

    kind: Literal["alphaearth", "scale"]
    path: str = ""


def decode_alphaearth(codes: NDArray[np.signedinteger[Any]]) -> NDArray[np.float32]:
    """Return the embedding sign(v) (v / 127.5)² of codes v, NaN for −128 [1]_.

    References
    ----------
    .. [1] Brown et al. 2025, "AlphaEarth Foundations", arXiv:2507.22291; the formula is that of the data set's page.

    Examples
    --------
    >>> decode_alphaearth(np.int8([-127, 0, 51, -128])).tolist()
    [-0.9921722412109375, 0.0, 0.1599999964237213, nan]
    """
    return ALPHAEARTH[codes.astype(np.int8, copy=False).view(np.uint8)]


def decoding_problem(decoding: Decoding, path: str, raster: Any) -> str | None:
    """Return why the numbers of an open raster cannot be decoded; None if they can."""
    if decoding.kind == "alphaearth":
        odd = next((kind for kind in raster.dtypes if not kind.startswith("int")), None)
        return odd and (
            f"{path}: expected the codes of an embedding, whole numbers from -128 to 127, got {odd}. "
            "Leave decode out where the values are those of the embedding."
        )
    grid, own = read_grid(path)[0], read_grid(decoding.path)
    if own[1] != 1:
        return f"{decoding.path}: expected one band, the scale of each pixel, got {own[1]}. Correct decode.scale."
    placed = is_placed(grid) and is_placed(own[0])
    alike = (own[0].height, own[0].width) == (grid.height, grid.width)
    problem = None if alike and not placed else grid_problem(own[0], grid)
    return problem and f"{decoding.path}: expected a scale for each pixel of {path}: {problem}"


def open_decoder(decoding: Decoding, path: str, area: RasterWindow) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Return what decodes the stored numbers (height, width) of a band in a window of a file.

    Raises
    ------
    SceneError
        If the scales cannot be read, or when it decodes, if a number is no code.
    """
    if decoding.kind == "alphaearth":

        def decode(codes: NDArray[Any]) -> NDArray[np.float32]:
            if codes.dtype != np.int8 and codes.size and (codes.min() < -128 or codes.max() > 127):
                raise SceneError(
                    f"{path}: expected the codes of an embedding, -128 to 127, got {codes.min()} to {codes.max()}. "
                    "Leave decode out, or name another file."
                )
            return decode_alphaearth(codes)

        return decode
    with open_raster(decoding.path) as raster:
        scale = raster.read(1, window=area).astype(np.float32)
        scale[raster.read_masks(1, window=area) == 0] = np.nan
    scale[~np.isfinite(scale)] = np.nan
    return lambda values: values.astype(np.float32) * scale
