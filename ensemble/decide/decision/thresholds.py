"""Thresholds: what they make of a map, and the best one of pixels counted by label and probability."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.compiled import compiled
from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import IGNORE, Classes
from ensemble.objective import Objective

__all__ = [
    "HALF",
    "Thresholds",
    "best_choice",
    "best_threshold",
    "decide",
    "histogram_counts",
    "is_class",
    "plain_thresholds",
    "score_histogram",
    "threshold_bin",
]

Thresholds = tuple[float, ...]
"""The threshold of each class or, of exclusive ones, what each class's probability is multiplied by."""

HALF = TOP // 2
"""The stored value of 0.5."""


def plain_thresholds(classes: Classes) -> Thresholds:
    """Return what is used without tuning: 0.5, or the plain argmax."""
    return (1.0 if classes.exclusive else 0.5,) * len(classes.names)


def decide(stored: NDArray[np.uint16], thresholds: Sequence[float], exclusive: bool) -> NDArray[np.uint8]:
    """Turn a blended map into labels.

    Parameters
    ----------
    stored : (n_classes, …) uint16
        Probabilities as stored.
    thresholds : sequence of float
        The probability from which on each class is there or, of exclusive ones, what each class's probability is
        multiplied by before the greatest wins.
    exclusive : bool
        Whether classes exclude each other.

    Returns
    -------
    label : (Q, …) uint8
        Label indices of one question or, unless classes are exclusive, of one a class; `IGNORE` where nothing was
        predicted.
    """
    per_class = (-1, *[1] * (stored.ndim - 1))
    if exclusive:
        factors = np.asarray(thresholds, np.float32).reshape(per_class)
        label = np.argmax((stored + np.float32(0.5)) * factors, axis=0)[None].astype(np.uint8)
    else:
        bins = np.array([threshold_bin(threshold) for threshold in thresholds], np.uint16).reshape(per_class)
        label = (stored >= bins).astype(np.uint8)
    return np.where(stored[: len(label)] == NODATA, np.uint8(IGNORE), label)


def is_class(label: NDArray[np.uint8], n_classes: int, exclusive: bool) -> NDArray[np.bool_]:
    """Return where labels (Q, …) say that each class is there, (n_classes, …): what a map of probabilities is of."""
    classes = np.arange(n_classes, dtype=np.uint8).reshape(-1, *[1] * (label.ndim - 1))
    positive: NDArray[np.bool_] = label == (classes if exclusive else np.uint8(1))
    return positive


def threshold_bin(threshold: float) -> int:
    """Return the least stored value that is at or above a threshold.

    >>> threshold_bin(0.5), threshold_bin(0.0)
    (32767, 0)
    """
    return int(np.ceil(threshold * TOP - 1e-6))


def score_histogram(
    stored: NDArray[np.uint16], label: NDArray[np.uint8], weight: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Count binary pixels by label and stored probability: all that any threshold's score depends on.

    Parameters
    ----------
    stored : (…) uint16
    label : (…) uint8
        0, 1 or `IGNORE`.
    weight : (…) float64, optional

    Returns
    -------
    histogram : (2, 65536) float64
        The last column counts pixels without a prediction. Histograms of several scenes add up.
    """
    if weight is None:
        counts = np.zeros((2, NODATA + 1), np.int64)
        _count(stored.ravel(), label.ravel(), counts)
        return counts.astype(np.float64)
    sums = np.zeros((2, NODATA + 1))
    _add(stored.ravel(), label.ravel(), weight.ravel(), sums)
    return sums


@compiled
def _count(stored: NDArray[np.uint16], label: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    for pixel in range(stored.size):
        if label[pixel] != IGNORE:
            counts[label[pixel], stored[pixel]] += 1


@compiled
def _add(
    stored: NDArray[np.uint16], label: NDArray[np.uint8], weight: NDArray[np.float64], sums: NDArray[np.float64]
) -> None:
    for pixel in range(stored.size):
        if label[pixel] != IGNORE:
            sums[label[pixel], stored[pixel]] += weight[pixel]


def histogram_counts(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the confusion counts of every threshold: from each column on upwards, and above them all.

    Parameters
    ----------
    histogram : (…, 2, n + 1) float64
        Pixels by label and rising probability; the last column holds those without a prediction.

    Returns
    -------
    counts : (…, n + 1, 2, 3) float64
    """
    positive = np.zeros(histogram.shape)
    positive[..., :-1] = np.cumsum(histogram[..., -2::-1], axis=-1)[..., ::-1]
    counts = np.empty((*histogram.shape[:-2], histogram.shape[-1], 2, 3))
    counts[..., 1] = np.moveaxis(positive, -2, -1)
    counts[..., 0] = np.moveaxis(positive[..., :1] - positive, -2, -1)
    counts[..., 2] = histogram[..., None, :, -1]
    return counts


def best_threshold(histogram: NDArray[np.float64], objective: Objective) -> tuple[float, float]:
    """Return the threshold with the best score, exactly, and that score; of equals the nearest to 0.5.

    Without a pixel to score it is 0.5, with NaN.

    Parameters
    ----------
    histogram : (2, 65536) float64
        As `score_histogram` counts it.
    objective : Objective
        Of pooled counts of one question.
    """
    scores = objective.score(histogram_counts(histogram)[:, None])
    level = best_choice(scores, HALF)
    return level / TOP, float(scores[level])


def best_choice(scores: NDArray[np.float64], plain: int) -> int:
    """Return where the best score is, of equals the nearest to the plain choice; that, if nothing could be scored."""
    if not np.isfinite(scores).any():
        return plain
    best = np.flatnonzero(scores >= np.nanmax(scores) - 1e-12)
    return int(best[np.argmin(np.abs(best - plain))])
