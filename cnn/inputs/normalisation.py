"""Normalise input channels by the statistics of the training scenes, or of each scene by itself."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cnn.inputs.settings import NormaliseSettings
from data.errors import MemberError
from data.names import named_weights
from data.scenes.statistics import Moments

__all__ = ["Normalisation", "Spread", "fit_normalisation"]

LARGEST = 1e30
"""Of what float32 holds, with room to compute."""

SHARES = np.linspace(0, 1, 257)


@dataclass(frozen=True)
class Spread:
    """Statistics of the values of C channels over the pixels of a scene.

    Parameters
    ----------
    moments : Moments
    quantiles : (C, 257) float32
        At shares 0, 1/256 … 1 of the pixels, NaN where there are none.
    """

    moments: Moments
    quantiles: NDArray[np.float32]

    @classmethod
    def of(cls, moments: Iterable[Moments], pixels: NDArray[np.float32]) -> Self:
        """Return the spread of a scene.

        Parameters
        ----------
        moments : iterable of Moments
            Of its parts.
        pixels : (C, n) float32
            Some of its pixels, evenly spread, NaN where there is no data; none if no quantiles are asked for.
        """
        merged = Moments.empty(len(pixels))
        for part in moments:
            merged = merged.merge(part)
        quantiles = np.full((len(pixels), len(SHARES)), np.nan, np.float32)
        for channel, values in zip(pixels, quantiles, strict=True):
            known = np.sort(channel[np.isfinite(channel)])
            if len(known):
                values[:] = np.interp(SHARES * (len(known) - 1), np.arange(len(known)), known)
        return cls(merged, quantiles)


@dataclass(frozen=True)
class Normalisation:
    """The scaling of C input channels: (value - offset) / scale, clipped at ± clip."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]
    clip: float | None = None

    def rescale(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the channels (C, H, W) float32 on their new scale, NaN where there is no data."""
        factor = (1 / np.array(self.scale)).astype(np.float32)[:, None, None]
        normal = channels - np.array(self.offset, np.float32)[:, None, None]
        normal *= factor
        return normal if self.clip is None else normal.clip(-self.clip, self.clip)

    def apply(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the channels (C, H, W) float32 on their new scale, 0 where there is no data."""
        normal = self.rescale(channels)
        normal[np.isnan(normal)] = 0
        return normal

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], n_channels: int) -> Self:
        """Return the normalisation that `dataclasses.asdict` turned into plain values; ValueError if it is none."""
        offset, scale, clip = tuple(map(float, values["offset"])), tuple(map(float, values["scale"])), values["clip"]
        numbers = [*offset, *scale, 1.0 if clip is None else float(clip)]
        if not len(offset) == len(scale) == n_channels or not all(scale) or not np.abs(numbers).max() < LARGEST:
            raise ValueError(f"expected an offset and a scale of each of {n_channels} channels")
        return cls(offset, scale, None if clip is None else float(clip))


def fit_normalisation(
    settings: NormaliseSettings,
    spreads: Sequence[Spread],
    names: Sequence[str],
    learned: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> Normalisation:
    """Fit a normalisation to some scenes; a constant channel becomes 0.

    Parameters
    ----------
    settings : NormaliseSettings
    spreads : sequence of Spread
        Of the scenes, at least one.
    names : sequence of str
        Of the channels.
    learned : mapping of str to (float, float)
        Offset and scale that pretrained weights were learned with, by channel.

    Raises
    ------
    MemberError
        If a channel has no valid pixel in all of the training scenes, or a scale is given to an unknown channel.
    """
    moments = spreads[0].moments
    for spread in spreads[1:]:
        moments = moments.merge(spread.moments)
    known = moments.count > 0
    empty = [name for name, some in zip(names, known, strict=True) if not some]
    if empty and not settings.per_scene:
        raise MemberError(
            f"inputs: expected training scenes with data in each of them, got none in {', '.join(empty)}. "
            "Leave them out of inputs, or check scenes.nodata."
        )
    given = settings.scale if isinstance(settings.scale, dict) else dict.fromkeys(names, settings.scale)
    divisors = named_weights("normalise.scale", given, names, [1.0] * len(names))
    if settings.by == "fixed":
        return Normalisation((0.0,) * len(names), divisors, settings.clip)
    if settings.by in ("zscore", "pretrained"):
        offset, scale = moments.mean, moments.deviation
    else:
        shares = (settings.low, settings.high)
        ends = (moments.minimum, moments.maximum) if settings.by == "minmax" else _pooled_quantiles(spreads, shares)
        low, high = (np.where(known, end, 0.0) for end in ends)
        offset, scale = (low + high) / 2, (high - low) / 2
    scale = np.where(scale > 0, scale, 1.0)
    if settings.by == "pretrained":
        for place, (name, divisor) in enumerate(zip(names, divisors, strict=True)):
            if name in learned:
                offset[place], scale[place] = (value * divisor for value in learned[name])
    return Normalisation(tuple(offset.tolist()), tuple(scale.tolist()), settings.clip)


def _pooled_quantiles(spreads: Sequence[Spread], shares: tuple[float, float]) -> NDArray[np.float64]:
    """Return quantiles (2, C) of the pixels of all scenes together, NaN of channels without any.

    Each interval between two neighbouring quantiles of a scene holds 1/256 of its pixels; half of them count for
    either end. That is exact at these quantiles of a single scene, and to within 1/256 of the pixels else.
    """
    within = np.ones(len(SHARES)) / (len(SHARES) - 1)
    within[[0, -1]] /= 2
    pooled = np.full((2, len(spreads[0].quantiles)), np.nan)
    for channel in range(pooled.shape[1]):
        some = [spread for spread in spreads if spread.moments.count[channel]]
        if some:
            values = np.concatenate([spread.quantiles[channel] for spread in some])
            pixels = np.concatenate([spread.moments.count[channel] * within for spread in some])
            order = np.argsort(values, kind="stable")
            below = np.cumsum(pixels[order]) - pixels[order] / 2
            pooled[:, channel] = np.interp(np.array(shares) * pixels.sum(), below, values[order])
    return pooled
