"""Compare experiments: run them, and write the table and the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import ExperimentError
from ensemble.objective import objective_of
from terrablend.compare.experiments import open_runs, run_experiments
from terrablend.compare.page import write_comparison_page
from terrablend.compare.table import comparison_rows, describe_comparison, write_table

__all__ = ["compare_experiments", "parse_shares"]


def parse_shares(text: str) -> list[float]:
    """Return shares of labels, such as ``1.0,0.1``, the largest first.

    >>> parse_shares("0.1, 1")
    [1.0, 0.1]

    Raises
    ------
    ExperimentError
        If one is no number above 0 and at most 1.
    """
    try:
        shares = sorted({float(part) for part in text.split(",")}, reverse=True)
    except ValueError:
        shares = []
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ExperimentError(f"--labels {text}: expected shares above 0 and at most 1, such as 1.0,0.1. Correct it.")
    return shares


def compare_experiments(
    paths: Sequence[Path], shares: Sequence[float], out: Path, overwrite: bool = False, **machine: Any
) -> str:
    """Run experiments on the same groups and folds, and write ``comparison.csv`` and ``comparison.html``.

    Parameters
    ----------
    paths : sequence of Path
        Experiment files; gains are over the first.
    shares : sequence of float
        Of the labelled groups that are learned from.
    out : Path
        Folder of the table, the page and the runs.
    overwrite : bool
        Whether to make results anew.
    **machine
        As of `terrablend.run.scene_run.Run`.

    Returns
    -------
    table : str
        For the terminal.

    Raises
    ------
    ExperimentError
        If the experiments have other scenes, labels, classes or metrics than the first.
    """
    compared = open_runs(paths, shares, out, **machine)
    counted, catalogue = run_experiments(compared, shares, out, overwrite)
    settings = compared[0].run.experiment.ensemble
    objective, level = objective_of(settings, catalogue.classes), settings.confidence_level
    rows = comparison_rows(counted, catalogue, objective, level)
    write_table(rows, out / "comparison.csv")
    groups = len({scene.group for scene in catalogue.split("train")})
    write_comparison_page(rows, out / "comparison.html", objective.title, level, groups)
    return describe_comparison(rows, objective.title, level)
