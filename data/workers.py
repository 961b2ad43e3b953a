"""Work on many scenes in parallel, in bounded memory and with results in order."""

import ctypes
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import cv2

from data.errors import RunError

__all__ = ["cores", "held", "map_ordered", "open_executor"]

logger = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""

_held: dict[bytes, Any] = {}
"""By the function that made it."""

T = TypeVar("T")
R = TypeVar("R")


class WorkerPool(Executor):
    """Processes on this machine, which can be started again, one fewer, after one of them was killed.

    Parameters
    ----------
    workers : int
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = self._start()

    def submit(self, work: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Hand work to a process."""
        return self._pool.submit(work, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def start_again(self) -> None:
        """Start the processes anew, one fewer."""
        self.shutdown(wait=False)
        self.workers = max(1, self.workers - 1)
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        # Spawned, not forked: a fork of a process in which polars or torch run threads can lock up.
        return ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _settle_worker)


def map_ordered(work: Callable[[T], R], items: Iterable[T], executor: Executor | None, ahead: int = 32) -> Iterator[R]:
    """Yield ``work(item)`` for every item, in order.

    Parameters
    ----------
    work : callable
        Picklable if the executor has processes.
    items : iterable
    executor : Executor or None
        None works in this thread.
    ahead : int
        Items submitted to the executor before the first result is taken: `Executor.map` submits all of them, and
        keeps every result that is not yet asked for.

    Raises
    ------
    RunError
        If the system kills a worker, and another one at the second try with one worker fewer.
    """
    if executor is None:
        yield from map(work, items)
        return
    source, killed = iter(items), 0
    pending = deque((item, executor.submit(work, item)) for item in islice(source, ahead))
    try:
        while pending:
            try:
                result = pending[0][1].result()
            except BrokenExecutor as error:
                killed += 1
                if killed > 1 or not isinstance(executor, WorkerPool):
                    raise RunError(
                        "expected workers to live as long as their work, got one that the system killed, as it does "
                        "where memory runs out. Give the same command with fewer: --workers."
                    ) from error
                executor.start_again()
                logger.warning("a worker was killed, perhaps for its memory; going on with %d", executor.workers)
                pending = deque((item, executor.submit(work, item)) for item, _ in pending)
                continue
            pending.popleft()
            pending.extend((item, executor.submit(work, item)) for item in islice(source, 1))
            yield result
    finally:
        for _, future in pending:
            future.cancel()


def held(make: Callable[[], R]) -> R:
    """Return what a picklable function makes, which is made once in this process for as long as it is asked for alone.

    So a worker opens a model once, for all scenes that it maps by it.
    """
    key = pickle.dumps(make)
    if key not in _held:
        _held.clear()
        _held[key] = make()
    made: R = _held[key]
    return made


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_executor(workers: int, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Open the executor that stages map their work over.

    Parameters
    ----------
    workers : int
        Processes on this machine; 1 gives None: work in this process.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://host:8786``; then its cluster does the work.

    Raises
    ------
    RunError
        If Dask is asked for and not installed, or does not answer.
    """
    if scheduler is not None:
        try:
            from distributed import Client
        except ImportError as error:
            raise RunError(
                f"--scheduler {scheduler}: expected Dask, it is not installed. Install `terrablend[dask]`."
            ) from error
        try:
            client = Client(scheduler, timeout="10s")
        except OSError as error:
            raise RunError(
                f"--scheduler {scheduler}: expected a Dask scheduler, got: {error}. Start one, or leave the option out."
            ) from error
        with client:
            yield client.get_executor()
    elif workers > 1:
        with WorkerPool(workers) as executor:
            try:
                yield executor
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
    else:
        yield None


def _settle_worker() -> None:
    """Keep a worker to one core, leave Ctrl-C to the process that started it, end with it, and keep memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    cv2.setNumThreads(1)
    if sys.platform == "linux":
        # Each scene needs the same few arrays of some MB. Given back to the system after each, they cost a page
        # fault for every 4 KiB when the next scene asks for them: a sixth of the time of a pixel table.
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
            library.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process when the one that started it is gone, however that ended."""
    parent.join()
    os._exit(1)
