"""Divide what contradicts a label into connected parts, and tell the facts that their ranking is learned from."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import TOP
from ensemble.audit.evidence import Evidence, contradicted_pixels

__all__ = ["DAMPING", "FACTS", "NEAR", "Parts", "find_parts"]

FACTS = ("confidence", "least", "gap", "size", "thickness", "touch", "score", "said", "level", "bulk")
"""Of each part: see `find_parts`."""

DAMPING = 0.25
"""Power with which a part's size counts. 1 would rank the largest first, 0 single pixels with the largest."""

NEAR = 2
"""Pixels by which an outline may be off without being worth a look."""

FEWEST = 10
"""Pixels from which on a part without thickness is more than noise, if it lies beside no outline."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """Connected pixels of one label that the ensemble predicts to be one other: all of a scene.

    Parameters
    ----------
    label, prediction : (n,) int64
        Label indices.
    area : (n,) int64
        Pixels.
    error : (n,) float64
        p(prediction) − p(label), summed where it is positive.
    facts : (n, len(FACTS)) float64
    box : (n, 4) int64
        Left, top, width and height.
    number : (H, W) int32
        1 + the place of each pixel's part; 0 where there is none.
    """

    label: NDArray[np.int64]
    prediction: NDArray[np.int64]
    area: NDArray[np.int64]
    error: Floats
    facts: Floats
    box: NDArray[np.int64]
    number: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.area)

    def fact(self, name: str) -> Floats:
        """Return one fact of every part."""
        return self.facts[:, FACTS.index(name)]

    @property
    def slivers(self) -> NDArray[np.bool_]:
        """Which parts are edge noise: nowhere 3 pixels thick, and beside an outline or a few pixels alone.

        Where the scene is a single pixel there are none.
        """
        thin = self.fact("thickness") < 2
        beside = (self.fact("touch") > 0.5) | (self.area < FEWEST)
        return thin & beside & (self.number.size > 1)


def find_parts(evidence: Evidence, n_labels: int) -> Parts:
    """Find the parts of a scene, in the order of label, prediction and place.

    Their pixels touch, at corners too. The facts of a part are

    - ``confidence``: the mean log odds of prediction against label, over pixels and members; ``least``: of the member
      that is least for it;
    - ``gap``: the mean of p(prediction) − p(label);
    - ``size``: the logarithm of its pixels; ``thickness``: the largest distance of a pixel from outside;
    - ``touch``: the share of its pixels that moving an outline of the predicted class by `NEAR` pixels explains;
    - ``score``: confidence × size to the power of `DAMPING`; ``level``: the median score of its scene's parts;
    - ``said``: whether the label is the first; ``bulk``: confidence × the logarithm of 1 + thickness.
    """
    contradicted = contradicted_pixels(evidence)
    number = np.zeros(evidence.label.shape, np.int32)
    pair = evidence.label.astype(np.int64) * n_labels + evidence.prediction
    columns: list[list[NDArray[np.float64]]] = []
    total = 0
    for code in np.unique(pair[contradicted]).tolist():
        mask = (contradicted & (pair == code)).astype(np.uint8)
        count, found, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
        inside = mask.view(bool)
        number[inside] = found[inside] + total
        depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        wanted = (evidence.label == code % n_labels).astype(np.uint8)
        near = cv2.dilate(wanted, np.ones((2 * NEAR + 1,) * 2, np.uint8))
        part = found[inside] - 1
        area = statistics[1:, cv2.CC_STAT_AREA].astype(np.float64)

        def mean(values: NDArray[np.floating], part: NDArray[np.int32] = part, area: Floats = area) -> Floats:
            average: Floats = np.bincount(part, values, len(area)) / area
            return average

        odds = evidence.odds[inside].astype(np.float64)
        confidence, gap = mean(odds), mean(evidence.error[inside] / TOP)
        thickness = np.zeros(count - 1)
        np.maximum.at(thickness, part, depth[inside])
        columns.append(
            [
                np.full(count - 1, float(code)),
                area,
                *statistics[1:, :4].T.astype(np.float64),
                confidence,
                mean(evidence.least[inside]),
                gap,
                np.log(area),
                thickness,
                mean(near[inside].astype(np.float64)),
                confidence * area**DAMPING,
                np.full(count - 1, float(code // n_labels == 0)),
            ]
        )
        total += count - 1
    table = (
        np.concatenate([np.stack(of_pair, axis=1) for of_pair in columns])
        if columns
        else np.empty((0, 6 + len(FACTS) - 2))
    )
    code, area, facts = table[:, 0].astype(np.int64), table[:, 1], table[:, 6:]
    score, thickness = facts[:, FACTS.index("score")], facts[:, FACTS.index("thickness")]
    level = np.full(len(table), np.median(score) if len(score) else 0.0)
    bulk = facts[:, 0] * np.log1p(thickness)
    return Parts(
        code // n_labels,
        code % n_labels,
        area.astype(np.int64),
        facts[:, FACTS.index("gap")] * area,
        np.column_stack([facts, level, bulk]),
        table[:, 2:6].astype(np.int64),
        number,
    )
