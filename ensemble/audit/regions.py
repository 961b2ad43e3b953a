"""Regions of a scene where the ensemble contradicts the label: what is listed, drawn and outlined."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.scenes.windows import Window
from ensemble.audit.geopackage import Polygons
from ensemble.audit.outlines import trace_outlines
from ensemble.audit.parts import FACTS, Parts

__all__ = ["Candidate", "Region", "list_candidates", "outline_region"]


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
        Regions are ranked by it; see `ensemble.audit.ranking`.
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


@dataclass(frozen=True)
class Candidate:
    """A part of a scene that may be listed.

    Parameters
    ----------
    scene, label, prediction : str
    area : int
    error : float
    facts : (len(FACTS),) float64
    window : Window
    mask : (window.height, window.width) bool, packed
        Empty where the scene is the part.
    """

    scene: str
    label: str
    prediction: str
    area: int
    error: float
    facts: NDArray[np.float64]
    window: Window
    mask: NDArray[np.uint8]


def list_candidates(scene: str, parts: Parts, chosen: NDArray[np.intp], names: Sequence[str]) -> list[Candidate]:
    """Return some of a scene's parts, in the order that is given."""
    listed = []
    for place in chosen.tolist():
        left, top, width, height = parts.box[place].tolist()
        window = Window(top, left, height, width)
        listed.append(
            Candidate(
                scene,
                names[parts.label[place]],
                names[parts.prediction[place]],
                int(parts.area[place]),
                float(parts.error[place]),
                parts.facts[place],
                window,
                np.packbits(parts.number[window.slices] == place + 1),
            )
        )
    return listed


def outline_region(candidate: Candidate, score: float) -> Region:
    """Return the region of a candidate, with the outline of its pixels."""
    window = candidate.window
    if not candidate.mask.size:
        return Region(*_facts(candidate, score), window, 0, 0)
    mask = np.unpackbits(candidate.mask, count=window.height * window.width).reshape(window.height, window.width) > 0
    rows, cols = np.nonzero(mask)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (cols - cols.mean()) ** 2))
    return Region(
        *_facts(candidate, score),
        window,
        window.row + int(rows[nearest]),
        window.col + int(cols[nearest]),
        trace_outlines(mask, window.row, window.col),
    )


def _facts(candidate: Candidate, score: float) -> tuple[str, str, str, int, float, float, float]:
    confidence = float(candidate.facts[FACTS.index("confidence")])
    return candidate.scene, candidate.label, candidate.prediction, candidate.area, candidate.error, confidence, score
