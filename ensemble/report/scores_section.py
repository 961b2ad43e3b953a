"""The report's tables of scores: every candidate with intervals, class by class, fold by fold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data.pages.axis import Axis
from data.scenes.classes import Classes
from data.scenes.scene import Split
from ensemble.decide.choice import Choice
from ensemble.decide.decision import Decision
from ensemble.objective import Objective
from ensemble.score.ablation import Ablation
from ensemble.score.areas import Areas
from ensemble.score.evaluation import PLAIN, UNCALIBRATED, UNCLEANED, Evaluation
from ensemble.score.scores import OBJECTIVE, label_metrics, suitable_metrics

__all__ = ["HECTARE", "ablation_rows", "area_rows", "choice_rows", "decision_rows", "fold_rows", "score_section"]

STEPS = (UNCALIBRATED, PLAIN, UNCLEANED)
"""Candidates that the ablation tells of."""

HECTARE = 10_000
"""In m²."""

Row = dict[str, Any]


def score_section(
    evaluation: Evaluation, scores: pl.DataFrame, members: Sequence[str], classes: Classes, objective: Objective
) -> Row:
    """Return the tables of one split.

    Parameters
    ----------
    evaluation : Evaluation
    scores : DataFrame
        As `ensemble.score.scores.score_table` returns it.
    members : sequence of str
    classes : Classes
    objective : Objective
    """
    final, scope, gained = evaluation.final, *_scopes(objective)
    part = scores.filter(pl.col("split") == evaluation.split)
    own = part.filter((pl.col("metric") == OBJECTIVE) & (pl.col("label") == ""))
    whole = _by_candidate(own.filter(pl.col("scope") == scope), members, final)
    gains = _by_candidate(own.filter(pl.col("scope") == gained), members, final)
    axis = Axis.spanning(_ends(whole))
    gain_axis = Axis.spanning([0.0, *_ends(gains)])
    ranked = sorted(whole, key=lambda candidate: -_or_least(whole[candidate]["value"]))
    counts = evaluation.total(final)
    value = _lookup(part)
    return {
        "split": evaluation.split,
        "scenes": len(evaluation.groups),
        "groups": len(set(evaluation.groups.values())),
        "final": final,
        "axis": axis,
        "gain_axis": gain_axis if gains else None,
        "zero": gain_axis.place(0),
        "candidates": [
            {
                "name": one,
                "final": one == final,
                "score": _mark(whole[one], axis),
                "gain": _mark(gains[one], gain_axis) if one in gains else None,
            }
            for one in ranked
        ],
        "ranked": ranked,
        "others": [
            {
                "title": metric.title,
                "meaning": metric.meaning,
                "pooled": [value(one, "", name, "pooled") for one in ranked],
                "scenes": [value(one, "", name, "scene mean") for one in ranked],
            }
            for name, metric in suitable_metrics(classes.task).items()
        ],
        "metrics": list(label_metrics(classes.task).values()),
        "classes": [
            {
                "pixels": labelled,
                "share": labelled / total if total else math.nan,
                "rows": [
                    (one, [value(one, label, name, "pooled") for name in label_metrics(classes.task)]) for one in ranked
                ],
            }
            for label, labelled, total in zip(classes.label_names, *_labelled(counts, classes), strict=True)
        ],
        "confusion": None if classes.task == "multilabel" else _shares(counts),
        "unseen": bool(counts[..., -1].any()),
    }


def fold_rows(
    scores: pl.DataFrame, evaluation: Evaluation, members: Sequence[str]
) -> tuple[list[Row], Axis, list[str]]:
    """Return the scores of each candidate in each fold left out, the scale that they are drawn on, and the folds."""
    own = scores.filter((pl.col("split") == evaluation.split) & (pl.col("metric") == OBJECTIVE))
    folds = [f"fold {fold}" for fold in sorted(set(evaluation.folds.values()))]
    by_fold = [_by_candidate(own.filter(pl.col("scope") == fold), members, evaluation.final) for fold in folds]
    axis = Axis.spanning(row["value"] for rows in by_fold for row in rows.values())
    found = []
    for candidate in by_fold[0]:
        values = [rows[candidate]["value"] for rows in by_fold]
        finite = [value for value in values if math.isfinite(value)]
        found.append(
            {
                "name": candidate,
                "final": candidate == evaluation.final,
                "values": values,
                "dots": [axis.place(value) for value in finite],
                "spread": max(finite) - min(finite) if finite else math.nan,
            }
        )
    return found, axis, folds


def decision_rows(
    nested: Mapping[int, Mapping[str, Decision]], final: str, used: Decision
) -> list[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Return the weights and thresholds found without each fold, and those that are used."""
    rows = [(f"without fold {fold}", found[final]) for fold, found in sorted(nested.items())]
    return [(what, one.weights, one.thresholds) for what, one in [*rows, ("used", used)]]


def choice_rows(choices: Mapping[str, Choice]) -> list[tuple[str, list[Row]]]:
    """Return what there was to choose from at each step that left a choice."""

    def known(value: float | None) -> float:
        return math.nan if value is None else value

    return [
        (
            step,
            [
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
        )
        for step, choice in choices.items()
        if len(choice.names) > 1
    ]


def area_rows(areas: Mapping[Split, Areas]) -> list[Row]:
    """Return of each split the areas of its classes, in hectares or pixels, and the scale that their shares lie on."""
    found = []
    for split, one in areas.items():
        unit, whole = (HECTARE if one.metric else 1.0), sum(one.mapped)
        shares = [{key: size / whole for key, size in asdict(area).items()} for area in one.area]
        axis = Axis.spanning([0.0, *(end for share in shares for end in share.values())])
        rows = [
            {
                "mapped": mapped / unit,
                "at": axis.place(mapped / whole),
                "share": _mark(share, axis),
                "area": {key: size / unit for key, size in asdict(area).items()},
                "user": asdict(user),
                "producer": asdict(producer),
            }
            for mapped, share, area, user, producer in zip(
                one.mapped, shares, one.area, one.user, one.producer, strict=True
            )
        ]
        found.append({"split": split, "axis": axis, "rows": rows, "overall": asdict(one.overall), "metric": one.metric})
    return found


def ablation_rows(ablations: Sequence[Ablation]) -> tuple[list[Row], Axis]:
    """Return what each branch and step is worth, and the scale that gains are drawn on."""
    axis = Axis.spanning([0.0, *(end for one in ablations for end in (one.gain.value, one.gain.low, one.gain.high))])
    return [
        {
            "name": one.name,
            "score": one.score.value,
            "gain": _mark({"value": one.gain.value, "low": one.gain.low, "high": one.gain.high}, axis),
            "verdict": one.verdict,
        }
        for one in ablations
    ], axis


def _scopes(objective: Objective) -> tuple[str, str]:
    return ("scene mean", "scene gain") if objective.by_scene else ("pooled", "gain")


def _by_candidate(rows: pl.DataFrame, members: Sequence[str], final: str) -> dict[str, Row]:
    """Return a row a candidate, without those of the ablation; with nobody to blend with, what is used alone."""
    chosen = {row["candidate"]: row for row in rows.rows(named=True) if row["candidate"] not in STEPS}
    return {name: row for name, row in chosen.items() if len(members) > 1 or name == final}


def _lookup(scores: pl.DataFrame) -> Any:
    keys = ("candidate", "label", "metric", "scope")
    found = {tuple(row[key] for key in keys): row["value"] for row in scores.rows(named=True)}
    return lambda *key: found.get(key, math.nan)


def _ends(rows: Mapping[str, Row]) -> list[float]:
    return [row[key] for row in rows.values() for key in ("value", "low", "high")]


def _mark(row: Row, axis: Axis) -> Row:
    """Return a score, its interval and where they lie on an axis."""
    ends = (row["low"], row["high"]) if math.isfinite(row["low"]) else (row["value"], row["value"])
    low, high = sorted(axis.place(end) for end in ends)
    return {**row, "at": axis.place(row["value"]), "from": low, "width": round(high - low, 2)}


def _labelled(counts: NDArray[np.int64], classes: Classes) -> tuple[list[int], list[int]]:
    """Return the labelled pixels of each class, and all; of tags the scenes that have each, and all."""
    if classes.task == "multilabel":
        return counts[:, 1].sum(axis=-1).tolist(), counts.sum(axis=(-2, -1)).tolist()
    labelled = counts.sum(axis=1)
    return labelled.tolist(), [int(labelled.sum())] * len(labelled)


def _shares(counts: NDArray[np.int64]) -> list[list[tuple[float, int]]]:
    """Return each cell's share of its row, and its pixels."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        [(round(float(share), 6), int(count)) for share, count in zip(*rows, strict=True)]
        for rows in zip(shares, counts, strict=True)
    ]


def _or_least(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
