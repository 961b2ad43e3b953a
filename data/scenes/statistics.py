"""Mean, deviation and range of pixels in one pass, merged over scenes."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]


@dataclass(frozen=True)
class Moments:
    """Moments of C channels over the pixels seen; NaN pixels are not counted.

    Parameters
    ----------
    count : (C,) int64
    mean : (C,) float64
        0 where nothing was counted.
    m2 : (C,) float64
        Sum of squared differences from the mean.
    minimum, maximum : (C,) float64
        +inf and -inf where nothing was counted.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]

    @classmethod
    def empty(cls, channels: int) -> Self:
        """Return the moments of no pixels."""
        zeros = np.zeros(channels)
        return cls(np.zeros(channels, np.int64), zeros, zeros, np.full(channels, np.inf), np.full(channels, -np.inf))

    @classmethod
    def of(cls, pixels: NDArray[np.float32]) -> Self:
        """Return the moments of an array (C, …)."""
        flat = pixels.reshape(len(pixels), -1)
        finite = np.isfinite(flat)
        count = finite.sum(axis=1)
        some = np.maximum(count, 1)
        mean = np.where(finite, flat, 0).sum(axis=1, dtype=np.float64) / some
        # Squares of differences from the mean, in float64: sums of plain squares lose the small spread of large values.
        m2 = (np.where(finite, flat - mean[:, None], 0.0) ** 2).sum(axis=1)
        minimum = np.where(finite, flat, np.inf).min(axis=1, initial=np.inf)
        maximum = np.where(finite, flat, -np.inf).max(axis=1, initial=-np.inf)
        return cls(count, mean, m2, minimum.astype(np.float64), maximum.astype(np.float64))

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of pixels (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        some = np.maximum(count, 1)
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / some)
        m2 = self.m2 + other.m2 + step**2 * (self.count * (other.count / some))
        minimum, maximum = np.minimum(self.minimum, other.minimum), np.maximum(self.maximum, other.maximum)
        return Moments(count, mean, m2, minimum, maximum)

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation of each channel (C,), 0 where nothing was counted."""
        return np.sqrt(self.m2 / np.maximum(self.count, 1))

    def to_dict(self) -> dict[str, list[float]]:
        """Return plain lists for JSON."""
        return {name: getattr(self, name).tolist() for name in ("count", "mean", "m2", "minimum", "maximum")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the moments that `to_dict` wrote."""
        rest = (np.array(values[name], np.float64) for name in ("mean", "m2", "minimum", "maximum"))
        return cls(np.array(values["count"], np.int64), *rest)
