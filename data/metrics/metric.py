"""Scores from confusion counts; the meaning of each names what it pools and over which classes.

All take counts (…, n_labels, n_labels + 1) as `data.metrics.confusion.confusion_counts` gives them and reduce the last
two axes, so one call scores any number of thresholds or groups left out. A score without a pixel to it is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLASS_METRICS",
    "METRICS",
    "Counts",
    "Metric",
    "MetricName",
    "Scores",
    "expected_cost",
    "fbeta",
    "labelled",
    "nan_mean",
    "precision_at",
    "recall_at",
]

MetricName = Literal["dice", "iou", "macro_dice", "macro_iou", "accuracy", "kappa"]

Counts = Any
"""(…, n_labels, n_labels + 1) array of int64 or, weighted, float64."""
Scores = NDArray[np.float64]

FEW = 8
"""Below so many numbers numpy adds one after the other."""


@dataclass(frozen=True)
class Metric:
    """A score.

    Parameters
    ----------
    title : str
    meaning : str
        What it pools and averages over.
    score : callable
        Counts (…, n_labels, n_labels + 1) → scores (…), or (…, n_labels) for those of each class.
    """

    title: str
    meaning: str
    score: Callable[[Counts], Scores]


def _divide(part: Counts, whole: Counts) -> Scores:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _add_up(counts: Counts, axis: int) -> Counts:
    """Return the sum along an axis; along a short one of large counts plane by plane: 50 times as fast, bit for bit."""
    if 0 < counts.shape[axis] < FEW and counts.dtype.itemsize == 8:
        return reduce(add, np.moveaxis(counts, axis, 0))
    return counts.sum(axis=axis)


def _hits(counts: Counts) -> Counts:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def labelled(counts: Counts) -> Counts:
    """Return the pixels of each label, (…, n_labels)."""
    return _add_up(counts, -1)


def _predicted(counts: Counts) -> Counts:
    return _add_up(counts[..., :-1], -2)


def _class_iou(counts: Counts) -> Scores:
    hits = _hits(counts)
    return _divide(hits, labelled(counts) + _predicted(counts) - hits)


def _class_dice(counts: Counts) -> Scores:
    return _divide(2 * _hits(counts), labelled(counts) + _predicted(counts))


def _accuracy(counts: Counts) -> Scores:
    return _divide(_add_up(_hits(counts), -1), counts.sum(axis=(-2, -1)))


def _kappa(counts: Counts) -> Scores:
    # Agreement of two raters is that of what both have rated: pixels without a prediction are no part of it.
    rated = np.asarray(counts[..., :-1], np.float64)
    total = rated.sum(axis=(-2, -1))
    chance = _divide((rated.sum(axis=-1) * rated.sum(axis=-2)).sum(axis=-1), total**2)
    return _divide(_divide(_hits(rated).sum(axis=-1), total) - chance, 1 - chance)


def nan_mean(scores: Scores, axis: int = -1) -> Scores:
    """Return the mean of what is not NaN along an axis; NaN where nothing is."""
    seen = np.isfinite(scores)
    return _divide(_add_up(np.where(seen, scores, 0), axis), seen.sum(axis=axis))


def fbeta(beta: float) -> Metric:
    """Return F-beta of each class: recall counts β times as much as precision (van Rijsbergen 1979)."""
    title = f"F{beta:g}"
    square = beta**2

    def score(counts: Counts) -> Scores:
        return _divide((1 + square) * _hits(counts), square * labelled(counts) + _predicted(counts))

    return Metric(title, f"{title}, in which recall counts {beta:g} times as much as precision", score)


def precision_at(recall: float) -> Metric:
    """Return the precision of each class if its recall is at least so high; else, below 0, what recall lacks."""

    def score(counts: Counts) -> Scores:
        reached = _divide(_hits(counts), labelled(counts))
        # A recall above 0 has hits, and with them a precision.
        return np.where(reached >= recall - 1e-12, _divide(_hits(counts), _predicted(counts)), reached - recall)

    title = f"precision at recall ≥ {recall:g}"
    return Metric(title, f"{title} (below 0: what recall lacks)", score)


def recall_at(precision: float) -> Metric:
    """Return the recall of each class if its precision is at least so high; else, below 0, what precision lacks.

    Nothing is wrong where nothing is predicted, so recall is then 0 at any precision.
    """

    def score(counts: Counts) -> Scores:
        hits, whole = _hits(counts), labelled(counts)
        reached = np.where(_predicted(counts) > 0, _divide(hits, _predicted(counts)), 1.0)
        scores = np.where(reached >= precision - 1e-12, _divide(hits, whole), reached - precision)
        return np.where(whole > 0, scores, np.nan)

    title = f"recall at precision ≥ {precision:g}"
    return Metric(title, f"{title} (below 0: what precision lacks)", score)


def expected_cost(costs: NDArray[np.float64]) -> Metric:
    """Return minus the mean cost of a labelled pixel.

    Parameters
    ----------
    costs : (n_labels, n_labels) float64
        Of what is labelled as the row and predicted as the column. A pixel without a prediction costs as much as the
        dearest error of its label.
    """
    matrix = np.column_stack([costs, costs.max(axis=1)])

    def score(counts: Counts) -> Scores:
        return -_divide((counts * matrix).sum(axis=(-2, -1)), counts.sum(axis=(-2, -1)))

    return Metric("minus cost", "minus the mean cost of a pixel: the nearer to 0, the better", score)


METRICS: dict[MetricName, Metric] = {
    "dice": Metric("Dice", "Dice (F1) of the positive class, pooled over all pixels", lambda c: _class_dice(c)[..., 1]),
    "iou": Metric("IoU", "IoU of the positive class, pooled over all pixels", lambda c: _class_iou(c)[..., 1]),
    "macro_dice": Metric(
        "macro Dice",
        "mean over the classes, background too, of their pooled Dice (F1)",
        lambda c: nan_mean(_class_dice(c)),
    ),
    "macro_iou": Metric(
        "macro IoU",
        "mean over the classes, background too, of their pooled IoU (mIoU)",
        lambda c: nan_mean(_class_iou(c)),
    ),
    "accuracy": Metric("accuracy", "share of all pixels that are right (overall accuracy)", _accuracy),
    "kappa": Metric("kappa", "Cohen's kappa over all pixels that have a prediction", _kappa),
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
        lambda c: _divide(_hits(c), labelled(c)),
    ),
}
"""Scores of each class."""
