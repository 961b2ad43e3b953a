"""Areas of each class: mapped and estimated, in words and tables."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from data.pages.numbers import format_minus
from data.scenes.ground import pixel_area
from data.scenes.windows import Grid
from ensemble.score.intervals import Interval

__all__ = ["Areas", "pixel_sizes"]

LARGE = 1e10
"""Mapped m² from which on areas are given in km², below in ha."""


@dataclass(frozen=True)
class Areas:
    """Accuracy and class areas of a map, adjusted for its errors.

    Parameters
    ----------
    labels : tuple of str
    mapped : tuple of float
        Area that the map shows of each, m² or, where ``metric`` is false, pixels.
    area : tuple of Interval
        Area that there is of each, estimated; in the same unit.
    user, producer : tuple of Interval
        User's and producer's accuracy of each (precision and recall, by area).
    overall : Interval
        Share of the mapped area that is right.
    metric : bool
    labelled : float
        Share of the mapped area that is labelled: of it the area is known.
    """

    labels: tuple[str, ...]
    mapped: tuple[float, ...]
    area: tuple[Interval, ...]
    user: tuple[Interval, ...]
    producer: tuple[Interval, ...]
    overall: Interval
    metric: bool
    labelled: float = 0.0

    @property
    def unit(self) -> tuple[str, float]:
        """The unit of areas and its size in m²: ha or, of large maps, km²; pixels if not metric."""
        if not self.metric:
            return "pixels", 1.0
        return ("ha", 1e4) if sum(self.mapped) < LARGE else ("km²", 1e6)

    def words(self) -> str:
        """Write the area of each class in one line."""
        texts = (
            f"{label} {self._estimate(area)} ({self.write_range(area, '; ')}mapped {self.write(mapped)})"
            for label, area, mapped in zip(self.labels, self.area, self.mapped, strict=True)
        )
        return ", ".join(texts)

    def lines(self) -> list[str]:
        """Write a table for a terminal."""
        unit, width = self.unit[0], max(14, *(len(label) + 2 for label in self.labels))
        lines = [
            f"{'class':<{width}}{f'mapped, {unit}':>16}{f'area, {unit}':>16}{'interval':>22}"
            f"{'user’s accuracy':>21}{'producer’s accuracy':>21}"
        ]
        for label, mapped, area, user, producer in zip(
            self.labels, self.mapped, self.area, self.user, self.producer, strict=True
        ):
            lines.append(
                f"{label:<{width}}{self.write(mapped):>16}{self.write(area.value):>16}{self.write_range(area):>22}"
                f"{user.words():>21}{producer.words():>21}"
            )
        return [*lines, f"overall accuracy by area {self.overall.words()}"]

    def write(self, area: float) -> str:
        """Write an area in `unit`."""
        unit, size = self.unit
        digits = 0 if unit == "pixels" or sum(self.mapped) >= 1000 * size else 2
        text = f"{area / size:,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        return format_minus(text) if math.isfinite(area) else "–"

    def write_range(self, area: Interval, after: str = "") -> str:
        """Write the ends of an interval, if there are any."""
        return f"{self.write(area.low)}–{self.write(area.high)}{after}" if math.isfinite(area.low) else ""

    def _estimate(self, area: Interval) -> str:
        known = math.isfinite(area.value)
        return f"{self.write(area.value)} {self.unit[0]}" if known else f"unknown, in {self.unit[0]}"


def pixel_sizes(grids: Iterable[Grid]) -> tuple[list[float], bool]:
    """Return the area of a pixel of each grid, and whether that is in m²: else one, where any is unknown."""
    sizes = [pixel_area(grid) for grid in grids]
    known = [size for size in sizes if size is not None]
    return (known, True) if len(known) == len(sizes) else ([1.0] * len(sizes), False)
