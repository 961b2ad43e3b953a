"""Measure a scene as a whole on a lattice of its pixels: medians, quantiles, shares."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data.scenes.windows import Grid, Window
from features.feature import Feature

__all__ = ["SceneFacts", "lattice_of", "measure_scene"]

SceneFacts = Mapping[str, NDArray[np.float32]]
"""By the name of the feature that needs it: a median (1,), 257 quantiles, or a share (1,)."""

MOST_PIXELS = 2**20
"""About how many pixels a scene's lattice has at most."""

QUANTILES = np.linspace(0, 1, 257)


def lattice_of(grid: Grid, window: Window, most_pixels: int = MOST_PIXELS) -> tuple[slice, slice]:
    """Return the rows and columns of a window that lie on the scene's lattice.

    The lattice has every pixel of a scene of up to ``most_pixels`` pixels, and every n-th in each direction of
    larger ones, whatever the windows.
    """
    step = math.ceil(math.sqrt(grid.height * grid.width / most_pixels))
    return slice(-window.row % step, window.height, step), slice(-window.col % step, window.width, step)


def measure_scene(
    features: Iterable[Feature], planes: Mapping[str, NDArray[np.float32]], valid: NDArray[np.bool_]
) -> SceneFacts:
    """Measure the medians, quantiles and shares of a scene that some features need.

    Parameters
    ----------
    features : iterable of Feature
    planes : mapping of str to (n,) float32
        By band, the pixels of the lattice.
    valid : (n,) bool
        Where the scene has data.

    Returns
    -------
    facts : dict of str to float32 array
        NaN where there is no pixel to measure, such as in a scene without water.
    """
    return {feature.name: _measure(feature, planes, valid) for feature in features if feature.needs_scene}


def _measure(
    feature: Feature, planes: Mapping[str, NDArray[np.float32]], valid: NDArray[np.bool_]
) -> NDArray[np.float32]:
    if feature.base is None:
        return np.array([valid.mean()], np.float32)
    values = feature.base.formula(planes)
    known = np.isfinite(values)
    if feature.operation == "share":
        return np.array([np.mean(values[known] != 0)], np.float32) if known.any() else _unknown(1)
    if feature.mask is not None:
        inside = feature.mask.formula(planes)
        known &= np.isfinite(inside) & (inside != 0)
    shares: Sequence[float] = QUANTILES.tolist() if feature.operation == "rank" else [0.5]
    return np.quantile(values[known], shares).astype(np.float32) if known.any() else _unknown(len(shares))


def _unknown(count: int) -> NDArray[np.float32]:
    return np.full(count, np.nan, np.float32)
