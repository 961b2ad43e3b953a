"""What the columns of a pixel table are, as text on the terminal."""

import math
from collections.abc import Iterator

from features.description import ColumnFacts, TableFacts

__all__ = ["describe_columns"]


def describe_columns(facts: TableFacts) -> str:
    """Return two tables: the columns, those first that separate a class best, and the most correlated pairs."""
    return "\n".join(_lines(facts))


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
        source = f"  [{column.reference}]" if column.reference else ""
        yield (
            f"{column.name:<{width}}  {auc:>5.3f}  {label:<{labels}}  {column.nan_share:>6.1%}"
            f"{low:>11.4g}{middle:>11.4g}{high:>11.4g}  {column.halo:>4}  {column.definition}{source}"
        )
    yield ""
    yield "most correlated pairs"
    for first, second, correlation in facts.pairs:
        yield f"{correlation:>6.3f}  {first}, {second}"


def _best(column: ColumnFacts, labels: tuple[str, ...]) -> tuple[float, str]:
    # Of two classes each is the other's rest; the second is the positive one.
    first = 1 if len(labels) == 2 else 0
    known = [pair for pair in list(zip(column.auc, labels, strict=True))[first:] if not math.isnan(pair[0])]
    return max(known, key=lambda pair: abs(pair[0] - 0.5), default=(math.nan, ""))
