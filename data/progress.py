"""How a long loop tells the front door how far it is, without knowing how that is shown."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["Track", "untracked"]

T = TypeVar("T")


class Track(Protocol):
    """Pass items on one by one and show for how many of ``total`` ``what`` is done."""

    def __call__(self, items: Iterable[T], what: str, total: int) -> Iterator[T]:
        """Pass the items on."""
        ...


def untracked(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Pass items on and show nothing."""
    yield from items
