"""The pixel table → boosters → probability maps."""

from trees.booster import Booster, Rows
from trees.member import TreeMember, fit_member, load_member
from trees.settings import TreeSettings

__all__ = ["Booster", "Rows", "TreeMember", "TreeSettings", "fit_member", "load_member"]
