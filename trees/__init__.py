"""The pixel table → boosters → probability maps.

They load on first use: importing boosters takes seconds, and naming a setting should not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trees.boosters.booster import Booster, Learner
    from trees.fit import fit_member, open_training_rows
    from trees.member import TreeMember, load_member
    from trees.settings import TreeSettings

__all__ = ["Booster", "Learner", "TreeMember", "TreeSettings", "fit_member", "load_member", "open_training_rows"]

HOMES = {
    "Booster": "trees.boosters.booster",
    "Learner": "trees.boosters.booster",
    "TreeSettings": "trees.settings",
    "fit_member": "trees.fit",
    "open_training_rows": "trees.fit",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES.get(name, "trees.member")), name)
