"""Say beforehand what a run on more scenes takes, from what its stages took on fewer."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.errors import ExperimentError, TerrablendError
from data.progress import logging_errors_alone, untracked
from data.survey.discovery import SceneFiles
from terrablend.run.base_run import BaseRun
from terrablend.run.run_folder import Cost, RunFolder
from terrablend.run.scene_run import Run

__all__ = ["describe_plan"]

LEAST, TIMES = 12, 3
"""Scenes of a measurement, and how many times as many the second one has."""

ALONE = ("explain", "ensemble", "teach")
"""Stages that gain little by more cores: a bounded sample, or one process."""


@dataclass(frozen=True)
class Part(Run):
    """A run on the first scenes of each split.

    Parameters
    ----------
    most : int
        Scenes.
    """

    most: int = 0

    @cached_property
    def files(self) -> tuple[list[SceneFiles], list[str]]:
        """The files of the first scenes, and a line for each problem."""
        files, problems = super().files
        splits: dict[str, list[SceneFiles]] = {}
        for scene in files:
            splits.setdefault(scene.split, []).append(scene)
        # As many of each split as it has of all.
        return [
            scene for own in splits.values() for scene in own[: max(1, round(len(own) * self.most / len(files)))]
        ], problems


@dataclass(frozen=True)
class Measured:
    """What the stages of a run on some scenes took.

    Parameters
    ----------
    scenes : int
    costs : mapping of str to Cost
    sizes : mapping of str to int
        Bytes that each stage wrote.
    table : int
        Bytes of the pixel table in memory.
    """

    scenes: int
    costs: Mapping[str, Cost]
    sizes: Mapping[str, int]
    table: int

    @classmethod
    def of(cls, run: BaseRun[Any]) -> "Measured":
        """Return what the stages of a run took that are done."""
        costs = run.folder.costs()
        stages = [stage for stage in run.stages if stage.name in costs and run.folder.bytes_of(stage)]
        sizes = {stage.name: run.folder.bytes_of(stage) for stage in stages}
        scenes = len(run.load_catalogue().scenes) if "check" in sizes else 0
        return cls(scenes, {name: costs[name] for name in sizes}, sizes, _table_bytes(run.pixels))


def describe_plan(run: BaseRun[Any], scenes: int, cores: int) -> list[str]:
    """Return in lines what a run on a number of scenes takes.

    Parameters
    ----------
    run : BaseRun
        On scenes. What its stages took is believed; of a run that has not begun, its first scenes are worked on twice,
        a few and three times as many, in a folder that is removed again.
    scenes : int
        Of all splits, of the size of those that there are.
    cores : int
        That are busy all the time.

    Raises
    ------
    ExperimentError
        If the run is on a table, or has too few scenes to measure.
    """
    if not isinstance(run, Run):
        raise ExperimentError("plan: expected an experiment on scenes, got one on a table. Run it.")
    found = [Measured.of(run)] if run.folder.is_ours else []
    found = found if found and found[0].scenes else _measure(run)
    return _lines(found, [stage.name for stage in run.stages], set(run.of_table), scenes, cores, run.folder.path)


def _measure(run: Run) -> list[Measured]:
    """Return what runs on few scenes and on more of them take."""
    there = len(run.files[0])
    least = max(LEAST, 3 * run.experiment.folds.count)
    if there < 2 * least:
        raise ExperimentError(
            f"plan: expected {2 * least} scenes or more to measure, got {there}. Run them: then that is the measure."
        )
    found = []
    with tempfile.TemporaryDirectory(prefix="terrablend-plan-") as temporary:
        # The first one warms up: libraries are loaded and code is compiled once.
        for number, most in enumerate((least, least, min(there, TIMES * least))):
            folder = RunFolder(Path(temporary) / str(number))
            own = {name: getattr(run, name) for name in ("experiment", "source", "device")}
            part = Part(**own, folder=folder, workers=1, executor=None, track=untracked, most=most)
            try:
                with folder.lock(), logging_errors_alone():
                    for stage in part.stages:
                        folder.carry_out(stage)
            except TerrablendError as error:
                raise ExperimentError(
                    f"plan: expected the first {most} scenes to be enough for a run of their own, got: {error} Run all "
                    "scenes that there are: then that is the measure."
                ) from error
            found.append(Measured.of(part))
    return found[1:]


def _lines(
    found: Sequence[Measured], names: Sequence[str], of_table: set[str], scenes: int, cores: int, folder: Path
) -> list[str]:
    last = found[-1]
    lines = [f"{'stage':<24} {'CPU h':>8} {'hours':>8} {'GB memory':>10} {'GB written':>10}"]
    hours, disk, most, limits = 0.0, 0.0, 0.0, []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in names:
        if name not in last.costs:
            lines.append(f"{name:<24} not measured: it is not done yet")
            continue
        alone = name.startswith(ALONE)
        cpu = _line([(each.scenes, each.costs[name].cpu_seconds) for each in found], scenes, name.startswith("explain"))
        wall = cpu / (1 if alone else cores)
        # The table is held whole by what learns from it.
        growth = last.table / last.scenes if name in of_table else 0.0
        peak = last.costs[name].peak_mib * 2**20 + growth * max(scenes - last.scenes, 0)
        size = _line([(each.scenes, each.sizes[name]) for each in found], scenes, name.startswith("explain"))
        lines.append(f"{name:<24} {cpu / 3600:>8.3g} {wall / 3600:>8.3g} {peak / 1e9:>10.3g} {size / 1e9:>10.3g}")
        hours, disk, most = hours + wall / 3600, disk + size / 1e9, max(most, peak / 1e9)
        if growth:
            limits.append(
                ((memory - last.costs[name].peak_mib * 2**20) / growth + last.scenes, f"the memory of {name}")
            )
    lines.append(f"{'all':<24} {'':>8} {hours:>8.3g} {most:>10.3g} {disk:>10.3g}")
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if disk:
        limits.append((shutil.disk_usage(place).free / (disk * 1e9 / scenes), "the disk of the run folder"))
    limit, what = min(limits, default=(float("inf"), ""))
    measured = " and ".join(str(each.scenes) for each in found)
    lines.append(
        f"{scenes:,} scenes on {cores} cores, by what {measured} scenes took; hours are those of cores that do nothing "
        "else and wait for no disk or network."
    )
    lines.append(f"First to fail on this machine: {what}, at about {limit:,.0f} scenes." if what else "")
    return lines


def _line(points: Sequence[tuple[int, float]], scenes: int, bounded: bool) -> float:
    """Return what a number of scenes takes, by a line through what others took; by one alone in proportion.

    What looks at a bounded sample is then taken to have reached its bound.

    >>> _line([(10, 30), (30, 50)], 100, True), _line([(10, 30)], 100, False), _line([(10, 30)], 100, True)
    (120.0, 300.0, 30.0)
    """
    (n, value), (m, other) = points[0], points[-1]
    if n == m:
        return float(other) if bounded else other * scenes / m
    slope = max((other - value) / (m - n), 0.0)
    return max(other + slope * (scenes - m), 0.0)


def _table_bytes(folder: Path) -> int:
    """Return the bytes of a pixel table in memory, 4 a value."""
    footers = [pq.read_metadata(path) for path in folder.rglob("*.parquet")]
    return sum(4 * footer.num_rows * footer.num_columns for footer in footers)
