"""The report: one HTML file that works offline, verdict first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from data.pages.numbers import format_percent
from data.pages.page import label_marks, write_page
from data.pages.quicklook import ERROR_COLORS
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.scene import Split
from ensemble.audit.label_audit import Audit
from ensemble.decide.cleaning import Masks, no_masks
from ensemble.ensemble import Ensemble
from ensemble.maps import MemberMaps
from ensemble.objective import Objective, objective_of
from ensemble.report.audit_section import crop_rows
from ensemble.report.explained import explained_rows
from ensemble.report.features_section import feature_pairs, feature_rows
from ensemble.report.gallery import draw_gallery
from ensemble.report.scores_section import (
    ablation_rows,
    area_rows,
    choice_rows,
    decision_rows,
    fold_rows,
    score_section,
)
from ensemble.report.thresholds_section import threshold_section
from ensemble.report.thumbnails import Quicklook
from ensemble.score.ablation import Ablation
from ensemble.score.areas import Areas
from ensemble.score.evaluation import Evaluation
from ensemble.settings import EnsembleSettings
from features.description import TableFacts
from features.explanation import Explanation

__all__ = ["StageTime", "write_report"]

FIRST = 12
"""Scenes of the gallery that are shown before the button is pressed."""
Row = dict[str, Any]


@dataclass(frozen=True)
class StageTime:
    """What a stage of the run took: seconds, and the most memory in MiB."""

    stage: str
    seconds: float
    mib: int


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
    masks: Masks = no_masks,
    ablations: Sequence[Ablation] = (),
    areas: Mapping[Split, Areas] | None = None,
    audit: Audit | None = None,
    notes: Sequence[str] = (),
    features: TableFacts | None = None,
    explanations: Sequence[Explanation] = (),
    timings: Sequence[StageTime] = (),
    track: Track = untracked,
) -> None:
    """Write the report of a fitted ensemble.

    Parameters
    ----------
    path : Path
        Ends in ``.html``.
    ensemble : Ensemble
    evaluations : sequence of Evaluation
        As `ensemble.fit.fit_ensemble` returns them: the first is nested.
    scores : DataFrame
        As `ensemble.score.scores.score_table` returns it.
    maps : MemberMaps
    catalogue : Catalogue
    settings : EnsembleSettings
    name : str
        Of the experiment.
    quicklook : callable
        (scene, window) → picture (H, W, 3) uint8; this folder never reads imagery itself.
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    ablations : sequence of Ablation
    areas : mapping of str to Areas, optional
        By split, those that there are.
    audit : Audit, optional
    notes : sequence of str
        What else the reader should know, such as on folds and leakage.
    features : TableFacts, optional
        What the columns of the pixel table are.
    explanations : sequence of Explanation
        What tree members look at; of columns that ``features`` tells of.
    timings : sequence of StageTime
    track : Track
    """
    nested, classes = evaluations[0], catalogue.classes
    objective, marks = objective_of(settings, classes), label_marks(classes)
    folds, fold_axis, fold_names = fold_rows(scores, nested, ensemble.members)
    parts, ablation_axis = ablation_rows(ablations)
    shown = _shown_scores(nested, objective)
    gallery = draw_gallery(nested, shown, maps, catalogue, quicklook, masks, track)
    crops = crop_rows(audit, nested, maps, catalogue, quicklook, masks) if audit else []
    tables: Row = {
        "areas": area_rows(areas or {}),
        "features": [] if features is None else feature_rows(features),
        "explained": [] if features is None else explained_rows(explanations, features),
        "audit": crops,
        "timings": _time_rows(timings),
    }
    write_page(
        path,
        "ensemble.report",
        "report.html",
        name=name,
        ensemble=ensemble,
        metric=objective,
        coverage=format_percent(settings.interval),
        binary=classes.task == "binary",
        exclusive=classes.task == "multiclass",
        multilabel=classes.task == "multilabel",
        unit="scenes" if classes.task == "multilabel" else "px",
        marks=marks,
        mark_of={mark.label: mark for mark in marks},
        own_marks=marks[-len(classes.names) :],
        final=nested.final,
        weights=list(zip(ensemble.members, ensemble.decision.weights, strict=True)),
        thresholds=ensemble.decision.thresholds,
        contents=_contents(evaluations, tables),
        sections=[score_section(one, scores, ensemble.members, classes, objective) for one in evaluations],
        ablations=parts,
        ablation_axis=ablation_axis,
        folds=folds,
        fold_axis=fold_axis,
        fold_names=fold_names,
        decisions=decision_rows(nested.decisions, nested.final, ensemble.decision),
        choices=choice_rows(ensemble.choices_),
        notes=notes,
        n_features=0 if features is None else len(features.columns),
        pairs=[] if features is None else feature_pairs(features),
        gallery=gallery,
        n_first=FIRST,
        n_scenes=sum(map(math.isfinite, shown.values())),
        unscored=sum(not math.isfinite(score) for score in shown.values()),
        columns=["scene", "label", *maps.names, "map", "errors"],
        crop_columns=["scene", "label", "map"],
        error_colors={kind: "#{:02x}{:02x}{:02x}".format(*color) for kind, color in ERROR_COLORS.items()},
        shown_errors=_error_names(classes),
        **threshold_section(ensemble.decision, nested, maps, catalogue, track),
        **tables,
    )


def _shown_scores(nested: Evaluation, objective: Objective) -> dict[str, float]:
    """Return each scene's own score."""
    return {scene: float(objective.of(counts)) for scene, counts in nested.counts[nested.final].items()}


def _time_rows(timings: Sequence[StageTime]) -> list[Row]:
    longest = max((one.seconds for one in timings), default=0) or 1
    return [
        {
            "stage": one.stage,
            "length": round(100 * one.seconds / longest, 1),
            "time": _say_time(one.seconds),
            "mib": one.mib,
        }
        for one in timings
    ]


def _say_time(seconds: float) -> str:
    """Write a time in the unit that suits it.

    >>> _say_time(4.24), _say_time(75), _say_time(7500)
    ('4.2 s', '1 min 15 s', '2 h 05 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _error_names(classes: Classes) -> dict[str, str]:
    """Return what the colours of errors are called, those that occur."""
    rest = {"unknown": "ignored or not predicted"}
    if classes.task == "binary":
        return {"hit": "hit", "miss": "missed", "false alarm": "false alarm", **rest}
    return {"wrong": "wrong", **rest}


def _contents(evaluations: Sequence[Evaluation], tables: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the sections of the page: anchor and title."""
    titles = {"train": "Out of fold", "val": "Validation split"}
    after = [("features", "Features"), ("explained", "What the trees look at"), ("audit", "Labels to look at again")]
    anchors = {"explained": "trees"}
    return [
        *((one.split, titles[one.split]) for one in evaluations),
        *([("areas", "Areas")] if tables["areas"] else []),
        ("thresholds", "Thresholds"),
        ("folds", "Fold by fold"),
        *((anchors.get(key, key), title) for key, title in after if tables[key]),
        ("scenes", "Scenes"),
        *([("timings", "Time and memory")] if tables["timings"] else []),
    ]
