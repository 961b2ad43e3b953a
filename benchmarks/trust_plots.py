"""Draw what benchmarks/trust.py found, as small SVGs for docs/trust.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from trust_worlds import Cell

from data.files import replacing

WIDTH = 780
LEFT, RIGHT, TOP, ROW = 250, 60, 34, 17
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a6fbf", "#8c8c3d")
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 } .soft { fill: #777 } .goal { fill: #0072b2; opacity: .12 }
line { stroke: #bbb } polyline { fill: none; stroke-width: 1.8 } .title { font-weight: 600 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .soft { fill: #999 } line { stroke: #555 } }
"""


def write_plots(cells: Sequence[Cell], folder: Path) -> None:
    """Write ``trust_coverage.svg``, ``trust_thresholds.svg`` and ``trust_audits.svg``."""
    drawn = {
        "trust_coverage": draw_lines("Coverage of 95% intervals, by groups", [cell for cell in cells if cell.series]),
        "trust_thresholds": draw_bars("Dice lost to the best threshold", _valued(cells, "threshold"), 4),
        "trust_audits": draw_bars("Average precision of the audit", _valued(cells, "audit"), 2),
    }
    for name, text in drawn.items():
        with replacing(folder / f"{name}.svg") as temporary:
            temporary.write_text(text, "utf-8")


def _valued(cells: Sequence[Cell], kind: str) -> dict[str, Mapping[str, float]]:
    return {cell.row: cell.values for cell in cells if cell.kind == kind}


def draw_lines(title: str, cells: Sequence[Cell], low: float = 0.86, high: float = 1.0, height: int = 250) -> str:
    """Draw a line for each series over the number of groups, and the goal as a band."""
    series: dict[str, list[Cell]] = {}
    for cell in cells:
        series.setdefault(cell.series, []).append(cell)
    ends = np.log([cell.at for cell in cells])
    right = WIDTH - LEFT - 60

    def place(at: float, share: float) -> tuple[float, float]:
        across = (np.log(at) - ends.min()) / np.ptp(ends)
        return 40 + across * (right - 60), TOP + (high - min(max(share, low), high)) / (high - low) * height

    goal = cells[0].goal
    (_, top), (_, bottom) = place(cells[0].at, goal[1]), place(cells[0].at, goal[0])
    parts = [f'<rect class="goal" x="40" y="{top:.1f}" width="{right - 60}" height="{bottom - top:.1f}"/>']
    for share in np.arange(low, high + 1e-9, 0.02 if high - low < 0.3 else 0.1):
        _, y = place(cells[0].at, share)
        parts.append(f'<line x1="40" x2="{right - 20}" y1="{y:.1f}" y2="{y:.1f}" opacity=".5"/>')
        parts.append(f'<text class="soft" x="4" y="{y + 4:.1f}">{share:.2f}</text>')
    for at in sorted({cell.at for cell in cells}):
        x, _ = place(at, low)
        parts.append(f'<text class="soft" x="{x:.1f}" y="{TOP + height + 18}" text-anchor="middle">{at:g}</text>')
    for rank, (name, some) in enumerate(series.items()):
        color, y = COLORS[rank % len(COLORS)], TOP + 14 + 20 * rank
        points = [place(cell.at, cell.found) for cell in some]
        parts.append(f'<polyline stroke="{color}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{color}"/>' for x, y in points]
        parts.append(f'<rect x="{right}" y="{y - 9}" width="14" height="4" fill="{color}"/>')
        parts.append(f'<text x="{right + 20}" y="{y - 2}">{escape(name)}</text>')
    return _page(title, parts, TOP + height + 28)


def draw_bars(title: str, rows: Mapping[str, Mapping[str, float]], digits: int) -> str:
    """Draw a bar for each value of each row; values of one name have one color."""
    names = list(dict.fromkeys(name for values in rows.values() for name in values))
    largest = max(value for values in rows.values() for value in values.values())
    parts, y = [], TOP + 22
    for rank, name in enumerate(names):
        parts.append(f'<rect x="{LEFT + 150 * rank}" y="{TOP - 2}" width="12" height="8" fill="{COLORS[rank]}"/>')
        parts.append(f'<text x="{LEFT + 18 + 150 * rank}" y="{TOP + 6}">{escape(name)}</text>')
    for row, values in rows.items():
        middle = y + ROW * len(values) / 2 + 1
        parts.append(f'<text x="{LEFT - 8}" y="{middle:.1f}" text-anchor="end">{escape(row)}</text>')
        for name, value in values.items():
            length = (WIDTH - LEFT - RIGHT) * value / largest
            color = COLORS[names.index(name)]
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{ROW - 5}" fill="{color}"/>')
            parts.append(f'<text class="soft" x="{LEFT + length + 5:.1f}" y="{y + 10}">{value:.{digits}f}</text>')
            y += ROW
        y += 8
    return _page(title, parts, y)


def _page(title: str, parts: Sequence[str], height: int) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    return "\n".join(
        [
            head,
            f"<style>{STYLE}</style>",
            f'<text class="title" x="4" y="16">{escape(title)}</text>',
            *parts,
            "</svg>\n",
        ]
    )
