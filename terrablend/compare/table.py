"""The table of a comparison: scores, gains over the first experiment, and what fewer labels cost, all paired."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.files import replacing
from data.scenes.catalogue import Catalogue
from ensemble.objective import Objective
from ensemble.score.intervals import Estimate, GroupCounts, Interval
from terrablend.compare.counted import Counted
from terrablend.compare.experiments import Compared

__all__ = ["Row", "comparison_rows", "describe_comparison", "write_table"]

NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Row:
    """A model of an experiment with a share of the labels.

    Parameters
    ----------
    experiment, model : str
    labels : float
        Share of the labelled groups that were learned from.
    groups : int
        How many these are.
    score : Interval
    gain : Interval
        Over the first experiment with the same labels, paired by group; NaN for that itself.
    fewer : Interval
        The score less that of the same model with all labels, paired; NaN with all labels, or if there are no such.
    """

    experiment: str
    model: str
    labels: float
    groups: int
    score: Interval
    gain: Interval
    fewer: Interval


def comparison_rows(
    counted: Sequence[tuple[Compared, Counted]], catalogue: Catalogue, objective: Objective, confidence_level: float
) -> list[Row]:
    """Return a row for every model of every run, the first experiment first, all labels first."""
    train = catalogue.split("train")
    names = sorted({scene.group for scene in train})
    group = np.array([names.index(scene.group) for scene in train])
    estimates: dict[tuple[str, str, float], Estimate] = {}
    for each, found in counted:
        for model, scenes in found.counts.items():
            counts = GroupCounts(np.stack([scenes[scene.id] for scene in train]), group)
            estimates[each.name, model, each.share] = counts.score(objective)
    first, its = counted[0]
    rows = []
    for each, found in counted:
        learned = _labelled_groups(each)
        for model in found.counts:
            estimate = estimates[each.name, model, each.share]
            reference, whole = (first.name, its.final, each.share), (each.name, model, 1.0)
            same = reference == (each.name, model, each.share)
            rows.append(
                Row(
                    each.name,
                    model,
                    each.share,
                    learned,
                    estimate.interval(confidence_level),
                    NOTHING if same else (estimate - estimates[reference]).interval(confidence_level),
                    NOTHING
                    if each.share == 1 or whole not in estimates
                    else (estimate - estimates[whole]).interval(confidence_level),
                )
            )
    return rows


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write rows as CSV, an interval in three columns; empty where there is none."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        parts = [name for what in ("score", "gain", "fewer") for name in (what, f"{what}_low", f"{what}_high")]
        table.writerow(["experiment", "model", "labels", "groups", *parts])
        for row in rows:
            numbers = [end for each in (row.score, row.gain, row.fewer) for end in (each.value, each.low, each.high)]
            cells = ["" if np.isnan(number) else f"{number:.6f}" for number in numbers]
            table.writerow([row.experiment, row.model, f"{row.labels:g}", row.groups, *cells])


def describe_comparison(rows: Sequence[Row], title: str, confidence_level: float) -> str:
    """Return rows as text for the terminal."""
    return "\n".join(_lines(rows, title, confidence_level))


def _lines(rows: Sequence[Row], title: str, confidence_level: float) -> Iterator[str]:
    first = rows[0]
    yield f"{title} of held-out folds, {confidence_level:.0%} intervals; gains over {first.experiment} are paired"
    wide = max(len(row.experiment) for row in rows) + 2
    model = max(len(row.model) for row in rows) + 2
    yield f"{'':<{wide}}{'':<{model}}{'labels':>8}{title:>24}{'gain':>27}{'over all labels':>27}"
    for row in rows:
        score, gain, fewer = row.score.words(), _signed(row.gain), _signed(row.fewer)
        yield f"{row.experiment:<{wide}}{row.model:<{model}}{row.labels:>8.4g}{score:>24}{gain:>27}{fewer:>27}"


def _signed(interval: Interval) -> str:
    text = interval.words()
    return "" if text == "–" else f"+{text}" if interval.value > 0 else text


def _labelled_groups(each: Compared) -> int:
    return len({scene.group for scene in each.run.load_catalogue().labelled})
