"""Small pictures of example scenes: what was seen, what is true, what each member and the map say."""

import base64
import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.classes import IGNORE, Classes
from data.maps import NODATA, TOP
from data.quicklook import draw_errors, label_palette, telling_window
from data.scene import Scene, read_label
from data.windows import Window
from ensemble.decision import Decision
from ensemble.maps import MemberMaps

__all__ = ["Quicklook", "draw_thumbnails"]

Picture = NDArray[np.uint8]
"""(H, W, 3) or, with transparency, (H, W, 4) uint8."""
Quicklook = Callable[[Scene, Window | None], Picture]

SIDE = 256
"""Pixels on a side of a thumbnail."""
CROP = 512
"""Of a larger scene a part of this size is shown."""


def draw_thumbnails(
    scene: Scene, maps: MemberMaps, decision: Decision, classes: Classes, quicklook: Quicklook
) -> list[str]:
    """Draw scene, label, each member, the map and its errors.

    Parameters
    ----------
    scene : Scene
    maps : MemberMaps
    decision : Decision
        That makes the map.
    classes : Classes
    quicklook : callable
        (scene, window) → picture (H, W, 3) uint8.

    Returns
    -------
    pictures : list of str
        Data URIs.
    """
    window = telling_window(scene, CROP)
    stored, label = maps.read(scene, window), read_label(scene, window)
    prediction = decision.apply(stored)
    colors = label_palette(classes)
    return [
        _data_uri(quicklook(scene, window), smooth=True),
        _data_uri(colors[label], smooth=False),
        *(_data_uri(_draw_proba(one, colors), smooth=True) for one in stored),
        _data_uri(colors[prediction], smooth=False),
        _data_uri(draw_errors(label, prediction, classes), smooth=False),
    ]


def _draw_proba(stored: NDArray[np.uint16], colors: NDArray[np.uint8]) -> Picture:
    """Draw the likeliest class, the paler the less sure; binary: from the background's colour to the class's."""
    top = stored.max(axis=0)
    sure = np.where(top == NODATA, 0, top / TOP)[..., None]
    if len(stored) == 1:
        pure, other = colors[1], colors[0]
    else:
        pure, other = colors[stored.argmax(axis=0)], np.full(3, 255)
    picture: Picture = np.rint(sure * pure + (1 - sure) * other).astype(np.uint8)
    picture[top == NODATA] = colors[IGNORE]
    return picture


def _data_uri(picture: Picture, smooth: bool) -> str:
    image = Image.fromarray(picture)
    scale = SIDE / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)
    stream = io.BytesIO()
    # A photograph is small as JPEG; flat colours stay exact as PNG.
    if smooth:
        image.save(stream, "JPEG", quality=82, subsampling=0)
    else:
        image.save(stream, "PNG", optimize=True)
    kind = "jpeg" if smooth else "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
