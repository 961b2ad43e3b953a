"""How a long loop tells the front door how far it is, without knowing how that is shown; and how logs are kept back."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

__all__ = ["Track", "logging_errors_alone", "untracked"]

T = TypeVar("T")


class Track(Protocol):
    """Pass items on one by one and show for how many of ``total`` ``what`` is done."""

    def __call__(self, items: Iterable[T], what: str, total: int) -> Iterator[T]:
        """Pass the items on."""
        ...


def untracked(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Pass items on and show nothing."""
    yield from items


@contextmanager
def logging_errors_alone() -> Iterator[None]:
    """Keep back all that is logged within this block but errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
