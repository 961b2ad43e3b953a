"""Statistics of the square window around each pixel, nodata left out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["STATISTICS", "Statistic", "Surroundings", "local_statistics"]

Plane = NDArray[np.float32]
Sums = NDArray[np.float64]


class Surroundings:
    """A plane with all that is around it; what the windows of several radii and statistics need is kept.

    Parameters
    ----------
    plane : (H + 2 halo, W + 2 halo) float32
        NaN where there is no data.
    halo : int
        Pixels on each side that are only looked at.
    """

    def __init__(self, plane: Plane, halo: int) -> None:
        self.plane, self.halo = plane, halo
        self.finite = np.isfinite(plane)

    def within(self, values: NDArray[Any], reach: int) -> NDArray[Any]:
        """Return the part of an array as large as the plane that has ``reach`` pixels on each side."""
        inner = slice(self.halo - reach, reach - self.halo or None)
        return values[inner, inner]

    @cached_property
    def filled(self) -> Plane:
        """The plane with 0 in place of NaN."""
        return np.where(self.finite, self.plane, np.float32(0))

    @cached_property
    def products(self) -> tuple[Plane, Plane, Plane, NDArray[np.uint8]]:
        """The squared gradients across and along, their product, and where they are known: else they are 0."""
        plane, zeros = self.plane, np.zeros_like(self.plane)
        down, right = zeros, zeros.copy()
        np.subtract(plane[2:], plane[:-2], out=down[1:-1])
        np.subtract(plane[:, 2:], plane[:, :-2], out=right[:, 1:-1])
        down *= np.float32(0.5)
        right *= np.float32(0.5)
        known = np.isfinite(down + right)
        if not known.all():
            down[~known] = 0
            right[~known] = 0
        return right * right, down * down, right * down, known.view(np.uint8)


class Neighbourhood:
    """The windows of side 2 radius + 1 around every pixel of a plane; what several statistics need is kept.

    Parameters
    ----------
    around : Surroundings
    reach : int
        Pixels on each side that are looked at, more than ``radius``: sums run on from there, so their last bits depend
        on it.
    radius : int
    """

    def __init__(self, around: Surroundings, reach: int, radius: int) -> None:
        self.around, self.reach, self.radius, self.side = around, reach, radius, 2 * radius + 1
        self.plane, self.finite = around.within(around.plane, reach), around.within(around.finite, reach)

    @cached_property
    def complete(self) -> bool:
        """Whether there is data everywhere."""
        return bool(self.finite.all())

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
        mean = self._sum(self.around.filled, self.reach)
        mean /= self._count
        return mean

    def deviation(self) -> Plane:
        """Return the standard deviation of each window."""
        count = self._count if isinstance(self._count, int) else self.at(self._count)
        mean = self.at(self.mean)
        # In float64: the squares of large values drown a small deviation.
        side = (self.side, self.side)
        filled = self.around.within(self.around.filled, self.reach)
        squares = cv2.sqrBoxFilter(filled, cv2.CV_64F, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
        variance = self.at(np.asarray(squares, np.float64)) / count
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
        difference: Sums = self.at(self.mean) - self.at(Neighbourhood(self.around, self.reach, 2 * self.radius).mean)
        return difference

    def gradient(self) -> Plane:
        """Return the steepness of the window's mean, per pixel, from its four neighbours; NaN where one has no data."""
        down, right = np.empty((2, *self.at(self.mean).shape), np.float32)
        np.subtract(self.at(self.mean, down=1), self.at(self.mean, down=-1), out=down, casting="same_kind")
        np.subtract(self.at(self.mean, right=1), self.at(self.mean, right=-1), out=right, casting="same_kind")
        down *= down
        right *= right
        down += right
        down *= np.float32(0.25)
        steepness: Plane = np.sqrt(down, out=down)
        return steepness

    def laplacian(self) -> Sums:
        """Return the mean of the four windows beside a window, less its own; NaN where one of them holds no data."""
        step = self.side
        beside: Sums = self.at(self.mean, down=-step) + self.at(self.mean, down=step)
        beside += self.at(self.mean, right=-step) + self.at(self.mean, right=step)
        beside /= 4
        beside -= self.at(self.mean)
        return beside

    def edges(self) -> Plane:
        """Return the root mean square of the pixels' gradients in each window."""
        across, along, _, count = self._tensor
        edges: Plane = across + along
        edges /= count
        return np.sqrt(edges, out=edges)

    def coherence(self) -> Plane:
        """Return how far the gradients in a window share one direction, 0 … 1; NaN where there is no gradient.

        Of the structure tensor's eigenvalues: (λ₁ - λ₂) / (λ₁ + λ₂). Source: Bigün and Granlund 1987.
        """
        across, along, both, _ = self._tensor
        coherence: Plane = across - along
        coherence *= coherence
        twice = both + both
        twice *= twice
        coherence += twice
        np.sqrt(coherence, out=coherence)
        coherence /= across + along
        return np.minimum(coherence, 1, out=coherence)

    def distance(self) -> Plane:
        """Return the pixels to the nearest of the other kind, at most ``radius``: negative where the plane is not 0."""
        inside, outside = self.finite & (self.plane != 0), self.finite & (self.plane == 0)
        return np.where(self.at(inside), -self._distance_to(outside), self._distance_to(inside)).astype(np.float32)

    @cached_property
    def _count(self) -> NDArray[np.int32] | int:
        # Near the edge of what is given this is too large; nobody looks at what is computed there.
        return self.side**2 if self.complete else self._number(self.around.finite.view(np.uint8), self.reach)

    @cached_property
    def _tensor(self) -> tuple[Plane, Plane, Plane, NDArray[np.float32] | np.float32]:
        """Sums over each window of the squared gradients, their product, and the number of them."""
        *products, known = self.around.products
        radius = self.radius
        inner = slice(radius, -radius)
        across, along, both = (self._sum(product, radius)[inner, inner].astype(np.float32) for product in products)
        if self.complete:
            return across, along, both, np.float32(self.side**2)
        return across, along, both, self._number(known, radius)[inner, inner].astype(np.float32)

    def _sum(self, values: Plane, reach: int) -> Sums:
        """Sum the windows in a part of an array as large as the surroundings, in float64: sums that run on drift."""
        return np.asarray(self._box(values, reach, cv2.CV_64F), np.float64)

    def _number(self, flags: NDArray[np.uint8], reach: int) -> NDArray[np.int32]:
        return np.asarray(self._box(flags, reach, cv2.CV_32S), np.int32)

    def _box(self, values: NDArray[Any], reach: int, kind: int) -> Any:
        part, side = self.around.within(values, reach), (self.side, self.side)
        return cv2.boxFilter(part, kind, side, normalize=False, borderType=cv2.BORDER_CONSTANT)

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


def local_statistics(around: Surroundings, radius: int, names: Iterable[str]) -> dict[str, Plane]:
    """Compute statistics of the windows around every pixel.

    Parameters
    ----------
    around : Surroundings
        With at least the statistics' own halo.
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
    shared: dict[int, Neighbourhood] = {}
    for name in names:
        reach = STATISTICS[name].halo(radius)
        if reach not in shared:
            shared[reach] = Neighbourhood(around, reach, radius)
        with np.errstate(all="ignore"):
            values = STATISTICS[name].of(shared[reach]).astype(np.float32)
        finite = np.isfinite(values)
        if not finite.all():
            values[~finite] = np.nan
        planes[name] = values
    return planes


def _root(squares: Sums) -> Plane:
    """Return square roots in float32, which are four times as fast; what is not finite there is an overflow."""
    narrow: Plane = squares.astype(np.float32)
    return np.sqrt(narrow, out=narrow)
