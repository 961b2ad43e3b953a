"""The threshold explorer: out-of-fold scores of a class at any threshold, counted here and shown live in the page.

The page holds the counts of each edge as they are, so its numbers are those of Python; see ``report.js``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import TOP
from data.pages.numbers import format_area, format_count, format_number
from ensemble.decide.decision.thresholds import threshold_bin
from ensemble.report.curves import Reliability, average_precision, count_reliability, precision_recall
from ensemble.report.score_counts import CELLS, JointCounts, ScoreCounts
from ensemble.report.section import Row

__all__ = ["Blendable", "explorer_data", "explorer_rows", "threshold_texts"]

FEWEST = 10
"""Pixels below which a bin of probabilities is not drawn."""

Folds = Mapping[int, ScoreCounts]


@dataclass(frozen=True)
class Blendable:
    """Two members whose blend can be weighed otherwise in the page.

    Parameters
    ----------
    first, second : str
    joint : JointCounts
    weights : tuple of float
        Of the second member for each class, as it is used.
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
        The threshold of each class; None where the most probable class is chosen instead.
    hectares : float, optional
        Area of a pixel.
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
        without = sorted(
            best_edge(ScoreCounts(whole.edges, whole.counts - fold.counts), place) for fold in used.values()
        )
        now = None if chosen is None else int(np.searchsorted(whole.edges, threshold_bin(chosen[place])))
        calibration = count_reliability(whole, place)
        start = best if now is None else now
        rows.append(
            {
                "start": start,
                "chosen": now,
                "best": best,
                "spread": (without[0], without[-1]),
                "at": threshold_texts(whole, place, start, hectares),
                "shares": _bar_shares(whole, place, start),
                "curve": draw_line(recall[place], precision[place]),
                "point": _percents(recall[place], precision[place], start),
                "curves": [(name, draw_line(curve[1][place], curve[0][place])) for name, curve in curves.items()],
                "precision": float(under[place]),
                "reliability": _draw_reliability(calibration),
                "points": [(100 * x, 100 * y) for x, y in zip(*_populated(calibration), strict=True)],
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
    hits, false = whole.cumulate()
    return {
        "edges": whole.edges.tolist(),
        "top": TOP,
        "cells": CELLS,
        "hectares": hectares,
        "classes": [
            {
                "hits": hits[place].tolist(),
                "false": false[place].tolist(),
                "positives": int(whole.pixels[place, 1]),
                "weight": blendable and blendable.weights[place],
                "joint": blendable and blendable.joint.counts[place].reshape(2, -1).tolist(),
            }
            for place in range(len(whole.counts))
        ],
    }


def threshold_texts(scores: ScoreCounts, place: int, edge: int, hectares: float | None) -> dict[str, str]:
    """Return the texts of a threshold: scores of a class against the rest, and areas."""
    hits, false = (int(counts[place, edge]) for counts in scores.cumulate())
    missed = int(scores.pixels[place, 1]) - hits

    def score(part: int, of: int) -> str:
        return format_number(part / of if of else math.nan, 4)

    counted = {"hits": hits, "false": false, "missed": missed, "mapped": hits + false}
    return {
        "threshold": format_number(int(scores.edges[edge]) / TOP),
        "precision": score(hits, hits + false),
        "recall": score(hits, hits + missed),
        "dice": score(2 * hits, 2 * hits + false + missed),
        "iou": score(hits, hits + false + missed),
        **{f"{name}-px": format_count(pixels) for name, pixels in counted.items()},
        **{
            f"{name}-ha": "" if hectares is None else f"{format_area(pixels * hectares)} ha"
            for name, pixels in counted.items()
        },
    }


def best_edge(scores: ScoreCounts, place: int) -> int:
    """Return the edge with the best Dice, and so IoU, of a class against the rest; of equals the nearest to 0.5."""
    hits, false = (counts[place] for counts in scores.cumulate())
    dice = 2 * hits / np.maximum(hits + false + scores.pixels[place, 1], 1)
    best = np.flatnonzero(dice >= dice.max() - 1e-12)
    return int(best[np.argmin(np.abs(scores.edges[best] - TOP / 2))])


def draw_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Return the points of an SVG line through shares, on a square of 100 × 100 with 0 below; equals are left out."""
    points: list[str] = []
    for across, up in zip(x, y, strict=True):
        if math.isfinite(across) and math.isfinite(up):
            point = f"{100 * across:.1f},{100 - 100 * up:.1f}"
            if not points or points[-1] != point:
                points.append(point)
    return " ".join(points)


def _bar_shares(scores: ScoreCounts, place: int, edge: int) -> dict[str, float]:
    """Return in percent what of all that is labelled or mapped as a class is missed, hit and a false alarm."""
    hits, false = (int(counts[place, edge]) for counts in scores.cumulate())
    missed = int(scores.pixels[place, 1]) - hits
    whole = max(hits + false + missed, 1)
    counted = {"missed": missed, "hits": hits, "false": false}
    return {name: round(100 * pixels / whole, 2) for name, pixels in counted.items()}


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


def _populated(reliability: Reliability) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and observed probability of the bins with enough pixels to be drawn."""
    enough = reliability.pixels >= FEWEST
    return reliability.mean[enough], reliability.observed[enough]


def _draw_reliability(reliability: Reliability) -> str:
    return draw_line(*_populated(reliability))


def _error(reliability: Reliability) -> float:
    return reliability.error if len(reliability.pixels) else math.nan


def _percents(recall: NDArray[np.float64], precision: NDArray[np.float64], edge: int) -> tuple[float, float] | None:
    """Return where a threshold lies in the plot; None where it has no precision or no recall."""
    if not math.isfinite(recall[edge]) or not math.isfinite(precision[edge]):
        return None
    return round(float(100 * recall[edge]), 2), round(float(100 * precision[edge]), 2)


def _add(folds: Iterable[ScoreCounts]) -> ScoreCounts:
    parts = list(folds)
    return ScoreCounts(parts[0].edges, np.sum([part.counts for part in parts], axis=0))
