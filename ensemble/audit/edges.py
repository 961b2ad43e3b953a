"""Edge noise of a scene: outlines of the label that lie a little beside those of the map."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.scenes.classes import IGNORE
from ensemble.audit.evidence import Evidence
from ensemble.audit.parts import Parts

__all__ = ["EdgeNoise", "measure_edges"]

CLEAR = 0.8
"""Share of what is contradicted that may be left when a label is moved, to be told that it should be."""

FARTHEST = 3
"""Pixels by which a label is tried to be moved."""


@dataclass(frozen=True)
class EdgeNoise:
    """How the outlines of a scene's label differ from those of its map.

    Parameters
    ----------
    width : float
        Pixels by which they are apart in the mean: the area of slivers along outlines by their length.
    growth : float
        Pixels by which all classes but the first are drawn too large, below 0 too small, by the map.
    down, right : int
        By which the label has to be moved to agree best with the map.
    """

    width: float = 0.0
    growth: float = 0.0
    down: int = 0
    right: int = 0


def measure_edges(evidence: Evidence, parts: Parts) -> EdgeNoise:
    """Sum up the slivers of a scene, and find the move of its label that agrees best with the map."""
    label, prediction = evidence.label, evidence.prediction
    length = np.count_nonzero(_differ(label[1:], label[:-1])) + np.count_nonzero(_differ(label[:, 1:], label[:, :-1]))
    if not length:
        return EdgeNoise()
    sliver = parts.slivers & (parts.fact("touch") > 0.5)
    area, said, thought = parts.area[sliver], parts.label[sliver], parts.prediction[sliver]
    too_large, too_small = area[(said > 0) & (thought == 0)].sum(), area[(said == 0) & (thought > 0)].sum()
    moves = [(down, right) for down in range(-FARTHEST, FARTHEST + 1) for right in range(-FARTHEST, FARTHEST + 1)]
    moves.sort(key=lambda move: (abs(move[0]) + abs(move[1]), move))
    agreed = [_agreement(label, prediction, *move) for move in moves]
    best = int(np.argmax(agreed))
    # Where little is contradicted, a move that explains some of it may be chance.
    move = moves[best] if 1 - agreed[best] < CLEAR * (1 - agreed[0]) else (0, 0)
    return EdgeNoise(float(area.sum() / length), float((too_large - too_small) / length), *move)


def _differ(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    differ: NDArray[np.bool_] = (first != second) & (first != IGNORE) & (second != IGNORE)
    return differ


def _agreement(
    label: NDArray[np.uint8], prediction: NDArray[np.uint8], down: int, right: int, most: int = 1024
) -> float:
    """Return the share of the middle of a scene where a label that was moved is what is predicted."""
    rows, cols = (_middle(side, most) for side in label.shape)
    moved = label[rows.start - down : rows.stop - down, cols.start - right : cols.stop - right]
    found = prediction[rows, cols]
    known = (moved != IGNORE) & (found != IGNORE)
    return float(((moved == found) & known).sum() / max(np.count_nonzero(known), 1))


def _middle(side: int, most: int) -> slice:
    inner = max(min(side - 2 * FARTHEST, most), 0)
    start = (side - inner) // 2
    return slice(start, start + inner)
