"""Curves of precision over recall, and of observed frequency over probability, from counts by probability."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from ensemble.report.score_counts import ScoreCounts

__all__ = ["Reliability", "average_precision", "count_reliability", "precision_recall"]

BINS = 20
"""Of equal width, in which probabilities are compared with labels."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Observed frequency of a class by the probability that it was given.

    Parameters
    ----------
    mean, observed, pixels : (n_bins,) float64
        Mean probability, observed frequency, and pixels; bins without pixels are left out.
    """

    mean: NDArray[np.float64]
    observed: NDArray[np.float64]
    pixels: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of the two, weighted by pixels."""
        return float(np.abs(self.mean - self.observed) @ self.pixels / self.pixels.sum())


def precision_recall(scores: ScoreCounts) -> tuple[Floats, Floats]:
    """Return precision and recall (K, n) at each edge; NaN where nothing is predicted or nothing is labelled."""
    hits, false = scores.cumulate()
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / (hits + false), hits / scores.pixels[:, 1:]


def average_precision(scores: ScoreCounts) -> Floats:
    """Return the area (K,) under precision over recall, as a sum of steps; NaN where nothing is labelled."""
    precision, recall = precision_recall(scores)
    next_recall = np.concatenate([recall[:, 1:], np.zeros((len(recall), 1))], axis=1)
    area: Floats = np.sum((recall - next_recall) * np.where(np.isnan(precision), 0, precision), axis=1)
    return area


def count_reliability(scores: ScoreCounts, place: int) -> Reliability:
    """Compare the probabilities of a class with its labels; pixels without a prediction are left out."""
    ends = np.append(scores.edges[1:], NODATA) - 1
    middle = (scores.edges + ends) / 2 / TOP
    bins = np.minimum((middle * BINS).astype(np.int64), BINS - 1)
    counts = scores.counts[place, :, :-1]
    pixels = np.bincount(bins, counts.sum(axis=0), BINS)
    predicted = np.bincount(bins, counts.sum(axis=0) * middle, BINS)
    observed = np.bincount(bins, counts[1], BINS)
    filled = pixels > 0
    weight = pixels[filled]
    return Reliability(predicted[filled] / weight, observed[filled] / weight, weight.astype(np.float64))
