"""The threshold explorer: what any threshold would do, on out-of-fold pixels, counted here and shown live in the page.

The page holds the counts of each edge as they are, so its numbers are those of Python; see ``report.js``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import TOP
from data.pages.numbers import format_area, format_count, format_number
from ensemble.decide.thresholds import threshold_bin
from ensemble.report.curves import Reliability, average_precision, count_reliability, precision_recall
from ensemble.report.score_counts import CELLS, JointCounts, ScoreCounts

__all__ = ["Blendable", "explorer_data", "explorer_rows", "say_threshold"]

FEWEST = 10
"""Pixels below which a bin of probabilities is not drawn."""

Row = dict[str, Any]
Folds = Mapping[int, ScoreCounts]


@dataclass(frozen=True)
class Blendable:
    """Two members whose blend can be weighed otherwise in the page.

    Parameters
    ----------
    first, second : str
    joint : JointCounts
    weights : tuple of float
        Of the second, as it is used for each class.
    """

    first: str
    second: str
    joint: JointCounts
    weights: tuple[float, ...]


def explorer_rows(
    used: Folds,
    members: Mapping[str, tuple[Folds, Folds | None]],
    chosen: Sequence[float] | None,
    hectares: float | None,
) -> list[Row]:
    """Return what the template shows of each class.

    Parameters
    ----------
    used : mapping
        Fold → counts of what is used.
    members : mapping
        Member → its counts by fold as it is and, if it was calibrated, after that.
    chosen : sequence of float, optional
        The threshold of each class; None where the likeliest class is chosen instead.
    hectares : float, optional
        Of a pixel.
    """
    whole = _add(used.values())
    before = {
        name: (_add(raw.values()), None if after is None else _add(after.values()))
        for name, (raw, after) in members.items()
    }
    precision, recall = precision_recall(whole)
    curves = {name: precision_recall(after or raw) for name, (raw, after) in before.items()}
    under = average_precision(whole)
    areas = {name: average_precision(after or raw) for name, (raw, after) in before.items()}
    rows = []
    for place in range(len(whole.counts)):
        best = best_edge(whole, place)
        without = sorted(best_edge(ScoreCounts(whole.edges, whole.counts - one.counts), place) for one in used.values())
        now = None if chosen is None else int(np.searchsorted(whole.edges, threshold_bin(chosen[place])))
        calibration = count_reliability(whole, place)
        start = best if now is None else now
        rows.append(
            {
                "start": start,
                "chosen": now,
                "best": best,
                "spread": (without[0], without[-1]),
                "at": say_threshold(whole, place, start, hectares),
                "shares": _bar_shares(whole, place, start),
                "curve": draw_line(recall[place], precision[place]),
                "point": _percents(recall[place], precision[place], start),
                "curves": [(name, draw_line(one[1][place], one[0][place])) for name, one in curves.items()],
                "precision": float(under[place]),
                "reliability": _draw_reliability(calibration),
                "points": [(100 * x, 100 * y) for x, y in zip(*_telling(calibration), strict=True)],
                "error": _error(calibration),
                "members": [
                    _member_row(name, float(areas[name][place]), raw, after, place)
                    for name, (raw, after) in before.items()
                ],
            }
        )
    return rows


def explorer_data(used: Folds, hectares: float | None, blendable: Blendable | None) -> Row:
    """Return what the page's script counts with."""
    whole = _add(used.values())
    hits, false = whole.cut()
    return {
        "edges": whole.edges.tolist(),
        "top": TOP,
        "cells": CELLS,
        "hectares": hectares,
        "classes": [
            {
                "hits": hits[place].tolist(),
                "false": false[place].tolist(),
                "own": int(whole.pixels[place, 1]),
                "weight": blendable and blendable.weights[place],
                "joint": blendable and blendable.joint.counts[place].reshape(2, -1).tolist(),
            }
            for place in range(len(whole.counts))
        ],
    }


def say_threshold(scores: ScoreCounts, place: int, edge: int, hectares: float | None) -> dict[str, str]:
    """Return what the page says of a threshold: scores of a class against the rest, and areas."""
    hits, false = (int(one[place, edge]) for one in scores.cut())
    missed = int(scores.pixels[place, 1]) - hits

    def score(part: int, of: int) -> str:
        return format_number(part / of if of else math.nan, 4)

    found = {"hits": hits, "false": false, "missed": missed, "mapped": hits + false}
    return {
        "threshold": format_number(int(scores.edges[edge]) / TOP),
        "precision": score(hits, hits + false),
        "recall": score(hits, hits + missed),
        "dice": score(2 * hits, 2 * hits + false + missed),
        "iou": score(hits, hits + false + missed),
        **{f"{name}-px": format_count(pixels) for name, pixels in found.items()},
        **{
            f"{name}-ha": "" if hectares is None else f"{format_area(pixels * hectares)} ha"
            for name, pixels in found.items()
        },
    }


def best_edge(scores: ScoreCounts, place: int) -> int:
    """Return the edge with the best Dice, and so IoU, of a class against the rest; of equals the nearest to 0.5."""
    hits, false = (one[place] for one in scores.cut())
    dice = 2 * hits / np.maximum(hits + false + scores.pixels[place, 1], 1)
    best = np.flatnonzero(dice >= dice.max() - 1e-12)
    return int(best[np.argmin(np.abs(scores.edges[best] - TOP / 2))])


def draw_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Return the points of an SVG line through shares, on a square of 100 × 100 with 0 below; equals are left out."""
    points: list[str] = []
    for one, other in zip(x, y, strict=True):
        if math.isfinite(one) and math.isfinite(other):
            point = f"{100 * one:.1f},{100 - 100 * other:.1f}"
            if not points or points[-1] != point:
                points.append(point)
    return " ".join(points)


def _bar_shares(scores: ScoreCounts, place: int, edge: int) -> dict[str, float]:
    """Return in percent what of all that is labelled or mapped as a class is missed, hit and a false alarm."""
    hits, false = (int(one[place, edge]) for one in scores.cut())
    missed = int(scores.pixels[place, 1]) - hits
    whole = max(hits + false + missed, 1)
    found = {"missed": missed, "hits": hits, "false": false}
    return {name: round(100 * pixels / whole, 2) for name, pixels in found.items()}


def _member_row(name: str, precision: float, raw: ScoreCounts, after: ScoreCounts | None, place: int) -> Row:
    before = count_reliability(raw, place)
    calibrated = None if after is None else count_reliability(after, place)
    return {
        "name": name,
        "precision": precision,
        "error": _error(before),
        "calibrated": None if calibrated is None else _error(calibrated),
        "before": _draw_reliability(before),
        "after": None if calibrated is None else _draw_reliability(calibrated),
    }


def _telling(found: Reliability) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bins that hold enough to say something."""
    enough = found.pixels >= FEWEST
    return found.mean[enough], found.observed[enough]


def _draw_reliability(found: Reliability) -> str:
    return draw_line(*_telling(found))


def _error(found: Reliability) -> float:
    return found.error if len(found.pixels) else math.nan


def _percents(recall: NDArray[np.float64], precision: NDArray[np.float64], edge: int) -> tuple[float, float] | None:
    """Return where a threshold lies in the plot; None where it has no precision or no recall."""
    if not math.isfinite(recall[edge]) or not math.isfinite(precision[edge]):
        return None
    return round(float(100 * recall[edge]), 2), round(float(100 * precision[edge]), 2)


def _add(some: Any) -> ScoreCounts:
    parts: list[ScoreCounts] = list(some)
    return ScoreCounts(parts[0].edges, np.sum([one.counts for one in parts], axis=0))
