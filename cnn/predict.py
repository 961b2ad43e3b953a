"""Prediction of scenes of any size by overlapping windows, in memory bounded by one row of them.

Neighbouring windows share at least ``overlap`` pixels, over which the one fades into the other along a raised
cosine. The shares of the windows at a pixel add up to exactly one, so where all windows agree, as those of a
translation-equivariant network do, the blend is what each of them says.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnn.channels import Normalisation, read_channels
from cnn.turns import TURNS, turn, unturn
from data.scene import Scene
from data.windows import Window
from features.feature_set import FeatureSet

__all__ = ["Fitted", "Tiling", "blend_shares", "predict_scene", "tile_starts"]


@dataclass(frozen=True)
class Fitted:
    """The trained network of one fold and the normalisation of the scenes that it learned from."""

    network: nn.Module
    normalisation: Normalisation


@dataclass(frozen=True)
class Tiling:
    """How a scene is cut into windows.

    Parameters
    ----------
    size : int
        Side of a window, pixels.
    overlap : int
        Least overlap of neighbouring windows, pixels, less than ``size``.
    multiple : int
        What the sides of a network's input must be multiples of; ``size`` is one.
    least : int
        Smallest side that a network is given, a multiple of ``multiple``.
    batch : int
        Windows that go through a network at once.
    """

    size: int
    overlap: int
    multiple: int
    least: int
    batch: int = 1

    def side(self, length: int) -> int:
        """Return the side of the windows along one side of a scene: all of it, rounded up, up to ``size``."""
        return min(self.size, max(self.least, -(-length // self.multiple) * self.multiple))


def tile_starts(length: int, side: int, overlap: int) -> list[int]:
    """Return where windows of a side start that cover a length, evenly spread, at least ``overlap`` shared.

    >>> tile_starts(1000, 512, 128)
    [0, 244, 488]
    >>> tile_starts(300, 512, 128)
    [0]
    """
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [round(position * (length - side) / (count - 1)) for position in range(count)]


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
    scene: Scene, feature_set: FeatureSet, models: Sequence[Fitted], outputs: int, tiling: Tiling, *,
    device: torch.device, precision: torch.dtype, turns: bool,
) -> Iterator[tuple[Window, NDArray[np.float32]]]:  # fmt: skip
    """Yield the mean probability of some models, strip by strip from the top, as soon as a strip is finished.

    Parameters
    ----------
    scene : Scene
    feature_set : FeatureSet
    models : sequence of Fitted
        In evaluation mode, on ``device``.
    outputs : int
        Logits a pixel; 1 means sigmoid, more softmax.
    tiling : Tiling
    device : torch.device
    precision : torch.dtype
    turns : bool
        Average over the eight mirror images and quarter turns of each window.

    Yields
    ------
    window : Window
        As wide as the scene; all of them cover it exactly once.
    proba : (outputs, height, width) float32 in [0, 1]
        NaN where the scene is not valid.
    """
    height, width = scene.grid.height, scene.grid.width
    tall, wide = tiling.side(height), tiling.side(width)
    tops, lefts = (tile_starts(length, side, tiling.overlap) for length, side in ((height, tall), (width, wide)))
    down = blend_shares(height, tops, tall, min(tiling.overlap, tall // 2))
    across = blend_shares(width, lefts, wide, min(tiling.overlap, wide // 2))
    blended = np.zeros((outputs, tall, lefts[-1] + wide), np.float32)

    def infer(batch: Tensor, network: nn.Module) -> Tensor:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits: Tensor = network(batch).float()
        return logits.sigmoid() if outputs == 1 else logits.softmax(dim=1)

    for number, top in enumerate(tops):
        strip = Window(top, 0, tall, lefts[-1] + wide)
        channels, valid = read_channels(feature_set, scene, strip)
        seen = [tile for tile, left in enumerate(lefts) if valid[:, left : left + wide].any()]
        for model in models:
            normal = torch.from_numpy(model.normalisation.apply(channels))
            for first in range(0, len(seen), tiling.batch):
                some = seen[first : first + tiling.batch]
                batch = torch.stack([normal[:, :, lefts[tile] : lefts[tile] + wide] for tile in some])
                proba = _apply(model.network, batch, infer, device, turns) / len(models)
                for tile, one in zip(some, proba.cpu().numpy(), strict=True):
                    share = down[number][:, None] * across[tile]
                    blended[:, :, lefts[tile] : lefts[tile] + wide] += one * share
        bottom = tops[number + 1] if number + 1 < len(tops) else height
        rows = bottom - top
        finished = blended[:, :rows, :width].clip(0, 1)
        finished[:, ~valid[:rows, :width]] = np.nan
        yield Window(top, 0, rows, width), finished
        blended = np.concatenate([blended[:, rows:], np.zeros_like(blended[:, :rows])], axis=1)


def _apply(
    network: nn.Module, batch: Tensor, infer: Callable[[Tensor, nn.Module], Tensor], device: torch.device, turns: bool
) -> Tensor:
    batch = batch.to(device)
    with torch.inference_mode():
        if not turns:
            return infer(batch.contiguous(memory_format=torch.channels_last), network)
        views = (
            unturn(infer(turn(batch, way).contiguous(memory_format=torch.channels_last), network), way) for way in TURNS
        )
        return torch.stack(list(views)).mean(dim=0)
