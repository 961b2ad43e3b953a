"""The report's section on how tree members use the columns: bars, swarms of points and small plots."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from data.pages.axis import Axis
from ensemble.report.section import ReportSource, Row
from features.description import TableFacts
from features.explanation import ClassUse, Dependence, Explanation, Swarm

__all__ = ["explanation_rows", "tree_values"]

SHOWN = 15
"""Columns of each class."""

STACKED = ("what another member says of it", "")
"""Definition and reference of columns that are not the table's own."""

SHADES = 5
"""Steps between the lowest and the highest rank of a value."""

WIDTH, HEIGHT = 100, 100
"""Of a drawing, in its own units: it is stretched to the page."""

DOTS, LANES = 60, 11
"""Dots that lie side by side across a swarm, and up it."""


def tree_values(source: ReportSource) -> Row | None:
    """Return how each tree member uses the columns; None without explanations."""
    facts, explanations = source.run.features, source.run.explanations
    if facts is None or not explanations:
        return None
    return {"members": explanation_rows(explanations, facts)}


def explanation_rows(explanations: Iterable[Explanation], facts: TableFacts) -> list[Row]:
    """Return what the template shows of each member."""
    meaning = {column.name: (column.definition, column.reference) for column in facts.columns}
    return [
        {
            "name": explanation.member,
            "rows": explanation.rows,
            "few": explanation.few,
            "repeats": explanation.repeats,
            "has_shap": explanation.has_shap,
            "columns": len(explanation.classes[0].columns),
            "classes": [_class_rows(use, meaning) for use in explanation.classes],
            "alike": _alike(explanation, facts),
        }
        for explanation in explanations
    ]


def _class_rows(use: ClassUse, meaning: Mapping[str, tuple[str, str]]) -> Row:
    shown = use.columns[:SHOWN]
    axis = Axis.spanning([0.0, *(value for column in shown if column.swarm for value in column.swarm.shap)])
    gains, losses, ious, shaps = (
        _bars(values)
        for values in (
            [column.gain.mean for column in shown],
            [column.log_loss.mean for column in shown],
            [column.iou.mean for column in shown],
            [column.shap for column in shown],
        )
    )
    depends = [(column.name, column.dependence) for column in shown if column.dependence is not None]
    most = max((max(map(max, (curves.mean, *curves.folds))) for _, curves in depends), default=1.0)
    height = Axis.spanning([0.0, most])
    return {
        "label": use.label,
        "log_loss": use.log_loss,
        "iou": use.iou,
        "axis": axis,
        "zero": axis.place(0),
        "rows": [
            {
                "use": column,
                "definition": meaning.get(column.name, STACKED)[0],
                "reference": _shorten(meaning.get(column.name, STACKED)[1]),
                "gain": gains[place],
                "log_loss": losses[place],
                "iou": ious[place],
                "shap": shaps[place],
                "swarm": None if column.swarm is None else _draw_swarm(column.swarm, axis),
            }
            for place, column in enumerate(shown)
        ],
        "height": height,
        "plots": [_draw_dependence(name, curves, height) for name, curves in depends],
    }


def _alike(explanation: Explanation, facts: TableFacts) -> list[tuple[str, str, float]]:
    """Return the most correlated pairs of columns that are both shown."""
    shown = {column.name for use in explanation.classes for column in use.columns[:SHOWN]}
    return [pair for pair in facts.pairs if pair[0] in shown and pair[1] in shown and pair[2] > 0][:4]


def _shorten(reference: str) -> str:
    """Leave out what every address has.

    >>> _shorten("https://doi.org/10.1109/36.134076")
    'doi:10.1109/36.134076'
    """
    return re.sub("^https?://", "", reference.replace("https://doi.org/", "doi:"))


def _bars(values: Sequence[float]) -> list[float]:
    """Return the length of each bar in percent of the longest; what is not above 0 has none."""
    longest = max((value for value in values if value > 0), default=1.0)
    return [round(100 * value / longest, 1) if value > 0 else 0.0 for value in values]


def _draw_swarm(swarm: Swarm, axis: Axis) -> list[tuple[str, str]]:
    """Return the dots of a swarm as SVG paths, one of each shade; rows without a value are of their own."""
    seen: defaultdict[int, int] = defaultdict(int)
    paths: defaultdict[str, list[str]] = defaultdict(list)
    at = [round(axis.place(value), 1) for value in swarm.shap]
    crowds = [int(place * DOTS / 100) for place in at]
    most = max((crowds.count(cell) for cell in set(crowds)), default=1)
    step = HEIGHT / max(most + 1, LANES)
    # In no order of their values, else the swarm would show stripes.
    for row in range(len(at)):
        number = seen[crowds[row]]
        seen[crowds[row]] += 1
        # The first lies on the middle line, the next above it, the next below.
        up = HEIGHT / 2 + step * ((number + 1) // 2) * (1 if number % 2 else -1)
        rank = swarm.rank[row]
        shade = "none" if math.isnan(rank) else str(min(int(rank * SHADES), SHADES - 1))
        # A line of no length with round ends is a dot, in a tenth of the bytes of a circle.
        paths[shade].append(f"M{at[row]:.1f} {up:.0f}h0")
    return [(shade, "".join(paths[shade])) for shade in sorted(paths)]


def _draw_dependence(name: str, dependence: Dependence, height: Axis) -> Row:
    low, high = dependence.values[0], dependence.values[-1]
    span = (high - low) or 1.0
    places = [round(WIDTH * (value - low) / span, 2) for value in dependence.values]

    def line(curve: Sequence[float]) -> str:
        return " ".join(f"{x},{HEIGHT - height.place(y):.2f}" for x, y in zip(places, curve, strict=True))

    return {
        "name": name,
        "low": low,
        "middle": dependence.values[len(dependence.values) // 2],
        "middle_at": places[len(places) // 2],
        "high": high,
        "rug": places,
        "mean": line(dependence.mean),
        "folds": [line(curve) for curve in dependence.folds],
    }
