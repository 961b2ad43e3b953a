"""The command line: its commands are thin functions, which lie in `terrablend.commands`."""

from importlib.metadata import version
from typing import Annotated

import typer

from terrablend.commands import delivery, stages, start
from terrablend.endings import plain_stop

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
for _command in (*stages.COMMANDS, *delivery.COMMANDS, *start.COMMANDS):
    app.command()(_command)


def print_version(wanted: bool) -> None:
    """Print the version and end, if that is wanted."""
    if wanted:
        typer.echo(f"terrablend {version('terrablend')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Turn satellite scenes into maps: boosted trees and a CNN on the same leak-free folds, blended out of fold."""


def main() -> None:
    """Run the command line."""
    with plain_stop():
        app()
