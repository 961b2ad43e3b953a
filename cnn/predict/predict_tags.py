"""Prediction of the tags of scenes, many at a time: the mean over squares as large as those that were learned from."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cnn.inputs.channels import read_channels
from cnn.predict.runner import Runner
from cnn.train.validation import tile_places
from data.scenes.scene import Scene
from data.scenes.windows import Window
from features.channels import Channels

__all__ = ["predict_tags"]


def predict_tags(
    scenes: Sequence[Scene],
    channels: Channels,
    model: nn.Module,
    n_classes: int,
    side: int,
    runner: Runner,
    batch: int = 64,
) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities that a model gives to the tags of each scene, in order.

    Parameters
    ----------
    scenes : sequence of Scene
    channels : Channels
        What the model sees.
    model : nn.Module
        Channels (N, C, side, side), NaN where there is no data, to probabilities (N, n_classes).
    n_classes : int
    side : int
        Of the squares, in pixels of a scene. They cover a larger scene as `cnn.train.validation.Tiles` do.
    runner : Runner
        On whose device the model is.
    batch : int
        Squares that are read before the model is applied to them.

    Yields
    ------
    proba : (n_classes,) float32 in [0, 1]
        NaN where no pixel of the scene is valid.
    """
    # In this thread: rasterio's warnings cannot be silenced in several at once.
    squares = map(partial(_read_square, channels), _squares(scenes, side))
    total, count = np.zeros(n_classes), 0
    while some := [*islice(squares, batch)]:
        seen = [pixels for pixels, _ in some if pixels is not None]
        predicted = iter(runner.apply(model, seen) if seen else ())
        for pixels, last in some:
            if pixels is not None:
                total, count = total + next(predicted), count + 1
            if last:
                yield (total / count if count else np.full(n_classes, np.nan)).astype(np.float32)
                total, count = np.zeros(n_classes), 0


def _squares(scenes: Sequence[Scene], side: int) -> Iterator[tuple[Scene, Window, bool]]:
    """Yield the squares of each scene, and whether it is the scene's last."""
    for scene in scenes:
        windows = [window for _, window in tile_places(scene.grid, side)]
        for window in windows:
            yield scene, window, window is windows[-1]


def _read_square(channels: Channels, square: tuple[Scene, Window, bool]) -> tuple[NDArray[np.float32] | None, bool]:
    """Read the channels of a square, None if nothing is seen there; and return whether it is its scene's last."""
    scene, window, last = square
    pixels, valid = read_channels(channels, scene, window)
    return pixels if valid.any() else None, last
