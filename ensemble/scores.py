"""The table of scores: every candidate, every metric, pooled and by class and fold, with intervals."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data.files import replacing
from data.metrics import CLASS_METRICS, METRICS, MetricName
from ensemble.evaluation import BLEND, Evaluation
from ensemble.intervals import Interval, score_interval
from ensemble.settings import EnsembleSettings

__all__ = ["score_table", "suitable_metrics", "write_scores"]

SCHEMA = {
    "split": pl.String, "candidate": pl.String, "scope": pl.String, "label": pl.String, "metric": pl.String,
    "value": pl.Float64, "low": pl.Float64, "high": pl.Float64,
}  # fmt: skip


def suitable_metrics(task: str) -> list[MetricName]:
    """Return the metrics that suit a task: those of one positive class only where there is one."""
    return [name for name in METRICS if task == "binary" or name not in ("dice", "iou")]


def score_table(
    evaluations: Sequence[Evaluation], label_names: Sequence[str], task: str, settings: EnsembleSettings, seed: int
) -> pl.DataFrame:
    """Score every candidate.

    Parameters
    ----------
    evaluations : sequence of Evaluation
    label_names : sequence of str
    task : {"binary", "multiclass"}
    settings : EnsembleSettings
    seed : int

    Returns
    -------
    table : DataFrame
        ``split``, ``candidate``, ``scope`` (``all``, ``fold K``, ``gain`` of the blend over a member, ``scene mean``),
        ``label`` (empty for scores over all classes), ``metric``, ``value``, ``low`` and ``high``.
    """
    rows = [row for evaluation in evaluations for row in _rows(evaluation, label_names, task, settings, seed)]
    return pl.DataFrame(rows, schema=SCHEMA)


def write_scores(table: pl.DataFrame, path: Path) -> None:
    """Write the table as parquet."""
    with replacing(path) as temporary:
        table.write_parquet(temporary)


def _rows(
    evaluation: Evaluation, label_names: Sequence[str], task: str, settings: EnsembleSettings, seed: int
) -> Iterator[dict[str, Any]]:
    pooled = evaluation.pool(settings.resamples, seed)
    coverage = settings.interval

    def row(candidate: str, scope: str, label: str, metric: str, interval: Interval) -> dict[str, Any]:
        place = {"split": evaluation.split, "candidate": candidate, "scope": scope, "label": label, "metric": metric}
        return place | {"value": interval.value, "low": interval.low, "high": interval.high}

    for candidate, scenes in evaluation.counts.items():
        for name in suitable_metrics(task):
            metric = METRICS[name]
            yield row(candidate, "all", "", name, score_interval(pooled[candidate], metric, coverage)[0])
            if BLEND in pooled and candidate != BLEND:
                gain = score_interval(pooled[BLEND], metric, coverage, against=pooled[candidate])[0]
                yield row(candidate, "gain", "", name, gain)
            for fold in sorted(set(evaluation.folds.values())):
                value = float(metric.of(evaluation.total(candidate, fold)))
                yield row(candidate, f"fold {fold}", "", name, Interval(value, np.nan, np.nan))
            single = metric.of(np.stack(list(scenes.values())))
            # A scene in which the score has no meaning, such as Dice without positives, is left out of the mean.
            mean = float(np.nanmean(single)) if np.isfinite(single).any() else np.nan
            yield row(candidate, "scene mean", "", name, Interval(mean, np.nan, np.nan))
        for class_name, class_metric in CLASS_METRICS.items():
            intervals = score_interval(pooled[candidate], class_metric, coverage)
            for label, interval in zip(label_names, intervals, strict=True):
                yield row(candidate, "all", label, class_name, interval)
