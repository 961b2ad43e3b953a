"""Small pictures of example scenes: what was seen, what is true, what each member and the map say."""

import base64
import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.classes import IGNORE, Classes
from data.maps import NODATA, TOP
from data.scene import Scene, read_label
from data.windows import Window, tile_windows
from ensemble.decision import Decision
from ensemble.maps import MemberMaps

__all__ = ["ERROR_COLORS", "Quicklook", "draw_thumbnails", "telling_window"]

Picture = NDArray[np.uint8]
"""(H, W, 3) or, with transparency, (H, W, 4) uint8."""
Quicklook = Callable[[Scene, Window | None], Picture]

SIDE = 256
"""Pixels on a side of a thumbnail."""
CROP = 512
"""Of a larger scene a part of this size is shown."""

# Okabe and Ito's, readable with any colour vision, and for many classes one that their palette lacks. What is right is
# left transparent, for light pages and dark ones.
ERROR_COLORS = {
    "hit": (0, 158, 115), "miss": (213, 94, 0), "false alarm": (86, 180, 233), "wrong": (220, 38, 127),
    "unknown": (128, 128, 128),
}  # fmt: skip


def telling_window(scene: Scene) -> Window:
    """Return the part of a scene that is shown: all of it, or where most pixels are not of the commonest label."""
    if max(scene.grid.height, scene.grid.width) <= CROP:
        return scene.grid.window
    windows = list(tile_windows(scene.grid.height, scene.grid.width, CROP))
    counts = np.stack([np.bincount(read_label(scene, window).ravel(), minlength=256)[:IGNORE] for window in windows])
    common = int(np.argmax(counts.sum(axis=0)))
    return windows[int(np.argmax(counts.sum(axis=1) - counts[:, common]))]


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
    window = telling_window(scene)
    stored, label = maps.read(scene, window), read_label(scene, window)
    prediction = decision.apply(stored)
    colors = np.full((256, 3), ERROR_COLORS["unknown"], np.uint8)
    colors[: len(classes.label_names)] = classes.label_colors
    return [
        _data_uri(quicklook(scene, window), smooth=True),
        _data_uri(colors[label], smooth=False),
        *(_data_uri(_draw_proba(one, colors), smooth=True) for one in stored),
        _data_uri(colors[prediction], smooth=False),
        _data_uri(_draw_errors(label, prediction, classes), smooth=False),
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


def _draw_errors(label: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: Classes) -> Picture:
    errors = np.zeros((*label.shape, 4), np.uint8)
    wrong = label != prediction
    if classes.task == "binary":
        errors[(label == 1) & ~wrong] = (*ERROR_COLORS["hit"], 255)
        errors[(label == 0) & wrong] = (*ERROR_COLORS["false alarm"], 255)
        errors[(label == 1) & wrong] = (*ERROR_COLORS["miss"], 255)
    else:
        errors[wrong] = (*ERROR_COLORS["wrong"], 255)
    errors[(label == IGNORE) | ((prediction == IGNORE) & (label == 0))] = (*ERROR_COLORS["unknown"], 255)
    return errors


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
