"""What comes before a run: settings, the machine, weights to start from, a first experiment file, a demonstration."""

import json
from pathlib import Path
from typing import Annotated

import typer

from data.workers import open_executor
from terrablend.branches import BRANCHES
from terrablend.commands.options import CORES, Device, Out, Workers, plainly
from terrablend.progress import bars, tell

__all__ = ["COMMANDS"]


@plainly
def settings(
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Such as members.trees, folds.count or n_estimators.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema that editors check files by.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/settings.md.")] = False,
) -> None:
    """Print what the experiment file can say: each setting's values, default, meaning and place."""
    from terrablend.experiment import Experiment, TableExperiment
    from terrablend.experiment.reference import describe_settings, find_settings, list_settings, settings_page
    from terrablend.start.schema import experiment_schema

    listed = list_settings(Experiment, TableExperiment)
    if schema:
        tell(json.dumps(experiment_schema(), indent=1, ensure_ascii=False))
    elif markdown:
        tell(settings_page(listed), nl=False)
    else:
        tell(describe_settings(listed if key is None else find_settings(listed, key)))


@plainly
def doctor() -> None:
    """Say what is installed, what this machine can do, and what about it is odd; exit status 1 if it will not work."""
    from terrablend.start.doctor import describe_findings, examine

    text, broken = describe_findings(examine(Path()))
    tell(text)
    if broken:
        raise typer.Exit(1)


@plainly
def weights() -> None:
    """List the weights that models can start from, and which of them are on this machine."""
    tell("\n".join(branch.starts() for branch in BRANCHES.values() if branch.starts), nl=False)


@plainly
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the images and labels lie.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Experiment file to write.")] = Path("experiment.yaml"),
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Data set that the folder is: kelp, solar, deepglobe, …")
    ] = None,
) -> None:
    """Look at a folder of scenes and write a first experiment file, or that of a known data set."""
    from terrablend.start.init import write_experiment
    from terrablend.start.recipes import write_recipe

    if recipe is None:
        write_experiment(folder, out)
    else:
        write_recipe(recipe, folder, out, bars)


@plainly
def demo(out: Out = Path("demo"), device: Device = None, workers: Workers = CORES) -> None:
    """Make a small synthetic coast with known truth and run every stage on it."""
    with open_executor(workers) as executor:
        from terrablend.start.demo import run_demo

        run_demo(out, device=device, workers=workers, executor=executor, track=bars)


COMMANDS = (settings, doctor, weights, init, demo)
