"""Describe the columns of a pixel table, and what a member makes of them, as text on the terminal."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from features.description import ColumnFacts, TableFacts

if TYPE_CHECKING:
    # What trees are learned by takes seconds to load, and `terrablend --help` should not wait for it.
    from features.explanation import ClassUse, Explanation

__all__ = ["describe_columns", "describe_explanation"]

SHOWN = 12
"""Columns of an explanation that are shown of each class."""


def describe_columns(facts: TableFacts) -> str:
    """Return two tables: the columns, those first that separate a class best, and the most correlated pairs."""
    return "\n".join(_lines(facts))


def describe_explanation(explanation: "Explanation", facts: TableFacts) -> str:
    """Return a table for each class: the columns that matter most, and what they are."""
    return "\n".join(_explanation_lines(explanation, facts))


def _explanation_lines(explanation: "Explanation", facts: TableFacts) -> Iterator[str]:
    yield f"{explanation.member}, by {explanation.rows} rows held out, each by the booster of its own fold"
    yield (
        f"IoU and log loss: what becomes of them when the column is shuffled, {explanation.repeats} times over. "
        "Columns that say nearly the same stand in for each other: see the pairs of `terrablend features --describe`."
    )
    if not explanation.has_shap:
        yield "SHAP values are not given by this library."
    meaning = {column.name: _meaning(column) for column in facts.columns}
    for use in explanation.classes:
        yield ""
        yield from _class_lines(use, meaning)


def _class_lines(use: "ClassUse", meaning: Mapping[str, str]) -> Iterator[str]:
    shown = use.columns[:SHOWN]
    width = max(len("column"), *(len(column.name) for column in shown))
    yield f"{use.label}: IoU {use.iou:.4f}, log loss {use.log_loss:.4f}; {len(shown)} of {len(use.columns)} columns"
    yield f"{'column':<{width}}  {'gain':>6}  {'IoU':>17}  {'log loss':>17}  {'|SHAP|':>7}  what it is"
    for column in shown:
        changes = ((0 - column.iou.mean, column.iou.deviation), (column.log_loss.mean, column.log_loss.deviation))
        iou, loss = (f"{mean:+.4f} ± {deviation:.4f}" for mean, deviation in changes)
        shap = "–" if math.isnan(column.shap) else f"{column.shap:.3f}"
        yield (
            f"{column.name:<{width}}  {column.gain.mean:>6.1%}  {iou:>17}  {loss:>17}  {shap:>7}  "
            f"{meaning.get(column.name, 'what another member says of it')}"
        )


def _lines(facts: TableFacts) -> Iterator[str]:
    width = max(len(column.name) for column in facts.columns)
    labels = max(5, *map(len, facts.labels))
    yield f"{len(facts.columns)} columns, described from {facts.rows} rows by their weights"
    yield "AUC is that of the column alone for the class that it separates best from the rest, 0.5 being none at all."
    yield ""
    numbers = f"{'1 %':>11}{'median':>11}{'99 %':>11}"
    yield f"{'column':<{width}}  {'AUC':>5}  {'class':<{labels}}  {'empty':>6}{numbers}  {'halo':>4}  what it is"
    for column in sorted(facts.columns, key=lambda column: -column.separability):
        auc, label = _best(column, facts.labels)
        low, _, middle, _, high = column.quantiles
        yield (
            f"{column.name:<{width}}  {auc:>5.3f}  {label:<{labels}}  {column.nan_share:>6.1%}"
            f"{low:>11.4g}{middle:>11.4g}{high:>11.4g}  {column.halo:>4}  {_meaning(column)}"
        )
    yield ""
    yield "most correlated pairs"
    for first, second, correlation in facts.pairs:
        yield f"{correlation:>6.3f}  {first}, {second}"


def _meaning(column: ColumnFacts) -> str:
    return f"{column.definition}  [{column.reference}]" if column.reference else column.definition


def _best(column: ColumnFacts, labels: tuple[str, ...]) -> tuple[float, str]:
    # Where each of two classes is the other's rest, both separate alike; the second is the positive one.
    known = [pair for pair in reversed([*zip(column.auc, labels, strict=True)]) if not math.isnan(pair[0])]
    return max(known, key=lambda pair: round(abs(pair[0] - 0.5), 6), default=(math.nan, ""))
