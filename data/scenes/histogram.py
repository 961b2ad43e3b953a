"""Histograms of bands in one pass, before the range of the values is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram", "ValueCounts", "bin_histogram"]

KEYS = 2**16
"""Values are told apart by the upper half of their 32 bits: by sign, power of two and a 128th of it."""

BINS = 48

TAIL = 0.005
"""Share of a split's pixels at either end that may lie outside the bins, so that a few odd values hide no shape."""


def _key_bounds() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the keys of finite values in rising order, and the bounds (n_keys + 1,) between their values."""
    positive = np.arange(0x7F80)
    upper = (np.arange(0x7F81, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    upper[-1] = 2.0**128
    return np.concatenate([positive[::-1] + 0x8000, positive]), np.concatenate([-upper[:0:-1], upper])


ORDER, BOUNDS = _key_bounds()


@dataclass(frozen=True)
class ValueCounts:
    """How often each value occurs in C channels.

    Parameters
    ----------
    keys : tuple of (n,) uint16
        The upper half of the bits of float32 values that occur, for each channel.
    counts : tuple of (n,) int64
        How many values have each key.
    """

    keys: tuple[NDArray[np.uint16], ...]
    counts: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, pixels: NDArray[np.float32]) -> Self:
        """Count the pixels of an array (C, …); what is not finite is left out."""
        keys, counts = [], []
        for plane in pixels:
            bits = np.ascontiguousarray(plane).reshape(-1).view(np.uint32) >> 16
            found = np.bincount(bits, minlength=KEYS)
            found[0x7F80:0x8000] = found[0xFF80:] = 0
            seen = np.flatnonzero(found)
            keys.append(seen.astype(np.uint16))
            counts.append(found[seen])
        return cls(tuple(keys), tuple(counts))

    @classmethod
    def empty(cls, channels: int) -> Self:
        """Return the counts of no pixels."""
        return cls((np.empty(0, np.uint16),) * channels, (np.empty(0, np.int64),) * channels)

    def merge(self, other: "ValueCounts") -> "ValueCounts":
        """Return the counts of both sets of pixels."""
        total = np.zeros((len(self.keys), KEYS), np.int64)
        self.add_to(total)
        other.add_to(total)
        seen = [np.flatnonzero(row) for row in total]
        counts = tuple(row[keys] for row, keys in zip(total, seen, strict=True))
        return ValueCounts(tuple(keys.astype(np.uint16) for keys in seen), counts)

    def add_to(self, total: NDArray[np.int64]) -> None:
        """Add the counts to those of others, (C, `KEYS`)."""
        for row, keys, counts in zip(total, self.keys, self.counts, strict=True):
            row[keys] += counts


@dataclass(frozen=True)
class Histogram:
    """How the values of a band are spread in each split, in bins that the splits share.

    Parameters
    ----------
    band : str
    edges : tuple of float
        Of bins of one width, rising.
    shares : mapping
        Split → share of its finite pixels below the first edge, in each bin, and from the last edge on; splits
        without such pixels are left out.
    """

    band: str
    edges: tuple[float, ...]
    shares: Mapping[str, tuple[float, ...]]

    def overlap(self, first: str, second: str) -> float:
        """Return how far two splits' histograms overlap, 0 … 1: one minus the total variation distance."""
        return float(np.minimum(self.shares[first], self.shares[second]).sum())


def bin_histogram(band: str, totals: Mapping[str, NDArray[np.int64]]) -> Histogram | None:
    """Bin the counts of a band's values, over the range that nearly all pixels of every split lie in.

    A key's pixels are spread evenly over its values. Where only whole numbers occur, as in 8-bit images, bins hold
    equally many of them.

    Parameters
    ----------
    band : str
    totals : mapping
        Split → counts (`KEYS`,) int64.

    Returns
    -------
    histogram : Histogram or None
        None where no split has a finite pixel.
    """
    counts = {split: total[ORDER] for split, total in totals.items() if total.any()}
    if not counts:
        return None
    occupied = np.flatnonzero(np.sum([*counts.values()], axis=0))
    # Of values up to 256 a key tells whole numbers exactly; a negative key's value lies at its upper bound.
    values = np.where(BOUNDS[:-1] < 0, BOUNDS[1:], BOUNDS[:-1])[occupied]
    whole = bool((np.abs(values) <= 256).all() and (values == np.rint(values)).all())
    middles = [np.searchsorted(np.cumsum(count), np.array([TAIL, 1 - TAIL]) * count.sum()) for count in counts.values()]
    first, last = min(low for low, _ in middles), max(high for _, high in middles)
    if first == last:
        first, last = occupied[0], occupied[-1]
    if whole:
        low, high = (float(values[np.searchsorted(occupied, place)]) for place in (first, last))
        step = -(-(high - low + 1) // BINS)
        edges = np.arange(low - 0.5, high + step, step)
        places = [np.histogram(values, edges, weights=count[occupied])[0] for count in counts.values()]
        below = [count[occupied][values < edges[0]].sum() for count in counts.values()]
    else:
        edges = np.linspace(BOUNDS[first], BOUNDS[last + 1], BINS + 1)
        rising = [np.interp(edges, BOUNDS, np.concatenate([[0], np.cumsum(count)])) for count in counts.values()]
        places, below = [np.diff(below) for below in rising], [below[0] for below in rising]
    shares = {
        split: _shares(under, inside, int(counts[split].sum()))
        for split, under, inside in zip(counts, below, places, strict=True)
    }
    return Histogram(band, tuple(edges.tolist()), shares)


def _shares(below: float, inside: NDArray[np.float64], total: int) -> tuple[float, ...]:
    inner: Sequence[float] = (np.asarray(inside, np.float64) / total).tolist()
    under = float(below) / total
    return under, *inner, max(0.0, 1 - under - sum(inner))
