"""What surrounds a pixel: local statistics in square windows, in which nodata counts for nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["STATISTICS", "Statistic", "local_statistics"]

Plane = NDArray[np.float32]
Sums = NDArray[np.float64]


class Neighbourhood:
    """The windows of side 2 radius + 1 around every pixel of a plane; what several statistics need is kept.

    Parameters
    ----------
    plane : (H, W) float32
        NaN where there is no data. Beyond its edge there is none either.
    radius : int
    """

    def __init__(self, plane: Plane, radius: int) -> None:
        self.plane = plane
        self.side = 2 * radius + 1
        self.finite = np.isfinite(plane)
        self.filled = np.where(self.finite, plane, np.float32(0)).astype(np.float64)

    @cached_property
    def count(self) -> Sums:
        """Finite pixels in each window."""
        return self._sum(self.finite.astype(np.float32))

    @cached_property
    def mean(self) -> Sums:
        """Mean of each window, NaN where it holds no data."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: Sums = self._sum(self.filled) / self.count
        return mean

    def deviation(self) -> Sums:
        """Standard deviation of each window."""
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = self._sum(self.filled**2) / self.count - self.mean**2
        deviation: Sums = np.sqrt(np.maximum(variance, 0))
        return deviation

    def minimum(self) -> Plane:
        """Least value of each window."""
        return self._extreme(cv2.erode, np.inf)

    def maximum(self) -> Plane:
        """Greatest value of each window."""
        return self._extreme(cv2.dilate, -np.inf)

    def gradient(self) -> Sums:
        """Steepness of the local mean, per pixel, from its four neighbours; NaN where one has no data."""
        padded = np.pad(self.mean, 1, constant_values=np.nan)
        down, right = padded[2:, 1:-1] - padded[:-2, 1:-1], padded[1:-1, 2:] - padded[1:-1, :-2]
        steepness: Sums = np.hypot(down, right) / 2
        return steepness

    def _sum(self, values: NDArray[np.floating]) -> Sums:
        # float64: running sums of float32 drift, and the squares of large values drown a small deviation.
        side = (self.side, self.side)
        return np.asarray(
            cv2.boxFilter(values, cv2.CV_64F, side, normalize=False, borderType=cv2.BORDER_CONSTANT), np.float64
        )

    def _extreme(self, operation: Callable[..., Any], neutral: float) -> Plane:
        filled = np.where(self.finite, self.plane, np.float32(neutral))
        kernel = np.ones((self.side, self.side), np.uint8)
        extreme: Plane = operation(filled, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=neutral)
        return extreme


@dataclass(frozen=True)
class Statistic:
    """A statistic of the windows around each pixel.

    Parameters
    ----------
    meaning : str
    reach : int
        Pixels beyond the radius that it looks at.
    of : callable
        Takes a `Neighbourhood`, gives a plane of its size.
    """

    meaning: str
    reach: int
    of: Callable[[Neighbourhood], NDArray[np.floating]]


STATISTICS: dict[str, Statistic] = {
    "mean": Statistic("mean of the window", 0, lambda around: around.mean),
    "std": Statistic("standard deviation in the window", 0, Neighbourhood.deviation),
    "min": Statistic("least value in the window", 0, Neighbourhood.minimum),
    "max": Statistic("greatest value in the window", 0, Neighbourhood.maximum),
    "range": Statistic("greatest less least value", 0, lambda around: around.maximum() - around.minimum()),
    "diff": Statistic("pixel less the window's mean", 0, lambda around: around.plane - around.mean),
    "gradient": Statistic("steepness of the window's mean, per pixel", 1, Neighbourhood.gradient),
}
"""What can be known of a pixel's surroundings, by the name it has in features."""


def local_statistics(plane: Plane, radius: int, names: Iterable[str]) -> dict[str, Plane]:
    """Compute statistics of the windows around every pixel.

    Parameters
    ----------
    plane : (H, W) float32
        NaN where there is no data.
    radius : int
        Windows are squares of side 2 radius + 1.
    names : iterable of str
        Keys of `STATISTICS`.

    Returns
    -------
    planes : dict of (H, W) float32
        NaN where a window holds no data, never infinite.
    """
    around = Neighbourhood(plane, radius)
    planes = {}
    for name in names:
        with np.errstate(invalid="ignore"):
            values = STATISTICS[name].of(around).astype(np.float32)
        values[~np.isfinite(values)] = np.nan
        planes[name] = values
    return planes
