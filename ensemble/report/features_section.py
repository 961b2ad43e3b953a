"""The report's table of features: how well each column of the pixel table separates a class by itself."""

import math

from ensemble.report.section import ReportSource, Row
from features.description import ColumnFacts

__all__ = ["feature_values"]

FEATURES, PAIRS = 24, 8
"""Columns that are shown, and correlated pairs of them."""


def feature_values(source: ReportSource) -> Row | None:
    """Return the columns that separate a class best from the rest, with the AUC of each class; None without columns."""
    facts = source.run.features
    if facts is None or not facts.columns:
        return None
    ranked = sorted(facts.columns, key=lambda column: -column.separability)[:FEATURES]
    # Of two classes, each is the other's rest: one line says both.
    labels = facts.labels[1:] if len(facts.labels) == 2 else facts.labels
    return {
        "columns": [{"facts": column, "bars": _bars(column, labels)} for column in ranked],
        "n_columns": len(facts.columns),
        "pairs": [pair for pair in facts.pairs if pair[2] > 0][:PAIRS],
    }


def _bars(column: ColumnFacts, labels: tuple[str, ...]) -> list[Row]:
    """Return a bar for each class, from the middle, 0.5, to the left where the class has the lower values."""
    return [
        {"label": label, "auc": auc, "from": 100 * min(auc, 0.5), "width": 100 * abs(auc - 0.5)}
        for label, auc in zip(labels, column.auc[-len(labels) :], strict=True)
        if math.isfinite(auc)
    ]
