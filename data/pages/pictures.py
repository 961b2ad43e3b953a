"""Encode small pictures as data URIs, so that a page holds them in itself."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Picture", "flat", "photograph"]

Picture = NDArray[np.uint8]
"""(H, W, 3) or, with transparency, (H, W, 4) uint8."""


def photograph(picture: Picture, side: int) -> str:
    """Return a JPEG, in which a picture of many colours is small, as a data URI; ``side`` is its longest, in pixels."""
    stream = io.BytesIO()
    _shrink(Image.fromarray(picture), side, Image.Resampling.BOX).save(stream, "JPEG", quality=80, optimize=True)
    return _data_uri(stream, "jpeg")


def flat(picture: Picture, side: int) -> str:
    """Return a PNG with a palette, in which a few colours stay exactly as they are, as a data URI."""
    small = np.asarray(_shrink(Image.fromarray(picture), side, Image.Resampling.NEAREST).convert("RGBA"))
    packed, index = np.unique(small.view(np.uint32), return_inverse=True)
    colors = packed.view(np.uint8).reshape(-1, 4)
    image = Image.fromarray(index.reshape(small.shape[:2]).astype(np.uint8), "P")
    image.putpalette(colors[:, :3].tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, transparency=colors[:, 3].tobytes())
    return _data_uri(stream, "png")


def _shrink(image: Image.Image, side: int, how: Image.Resampling) -> Image.Image:
    scale = side / max(image.size)
    return image.resize([max(1, round(length * scale)) for length in image.size], how) if scale < 1 else image


def _data_uri(stream: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
