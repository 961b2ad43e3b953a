"""Work on many scenes at once, in bounded memory and with results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

__all__ = ["map_ordered"]

T = TypeVar("T")
R = TypeVar("R")


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
        Items handed to the executor before the first result is taken: `Executor.map` hands over all of them,
        and keeps every result that is not yet asked for.
    """
    if executor is None:
        yield from map(work, items)
        return
    pending: deque[Future[R]] = deque()
    source = iter(items)
    try:
        pending.extend(executor.submit(work, item) for item in islice(source, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(executor.submit(work, item) for item in islice(source, 1))
            yield result
    finally:
        for future in pending:
            future.cancel()
