"""Show a stage at work: a line for each thing done, and a bar on each long loop."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["bars", "console", "show_log"]

T = TypeVar("T")

console = Console(stderr=True, highlight=False)


class ConsoleHandler(logging.Handler):
    """Print what is logged above the progress bar, if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; warnings stand out."""
        style = "yellow" if record.levelno >= logging.WARNING else None
        console.print(self.format(record), style=style, markup=False, soft_wrap=True)


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
