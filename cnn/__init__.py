"""Scenes → network → probability maps.

The two functions load on first use: importing torch takes seconds, and naming a setting should not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnn.member import CnnMember, fit_member, load_member

__all__ = ["CnnMember", "fit_member", "load_member"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("cnn.member"), name)
