"""The report's tables of scores of one split: every candidate with intervals, by other metrics, class by class."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data.pages.axis import Axis
from data.scenes.classes import Classes
from data.scenes.scene import Split
from ensemble.objective import Objective
from ensemble.report.section import ReportSource, Row
from ensemble.score.ablation import Ablation
from ensemble.score.evaluation import PLAIN, UNCALIBRATED, UNCLEANED
from ensemble.score.intervals import FEWEST
from ensemble.score.scores import OBJECTIVE, label_metrics, suitable_metrics

__all__ = ["objective_rows", "score_values"]

STEPS = (UNCALIBRATED, PLAIN, UNCLEANED)
"""Candidates that only the ablation shows."""


def score_values(source: ReportSource, split: Split) -> Row | None:
    """Return the tables of a split; None where nothing was evaluated on it."""
    evaluation = next((found for found in source.fitted.evaluations if found.split == split), None)
    if evaluation is None:
        return None
    members, classes, final = source.fitted.ensemble.members, source.classes, evaluation.final
    scores = source.fitted.scores.filter(pl.col("split") == split)
    score_scope, gain_scope = _scopes(source.objective)
    scored = objective_rows(scores, score_scope, members)
    gains = objective_rows(scores, gain_scope, members)
    axis = Axis.spanning(_ends(scored))
    gain_axis = Axis.spanning([0.0, *_ends(gains)])
    ranked = sorted(scored, key=lambda candidate: -_or_least(scored[candidate]["value"]))
    counts, value = evaluation.total(final), _lookup(scores)
    enough = evaluation.by_group()[final].lies_in_enough(classes.places)
    by_class = label_metrics(classes)
    return {
        "split": split,
        "n_scenes": len(evaluation.groups),
        "n_groups": len(set(evaluation.groups.values())),
        "rare": [label for label, sure in zip(classes.label_names, enough, strict=True) if not sure],
        "fewest": FEWEST,
        "final": final,
        "axis": axis,
        "gain_axis": gain_axis if gains else None,
        "zero": gain_axis.place(0),
        "candidates": [
            {
                "name": candidate,
                "final": candidate == final,
                "score": _mark(scored[candidate], axis),
                "gain": _mark(gains[candidate], gain_axis) if candidate in gains else None,
            }
            for candidate in ranked
        ],
        "ranked": ranked,
        "ablation": _ablation_values(source.fitted.ablations) if split == "train" else None,
        "others": [
            {
                "title": metric.title,
                "meaning": metric.meaning,
                "pooled": [value(candidate, "", name, "pooled") for candidate in ranked],
                "scenes": [value(candidate, "", name, "scene mean") for candidate in ranked],
            }
            for name, metric in suitable_metrics(classes).items()
        ],
        "metrics": list(by_class.values()),
        "classes": [
            {
                "pixels": labelled,
                "share": labelled / total if total else math.nan,
                "rows": [
                    (candidate, [value(candidate, label, name, "pooled") for name in by_class]) for candidate in ranked
                ],
            }
            for label, labelled, total in zip(classes.label_names, *_labelled(counts, classes), strict=True)
        ],
        "confusion": None if classes.task == "multilabel" else _shares(counts[0]),
        "unseen": float(counts[..., -1].sum() / max(counts.sum(), 1)),
        "areas": split in source.fitted.areas,
    }


def objective_rows(scores: pl.DataFrame, scope: str, members: Sequence[str]) -> dict[str, Row]:
    """Return the optimised score of each candidate, those of the ablation aside.

    A single member, which has nothing to be blended with, is what is used, and is not named twice.
    """
    rows = scores.filter((pl.col("metric") == OBJECTIVE) & (pl.col("label") == "") & (pl.col("scope") == scope))
    by_candidate = {row["candidate"]: row for row in rows.rows(named=True) if row["candidate"] not in STEPS}
    return {name: row for name, row in by_candidate.items() if len(members) > 1 or name not in members}


def _ablation_values(ablations: Sequence[Ablation]) -> Row | None:
    """Return what each branch and step is worth, and the scale that gains are drawn on."""
    if not ablations:
        return None
    gains = [ablation.gain for ablation in ablations]
    axis = Axis.spanning([0.0, *(end for gain in gains for end in (gain.value, gain.low, gain.high))])
    rows = [
        {
            "name": ablation.name,
            "score": ablation.score.value,
            "gain": axis.mark(ablation.gain.value, ablation.gain.low, ablation.gain.high),
            "verdict": ablation.verdict,
        }
        for ablation in ablations
    ]
    return {"axis": axis, "zero": axis.place(0), "rows": rows}


def _scopes(objective: Objective) -> tuple[str, str]:
    return ("scene mean", "scene gain") if objective.by_scene else ("pooled", "gain")


def _lookup(scores: pl.DataFrame) -> Callable[..., float]:
    keys = ("candidate", "label", "metric", "scope")
    values: dict[tuple[Any, ...], float] = {
        tuple(row[key] for key in keys): row["value"] for row in scores.rows(named=True)
    }
    return lambda *key: values.get(key, math.nan)


def _ends(rows: Mapping[str, Row]) -> list[float]:
    return [row[key] for row in rows.values() for key in ("value", "low", "high")]


def _mark(row: Row, axis: Axis) -> Row:
    return axis.mark(row["value"], row["low"], row["high"])


def _labelled(counts: NDArray[np.int64], classes: Classes) -> tuple[list[int], list[int]]:
    """Return the labelled pixels of each class, and all; of tags the scenes that have each, and all."""
    questions, labels = map(list, zip(*classes.places, strict=True))
    labelled = counts.sum(axis=-1)
    return labelled[questions, labels].tolist(), labelled.sum(axis=-1)[questions].tolist()


def _shares(counts: NDArray[np.int64]) -> list[list[tuple[float, int]]]:
    """Return each cell's share of its row, and its pixels."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        [(round(float(share), 6), int(count)) for share, count in zip(*rows, strict=True)]
        for rows in zip(shares, counts, strict=True)
    ]


def _or_least(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
