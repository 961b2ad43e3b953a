"""Scores of predicted rows: of a table there are no maps to score, only rows with weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.metrics.confusion import plain_prediction, weighted_counts
from data.metrics.metric import CLASS_METRICS
from data.scenes.classes import Classes
from ensemble.score.scores import suitable_metrics

__all__ = ["RowScores", "score_rows"]


@dataclass(frozen=True)
class RowScores:
    """Scores by name, pooled over all rows and within each fold."""

    pooled: Mapping[str, float]
    by_fold: Mapping[int, Mapping[str, float]]

    def lines(self) -> list[str]:
        """Write each score, with the least and the most of the folds."""
        lines = []
        for name, value in self.pooled.items():
            folds = [scores[name] for scores in self.by_fold.values() if math.isfinite(scores[name])]
            spread = f" (folds {min(folds):.4f} to {max(folds):.4f})" if folds else ""
            lines.append(f"{name} {value:.4f}{spread}")
        return lines


def score_rows(
    label: NDArray[np.uint8],
    proba: NDArray[np.float32],
    weight: NDArray[np.float32],
    fold: NDArray[np.integer],
    classes: Classes,
) -> RowScores:
    """Score rows that were predicted out of fold, at a threshold of 0.5 or by the likeliest class.

    Parameters
    ----------
    label : (n,) uint8
        Label index.
    proba : (n, n_classes) float32
    weight : (n,) float32
        Pixels that each row stands for.
    fold : (n,) int
    classes : Classes
    """
    folds: Sequence[int] = np.unique(fold).tolist()
    return RowScores(
        _scores(label, proba, weight, classes),
        {k: _scores(label[fold == k], proba[fold == k], weight[fold == k], classes) for k in folds},
    )


def _scores(
    label: NDArray[np.uint8], proba: NDArray[np.float32], weight: NDArray[np.float32], classes: Classes
) -> dict[str, float]:
    names = classes.label_names
    counts = weighted_counts(label, plain_prediction(proba), weight.astype(np.float64), len(names))
    scores = {metric.title: float(metric.score(counts[None])) for metric in suitable_metrics(classes).values()}
    scores |= {
        f"F1 of {name}": float(value) for name, value in zip(names, CLASS_METRICS["dice"].score(counts), strict=True)
    }
    if classes.task == "binary":
        from sklearn.metrics import roc_auc_score

        both = len(np.unique(label)) == 2
        scores["AUC"] = float(roc_auc_score(label, proba[:, 0], sample_weight=weight)) if both else float("nan")
    return scores
