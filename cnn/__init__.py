"""Scenes → network → probability maps.

They load on first use: importing torch takes seconds, and naming a setting should not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnn.export import export_member
    from cnn.fit import fit_member
    from cnn.member import CnnMember, load_member

__all__ = ["CnnMember", "export_member", "fit_member", "load_member"]

HOMES = {"export_member": "cnn.export", "fit_member": "cnn.fit"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES.get(name, "cnn.member")), name)
