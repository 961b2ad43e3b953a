"""A scene as people look at it: three bands, stretched to what a screen shows."""

import numpy as np
from numpy.typing import NDArray

from data.scene import Scene, read_scene
from data.windows import Window

__all__ = ["quicklook", "quicklook_bands"]

COMPOSITES = (("red", "green", "blue"), ("nir", "red", "green"), ("swir16", "nir", "green"))
"""Natural colours first, then the usual false ones."""


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
    pixels = read_scene(scene, window, bands=quicklook_bands(scene.bands))
    picture = np.zeros((*pixels.shape[1:], 3), np.uint8)
    for channel, plane in enumerate(pixels):
        finite = plane[np.isfinite(plane)]
        if finite.size:
            low, high = np.percentile(finite, (2, 98))
            stretched = (plane - low) / max(high - low, 1e-6) * 255
            picture[..., channel] = np.nan_to_num(np.clip(stretched, 0, 255))
    return picture
