"""Where to cut: the threshold of a binary map, the multipliers of a multiclass argmax."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.classes import IGNORE
from data.confusion import weighted_counts
from data.maps import NODATA, TOP
from data.metrics import Metric

__all__ = ["best_threshold", "decide", "histogram_counts", "score_histogram", "threshold_bin", "tune_multipliers"]

LOG_SPAN, BINS = 3.0, 512
"""Multipliers are sought within e^±3, in steps of about 1.2 %."""
SWEEPS = 4
"""Most rounds over all classes; the ascent settles after two or three."""


def decide(stored: NDArray[np.uint16], thresholds: Sequence[float]) -> NDArray[np.uint8]:
    """Turn a blended map into labels.

    Parameters
    ----------
    stored : (n_classes, …) uint16
        Probabilities as stored.
    thresholds : sequence of float
        Binary (n_classes = 1): the probability from which on a pixel is positive. Multiclass: what each class's
        probability is multiplied by before the greatest wins.

    Returns
    -------
    label : (…) uint8
        Label indices; `IGNORE` where nothing was predicted.
    """
    nothing = stored[0] == NODATA
    if len(stored) == 1:
        label = (stored[0] >= threshold_bin(thresholds[0])).astype(np.uint8)
    else:
        factors = np.asarray(thresholds, np.float32).reshape(-1, *[1] * (stored.ndim - 1))
        label = np.argmax((stored + np.float32(0.5)) * factors, axis=0).astype(np.uint8)
    return np.where(nothing, np.uint8(IGNORE), label)


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
    scored = label != IGNORE
    cell = label[scored].astype(np.int64) * (NODATA + 1) + stored[scored]
    chosen = None if weight is None else weight[scored]
    return np.bincount(cell, chosen, minlength=2 * (NODATA + 1)).reshape(2, NODATA + 1).astype(np.float64)


def histogram_counts(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the confusion counts of every cut: from each column on upwards, and above them all.

    Parameters
    ----------
    histogram : (2, n + 1) float64
        Pixels by label and rising probability; the last column holds those without a prediction.

    Returns
    -------
    counts : (n + 1, 2, 3) float64
    """
    seen, nothing = histogram[:, :-1], histogram[:, -1]
    positive = np.zeros(histogram.shape)
    positive[:, :-1] = np.cumsum(seen[:, ::-1], axis=1)[:, ::-1]
    counts = np.empty((histogram.shape[1], 2, 3))
    counts[:, :, 1] = positive.T
    counts[:, :, 0] = (positive[:, :1] - positive).T
    counts[:, :, 2] = nothing
    return counts


def best_threshold(histogram: NDArray[np.float64], metric: Metric) -> tuple[float, float]:
    """Return the threshold with the best score, exactly, and that score; of equals the nearest to 0.5.

    Without a pixel to score it is 0.5, with NaN.

    Parameters
    ----------
    histogram : (2, 65536) float64
        As `score_histogram` counts it.
    metric : Metric
    """
    # All cuts between two stored values that occur are one, so only as many are scored as values occur.
    values = np.flatnonzero(histogram[:, :NODATA].any(axis=0))
    scores = metric.of(histogram_counts(histogram[:, [*values, NODATA]]))
    if not np.isfinite(scores).any():
        return 0.5, float("nan")
    best = np.flatnonzero(scores >= np.nanmax(scores) - 1e-12)
    lowest, highest = np.array([0, *values + 1])[best], np.array([*values, NODATA])[best]
    nearest = np.clip(TOP // 2, lowest, highest)
    chosen = int(np.argmin(np.abs(nearest - TOP // 2)))
    return float(nearest[chosen] / TOP), float(scores[best[chosen]])


def tune_multipliers(
    stored: NDArray[np.uint16], label: NDArray[np.uint8], weight: NDArray[np.float64], metric: Metric
) -> NDArray[np.float64]:
    """Find what each class's probability is multiplied by before the argmax, by coordinate ascent.

    With all other multipliers fixed, a pixel goes to class k once k's multiplier exceeds the ratio of the greatest
    other product to p_k. One histogram of these ratios by label and rival gives the confusion counts of every
    multiplier at once, so a step costs a pass over the pixels and is exact to the width of a bin.

    Parameters
    ----------
    stored : (K, n) uint16
    label : (n,) uint8
    weight : (n,) float64
    metric : Metric

    Returns
    -------
    multipliers : (K,) float64
        With a geometric mean of 1. Never worse than the plain argmax on these pixels.
    """
    n = len(stored)
    plain = np.ones(n)

    def score(multipliers: NDArray[np.float64]) -> float:
        return float(metric.of(weighted_counts(label, decide(stored, multipliers.tolist()), weight, n)))

    scored = (stored[0] != NODATA) & (label != IGNORE)
    misses = np.zeros((n, n + 1))
    misses[:, n] = np.bincount(label[~scored & (label != IGNORE)], weight[~scored & (label != IGNORE)], minlength=n)
    logs = np.log(stored[:, scored] + 0.5)
    cells, weights = label[scored].astype(np.int64), weight[scored]
    edges = np.linspace(-LOG_SPAN, LOG_SPAN, BINS)
    shift = np.zeros((n, 1))
    start = best = score(plain)
    for _ in range(SWEEPS):
        gained = False
        for k in range(n):
            others = logs + shift
            others[k] = -np.inf
            rival = np.argmax(others, axis=0)
            ratio = np.take_along_axis(others, rival[None], axis=0)[0] - logs[k]
            # At shift edges[b] the pixels of all bins up to b belong to k.
            bins = np.searchsorted(edges, ratio)
            moved = np.bincount((bins * n + cells) * n + rival, weights, minlength=(BINS + 1) * n * n)
            moved = moved.reshape(BINS + 1, n, n)
            taken = np.cumsum(moved, axis=0)[:BINS]
            counts = np.zeros((BINS, n, n + 1))
            counts[:, :, :n] = moved.sum(axis=0) - taken
            counts[:, :, k] += taken.sum(axis=2)
            scores = metric.of(counts + misses)
            if not np.isfinite(scores).any():
                return plain
            top = np.flatnonzero(scores >= np.nanmax(scores) - 1e-12)
            choice = top[np.argmin(np.abs(edges[top]))]
            if scores[choice] > best + 1e-9:
                best, shift[k], gained = float(scores[choice]), edges[choice], True
        if not gained:
            break
    multipliers: NDArray[np.float64] = np.exp(shift - shift.mean())[:, 0]
    # Decisions are made in float32, where a pixel on the edge can fall to the other side.
    return multipliers if score(multipliers) > start else plain
