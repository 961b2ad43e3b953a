"""Weigh the predictions of a scene against its label, pixel by pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import IGNORE

__all__ = ["Evidence", "contradicted_pixels", "count_contradictions", "weigh_evidence"]

LEAST = np.float32(1e-3 * TOP)
"""Least stored probability that counts: members learn from too few scenes to know a smaller one."""


@dataclass(frozen=True)
class Evidence:
    """Labels of a scene, what the ensemble predicts, and by how much the two disagree.

    Parameters
    ----------
    label, prediction : (H, W) uint8
        Label indices, `IGNORE` where there is none.
    odds : (H, W) float32
        Natural logarithm of p(prediction) / p(label), 0 where either is missing.
    least : (H, W) float32
        The same of the member that is least for the prediction.
    error : (H, W) uint16
        p(prediction) − p(label), as stored, or 0.
    """

    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    odds: NDArray[np.float32]
    least: NDArray[np.float32]
    error: NDArray[np.uint16]


def weigh_evidence(
    members: NDArray[np.uint16],
    shares: Sequence[float],
    blended: NDArray[np.uint16],
    label: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
) -> Evidence:
    """Compare predicted probabilities with the label.

    Parameters
    ----------
    members : (n_members, n_classes, H, W) uint16
        Stored probabilities of each member, as it wrote them. The odds are the mean over members, so that several that
        agree count more than a single one that is sure. Calibrated, by curves that differ from fold to fold, they
        ranked worse.
    shares : sequence of float
        Weight of each member, summing to 1. Where a member predicted nothing, the weights of the others are raised in
        proportion.
    blended : (n_classes, H, W) uint16
        Stored probabilities of the blend, of which the expected error is counted.
    label, prediction : (H, W) uint8
        Label indices, `IGNORE` where there is none.

    Returns
    -------
    evidence : Evidence
    """
    total, weight = np.zeros(label.shape, np.float32), np.zeros(label.shape, np.float32)
    least = np.full(label.shape, np.inf, np.float32)
    for stored, share in zip(members, shares, strict=True):
        if share > 0:
            against, support = _chances(stored, label), _chances(stored, prediction)
            known = (against != NODATA) & (support != NODATA)
            ratio = np.log(np.maximum(support, LEAST) / np.maximum(against, LEAST))
            total += np.where(known, share * ratio, 0)
            least = np.where(known, np.minimum(least, ratio), least)
            weight += share * known
    odds = np.divide(total, weight, out=total, where=weight > 0)
    against, support = _chances(blended, label), _chances(blended, prediction)
    known = (against != NODATA) & (support != NODATA)
    error = np.where(known & (support > against), support - against, 0)
    return Evidence(label, prediction, odds, np.where(weight > 0, least, 0), error.astype(np.uint16))


def count_contradictions(evidence: Evidence) -> tuple[int, int, float]:
    """Count the labelled pixels that were predicted, those that are contradicted, and the errors expected of them."""
    contradicted = contradicted_pixels(evidence)
    error = evidence.error[contradicted].sum(dtype=np.int64) / TOP
    return int(_known(evidence).sum()), int(contradicted.sum()), float(error)


def _chances(stored: NDArray[np.uint16], which: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the stored probability of a label at each pixel; of a single class, label 0 is its complement."""
    if len(stored) == 1:
        chances = np.where(which == 1, stored[0], TOP - stored[0])
    else:
        chances = np.take_along_axis(stored, np.where(which == IGNORE, 0, which)[None], axis=0)[0]
    return np.where((which == IGNORE) | (stored[0] == NODATA), np.uint16(NODATA), chances).astype(np.uint16)


def contradicted_pixels(evidence: Evidence) -> NDArray[np.bool_]:
    """Return which labelled pixels are predicted to be another class."""
    contradicted: NDArray[np.bool_] = _known(evidence) & (evidence.label != evidence.prediction)
    return contradicted


def _known(evidence: Evidence) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = (evidence.label != IGNORE) & (evidence.prediction != IGNORE)
    return known
