"""Draw curves over the epochs of a training as inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

__all__ = ["Curve", "axis_ticks", "draw_curves"]

WIDTH, HEIGHT = 460, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 22, 8, 26
LINE = 11
"""Height of a text."""
POINTS = 400
"""Most points of a curve; more are averaged."""


@dataclass(frozen=True)
class Curve:
    """A line of a chart.

    Parameters
    ----------
    name : str
    color : str
        As CSS has it.
    points : sequence of (epoch, value)
        In order; the line is broken where the value is NaN.
    thin : bool
        Drawn as a background for the others.
    mark : str
        Text at its end, so that its colour is not the only sign.
    """

    name: str
    color: str
    points: Sequence[tuple[float, float]]
    thin: bool = False
    mark: str = ""


def axis_ticks(low: float, high: float) -> list[float]:
    """Return a few round values within a range.

    >>> axis_ticks(0.013, 0.31)
    [0.1, 0.2, 0.3]
    """
    span = high - low
    if span <= 0:
        return [low]
    power = 10 ** math.floor(math.log10(span))
    step = next(power * factor for factor in (0.2, 0.5, 1, 2, 5) if span / (power * factor) <= 5)
    return [round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def draw_curves(curves: Sequence[Curve], epochs: int) -> str:
    """Draw curves over the epochs 0 … ``epochs`` of a training as an SVG element."""
    values = [value for curve in curves for _, value in curve.points if math.isfinite(value)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)

    def across(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * epoch / epochs

    def down(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for tick in axis_ticks(low, high):
        parts.append(f'<path class="grid" d="M{LEFT} {down(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts += [
        f'<text x="{across(tick):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{tick:g}</text>'
        for tick in axis_ticks(0, epochs)
    ]
    marks: list[tuple[float, float, str]] = []
    for curve in curves:
        lines = [[f"{across(x):.1f} {down(y):.1f}" for x, y in line] for line in _unbroken(_thin(curve.points))]
        path = "".join(f"M{line[0]}L{'L'.join(line)}" for line in lines)
        kind = "thin" if curve.thin else "line"
        parts.append(
            f'<path class="{kind}" style="--own: {curve.color}" d="{path}"><title>{escape(curve.name)}</title></path>'
        )
        if curve.mark and lines:
            x, y = map(float, lines[-1][-1].split())
            marks.append((y + 4, x + 4, curve.mark))
    for y, (_, x, mark) in zip(_apart([y for y, *_ in sorted(marks)]), sorted(marks), strict=True):
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}">{escape(mark)}</text>')
    return "".join((*parts, "</svg>"))


def _apart(heights: Sequence[float]) -> list[float]:
    """Move rising heights down where texts would overlap, and up again where they would leave the chart."""
    gap, bottom = min(LINE, (HEIGHT - BOTTOM - TOP) / max(len(heights), 1)), HEIGHT - BOTTOM + 4
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + gap) if moved else height)
    return [min(height, bottom - gap * left) for left, height in zip(reversed(range(len(moved))), moved, strict=True)]


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average runs of points, so that at most `POINTS` are left."""
    run = -(-len(points) // POINTS) or 1
    parts = (points[first : first + run] for first in range(0, len(points), run))
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _unbroken(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Return the runs of points that have a value."""
    finite = groupby(points, key=lambda point: math.isfinite(point[1]))
    return [list(run) for some, run in finite if some]
