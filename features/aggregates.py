"""Aggregates of a scene's pixels: one number for all of them, nodata left out."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data.errors import FeatureError

__all__ = ["AGGREGATES", "QUANTILE", "Aggregate", "Sample", "find_aggregate", "histogram_names", "split_name"]

NUMBER = r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]\d+)?"
QUANTILE = re.compile(r"q(\d\d)")
BIN = re.compile(rf"(?:from_(?P<low>{NUMBER}))?_?(?:below_(?P<high>{NUMBER}))?")


class Sample:
    """The values that a feature has at the pixels of a scene; what several aggregates need is kept.

    Parameters
    ----------
    values : (n,) float32
        NaN where there is none; those are not counted.
    """

    def __init__(self, values: NDArray[np.float32]) -> None:
        known = np.isfinite(values)
        self.values = values if known.all() else values[known]

    def mean(self) -> float:
        """Return the mean of the values."""
        return float(self.values.mean(dtype=np.float64))

    def deviation(self) -> float:
        """Return the standard deviation of the values."""
        return float(self.values.std(dtype=np.float64))

    def energy(self) -> float:
        """Return the mean of the squared values."""
        return float(np.square(self.values, dtype=np.float64).mean())

    def quantile(self, share: float) -> float:
        """Return the quantile of a share, interpolated between values."""
        place = share * (len(self.values) - 1)
        low = int(place)
        below, above = self._ordered[low : low + 2][[0, -1]].astype(np.float64)
        return float(below + (above - below) * (place - low))

    def share(self, low: float, high: float) -> float:
        """Return the share of the values from ``low`` up to, but not including, ``high``."""
        # Of its own kind: else numpy turns all values into doubles to find one among them.
        start, stop = np.searchsorted(self._ordered, np.array([low, high], np.float32))
        return float(stop - start) / len(self.values)

    @cached_property
    def _ordered(self) -> NDArray[np.float32]:
        return np.sort(self.values)


@dataclass(frozen=True)
class Aggregate:
    """A number computed from all values of a feature.

    Parameters
    ----------
    meaning : str
        With ``{of}`` to be filled in.
    of : callable
        Takes a `Sample` that holds at least one value.
    has_unit : bool
        Whether it is in the unit of the values.
    """

    meaning: str
    of: Callable[[Sample], float]
    has_unit: bool = True

    def __call__(self, sample: Sample) -> float:
        """Return the number; NaN if there is no value."""
        return self.of(sample) if len(sample.values) else np.nan


AGGREGATES: dict[str, Aggregate] = {
    "mean": Aggregate("mean of {of}", Sample.mean),
    "std": Aggregate("standard deviation of {of}", Sample.deviation),
    "min": Aggregate("least {of}", lambda sample: sample.quantile(0)),
    "max": Aggregate("greatest {of}", lambda sample: sample.quantile(1)),
    "energy": Aggregate("mean square of {of}", Sample.energy, has_unit=False),
}
"""Aggregates that have a name; there are also quantiles, ``q05``, and bins of a histogram, ``from_0.1_below_0.3``."""

NAME = re.compile(
    rf"(?P<of>.+?)_(?P<aggregate>{'|'.join(AGGREGATES)}|{QUANTILE.pattern}"
    rf"|from_{NUMBER}(?:_below_{NUMBER})?|below_{NUMBER})"
)


def split_name(name: str) -> tuple[str, str] | None:
    """Return what is aggregated, and how, from the name of a scene's feature; None if it is no such name.

    >>> split_name("NDVI_std_r3_mean"), split_name("red_from_35_below_80")
    (('NDVI_std_r3', 'mean'), ('red', 'from_35_below_80'))
    """
    match = NAME.fullmatch(name)
    return None if match is None else (match["of"], match["aggregate"])


def find_aggregate(name: str) -> Aggregate:
    """Return the aggregate of a name; raises FeatureError if there is none."""
    if name in AGGREGATES:
        return AGGREGATES[name]
    if match := QUANTILE.fullmatch(name):
        share = int(match[1]) / 100
        return Aggregate(f"value that {share:.0%} of {{of}} lie below", lambda sample: sample.quantile(share))
    match = BIN.fullmatch(name)
    if match is None or not name:
        raise FeatureError(
            f"aggregate {name}: expected one of {', '.join(AGGREGATES)}, a quantile such as q05, or a bin such as "
            f"from_0.1_below_0.3, got {name}."
        )
    low, high = float(match["low"] or -np.inf), float(match["high"] or np.inf)
    if not low < high:
        raise FeatureError(f"aggregate {name}: expected a bin from a number below a greater one, got {low} and {high}.")
    bounds = " to ".join(f"{how} {match[end]}" for how, end in (("from", "low"), ("below", "high")) if match[end])
    return Aggregate(f"share of {{of}} {bounds}", lambda sample: sample.share(low, high), has_unit=False)


def histogram_names(edges: Sequence[float]) -> list[str]:
    """Return the names of the bins between rising edges, with one more on either side; none without an edge.

    >>> histogram_names([0.1, 35])
    ['below_0.1', 'from_0.1_below_35', 'from_35']
    """
    if not edges:
        return []
    # As many digits as pixels have.
    marks = [f"{edge:.9g}" for edge in edges]
    between = [f"from_{low}_below_{high}" for low, high in pairwise(marks)]
    return [f"below_{marks[0]}", *between, f"from_{marks[-1]}"]
