"""Sample the parameters of augmentation crop by crop; `cnn.crops.augmentation` applies them batch by batch."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn.inputs.settings import AugmentSettings

__all__ = ["AugmentationParams", "reach", "sample_params"]

AugmentationParams = dict[str, Tensor]
"""Parameters of a crop, by name; only of what is switched on.

``warp`` (2, 2): offset (rows, columns) of a pixel from the middle of the altered crop → where it comes from.
``gain``, ``bias`` (C,): what each channel is multiplied with, and what is added then.
``blur``, ``noise`` (): deviations, in pixels and in units of the channels.
``lost`` (C,) bool: channels without data.
``holes`` (n, 4): top, left, bottom, right of rectangles without data.
``mixup`` (): share of the crop in a mixture with the next one.
``cutmix`` (4,): top, left, bottom, right of what is pasted from the next one.
"""


def reach(settings: AugmentSettings, side: int) -> int:
    """Return the side of the square that holds all that a crop of ``side`` pixels may show.

    >>> reach(AugmentSettings(), 100), reach(AugmentSettings(rotate=180, scale=1.5), 100)
    (100, 216)
    """
    if settings.rotate == 0 and settings.scale == 1:
        return side
    angle = math.radians(min(settings.rotate, 45))
    wider = settings.scale * (math.cos(angle) + math.sin(angle))
    # One pixel more on each side, to interpolate between.
    return side + 2 * (math.ceil(side * (wider - 1) / 2) + 1)


def sample_params(settings: AugmentSettings, rng: np.random.Generator, channels: int, side: int) -> AugmentationParams:
    """Sample how a crop of some channels and ``side`` × ``side`` pixels is altered."""
    params: dict[str, NDArray[np.generic] | float] = {}
    if reach(settings, side) > side:
        angle = math.radians(rng.uniform(-settings.rotate, settings.rotate))
        zoom = settings.scale ** rng.uniform(-1, 1)
        cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
        params["warp"] = np.array([[cosine, -sine], [sine, cosine]])
    if settings.brightness or settings.contrast:
        params["gain"] = 1 + rng.uniform(-settings.contrast, settings.contrast, channels)
        params["bias"] = rng.uniform(-settings.brightness, settings.brightness, channels)
    if settings.blur:
        params["blur"] = rng.uniform(0, settings.blur)
    if settings.noise:
        params["noise"] = rng.uniform(0, settings.noise)
    if settings.band_dropout:
        lost = rng.random(channels) < settings.band_dropout
        lost[rng.integers(channels)] &= not lost.all()
        params["lost"] = lost
    if settings.coarse_dropout:
        sides = rng.uniform(0, settings.hole * side, (settings.coarse_dropout, 2))
        sides[rng.integers(settings.coarse_dropout + 1) :] = 0
        corners = rng.uniform(0, side - sides)
        params["holes"] = np.concatenate([corners, corners + sides], axis=1)
    if settings.mixup or settings.cutmix:
        _sample_mixture(settings, rng, side, params)
    return {
        name: torch.from_numpy(values)
        if isinstance(values, np.ndarray) and values.dtype == bool
        else torch.as_tensor(values, dtype=torch.float32)
        for name, values in params.items()
    }


def _sample_mixture(
    settings: AugmentSettings, rng: np.random.Generator, side: int, params: dict[str, NDArray[np.generic] | float]
) -> None:
    """Sample a share of a mixture, or a rectangle of the rest of that share, or neither."""
    mixed, pasted = rng.random() < settings.mix_share, rng.random() < 0.5
    if settings.mixup:
        share = rng.beta(settings.mixup, settings.mixup)
        params["mixup"] = share if mixed and not (settings.cutmix and pasted) else 1.0
    if settings.cutmix:
        half = side / 2 * math.sqrt(rng.beta(settings.cutmix, settings.cutmix))
        middle = rng.uniform(half, side - half, 2)
        box = np.concatenate([middle - half, middle + half])
        params["cutmix"] = box if mixed and (pasted or not settings.mixup) else np.zeros(4)
