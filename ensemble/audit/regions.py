"""Find regions of a scene where the ensemble contradicts the label, and how confidently it does."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import IGNORE
from data.scenes.windows import Window
from ensemble.audit.geopackage import Polygons
from ensemble.audit.outlines import trace_outlines

__all__ = ["Evidence", "Region", "count_contradictions", "find_regions", "weigh_evidence"]

LEAST = np.float32(1e-3 * TOP)
"""Least stored probability that counts: members learn from too few scenes to know a smaller one."""

DAMPING = 0.25
"""Power with which a region's size counts. 1 would rank the largest first, 0 single pixels with the largest."""


@dataclass(frozen=True)
class Evidence:
    """Labels of a scene, what the ensemble predicts, and by how much the two disagree.

    Parameters
    ----------
    label, prediction : (H, W) uint8
        Label indices, `IGNORE` where there is none.
    odds : (H, W) float32
        Natural logarithm of p(prediction) / p(label), 0 where either is missing.
    error : (H, W) uint16
        p(prediction) − p(label), as stored, or 0.
    """

    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    odds: NDArray[np.float32]
    error: NDArray[np.uint16]


@dataclass(frozen=True)
class Region:
    """Connected pixels of one label that the ensemble predicts to be another.

    Parameters
    ----------
    scene : str
    label, prediction : str
        Names of the class in the label and of the class that is predicted.
    area : int
        Pixels.
    error : float
        Pixels of the label that are wrong if the probabilities hold: p(prediction) − p(label), summed.
    confidence : float
        Mean natural logarithm of p(prediction) / p(label), over pixels and members.
    score : float
        Regions are ranked by it: confidence × area ** 0.25.
    window : Window
        Bounding box, in pixels.
    row, col : int
        A pixel of the region, that nearest to its middle.
    outline : Polygons
        In (column, row) of pixel corners; empty where the scene is the region.
    """

    scene: str
    label: str
    prediction: str
    area: int
    error: float
    confidence: float
    score: float
    window: Window
    row: int
    col: int
    outline: Polygons = ()


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
    for stored, share in zip(members, shares, strict=True):
        if share > 0:
            against, support = _chances(stored, label), _chances(stored, prediction)
            known = (against != NODATA) & (support != NODATA)
            ratio = np.maximum(support, LEAST) / np.maximum(against, LEAST)
            total += np.where(known, share * np.log(ratio), 0)
            weight += share * known
    odds = np.divide(total, weight, out=total, where=weight > 0)
    against, support = _chances(blended, label), _chances(blended, prediction)
    known = (against != NODATA) & (support != NODATA)
    error = np.where(known & (support > against), support - against, 0)
    return Evidence(label, prediction, odds, error.astype(np.uint16))


def find_regions(scene: str, evidence: Evidence, names: Sequence[str], most: int, above: float = 0.0) -> list[Region]:
    """Find the worst regions of a scene.

    A region is a set of pixels of one pair of label and prediction that touch, at corners too. Its confidence is the
    mean of their log odds, and its score grows slowly with size (`DAMPING`). Where the label is more probable than the
    prediction, which a threshold can cause, there is no region. Slivers along the edges of objects get no discount:
    most have little confidence, and the others are labels that were drawn beside their object.

    Parameters
    ----------
    scene : str
    evidence : Evidence
    names : sequence of str
        Of the label indices.
    most : int
        Regions to return at most.
    above : float
        Least score, exclusive.

    Returns
    -------
    regions : list of Region
        The worst first; of equals that of the lower label, prediction and place.
    """
    places = np.flatnonzero(_contradicted(evidence))
    labels, predictions = (plane.ravel()[places].astype(np.int64) for plane in (evidence.label, evidence.prediction))
    odds, error = evidence.odds.ravel()[places], evidence.error.ravel()[places] / TOP
    pair = labels * len(names) + predictions
    regions = []
    for code in np.unique(pair).tolist():
        of_pair = pair == code
        mask = np.zeros(evidence.label.shape, np.uint8)
        mask.ravel()[places[of_pair]] = 1
        _, parts, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
        part = parts.ravel()[places[of_pair]]
        # Part 0 is everything outside, which may be nothing.
        area = np.maximum(statistics[:, cv2.CC_STAT_AREA], 1)
        confidence = np.bincount(part, odds[of_pair], len(area)) / area
        errors = np.bincount(part, error[of_pair], len(area))
        score = confidence * area**DAMPING
        label, prediction = names[code // len(names)], names[code % len(names)]
        for number in np.argsort(-score, kind="stable")[:most].tolist():
            if score[number] <= above:
                break
            left, top, width, height, _ = statistics[number].tolist()
            window = Window(top, left, height, width)
            inside = parts[window.slices] == number
            regions.append(
                Region(
                    scene,
                    label,
                    prediction,
                    int(area[number]),
                    float(errors[number]),
                    float(confidence[number]),
                    float(score[number]),
                    window,
                    *_middle(inside, window),
                    trace_outlines(inside, top, left),
                )
            )
    return sorted(regions, key=lambda region: -region.score)[:most]


def count_contradictions(evidence: Evidence) -> tuple[int, int, float]:
    """Count the labelled pixels that were predicted, those that are contradicted, and the errors expected of them."""
    contradicted = _contradicted(evidence)
    error = evidence.error[contradicted].sum(dtype=np.int64) / TOP
    return int(_known(evidence).sum()), int(contradicted.sum()), float(error)


def _chances(stored: NDArray[np.uint16], which: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the stored probability of a label at each pixel; of a single class, label 0 is its complement."""
    if len(stored) == 1:
        chances = np.where(which == 1, stored[0], TOP - stored[0])
    else:
        chances = np.take_along_axis(stored, np.where(which == IGNORE, 0, which)[None], axis=0)[0]
    return np.where((which == IGNORE) | (stored[0] == NODATA), np.uint16(NODATA), chances).astype(np.uint16)


def _contradicted(evidence: Evidence) -> NDArray[np.bool_]:
    contradicted: NDArray[np.bool_] = _known(evidence) & (evidence.label != evidence.prediction)
    return contradicted


def _known(evidence: Evidence) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = (evidence.label != IGNORE) & (evidence.prediction != IGNORE)
    return known


def _middle(mask: NDArray[np.bool_], window: Window) -> tuple[int, int]:
    rows, cols = np.nonzero(mask)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (cols - cols.mean()) ** 2))
    return window.row + int(rows[nearest]), window.col + int(cols[nearest])
