"""Workers of this machine: processes that can be started again after one of them was killed."""

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import Any, TypeVar

import cv2

from data.errors import RunError

__all__ = ["WorkerPool", "Workers", "keep_memory"]

logger = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""

R = TypeVar("R")


class Workers(Executor):
    """Processes that scenes are worked on by, some of which may be lost on the way.

    Attributes
    ----------
    lost : tuple of type
        Errors by which a task says that workers were lost, or all that leads to them.
    worth_pixels : int
        Pixels that are mapped in the time that the processes take to start.
    """

    lost: tuple[type[BaseException], ...]
    worth_pixels: int

    @property
    @abstractmethod
    def slots(self) -> int:
        """Tasks that are worked on at once."""

    @abstractmethod
    def recover(self, error: BaseException, times: int) -> None:
        """Make it possible to hand the unfinished tasks over again, after the error that is the ``times``-th of them.

        Raises
        ------
        RunError
            If that cannot be done, saying what can.
        """


class WorkerPool(Workers):
    """Processes on this machine, which can be started again, one fewer, after one of them was killed.

    Parameters
    ----------
    workers : int
    """

    lost = (BrokenExecutor,)
    worth_pixels = 2**21

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = self._start()

    @property
    def slots(self) -> int:
        """Processes."""
        return self.workers

    def submit(self, work: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Hand work to a process."""
        return self._pool.submit(work, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def recover(self, error: BaseException, times: int) -> None:
        """Start the processes anew, one fewer; raises RunError at the second time."""
        if times > 1:
            raise RunError(
                "expected workers to live as long as their work, got one that the system killed, as it does "
                "where memory runs out. Give the same command with fewer: --workers."
            ) from error
        self.shutdown(wait=False)
        self.workers = max(1, self.workers - 1)
        self._pool = self._start()
        logger.warning("a worker was killed, perhaps for its memory; going on with %d", self.workers)

    def _start(self) -> ProcessPoolExecutor:
        # Spawned, not forked: a fork of a process in which polars or torch run threads can lock up.
        return ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _settle_worker)


def _settle_worker() -> None:
    """Keep a worker to one core, leave Ctrl-C to the process that started it, end with it, and keep memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    cv2.setNumThreads(1)
    keep_memory()


def keep_memory() -> None:
    """Let this process keep memory that it frees, up to 64 MiB.

    Each block of a scene needs the same few arrays of some MB. Given back to the system after each, they cost a page
    fault for every 4 KiB when the next one asks for them: half of the time of context features.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
            library.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process when the one that started it is gone, however that ended."""
    parent.join()
    os._exit(1)
