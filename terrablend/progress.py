"""Show a stage at work: a line for each thing done, and a bar on each long loop."""

import logging
import re
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data.variables import hide_values

__all__ = ["bars", "console", "plain", "show_log", "tell"]

T = TypeVar("T")

UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
"""Signs that steer a terminal, or turn the direction of a text: names may hold them."""

console = Console(stderr=True, highlight=False)


class ConsoleHandler(logging.Handler):
    """Print what is logged above the progress bar, if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; warnings stand out."""
        style = "yellow" if record.levelno >= logging.WARNING else None
        console.print(plain(self.format(record)), style=style, markup=False, soft_wrap=True)


def plain(text: str) -> str:
    r"""Return a text as a terminal may show it: no value of a variable, and no sign that steers the terminal.

    >>> plain("scene \x1b[31m1\n")
    'scene \\x1b[31m1\n'
    """
    return UNSEEN.sub(lambda sign: ascii(sign[0])[1:-1], hide_values(text))


def tell(text: str, nl: bool = True) -> None:
    """Print what a command was asked for; see `plain`."""
    typer.echo(plain(text), nl=nl)


def show_log(verbose: bool) -> None:
    """Show what the packages log: a line a stage and warnings; with ``verbose`` everything of ours."""
    form = "%(asctime)s %(name)s: %(message)s" if verbose else "%(message)s"
    logging.basicConfig(level=logging.WARNING, format=form, handlers=[ConsoleHandler()], force=True)
    for name in ("data", "features", "trees", "cnn", "maps", "ensemble", "terrablend"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)


def bars(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield items behind a progress bar; without a terminal, print at the end how long they took."""
    if total == 0:
        return
    if not console.is_terminal:
        start = time.perf_counter()
        yield from items
        console.print(f"{what}: {total} in {time.perf_counter() - start:.1f} s")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task)
