"""The report: one HTML file that works offline, verdict first."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from data.catalogue import Catalogue
from data.classes import Classes
from data.files import replacing
from data.metrics import CLASS_METRICS, METRICS
from data.progress import Track, untracked
from data.quicklook import ERROR_COLORS
from ensemble.axis import Axis, minus
from ensemble.ensemble import Ensemble
from ensemble.evaluation import BLEND, Evaluation
from ensemble.explained import explained_rows
from ensemble.maps import MemberMaps
from ensemble.scores import suitable_metrics
from ensemble.settings import EnsembleSettings
from ensemble.thumbnails import Quicklook, draw_thumbnails
from features.description import TableFacts
from trees.explanation import Explanation

__all__ = ["write_report"]

EXAMPLES = 2
"""Scenes shown of the best, the middling and the worst each."""

FEATURES, PAIRS = 24, 8
"""Columns of the pixel table that are shown, and correlated pairs of them."""

Row = dict[str, Any]


def write_report(
    path: Path,
    ensemble: Ensemble,
    evaluations: Sequence[Evaluation],
    scores: pl.DataFrame,
    maps: MemberMaps,
    catalogue: Catalogue,
    settings: EnsembleSettings,
    *,
    name: str,
    quicklook: Quicklook,
    notes: Sequence[str] = (),
    features: TableFacts | None = None,
    explanations: Sequence[Explanation] = (),
    track: Track = untracked,
) -> None:
    """Write the report of a fitted ensemble.

    Parameters
    ----------
    path : Path
        Ends in ``.html``.
    ensemble : Ensemble
    evaluations : sequence of Evaluation
        As `ensemble.fit.fit_ensemble` returns them.
    scores : DataFrame
        As `ensemble.scores.score_table` returns it.
    maps : MemberMaps
    catalogue : Catalogue
    settings : EnsembleSettings
    name : str
        Of the experiment.
    quicklook : callable
        (scene, window) → picture (H, W, 3) uint8; this folder never reads imagery itself.
    notes : sequence of str
        What else the reader should know, such as on folds and leakage.
    features : TableFacts, optional
        What the columns of the pixel table are.
    explanations : sequence of Explanation
        What tree members look at; of columns that ``features`` tells of.
    track : Track
    """
    environment = Environment(
        loader=PackageLoader("ensemble", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(minus=minus, many=_many, percent=_percent, short=_short)
    nested, classes = evaluations[0], catalogue.classes
    final = _final(ensemble)
    scenes = {scene.id: scene for scene in catalogue.split("train")}
    examples = [
        {
            "place": place,
            "scene": scene,
            "score": score,
            "fold": nested.folds[scene],
            "pictures": draw_thumbnails(
                scenes[scene], maps, nested.decisions[nested.folds[scene]][final], classes, quicklook
            ),
        }
        for place, scene, score in track(_choose_examples(nested, ensemble), "report", 3 * EXAMPLES)
    ]
    page = environment.get_template("report.html").render(
        name=name,
        ensemble=ensemble,
        metric=METRICS[ensemble.metric],
        binary=classes.task == "binary",
        label_names=classes.label_names,
        colors=[_hex(color) for color in classes.label_colors],
        coverage=_percent(settings.interval),
        sections=[_section(evaluation, scores, ensemble, classes) for evaluation in evaluations],
        metrics=[METRICS[one] for one in suitable_metrics(classes.task)],
        class_metrics=CLASS_METRICS,
        folds=_fold_rows(scores, ensemble),
        fold_axis=Axis.spanning(_fold_scores(scores, ensemble)["value"]),
        decisions=_decision_rows(nested, ensemble),
        examples=examples,
        columns=["scene", "label", *maps.names, "map", "errors"],
        notes=notes,
        features=None if features is None else _feature_rows(features),
        n_features=0 if features is None else len(features.columns),
        pairs=[] if features is None else [pair for pair in features.pairs if pair[2] > 0][:PAIRS],
        explained=[] if features is None else explained_rows(explanations, features),
        error_colors={name: _hex(color) for name, color in ERROR_COLORS.items()},
    )
    with replacing(path) as temporary:
        temporary.write_text(page, "utf-8")


def _final(ensemble: Ensemble) -> str:
    """Return the candidate that is used."""
    return BLEND if len(ensemble.used) > 1 else ensemble.used[0]


def _section(evaluation: Evaluation, scores: pl.DataFrame, ensemble: Ensemble, classes: Classes) -> Row:
    """Return the tables of one split."""
    part = scores.filter(pl.col("split") == evaluation.split)
    pooled = part.filter(pl.col("label") == "")
    own = pooled.filter(pl.col("metric") == ensemble.metric)
    whole = {row["candidate"]: row for row in own.filter(pl.col("scope") == "all").rows(named=True)}
    gains = {row["candidate"]: row for row in own.filter(pl.col("scope") == "gain").rows(named=True)}
    if len(ensemble.members) == 1:
        # With nobody to blend with, the blend is the member.
        del whole[BLEND]
        gains = {}
    axis = Axis.spanning(row[key] for row in whole.values() for key in ("value", "low", "high"))
    gain_axis = Axis.spanning([0.0, *(row[key] for row in gains.values() for key in ("value", "low", "high"))])
    ranked = sorted(whole, key=lambda candidate: -_or_least(whole[candidate]["value"]))
    final = _final(ensemble)
    counts = evaluation.total(final)
    labelled = counts.sum(axis=1)
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
        "others": [
            (one, [_value(pooled, one, "", metric, "all") for metric in suitable_metrics(classes.task)],
             _value(pooled, one, "", ensemble.metric, "scene mean"))
            for one in ranked
        ],
        "classes": [
            {
                "label": label,
                "pixels": int(labelled[index]),
                "share": float(labelled[index] / max(labelled.sum(), 1)),
                "rows": [(one, [_value(part, one, label, metric, "all") for metric in CLASS_METRICS])
                         for one in ranked],
            }
            for index, label in enumerate(classes.label_names)
        ],
        "confusion": _confusion(counts),
        "unseen": bool(counts[:, -1].any()),
    }  # fmt: skip


def _mark(row: Row, axis: Axis) -> Row:
    """Return a score, its interval and where they lie on an axis."""
    ends = (row["low"], row["high"]) if math.isfinite(row["low"]) else (row["value"], row["value"])
    low, high = sorted(axis.place(end) for end in ends)
    return {**row, "at": axis.place(row["value"]), "from": low, "width": round(high - low, 2)}


def _value(scores: pl.DataFrame, candidate: str, label: str, metric: str, scope: str) -> float:
    found = scores.filter(
        (pl.col("candidate") == candidate)
        & (pl.col("label") == label)
        & (pl.col("metric") == metric)
        & (pl.col("scope") == scope)
    )
    return float(found["value"][0])


def _confusion(counts: NDArray[np.int64]) -> list[list[tuple[float, int]]]:
    """Return each cell's share of its row, and its pixels."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        [(round(float(share), 4), int(count)) for share, count in zip(*rows, strict=True)]
        for rows in zip(shares, counts, strict=True)
    ]


def _fold_scores(scores: pl.DataFrame, ensemble: Ensemble) -> pl.DataFrame:
    unique = pl.col("candidate") != BLEND if len(ensemble.members) == 1 else pl.lit(True)
    own = (pl.col("split") == "train") & (pl.col("metric") == ensemble.metric) & unique
    return scores.filter(own & pl.col("scope").str.starts_with("fold"))


def _fold_rows(scores: pl.DataFrame, ensemble: Ensemble) -> list[Row]:
    part = _fold_scores(scores, ensemble)
    axis = Axis.spanning(part["value"])
    rows = []
    for candidate in part["candidate"].unique(maintain_order=True):
        values = part.filter(pl.col("candidate") == candidate)["value"].to_list()
        finite = [value for value in values if math.isfinite(value)]
        rows.append(
            {
                "name": candidate,
                "final": candidate == _final(ensemble),
                "values": values,
                "dots": [axis.place(value) for value in finite],
                "spread": max(finite) - min(finite) if finite else float("nan"),
            }
        )
    return rows


def _decision_rows(nested: Evaluation, ensemble: Ensemble) -> list[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Return the weights and thresholds of the blend found without each fold, and those that are used."""
    rows = [
        (f"without fold {fold}", found[BLEND].weights, found[BLEND].thresholds)
        for fold, found in sorted(nested.decisions.items())
    ]
    weights = tuple(ensemble.weights_[member] for member in ensemble.members)
    return [*rows, ("used", weights, ensemble.thresholds_)]


def _feature_rows(facts: TableFacts) -> list[Row]:
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


def _choose_examples(evaluation: Evaluation, ensemble: Ensemble) -> list[tuple[str, str, float]]:
    """Return the best, the middling and the worst scenes by the metric, where it has a meaning."""
    counts = evaluation.counts[_final(ensemble)]
    scores = {scene: float(METRICS[ensemble.metric].of(one)) for scene, one in counts.items()}
    # Of equal scores, such as 0, the one with more wrong pixels is the worse.
    wrong = {scene: int(one.sum() - np.trace(one)) for scene, one in counts.items()}
    ranked = sorted(
        (scene for scene in scores if math.isfinite(scores[scene])),
        key=lambda scene: (-scores[scene], wrong[scene], scene),
    )
    middle = max(0, len(ranked) // 2 - EXAMPLES // 2)
    places = {
        "best": ranked[:EXAMPLES], "middling": ranked[middle : middle + EXAMPLES], "worst": ranked[-EXAMPLES:]
    }  # fmt: skip
    chosen: dict[str, tuple[str, str, float]] = {}
    for place, some in places.items():
        for scene in some:
            chosen.setdefault(scene, (place, scene, scores[scene]))
    return list(chosen.values())


def _or_least(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _hex(color: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _many(count: int) -> str:
    """Write a count with thin spaces between thousands."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _short(value: float) -> str:
    """Write a value with three digits that matter, and no power of ten where it can be helped.

    >>> _short(1234.5), _short(-0.0123), _short(1.5e9), _short(float("nan"))
    ('1234', '\N{MINUS SIGN}0.0123', '1.5e+09', '–')
    """
    if not math.isfinite(value):
        return "–"
    return minus(f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}")


def _percent(share: float) -> str:
    """Write a share with as many digits as it deserves.

    >>> _percent(0.9137), _percent(0.0068), _percent(0.95), _percent(0)
    ('91%', '0.68%', '95%', '0%')
    """
    digits = 0 if share >= 0.095 or not share else 1 if share >= 0.0095 else 2
    return f"{100 * share:.{digits}f}%"
