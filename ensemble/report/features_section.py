"""The report's table of features: how well each column of the pixel table separates a class by itself."""

import math
from typing import Any

from features.description import TableFacts

__all__ = ["feature_pairs", "feature_rows"]

FEATURES, PAIRS = 24, 8
"""Columns that are shown, and correlated pairs of them."""

Row = dict[str, Any]


def feature_rows(facts: TableFacts) -> list[Row]:
    """Return the columns that separate a class best from the rest, with the AUC of each class."""
    ranked = sorted(facts.columns, key=lambda column: -column.separability)[:FEATURES]
    # Of two classes, each is the other's rest: one line says both.
    labels = facts.labels[1:] if len(facts.labels) == 2 else facts.labels
    return [
        {
            "column": column,
            "bars": [
                # From the middle, 0.5, to the left where the class has the lower values.
                {"label": label, "auc": auc, "from": 100 * min(auc, 0.5), "width": 100 * abs(auc - 0.5)}
                for label, auc in zip(labels, column.auc[-len(labels) :], strict=True)
                if math.isfinite(auc)
            ],
            "low": column.quantiles[0],
            "median": column.quantiles[2],
            "high": column.quantiles[4],
        }
        for column in ranked
    ]


def feature_pairs(facts: TableFacts) -> list[tuple[str, str, float]]:
    """Return the pairs of columns that are most correlated."""
    return [pair for pair in facts.pairs if pair[2] > 0][:PAIRS]
