"""The table of scores: every candidate, every metric, pooled, by scene, class and fold, with intervals."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data.errors import EnsembleError
from data.metrics.metric import CLASS_METRICS, METRICS, Metric
from data.records import FileKind, read_parquet, write_parquet
from data.scenes.classes import Classes
from ensemble.objective import Objective, objective_of
from ensemble.score.evaluation import Evaluation
from ensemble.score.intervals import Estimate, GroupCounts, Interval
from ensemble.settings import EnsembleSettings

__all__ = ["OBJECTIVE", "label_metrics", "read_scores", "score_table", "suitable_metrics", "write_scores"]

OBJECTIVE = "objective"
"""What is optimised, among the table's metrics; it may be none of the others."""

SCHEMA = {
    "split": pl.String,
    "candidate": pl.String,
    "scope": pl.String,
    "label": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}

WAYS = {"micro": "", "macro": "macro_"}
"""How scores of tags are averaged, and what the names of objectives begin with then."""

SCORES = FileKind("a table of scores", EnsembleError, "terrablend ensemble")

Row = dict[str, Any]


def suitable_metrics(classes: Classes) -> dict[str, Objective]:
    """Return the scores of whole maps that suit a task, by name: those of one positive class only where there is one.

    Of tags, ``micro`` adds the counts of all tags before it scores, ``macro`` averages the scores of the tags.
    """
    if classes.task == "multilabel":
        names = {f"{way}_{name}": f"{key}{name}" for name in ("dice", "f2", "iou") for way, key in WAYS.items()}
    else:
        names = {name: name for name in METRICS if classes.task == "binary" or name not in ("dice", "iou")}
    return {
        key: objective_of(EnsembleSettings.model_validate({"metric": name}), classes) for key, name in names.items()
    }


def label_metrics(classes: Classes) -> dict[str, Metric]:
    """Return the scores (…, n) of each of ``classes.label_names``, by name; of a tag those of having it."""
    return {name: _of_labels(metric, classes) for name, metric in CLASS_METRICS.items()}


def score_table(evaluations: Sequence[Evaluation], classes: Classes, settings: EnsembleSettings) -> pl.DataFrame:
    """Score every candidate.

    Parameters
    ----------
    evaluations : sequence of Evaluation
    classes : Classes
    settings : EnsembleSettings

    Returns
    -------
    table : DataFrame
        ``split``, ``candidate``, ``scope``, ``label`` (empty for scores over all classes), ``metric`` (`OBJECTIVE` is
        what is optimised), ``value``, and ``low`` and ``high`` of an interval over groups. Scopes are

        - ``pooled``: of the counts of all scenes together;
        - ``scene mean``: the mean over scenes of each one's own score, where it has one;
        - ``gain``, ``scene gain``: what is used minus this candidate, paired, of the one and the other;
        - ``fold K``: pooled within a fold; and ``folds``: their mean, the least and the most.
    """
    objective = objective_of(settings, classes)
    rows = [row for evaluation in evaluations for row in _rows(evaluation, classes, objective, settings)]
    return pl.DataFrame(rows, schema=SCHEMA)


def write_scores(table: pl.DataFrame, path: Path) -> None:
    """Write the table as parquet."""
    write_parquet(path, table.to_arrow())


def read_scores(path: Path) -> pl.DataFrame:
    """Read what `write_scores` wrote; raises EnsembleError if it is missing or damaged."""
    return pl.DataFrame(read_parquet(path, SCORES))


def _rows(evaluation: Evaluation, classes: Classes, objective: Objective, settings: EnsembleSettings) -> Iterator[Row]:
    pooled = evaluation.by_group()
    final = _estimates(pooled[evaluation.final], classes, objective)
    for candidate, counts in pooled.items():
        place = {"split": evaluation.split, "candidate": candidate}
        for (scope, of_labels, name), estimate in _estimates(counts, classes, objective).items():
            labels = classes.label_names if of_labels else ("",)
            for label, interval in zip(labels, estimate.intervals(settings.confidence_level), strict=True):
                yield place | _row(scope, label, name, interval)
            if candidate != evaluation.final:
                gain = final[scope, of_labels, name] - estimate
                gains = "gain" if scope == "pooled" else "scene gain"
                for label, interval in zip(labels, gain.intervals(settings.confidence_level), strict=True):
                    yield place | _row(gains, label, name, interval)
        for row in _fold_rows(evaluation, candidate, classes, objective):
            yield place | row


def _estimates(counts: GroupCounts, classes: Classes, objective: Objective) -> dict[tuple[str, bool, str], Estimate]:
    """Return all scores of a candidate by scope, whether they are those of each label, and name."""
    estimates = {("scene mean" if objective.by_scene else "pooled", False, OBJECTIVE): counts.score(objective)}
    for name, whole in suitable_metrics(classes).items():
        estimates["pooled", False, name] = counts.score(whole)
        estimates["scene mean", False, name] = counts.scene_mean(whole.score)
    for name, metric in label_metrics(classes).items():
        estimates["pooled", True, name] = counts.pooled(metric.score, classes.places)
    return estimates


def _fold_rows(evaluation: Evaluation, candidate: str, classes: Classes, objective: Objective) -> Iterator[Row]:
    folds = sorted(set(evaluation.folds.values()))
    scores: dict[str, list[float]] = {}
    for fold in folds:
        scenes = evaluation.stack(candidate, fold)
        scores.setdefault(OBJECTIVE, []).append(float(objective.over(scenes)))
        for name, metric in suitable_metrics(classes).items():
            scores.setdefault(name, []).append(float(metric.score(scenes.sum(axis=0))))
    for name, values in scores.items():
        for fold, value in zip(folds, values, strict=True):
            yield _row(f"fold {fold}", "", name, Interval(value, np.nan, np.nan))
        seen = [value for value in values if np.isfinite(value)] or [np.nan]
        yield _row("folds", "", name, Interval(float(np.mean(seen)), min(seen), max(seen)))


def _row(scope: str, label: str, metric: str, interval: Interval) -> Row:
    place = {"scope": scope, "label": label, "metric": metric}
    return place | {"value": interval.value, "low": interval.low, "high": interval.high}


def _of_labels(metric: Metric, classes: Classes) -> Metric:
    questions, labels = map(list, zip(*classes.places, strict=True))
    meaning = metric.meaning.replace("class", "tag") if classes.task == "multilabel" else metric.meaning
    return Metric(metric.title, meaning, lambda counts: metric.score(counts)[..., questions, labels])
