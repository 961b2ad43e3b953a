"""Input channels: what a network sees of a scene, by name."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cnn.inputs.normalisation import Spread
from data.scenes.scene import Scene
from data.scenes.statistics import Moments
from data.scenes.windows import Grid, Window, tile_windows
from features.channels import Channels
from features.scene_facts import lattice_of

__all__ = ["default_inputs", "lattice_pixels", "measure_spread", "read_channels", "survey_windows"]

BLOCK = 1024
"""Side of the windows that scenes are surveyed in, pixels."""


def default_inputs(bands: Sequence[str], scenes: Iterable[Scene]) -> tuple[str, ...]:
    """Return the bands that are no mask in any of the scenes: the ones that a pixel's look consists of."""
    masks = {band for scene in scenes for band, _ in scene.invalid}
    return tuple(band for band in bands if band not in masks)


def read_channels(
    channels: Channels, scene: Scene, window: Window | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read the input channels of a window and where it is valid.

    Returns
    -------
    pixels : (C, height, width) float32
        Not normalised, NaN where there is no data.
    valid : (height, width) bool
    """
    opened = channels.open(scene)
    return opened.compute(window), opened.valid(window)


def survey_windows(grid: Grid) -> Iterable[Window]:
    """Return the windows in which a scene is measured, in memory that does not grow with it."""
    return tile_windows(grid.height, grid.width, BLOCK)


def lattice_pixels(image: NDArray[np.float32], grid: Grid, window: Window) -> NDArray[np.float32]:
    """Return the pixels (C, n) of a window's channels that lie on the scene's lattice of about a million."""
    return image[:, *lattice_of(grid, window)].reshape(len(image), -1)


def measure_spread(channels: Channels, scene: Scene) -> Spread:
    """Measure how the values of a scene's input channels spread, window by window."""
    moments, pixels = [], []
    for window in survey_windows(scene.grid):
        image, _ = read_channels(channels, scene, window)
        moments.append(Moments.of(image))
        pixels.append(lattice_pixels(image, scene.grid, window))
    return Spread.of(moments, np.concatenate(pixels, axis=1))
