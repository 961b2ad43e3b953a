"""Predict scenes of any size by overlapping windows, in memory bounded by one row of them.

Neighbouring windows share at least ``overlap`` pixels, over which the one fades into the other along a raised
cosine. The shares of the windows at a pixel add up to exactly one, so where all windows agree, as those of a
translation-equivariant network do, the blend is what each of them predicts. A network that halves its input is only
equivariant to shifts of as many pixels as it halves them to one, so windows start at multiples of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cnn.inputs.channels import read_channels
from cnn.inputs.resize import scene_side
from cnn.predict.runner import Runner
from data.scenes.scene import Scene
from data.scenes.windows import Window
from features.channels import Channels

__all__ = ["Tiling", "blend_shares", "predict_scene", "tile_starts"]


@dataclass(frozen=True)
class Tiling:
    """How windows cover a scene, in pixels that the network sees.

    Parameters
    ----------
    size : int
        Side of a window.
    overlap : int
        Least overlap of neighbouring windows, less than ``size``.
    multiple : int
        What the sides of a network's input must be multiples of; ``size`` is one.
    least : int
        Smallest side that a network is given, a multiple of ``multiple``.
    resize : float
        Such pixels a pixel of the scene.
    """

    size: int
    overlap: int
    multiple: int
    least: int
    resize: float = 1.0

    def side(self, length: int) -> int:
        """Return the side of the windows along one side of a scene, in its pixels: all of it, or that of a window."""
        whole = -(-round(length * self.resize, 6) // self.multiple) * self.multiple
        return scene_side(min(self.size, max(self.least, int(whole))), self.resize)

    def starts(self, length: int) -> list[int]:
        """Return where the windows along one side of a scene start, in its pixels."""
        step = self.multiple / self.resize
        return tile_starts(length, self.side(length), self.fade(length), int(step) if step.is_integer() else 1)

    def fade(self, length: int) -> int:
        """Return over how many pixels of the scene neighbouring windows fade, at most half a window."""
        return min(round(self.overlap / self.resize), self.side(length) // 2)


def tile_starts(length: int, side: int, overlap: int, step: int = 1) -> list[int]:
    """Return where windows of a side start that cover a length, evenly spread, at least ``overlap`` shared.

    All are multiples of ``step``, unless that is more than what a window does not share. The last may reach over the
    end.

    >>> tile_starts(1000, 512, 128)
    [0, 244, 488]
    >>> tile_starts(1000, 512, 128, step=32)
    [0, 256, 512]
    >>> tile_starts(300, 512, 128)
    [0]
    """
    if length <= side:
        return [0]
    if step > side - overlap:
        step = 1
    last = -(-(length - side) // step)
    count = -(-last // ((side - overlap) // step))
    return [position * last // count * step for position in range(count + 1)]


def blend_shares(length: int, starts: Sequence[int], side: int, overlap: int) -> NDArray[np.float32]:
    """Return the share (n_windows, side) of each window in the pixels along one side of a scene.

    Shares of all windows at a pixel add up to 1. Those of a window of two dimensions are the products of its
    shares down and across.
    """
    ramp = np.ones(side)
    if overlap:
        rise = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / overlap) ** 2
        ramp[:overlap] = rise
        ramp[-overlap:] = np.minimum(ramp[-overlap:], rise[::-1])
    total = np.zeros(max(length, starts[-1] + side))
    for start in starts:
        total[start : start + side] += ramp
    return np.stack([ramp / total[start : start + side] for start in starts]).astype(np.float32)


def predict_scene(
    scene: Scene, channels: Channels, model: nn.Module, outputs: int, tiling: Tiling, runner: Runner
) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """Yield the probability that a model gives, strip by strip from the top, as soon as a strip is finished.

    Parameters
    ----------
    scene : Scene
    channels : Channels
        What the model sees.
    model : nn.Module
        Channels (N, C, H, W), NaN where there is no data, to probabilities (N, outputs, H, W).
    outputs : int
    tiling : Tiling
    runner : Runner
        On whose device the model is.

    Yields
    ------
    window : Window
        As wide as the scene; all of them cover it exactly once.
    proba : (outputs, height, width) float32 in [0, 1]
        NaN where the scene is not valid.
    """
    height, width = scene.grid.height, scene.grid.width
    tall, wide = tiling.side(height), tiling.side(width)
    tops, lefts = tiling.starts(height), tiling.starts(width)
    down = blend_shares(height, tops, tall, tiling.fade(height))
    across = blend_shares(width, lefts, wide, tiling.fade(width))
    blended = np.zeros((outputs, tall, lefts[-1] + wide), np.float32)
    strips = _read_strips(scene, channels, tops, tall, lefts[-1] + wide)
    for number, (pixels, valid) in enumerate(strips):
        seen = [tile for tile, left in enumerate(lefts) if valid[:, left : left + wide].any()]
        windows = [pixels[:, :, lefts[tile] : lefts[tile] + wide] for tile in seen]
        for tile, proba in zip(seen, runner.apply(model, windows), strict=True):
            share = down[number][:, None] * across[tile]
            blended[:, :, lefts[tile] : lefts[tile] + wide] += proba * share
        top = tops[number]
        rows = (tops[number + 1] if number + 1 < len(tops) else height) - top
        finished = blended[:, :rows, :width].clip(0, 1)
        finished[:, ~valid[:rows, :width]] = np.nan
        yield Window(top, 0, rows, width), finished
        blended = np.concatenate([blended[:, rows:], np.zeros_like(blended[:, :rows])], axis=1)


def _read_strips(
    scene: Scene, channels: Channels, tops: Sequence[int], tall: int, wide: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Yield the channels (C, tall, wide) of each row of windows and where they are valid; no pixel is read twice."""
    pixels, valid = np.empty((len(channels.names), 0, wide), np.float32), np.empty((0, wide), bool)
    end = 0
    for top in tops:
        shared = end - top
        below = read_channels(channels, scene, Window(end, 0, top + tall - end, wide))
        pixels = np.concatenate([pixels[:, pixels.shape[1] - shared :], below[0]], axis=1)
        valid = np.concatenate([valid[len(valid) - shared :], below[1]])
        end = top + tall
        yield pixels, valid
