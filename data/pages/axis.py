"""Scales of plots."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from data.pages.numbers import format_count, format_number, format_short

__all__ = ["Axis"]

MILLION = 1e6


@dataclass(frozen=True)
class Axis:
    """A linear scale with ticks.

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
        margin = (high - low) * 0.04 or max(0.01, abs(high) / 1000)
        low, high = low - margin, high + margin
        span = high - low
        least = math.floor(math.log10(span)) - 1
        step = next(
            size * 10.0**power
            for power in range(least, least + 3)
            for size in (1, 2, 5)
            if span / (size * 10.0**power) <= 4
        )
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        round_values = [place * step + 0.0 for place in range(first, last + 1)]
        plain = format_short if step >= MILLION else format_count
        texts = [format_number(value, digits) if digits else plain(value) for value in round_values]
        places = [round(100 * (value - low) / span, 2) for value in round_values]
        return cls(low, high, tuple(zip(places, texts, strict=True)))

    def place(self, value: float) -> float:
        """Return where a value lies, in percent."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def mark(self, value: float, low: float, high: float) -> dict[str, float]:
        """Return a value and its interval, and where both lie in percent; without an interval it has no width."""
        ends = (low, high) if math.isfinite(low) else (value, value)
        start, stop = sorted(self.place(end) for end in ends)
        at = {"at": self.place(value), "from": start, "width": round(stop - start, 2)}
        return {"value": value, "low": low, "high": high, **at}
