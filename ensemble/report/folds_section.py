"""The report's tables fold by fold: scores, what was decided without each, and what there was to choose from."""

import math
from collections.abc import Mapping

import polars as pl

from data.pages.axis import Axis
from ensemble.decide.sample.choice import Choice
from ensemble.report.scores_section import objective_rows
from ensemble.report.section import ReportSource, Row

__all__ = ["fold_values"]


def fold_values(source: ReportSource) -> Row:
    """Return scores, decisions and choices of each fold left out, and the scale that scores are drawn on."""
    ensemble, nested, classes = source.fitted.ensemble, source.nested, source.classes
    scores = source.fitted.scores.filter(pl.col("split") == nested.split)
    folds = [f"fold {fold}" for fold in sorted(set(nested.folds.values()))]
    by_fold = [objective_rows(scores, fold, ensemble.members) for fold in folds]
    axis = Axis.spanning(row["value"] for rows in by_fold for row in rows.values())
    candidates = []
    for name in by_fold[0]:
        values = [rows[name]["value"] for rows in by_fold]
        finite = [value for value in values if math.isfinite(value)]
        candidates.append(
            {
                "name": name,
                "final": name == nested.final,
                "scores": values,
                "dots": [axis.place(value) for value in finite],
                "spread": max(finite) - min(finite) if finite else math.nan,
            }
        )
    decisions = [(f"without fold {fold}", nested.decisions[fold][nested.final]) for fold in sorted(nested.decisions)]
    return {
        "folds": folds,
        "axis": axis,
        "candidates": candidates,
        "members": ensemble.members,
        "decided": classes.names,
        "decisions": [
            {"name": name, "weights": decision.weights, "thresholds": decision.thresholds}
            for name, decision in [*decisions, ("used", ensemble.decision)]
        ],
        "worths": [worth.words(source.settings.confidence_level) for worth in ensemble.worths_],
        "choices": _choice_rows(ensemble.choices_),
        "notes": source.run.notes,
    }


def _choice_rows(choices: Mapping[str, Choice]) -> list[Row]:
    """Return the options of each step that left a choice."""

    def known(value: float | None) -> float:
        return math.nan if value is None else value

    return [
        {
            "step": step,
            "options": [
                {
                    "name": name,
                    "chosen": place == choice.chosen,
                    "score": known(score),
                    "gain": known(gain),
                    "error": known(error),
                }
                for place, (name, score, gain, error) in enumerate(
                    zip(choice.names, choice.scores, choice.gains, choice.errors, strict=True)
                )
            ],
        }
        for step, choice in choices.items()
        if len(choice.names) > 1
    ]
