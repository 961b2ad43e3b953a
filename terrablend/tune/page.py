"""The page of a search: the best settings, and the scores trial by trial and setting by setting."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.pages.axis import Axis
from data.pages.page import write_page
from features.branch import Range
from terrablend.experiment.search import describe_value
from terrablend.tune.records import SearchResult, Trial

__all__ = ["write_tuning_page"]

ROWS = 20
"""Trials in the table that is shown at once."""


@dataclass(frozen=True)
class Point:
    """A trial in a plot, placed in percent from the left and from the bottom."""

    x: float
    y: float
    kind: str
    text: str


def write_tuning_page(result: SearchResult, path: Path, experiment: str) -> None:
    """Write the result of a search as one HTML file that works offline."""
    scored = [trial for trial in result.trials if math.isfinite(trial.score)]
    axis = _score_axis([result.as_written, *(trial for trial in scored if trial.end == "done")])
    keys = sorted(result.space, key=lambda key: -result.importance.get(key, 0.0))
    write_page(
        path,
        "terrablend.tune",
        "tuning.html",
        filters={"written": describe_value},
        experiment=experiment,
        result=result,
        title=result.metric.title,
        best=result.best,
        better=sum(new > old for new, old in zip(result.best.folds, result.as_written.folds, strict=True)),
        axis=axis,
        as_written=_height(axis, result.as_written.score),
        history=_history(result, scored, axis),
        steps=_best_so_far(result, axis),
        numbers=[(_across(result, number), f"trial {number}") for number in sorted({1, len(result.trials)})],
        plots=[
            {"key": key, "importance": result.importance.get(key), **_slice(key, result, scored, axis)} for key in keys
        ],
        ranked=sorted(
            [result.as_written, *result.trials], key=lambda trial: (trial.end != "done", -_or_least(trial.score))
        ),
        keys=keys,
        rows=ROWS,
    )


def _score_axis(trials: Sequence[Trial]) -> Axis:
    """Return a scale for the better half of the scores; much lower ones are drawn on its lower edge."""
    scores = np.array([trial.score for trial in trials])
    low = max(scores.min(), np.median(scores) - 2 * (scores.max() - np.median(scores)))
    return Axis.spanning([float(low), float(scores.max())])


def _height(axis: Axis, score: float) -> float:
    return max(axis.place(score), 0.0)


def _point(trial: Trial, x: float, axis: Axis, result: SearchResult) -> Point:
    if trial.end == "stopped early":
        # Its score is of some folds alone, which may be the easy ones.
        return Point(round(x, 2), 0.0, "early", f"trial {trial.number}, stopped early")
    kind = "best" if trial is result.best else "done"
    return Point(round(x, 2), _height(axis, trial.score), kind, f"trial {trial.number}: {trial.score:.4f}")


def _history(result: SearchResult, scored: Sequence[Trial], axis: Axis) -> list[Point]:
    return [_point(trial, _across(result, trial.number), axis, result) for trial in scored]


def _across(result: SearchResult, number: int) -> float:
    return round(100 * number / (len(result.trials) + 1), 2)


def _best_so_far(result: SearchResult, axis: Axis) -> list[tuple[float, float]]:
    """Return the corners of the line of the best trial up to each, as (x, y) in percent."""
    best, corners = result.as_written.score, [(0.0, _height(axis, result.as_written.score))]
    for trial in result.trials:
        if trial.end == "done" and trial.score > best:
            x = _across(result, trial.number)
            corners.append((x, _height(axis, best)))
            best = trial.score
            corners.append((x, _height(axis, best)))
    return [*corners, (100.0, _height(axis, best))]


def _slice(key: str, result: SearchResult, scored: Sequence[Trial], axis: Axis) -> dict[str, Any]:
    """Return the trials by their value of a setting, and the texts below the plot."""
    choice = result.space[key]
    if isinstance(choice, Range):
        scale = math.log if choice.log else float
        low, high = scale(choice.low), scale(choice.high)
        places = [100 * (scale(trial.values[key]) - low) / (high - low) for trial in scored]
        ends = [(0.0, describe_value(choice.low)), (100.0, describe_value(choice.high))]
    else:
        # Trials of one value stand beside each other in the order of their numbers.
        width = 100 / len(choice)
        places = [
            width * (choice.index(trial.values[key]) + 0.15 + 0.007 * _across(result, trial.number)) for trial in scored
        ]
        ends = [(width * (number + 0.5), describe_value(value)) for number, value in enumerate(choice)]
    points = [_point(trial, x, axis, result) for trial, x in zip(scored, places, strict=True)]
    return {"points": points, "ends": ends, "log": isinstance(choice, Range) and choice.log}


def _or_least(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
