"""Say what of a run is done, and what is missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.errors import TerrablendError
from data.maps.store import open_store
from terrablend.run.base_run import BaseRun
from terrablend.run.scene_run import Run

__all__ = ["describe_status"]

SIDES = (".json", ".csv", ".html", ".ckpt")
"""Endings of what lies beside the models."""


def describe_status(run: BaseRun[Any]) -> tuple[list[str], bool]:
    """Return a line for each stage and, of members that are not done, what they lack; and whether all is done."""
    lines, finished = [f"{run.folder.path}"], True
    for stage in run.stages:
        state = run.folder.state(stage)
        lines.append(f"  {stage.name:<24} {state:<12}" + ("" if state == "done" else f" {stage.command}"))
        finished = finished and state == "done"
        if state != "done" and stage.name in run.experiment.members:
            lines += [f"    {line}" for line in _missing(run, stage.name)]
    return lines, finished


def _missing(run: BaseRun[Any], name: str) -> Iterator[str]:
    """Yield which folds of a member have a model and, once all have, how many scenes have no map."""
    try:
        catalogue = run.load_catalogue()
    except TerrablendError:
        return
    models = {_fold(path) for path in run.member_path(name).glob("fold*.*") if path.suffix not in SIDES}
    lacking = [fold for fold in catalogue.folds if fold not in models]
    if lacking:
        yield f"no model of fold {', '.join(map(str, lacking))} of {len(catalogue.folds)}: --fold"
    if isinstance(run, Run):
        there = catalogue.scenes
        missing = open_store(run.member_path(name), catalogue.classes).missing(there)
        yield f"no map of {len(missing)} of {len(there)} scenes"


def _fold(path: Path) -> int | None:
    digits = path.stem.removeprefix("fold")
    return int(digits) if digits.isdecimal() else None
