"""Scores from confusion counts. Each says in words what it pools and over which classes.

All take counts (…, n_labels, n_labels + 1) as `data.confusion.confusion_counts` gives them and reduce the last two
axes, so one call scores any number of thresholds or bootstrap resamples. A score without a pixel to it is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASS_METRICS", "METRICS", "Metric", "MetricName"]

MetricName = Literal["dice", "iou", "macro_dice", "macro_iou", "accuracy", "kappa"]

Counts = Any
"""(…, n_labels, n_labels + 1) array of int64 or, weighted, float64."""
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A score.

    Parameters
    ----------
    title : str
    meaning : str
        What it pools and averages over.
    of : callable
        Counts (…, n_labels, n_labels + 1) → scores (…), or (…, n_labels) for those of each class.
    """

    title: str
    meaning: str
    of: Callable[[Counts], Scores]


def _divide(part: Counts, whole: Counts) -> Scores:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _hits(counts: Counts) -> Counts:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _labelled(counts: Counts) -> Counts:
    return counts.sum(axis=-1)


def _predicted(counts: Counts) -> Counts:
    return counts[..., :-1].sum(axis=-2)


def _class_iou(counts: Counts) -> Scores:
    hits = _hits(counts)
    return _divide(hits, _labelled(counts) + _predicted(counts) - hits)


def _class_dice(counts: Counts) -> Scores:
    return _divide(2 * _hits(counts), _labelled(counts) + _predicted(counts))


def _accuracy(counts: Counts) -> Scores:
    return _divide(_hits(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def _kappa(counts: Counts) -> Scores:
    total = counts.sum(axis=(-2, -1))
    chance = _divide(
        (_labelled(counts) * _predicted(counts).astype(np.float64)).sum(axis=-1), total.astype(np.float64) ** 2
    )
    return _divide(_accuracy(counts) - chance, 1 - chance)


def _mean(scores: Scores) -> Scores:
    seen = np.isfinite(scores)
    return _divide(np.where(seen, scores, 0).sum(axis=-1), seen.sum(axis=-1))


METRICS: dict[MetricName, Metric] = {
    "dice": Metric("Dice", "Dice (F1) of the positive class, pooled over all pixels", lambda c: _class_dice(c)[..., 1]),
    "iou": Metric("IoU", "IoU of the positive class, pooled over all pixels", lambda c: _class_iou(c)[..., 1]),
    "macro_dice": Metric(
        "macro Dice",
        "mean over the classes, background too, of their pooled Dice (F1)",
        lambda c: _mean(_class_dice(c)),
    ),
    "macro_iou": Metric(
        "macro IoU", "mean over the classes, background too, of their pooled IoU (mIoU)", lambda c: _mean(_class_iou(c))
    ),
    "accuracy": Metric("accuracy", "share of all pixels that are right (overall accuracy)", _accuracy),
    "kappa": Metric("kappa", "Cohen's kappa over all pixels", _kappa),
}
"""Scores of a whole map, by the name they have in experiment files."""

CLASS_METRICS: dict[str, Metric] = {
    "iou": Metric("IoU", "pooled IoU of each class", _class_iou),
    "dice": Metric("Dice", "pooled Dice (F1) of each class", _class_dice),
    "precision": Metric(
        "precision",
        "share of what is mapped as a class that is it (user's accuracy)",
        lambda c: _divide(_hits(c), _predicted(c)),
    ),
    "recall": Metric(
        "recall",
        "share of a class that is mapped as it (producer's accuracy)",
        lambda c: _divide(_hits(c), _labelled(c)),
    ),
}
"""Scores of each class."""
