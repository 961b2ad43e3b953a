"""Scales that numbers are drawn on."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Axis", "minus"]


@dataclass(frozen=True)
class Axis:
    """A scale that scores are drawn on.

    Parameters
    ----------
    low, high : float
    ticks : tuple of (position in percent, text)
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def spanning(cls, values: Iterable[float]) -> "Axis":
        """Return a scale over some values, with two to five round ticks."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        margin = (high - low) * 0.04 or 0.01
        low, high = low - margin, high + margin
        span = high - low
        step = next(
            size * 10.0**power for power in range(-6, 2) for size in (1, 2, 5) if span / (size * 10.0**power) <= 4
        )
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        ticks = tuple(
            (round(100 * (number * step - low) / span, 2), minus(f"{number * step + 0.0:.{digits}f}"))
            for number in range(first, last + 1)
        )
        return cls(low, high, ticks)

    def place(self, value: float) -> float:
        """Return where a value lies, in percent."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def minus(text: str) -> str:
    """Write negative numbers with a minus sign instead of a hyphen."""
    return re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", text)
