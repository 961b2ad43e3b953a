"""The pixel table → boosters → probability maps."""

from trees.boosters.booster import Booster, Learner
from trees.member import TreeMember, fit_member, load_member
from trees.settings import TreeSettings

__all__ = ["Booster", "Learner", "TreeMember", "TreeSettings", "fit_member", "load_member"]
