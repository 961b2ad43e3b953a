"""Work on many scenes in parallel, in bounded memory and with results in order."""

import os
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import cv2

from data.cluster import open_cluster
from data.worker_pool import WorkerPool, Workers, keep_memory

__all__ = ["cores", "held", "map_ordered", "open_executor"]

AHEAD = 32
"""Items that are handed over before the first result is taken, at the least: `Executor.map` hands over all of them,
and keeps every result that is not yet asked for."""

_held: dict[bytes, Any] = {}
"""By the function that made it."""

T = TypeVar("T")
R = TypeVar("R")


def map_ordered(
    work: Callable[[T], R], items: Iterable[T], executor: Executor | None, ahead: int | None = None
) -> Iterator[R]:
    """Yield ``work(item)`` for every item, in order.

    Parameters
    ----------
    work : callable
        Picklable if the executor has processes.
    items : iterable
    executor : Executor or None
        None works in this thread.
    ahead : int, optional
        Items submitted to the executor before the first result is taken; two a worker by default, `AHEAD` at least.

    Raises
    ------
    RunError
        If workers are lost for good; see `Workers.recover`.
    """
    if executor is None:
        yield from map(work, items)
        return
    source, times = iter(items), 0
    workers = executor if isinstance(executor, Workers) else None
    lost = workers.lost if workers else ()
    waiting: deque[T] = deque()
    futures: deque[Future[R]] = deque()
    try:
        while True:
            most = ahead or max(AHEAD, 2 * workers.slots if workers else 0)
            waiting.extend(islice(source, max(most - len(waiting), 0)))
            if not waiting:
                return
            try:
                futures.extend(executor.submit(work, item) for item in islice(waiting, len(futures), None))
                result = futures[0].result()
            except lost as error:
                assert workers is not None
                times += 1
                workers.recover(error, times)
                futures.clear()
                continue
            waiting.popleft()
            futures.popleft()
            yield result
    finally:
        for future in futures:
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
    keep_memory()
    # What this process does itself has as many cores.
    cv2.setNumThreads(workers)
    if scheduler is not None:
        with open_cluster(scheduler) as cluster:
            yield cluster
    elif workers > 1:
        with WorkerPool(workers) as executor:
            try:
                yield executor
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
    else:
        yield None
