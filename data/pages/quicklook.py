"""Pictures of scenes: three bands stretched to a screen's range, labels in their colours, and errors of a map."""

import numpy as np
from numpy.typing import NDArray

from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene, read_label, read_scene
from data.scenes.windows import Window, tile_windows

__all__ = ["ERROR_COLORS", "draw_errors", "label_palette", "quicklook", "quicklook_bands", "richest_window", "stretch"]

COMPOSITES = (("red", "green", "blue"), ("nir", "red", "green"), ("swir16", "nir", "green"))
"""Natural colours first, then the usual false ones."""

# Okabe and Ito's, readable with any colour vision, and for several classes one that their palette lacks. What is right
# stays transparent, on light pages and dark ones.
ERROR_COLORS = {
    "hit": (0, 158, 115),
    "miss": (213, 94, 0),
    "false alarm": (86, 180, 233),
    "wrong": (220, 38, 127),
    "unknown": (128, 128, 128),
}


def quicklook_bands(bands: tuple[str, ...]) -> tuple[str, str, str]:
    """Choose the bands shown as red, green and blue.

    >>> quicklook_bands(("swir16", "nir", "red", "green", "blue"))
    ('red', 'green', 'blue')
    >>> quicklook_bands(("vv_before", "swir16_after", "nir_after", "green_after"))
    ('swir16_after', 'nir_after', 'green_after')
    """
    suffixes = ["", *sorted({band[band.index("_") :] for band in bands if "_" in band})]
    for suffix in suffixes:
        for first, second, third in COMPOSITES:
            chosen = (first + suffix, second + suffix, third + suffix)
            if set(chosen) <= set(bands):
                return chosen
    return (bands[0], bands[0], bands[0]) if len(bands) < 3 else (bands[0], bands[1], bands[2])


def quicklook(scene: Scene, window: Window | None = None) -> NDArray[np.uint8]:
    """Draw a scene, or a window of it.

    Returns
    -------
    picture : (height, width, 3) uint8
        Each band stretched from its 2nd to its 98th percentile; black where there is no data.
    """
    return stretch(read_scene(scene, window, bands=quicklook_bands(scene.bands)))


def stretch(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw three planes (3, height, width) as red, green and blue; see `quicklook`."""
    picture = np.zeros((*planes.shape[1:], 3), np.uint8)
    for channel, plane in enumerate(planes):
        finite = plane[np.isfinite(plane)]
        if finite.size:
            low, high = np.percentile(finite, (2, 98))
            stretched = (plane - low) / max(high - low, 1e-6) * 255
            picture[..., channel] = np.nan_to_num(np.clip(stretched, 0, 255))
    return picture


def richest_window(scene: Scene, side: int) -> Window:
    """Return the part of a labelled scene with most of the rarer labels.

    A small scene is returned whole. Of the windows of ``side`` × ``side`` pixels that cover a larger one, the one with
    most pixels of labels other than the commonest is returned.
    """
    if max(scene.grid.height, scene.grid.width) <= side:
        return scene.grid.window
    windows = list(tile_windows(scene.grid.height, scene.grid.width, side))
    counts = np.stack([np.bincount(read_label(scene, window).ravel(), minlength=256)[:IGNORE] for window in windows])
    common = int(np.argmax(counts.sum(axis=0)))
    return windows[int(np.argmax(counts.sum(axis=1) - counts[:, common]))]


def label_palette(classes: Classes) -> NDArray[np.uint8]:
    """Return the colours (256, 3) that label indices are drawn in, `IGNORE` too."""
    colors = np.full((256, 3), ERROR_COLORS["unknown"], np.uint8)
    colors[: len(classes.label_names)] = classes.label_colors
    return colors


def draw_errors(label: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: Classes) -> NDArray[np.uint8]:
    """Draw where a map is wrong; when binary also where it is right about the positive class.

    Parameters
    ----------
    label, prediction : (H, W) uint8
        Label indices, or `IGNORE`.
    classes : Classes

    Returns
    -------
    picture : (H, W, 4) uint8
        In `ERROR_COLORS`, transparent elsewhere.
    """
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
