"""The pixel table → boosters → probability maps."""

from trees.boosters.booster import Booster, Learner
from trees.member import TreeMember, fit_member, load_member, load_tag_member
from trees.settings import TreeSettings
from trees.tag_member import TreeTagMember

__all__ = [
    "Booster",
    "Learner",
    "TreeMember",
    "TreeSettings",
    "TreeTagMember",
    "fit_member",
    "load_member",
    "load_tag_member",
]
