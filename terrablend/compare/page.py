"""The page of a comparison: scores with their intervals, and gains, by share of the labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.pages.axis import Axis
from data.pages.page import write_page
from ensemble.score.intervals import Interval
from terrablend.compare.table import Row

__all__ = ["write_comparison_page"]


@dataclass(frozen=True)
class Line:
    """A row, with its intervals placed on their scales; None where there is none."""

    row: Row
    score: dict[str, float]
    gain: dict[str, float] | None
    fewer: dict[str, float] | None


def write_comparison_page(rows: Sequence[Row], path: Path, title: str, confidence_level: float, groups: int) -> None:
    """Write rows as one HTML file that works offline."""
    scores = Axis.spanning(_ends([row.score for row in rows]))
    gains = Axis.spanning([0.0, *_ends([each for row in rows for each in (row.gain, row.fewer)])])
    shares = sorted({row.labels for row in rows}, reverse=True)
    lines = {
        share: [
            Line(row, _mark(scores, row.score) or {}, _mark(gains, row.gain), _mark(gains, row.fewer))
            for row in rows
            if row.labels == share
        ]
        for share in shares
    }
    write_page(
        path,
        "terrablend.compare",
        "comparison.html",
        title=title,
        first=rows[0],
        best=max(rows, key=lambda row: row.score.value),
        shares=lines,
        scores=scores,
        gains=gains,
        zero=gains.place(0.0),
        confidence_level=f"{confidence_level:.0%}",
        groups=groups,
        experiments=list(dict.fromkeys(row.experiment for row in rows)),
    )


def _ends(intervals: Sequence[Interval]) -> list[float]:
    return [end for each in intervals for end in (each.value, each.low, each.high) if math.isfinite(end)]


def _mark(axis: Axis, interval: Interval) -> dict[str, Any] | None:
    return axis.mark(interval.value, interval.low, interval.high) if math.isfinite(interval.value) else None
