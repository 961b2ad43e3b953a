"""What a trained member of the tree branch says of itself, in its folder."""

from dataclasses import dataclass

from data.errors import MemberError
from data.records import FileKind
from data.scenes.classes import Classes
from trees.settings import TreeSettings

__all__ = ["BOOSTER", "MEMBER", "FoldRecord", "MemberRecord"]

MEMBER = FileKind("a trained member", MemberError, "terrablend trees")
BOOSTER = FileKind("the booster of its record", MemberError, "terrablend trees")


@dataclass(frozen=True)
class MemberRecord:
    """``member.json``: what the boosters take and tell, and how they were trained."""

    name: str
    settings: TreeSettings
    bands: tuple[str, ...]
    features: tuple[str, ...]
    formulas: dict[str, str]
    classes: Classes
    made_with: dict[str, str]


@dataclass(frozen=True)
class FoldRecord:
    """What loading needs of ``fold<K>.json``, which holds more: the hash of the booster's file."""

    sha256: str
