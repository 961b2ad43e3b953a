"""Resize scenes for the network, and its maps back to the scenes' own size.

Squares are resized as whole: the corners of the first and of the last pixel stay where they are. What is shrunk is
smoothed first, so that no pixel is skipped.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["resize_channels", "resize_label", "resize_proba", "scene_side"]


def scene_side(side: int, resize: float) -> int:
    """Return the side, in pixels of the scene, of a square that is ``side`` pixels for the network."""
    return max(1, round(side / resize))


def resize_channels(channels: Tensor, height: int, width: int) -> Tensor:
    """Resize channels (N, C, h, w), NaN where there is no data, by bicubic interpolation of what data there is.

    A pixel has data if the nearest one of the original has.
    """
    if channels.shape[-2:] == (height, width):
        return channels
    nearest = interpolate(channels, (height, width), mode="nearest-exact")
    known = ~channels.isnan()
    total, weight = (
        interpolate(values, (height, width), mode="bicubic", antialias=True)
        for values in (torch.where(known, channels, 0), known.float())
    )
    # Next to nodata the weights that are left may nearly cancel: a bicubic kernel has negative ones.
    smooth = torch.where(weight > 0.25, total / weight.clamp(min=0.25), nearest)
    return torch.where(nearest.isnan(), nearest, smooth)


def resize_label(label: Tensor, height: int, width: int) -> Tensor:
    """Resize label indices (N, H, W) uint8: each pixel takes that of the nearest."""
    if label.shape[-2:] == (height, width):
        return label
    return interpolate(label[:, None], (height, width), mode="nearest-exact")[:, 0]


def resize_proba(proba: Tensor, height: int, width: int) -> Tensor:
    """Resize probabilities (N, K, h, w) bilinearly: they stay in [0, 1] and add up to what they did."""
    if proba.shape[-2:] == (height, width):
        return proba
    return interpolate(proba, (height, width), mode="bilinear", antialias=True)
