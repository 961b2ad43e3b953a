"""What several commands take, and how each of them ends."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from data.workers import cores
from terrablend.endings import plain_endings

Command = Callable[..., None]

CORES = cores()

Source = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Experiment file, or the folder of an earlier run.")]
FinishedRun = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]
RunPath = Annotated[Path | None, typer.Option("--run", help="Run folder; runs/<name> by default.")]
Device = Annotated[Literal["auto", "cpu", "cuda"] | None, typer.Option("--device", help="Where models run.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Cores to use.")]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Dask scheduler whose workers do the work: tcp://HOST:8786.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Rebuild results that were made with other settings.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show details, and tracebacks of errors.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder to write to.")]


def plainly(work: Command) -> Command:
    """Make a command of a function: it takes ``-v`` too, and ends as `plain_endings` says."""

    def command(verbose: Verbose = False, **given: Any) -> None:
        with plain_endings(verbose):
            work(**given)

    verbose = next(iter(inspect.signature(command).parameters.values()))
    return sign(command, work, [*inspect.signature(work).parameters.values(), verbose])


def sign(command: Command, work: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> Command:
    """Let Typer see a command with some parameters, and the name and help of the work that it does."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__, command.__name__ = work.__doc__, work.__name__
    return command
