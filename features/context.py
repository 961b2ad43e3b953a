"""Statistics of the square window around each pixel, nodata left out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["STATISTICS", "Statistic", "local_statistics"]

Plane = NDArray[np.float32]
Sums = NDArray[np.float64]


class Neighbourhood:
    """The windows of side 2 radius + 1 around every pixel of a plane; what several statistics need is kept.

    Parameters
    ----------
    plane : (H + 2 reach, W + 2 reach) float32
        NaN where there is no data.
    reach : int
        Pixels on each side that are only looked at, more than ``radius``.
    radius : int
    """

    def __init__(self, plane: Plane, reach: int, radius: int) -> None:
        self.plane, self.reach, self.radius, self.side = plane, reach, radius, 2 * radius + 1
        self.finite = np.isfinite(plane)
        self.complete = bool(self.finite.all())

    def at(self, values: NDArray[Any], down: int = 0, right: int = 0) -> NDArray[Any]:
        """Return the inner (H, W) of an array as large as the plane, or what lies some pixels from it."""
        rows, cols = (
            slice(self.reach + step, size - self.reach + step)
            for step, size in zip((down, right), values.shape, strict=True)
        )
        return values[rows, cols]

    @cached_property
    def mean(self) -> Sums:
        """Mean of the window of every pixel, those of the rim too; NaN where it holds no data."""
        return self._sum(self._filled) / self._count

    def deviation(self) -> Plane:
        """Return the standard deviation of each window."""
        count = self._count if isinstance(self._count, int) else self.at(self._count)
        mean = self.at(self.mean)
        variance = self.at(self._sum(self._filled * self._filled)) / count
        variance -= mean * mean
        return _root(np.maximum(variance, 0, out=variance))

    @cached_property
    def minimum(self) -> Plane:
        """Least value of each window."""
        return self._extreme(cv2.erode, np.inf)

    @cached_property
    def maximum(self) -> Plane:
        """Greatest value of each window."""
        return self._extreme(cv2.dilate, -np.inf)

    def median(self) -> Plane:
        """Return the median of each window; its cost grows with the window's area."""
        inner = slice(self.reach - self.radius, self.radius - self.reach)
        windows = sliding_window_view(self.plane[inner, inner], (self.side, self.side))
        # NaN sorts last, so the values of a window are the first `count`.
        ordered = np.sort(windows.reshape(*windows.shape[:2], -1), axis=-1)
        count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, ordered.shape[-1] - 1)
        middle = np.take_along_axis(ordered, low, -1) + np.take_along_axis(ordered, high, -1)
        return np.asarray(middle[..., 0] / 2, np.float32)

    def difference_of_boxes(self) -> Sums:
        """Return the mean of each window, less that of the window of twice its radius."""
        difference: Sums = self.at(self.mean) - self.at(Neighbourhood(self.plane, self.reach, 2 * self.radius).mean)
        return difference

    def gradient(self) -> Plane:
        """Return the steepness of the window's mean, per pixel, from its four neighbours; NaN where one has no data."""
        down = self.at(self.mean, down=1) - self.at(self.mean, down=-1)
        right = self.at(self.mean, right=1) - self.at(self.mean, right=-1)
        down *= down
        right *= right
        down += right
        return _root(down) / np.float32(2)

    def laplacian(self) -> Sums:
        """Return the mean of the four windows beside a window, less its own; NaN where one of them holds no data."""
        step = self.side
        beside = self.at(self.mean, down=-step) + self.at(self.mean, down=step)
        beside += self.at(self.mean, right=-step) + self.at(self.mean, right=step)
        laplacian: Sums = beside / 4 - self.at(self.mean)
        return laplacian

    def edges(self) -> Plane:
        """Return the root mean square of the pixels' gradients in each window."""
        across, along, _, count = self._tensor
        return _root((across + along) / count)

    def coherence(self) -> Sums:
        """Return how far the gradients in a window share one direction, 0 … 1; NaN where there is no gradient.

        Of the structure tensor's eigenvalues: (λ₁ - λ₂) / (λ₁ + λ₂). Source: Bigün and Granlund 1987.
        """
        across, along, both, _ = self._tensor
        difference = np.sqrt((across - along) ** 2 + 4 * both * both)
        coherence: Sums = np.minimum(difference / (across + along), 1)
        return coherence

    def distance(self) -> Plane:
        """Return the pixels to the nearest of the other kind, at most ``radius``: negative where the plane is not 0."""
        inside, outside = self.finite & (self.plane != 0), self.finite & (self.plane == 0)
        return np.where(self.at(inside), -self._distance_to(outside), self._distance_to(inside)).astype(np.float32)

    @cached_property
    def _filled(self) -> Sums:
        filled = self.plane.astype(np.float64)
        if not self.complete:
            filled[~self.finite] = 0
        return filled

    @cached_property
    def _count(self) -> Sums | int:
        # Near the edge of what is given this is too large; nobody looks at what is computed there.
        return self.side**2 if self.complete else self._sum(self.finite.astype(np.float64))

    @cached_property
    def _tensor(self) -> tuple[Sums, Sums, Sums, Sums]:
        """Sums over each window of the squared gradients, their product, and the number of them."""
        down = np.full(self.plane.shape, np.nan)
        right = down.copy()
        down[1:-1] = (self.plane[2:] - self.plane[:-2]) / 2
        right[:, 1:-1] = (self.plane[:, 2:] - self.plane[:, :-2]) / 2
        known = np.isfinite(down) & np.isfinite(right)
        down[~known] = 0
        right[~known] = 0
        products = (right * right, down * down, right * down, known.astype(np.float64))
        across, along, both, count = (self.at(self._sum(product)) for product in products)
        return across, along, both, count

    def _sum(self, values: Sums) -> Sums:
        # float64: running sums of float32 drift, and the squares of large values drown a small deviation.
        side = (self.side, self.side)
        return np.asarray(
            cv2.boxFilter(values, cv2.CV_64F, side, normalize=False, borderType=cv2.BORDER_CONSTANT), np.float64
        )

    def _extreme(self, operation: Callable[..., Any], neutral: float) -> Plane:
        filled = self.plane
        if not self.complete:
            filled = filled.copy()
            filled[~self.finite] = neutral
        kernel = np.ones((self.side, self.side), np.uint8)
        return self.at(operation(filled, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=neutral))

    def _distance_to(self, targets: NDArray[np.bool_]) -> Plane:
        distance = cv2.distanceTransform((~targets).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # Squares of distances are whole numbers; OpenCV's roots differ in the last bit from place to place.
        exact: Plane = np.sqrt(np.rint(np.minimum(self.at(distance), np.float32(self.radius + 1)) ** 2))
        return np.minimum(exact, np.float32(self.radius))


@dataclass(frozen=True)
class Statistic:
    """A statistic of the windows around each pixel.

    Parameters
    ----------
    meaning : str
        With ``{side}``, ``{radius}`` and ``{base}`` to be filled in.
    of : callable
        Takes a `Neighbourhood`, gives its inner plane (H, W).
    radii, more : int
        It looks ``radii`` times the radius and ``more`` pixels far.
    """

    meaning: str
    of: Callable[[Neighbourhood], NDArray[np.floating]]
    radii: int = 1
    more: int = 0

    def halo(self, radius: int) -> int:
        """Return the pixels around a pixel that it reads: at least radius + 1, so that most read the same."""
        return max(self.radii * radius + self.more, radius + 1)


WINDOW = "the {side} × {side} window of {base}"

STATISTICS: dict[str, Statistic] = {
    "mean": Statistic(f"mean of {WINDOW}", lambda around: around.at(around.mean)),
    "std": Statistic(f"standard deviation in {WINDOW}", Neighbourhood.deviation),
    "min": Statistic(f"least value in {WINDOW}", lambda around: around.minimum),
    "max": Statistic(f"greatest value in {WINDOW}", lambda around: around.maximum),
    "range": Statistic(f"greatest less least value in {WINDOW}", lambda around: around.maximum - around.minimum),
    "median": Statistic(f"median of {WINDOW}", Neighbourhood.median),
    "diff": Statistic(f"pixel less mean of {WINDOW}", lambda around: around.at(around.plane) - around.at(around.mean)),
    "dob": Statistic(
        f"mean of {WINDOW} less that of twice its radius: difference of boxes, nearly one of Gaussians",
        Neighbourhood.difference_of_boxes,
        radii=2,
    ),
    "gradient": Statistic(f"steepness of the mean of {WINDOW}, per pixel", Neighbourhood.gradient, more=1),
    "laplacian": Statistic(
        f"mean of the four windows beside {WINDOW}, less its own", Neighbourhood.laplacian, radii=3, more=1
    ),
    "edges": Statistic(f"root mean square of the gradients in {WINDOW}", Neighbourhood.edges, more=1),
    "coherence": Statistic(f"coherence of the gradients' directions in {WINDOW}", Neighbourhood.coherence, more=1),
    "north": Statistic(
        "{base} of the pixel {radius} rows up", lambda around: around.at(around.plane, down=-around.radius)
    ),
    "south": Statistic(
        "{base} of the pixel {radius} rows down", lambda around: around.at(around.plane, down=around.radius)
    ),
    "west": Statistic(
        "{base} of the pixel {radius} columns to the left", lambda around: around.at(around.plane, right=-around.radius)
    ),
    "east": Statistic(
        "{base} of the pixel {radius} columns to the right", lambda around: around.at(around.plane, right=around.radius)
    ),
    "distance": Statistic(
        "pixels to the edge of where {base} is not 0, at most {radius}, negative inside", Neighbourhood.distance
    ),
}
"""Statistics by the name that they have in features."""


def local_statistics(plane: Plane, halo: int, radius: int, names: Iterable[str]) -> dict[str, Plane]:
    """Compute statistics of the windows around every pixel.

    Parameters
    ----------
    plane : (H + 2 halo, W + 2 halo) float32
        NaN where there is no data.
    halo : int
        Pixels on each side that are only looked at; at least the statistics' own.
    radius : int
        Windows are squares of side 2 radius + 1.
    names : iterable of str
        Keys of `STATISTICS`.

    Returns
    -------
    planes : dict of (H, W) float32
        NaN where a window holds no data, never infinite. The same bits whatever other statistics are asked for.
    """
    planes = {}
    # Sums run on from the edge of what they are given, so their last bits depend on where that edge is.
    shared: dict[int, Neighbourhood] = {}
    for name in names:
        reach = STATISTICS[name].halo(radius)
        if reach not in shared:
            inner = slice(halo - reach, reach - halo or None)
            shared[reach] = Neighbourhood(plane[inner, inner], reach, radius)
        with np.errstate(all="ignore"):
            values = STATISTICS[name].of(shared[reach]).astype(np.float32)
        empty = ~np.isfinite(values)
        if empty.any():
            values[empty] = np.nan
        planes[name] = values
    return planes


def _root(squares: Sums) -> Plane:
    """Return square roots in float32, which are four times as fast; what is not finite there is an overflow."""
    narrow: Plane = squares.astype(np.float32)
    return np.sqrt(narrow, out=narrow)
