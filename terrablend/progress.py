"""What the user sees while a stage works: a line for each thing done, and a bar on each long loop."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["bars", "console", "show_log"]

T = TypeVar("T")

console = Console(stderr=True, highlight=False)


def show_log(verbose: bool) -> None:
    """Show what the packages log: one line a stage and warnings; with ``verbose`` everything of ours."""
    handler = RichHandler(
        console=console, show_time=verbose, show_path=verbose, show_level=verbose, rich_tracebacks=verbose
    )
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    for name in ("data", "features", "trees", "cnn", "ensemble", "terrablend"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)


def bars(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Pass items on behind a progress bar; where there is no terminal, say at the end how long it took."""
    if total == 0:
        return
    if not console.is_terminal:
        start = time.perf_counter()
        yield from items
        console.print(f"{what}: {total} in {time.perf_counter() - start:.1f} s")
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task)
