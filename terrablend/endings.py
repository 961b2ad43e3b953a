"""How a process of ours ends: in one message and exit status 2, also when it is asked to end."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer
from rich.markup import escape

from data.errors import TerrablendError
from data.faults import describe_fault
from terrablend.progress import console, plain, show_log

__all__ = ["interrupt", "plain_endings", "plain_stop"]

INTERRUPTED = 128 + signal.SIGINT
"""What Typer makes of Ctrl-C."""

CALLBACKS = "llvmlite"
"""In the path of the code that numba's compiler calls back: an interrupt there is printed and lost."""

SOON = 0.02
"""Seconds until an interrupt is tried again."""


@contextmanager
def plain_endings(verbose: bool) -> Iterator[None]:
    """End in one message and exit status 2 on an error that a user can mend, a fault of the machine, and Ctrl-C.

    With ``verbose`` errors show their traceback.
    """
    show_log(verbose)
    try:
        yield
    except TerrablendError as error:
        if verbose:
            raise
        console.print(f"[bold red]error:[/] {escape(plain(str(error)))}", soft_wrap=True)
        raise typer.Exit(2) from error
    except OSError as error:
        if verbose:
            raise
        console.print(f"[bold red]error:[/] {escape(plain(describe_fault(error)))}", soft_wrap=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        _tell_interrupted()
        raise typer.Exit(2) from stop


@contextmanager
def plain_stop() -> Iterator[None]:
    """End as by Ctrl-C when the system asks to, and in the same way before and after a command.

    Workers end too, and what was finished is kept.
    """
    signal.signal(signal.SIGTERM, interrupt)
    # Where Ctrl-C is ignored, as in the background of a script, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        # While Typer looks at the words of a command.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        _tell_interrupted()
        sys.exit(2)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not where it would be lost: there it is tried again soon."""
    while frame is not None:
        if CALLBACKS in frame.f_code.co_filename:
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, SOON)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _tell_interrupted() -> None:
    # An interrupt that passed through `exec` of a text, as in imports of torch, marks the whole process as killed by
    # it, whatever exit status follows; CPython takes the mark off when it next runs a text.
    exec("")
    console.print("interrupted: what was finished is kept. Give the same command again to go on.")
