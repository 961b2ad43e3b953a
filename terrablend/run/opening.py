"""Open the run of an experiment: on scenes, or on a table."""

from pathlib import Path
from typing import Any

from terrablend.experiment import AnyExperiment, TableExperiment
from terrablend.run.run_folder import RunFolder
from terrablend.run.scene_run import Run
from terrablend.run.table_run import TableRun

__all__ = ["run_of"]


def run_of(experiment: AnyExperiment, source: Path, folder: Path, **machine: Any) -> Run | TableRun:
    """Return the run of an experiment in a folder; ``source`` and what machine it runs on as of `BaseRun`."""
    if isinstance(experiment, TableExperiment):
        return TableRun(experiment, source, RunFolder(folder), **machine)
    return Run(experiment, source, RunFolder(folder), **machine)
