"""Open the run of an experiment: on scenes, or on a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.cluster import Cluster
from data.files import require_on_disk
from terrablend.experiment import (
    AnyExperiment,
    TableExperiment,
    experiment_file,
    load_experiment,
    load_scene_experiment,
)
from terrablend.run.run_folder import RunFolder
from terrablend.run.scene_run import Run
from terrablend.run.table_run import TableRun

__all__ = ["open_run", "open_scene_run", "run_of"]


def open_run(source: Path, run: Path | None = None, overrides: Sequence[str] = (), **machine: Any) -> Run | TableRun:
    """Open the run of an experiment file, or of a run folder.

    Parameters
    ----------
    source : Path
    run : Path, optional
        The run folder; ``runs/<name>`` by default.
    overrides : sequence of str
        As of `load_experiment`.
    **machine
        What machine it runs on, as of `BaseRun`.

    Raises
    ------
    ExperimentError
        If the experiment file cannot be read.
    OutputError
        If the run folder is an address.
    """
    if run is not None:
        require_on_disk(run, "--run")
    experiment = load_experiment(experiment_file(source), overrides)
    folder = run or (source if source.is_dir() else Path("runs") / experiment.name)
    # Workers of a cluster have other working directories.
    folder = folder.absolute() if isinstance(machine.get("executor"), Cluster) else folder
    return run_of(experiment, source, folder, **machine)


def open_scene_run(folder: Path, **machine: Any) -> Run:
    """Open the folder of a run on scenes; raises ExperimentError where it is none."""
    return Run(load_scene_experiment(experiment_file(folder)), folder, RunFolder(folder), **machine)


def run_of(experiment: AnyExperiment, source: Path, folder: Path, **machine: Any) -> Run | TableRun:
    """Return the run of an experiment in a folder; ``source`` and what machine it runs on as of `BaseRun`."""
    kind: Any = TableRun if isinstance(experiment, TableExperiment) else Run
    opened: Run | TableRun = kind(experiment, source, RunFolder(folder), **machine)
    return opened
