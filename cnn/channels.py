"""Input planes: named features of a scene, normalised by what the training scenes look like."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.scene import Scene
from data.statistics import Moments
from data.windows import Window
from features.feature_set import FeatureSet

__all__ = ["Normalisation", "default_inputs", "merge_moments", "read_channels"]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of C input planes over the valid pixels of some scenes."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def from_moments(cls, moments: Moments, names: Sequence[str]) -> Self:
        """Return the normalisation that gives each plane mean 0 and deviation 1; a constant plane becomes 0.

        Raises
        ------
        MemberError
            If a plane has no valid pixel at all.
        """
        empty = [name for name, count in zip(names, moments.count, strict=True) if count == 0]
        if empty:
            raise MemberError(
                f"inputs: expected training scenes with data in each of them, got none in {', '.join(empty)}. "
                "Leave them out of inputs, or check scenes.nodata."
            )
        deviation = np.where(moments.deviation > 0, moments.deviation, 1.0)
        return cls(tuple(moments.mean.tolist()), tuple(deviation.tolist()))

    def apply(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the normalised planes (C, H, W) float32, 0 (the mean) where there is no data."""
        mean = np.array(self.mean, np.float32)[:, None, None]
        scale = (1 / np.array(self.deviation)).astype(np.float32)[:, None, None]
        normal = channels - mean
        normal *= scale
        normal[np.isnan(normal)] = 0
        return normal

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the normalisation that `dataclasses.asdict` turned into plain values."""
        return cls(tuple(values["mean"]), tuple(values["deviation"]))


def default_inputs(bands: Sequence[str], scenes: Iterable[Scene]) -> tuple[str, ...]:
    """Return the bands that are no mask in any of the scenes: those that a pixel's look consists of."""
    masks = {band for scene in scenes for band, _ in scene.invalid}
    return tuple(band for band in bands if band not in masks)


def merge_moments(moments: Iterable[Moments], channels: int) -> Moments:
    """Return the moments of several scenes together."""
    merged = Moments.empty(channels)
    for one in moments:
        merged = merged.merge(one)
    return merged


def read_channels(
    feature_set: FeatureSet, scene: Scene, window: Window | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read the input planes of a window and where it is valid.

    Returns
    -------
    channels : (C, height, width) float32
        Not normalised, NaN where there is no data.
    valid : (height, width) bool
    """
    opened = feature_set.open(scene)
    return opened.compute(window), opened.valid(window)
