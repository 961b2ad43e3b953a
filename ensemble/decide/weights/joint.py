"""Score every weight and threshold of two members of a binary task from one histogram of both.

The probabilities of both members fall into bins. With w p₁ + (1 - w) p₂ of what the bins stand for, or the same of
logits, a blend's own histogram is a sum over the cells of the joint one, and the pixels are not needed again. Bins are
narrow near 0 and 1, where the probabilities of networks crowd. With 512 of them the best score of a weight is within
0.0001 of that of a search through all thresholds; what the chosen weight scores is then found exactly from the pixels.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from data.compiled import compiled
from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import IGNORE
from ensemble.decide.decision.blend import Space
from ensemble.decide.decision.thresholds import histogram_counts
from ensemble.objective import Objective

__all__ = ["bin_values", "joint_histogram", "score_weights"]

FINE = 8192
"""Thresholds that are tried with each weight."""
EDGE = 0.5 / TOP
"""Of a probability of 0 or 1, whose logit would be infinite, the distance that it is taken to have from that."""


def joint_histogram(
    first: NDArray[np.uint16], second: NDArray[np.uint16], label: NDArray[np.uint8], bins: int = 512
) -> NDArray[np.int64]:
    """Count binary pixels by label and the stored probabilities of two members.

    Parameters
    ----------
    first, second : (…) uint16
    label : (…) uint8
        0, 1 or `IGNORE`.
    bins : int
        For each member.

    Returns
    -------
    histogram : (2, bins + 1, bins + 1) int64
        By label, bin of the first and of the second; the last bins are of pixels without a prediction. Histograms of
        several scenes add up.
    """
    counts = np.zeros((2, bins + 1, bins + 1), np.int64)
    _count(first.ravel(), second.ravel(), label.ravel(), _bin_table(bins), counts)
    return counts


def bin_values(bins: int = 512) -> NDArray[np.float64]:
    """Return the probability that each bin stands for, (bins,): the mean of those that fall into it, 0 if none does."""
    table = _bin_table(bins)[:NODATA]
    sums, counts = np.bincount(table, np.arange(NODATA), bins), np.bincount(table, minlength=bins)
    return sums / np.maximum(counts, 1) / TOP


def score_weights(
    histograms: NDArray[np.integer],
    weights: Sequence[float],
    objective: Objective,
    space: Space = "probability",
    values: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """Return the best score that each weight of the first member reaches, with the threshold that suits it best.

    Parameters
    ----------
    histograms : (n_folds, 2, bins + 1, bins + 1) int64
        As `joint_histogram` counts each fold.
    weights : sequence of float
        In [0, 1]; the second member has the rest.
    objective : Objective
        Of pooled counts of one question.
    space : {"probability", "logit"}
        Where the weighted mean is taken.
    values : pair of (bins,) float64, optional
        The probabilities that the bins of the members stand for, such as calibrated ones; by default `bin_values`.

    Returns
    -------
    scores : (n_weights,) float64
        NaN where there is nothing to score.
    """
    total = histograms.sum(axis=0)
    bins = total.shape[-1] - 1
    usual = bin_values(bins)
    rows, columns = np.nonzero(total.any(axis=0))
    # A member that has no prediction, or no weight, leaves the pixel to the other.
    known = np.stack([rows < bins, columns < bins])
    planes = np.stack(
        [
            _to_space(np.append(proba, 0.5), space)[place]
            for proba, place in zip(values or (usual, usual), (rows, columns), strict=True)
        ]
    )
    pixels = total[:, rows, columns].astype(np.float64)
    scores = np.empty(len(weights))
    for position, weight in enumerate(weights):
        shares = np.array([[weight], [1 - weight]]) * known
        mass = shares.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            blended = _from_space((shares * planes).sum(axis=0) / mass, space)
        column = _bin_table(FINE)[np.where(mass > 0, np.rint(np.nan_to_num(blended) * TOP), NODATA).astype(np.uint16)]
        histogram = np.stack([np.bincount(column, of_label, minlength=FINE + 1) for of_label in pixels])
        reached = objective.score(histogram_counts(histogram.astype(np.float64))[:, None])
        scores[position] = np.nanmax(reached) if np.isfinite(reached).any() else np.nan
    return scores


@compiled
def _count(
    first: NDArray[np.uint16],
    second: NDArray[np.uint16],
    label: NDArray[np.uint8],
    table: NDArray[np.uint16],
    counts: NDArray[np.int64],
) -> None:
    for pixel in range(label.size):
        if label[pixel] != IGNORE:
            counts[label[pixel], table[first[pixel]], table[second[pixel]]] += 1


@cache
def _bin_table(bins: int) -> NDArray[np.uint16]:
    """Return the bin of each stored value: of equal width in the mean of probability and scaled logit."""
    proba = np.arange(NODATA) / TOP
    logit = _to_space(proba, "logit")
    place = (proba + (logit - logit[0]) / (logit[-1] - logit[0])) / 2
    return np.append(np.minimum(place * bins, bins - 1), bins).astype(np.uint16)


def _to_space(proba: NDArray[np.float64], space: Space) -> NDArray[np.float64]:
    if space == "probability":
        return proba
    inside = np.clip(proba, EDGE, 1 - EDGE)
    return np.log(inside / (1 - inside))


def _from_space(values: NDArray[np.float64], space: Space) -> NDArray[np.float64]:
    return values if space == "probability" else 1 / (1 + np.exp(-values))
