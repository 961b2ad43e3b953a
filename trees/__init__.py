"""The pixel table → boosters → probability maps."""

from trees.boosters.booster import Booster, Learner
from trees.fit import fit_member, open_training_rows
from trees.member import TreeMember, load_member
from trees.settings import TreeSettings

__all__ = ["Booster", "Learner", "TreeMember", "TreeSettings", "fit_member", "load_member", "open_training_rows"]
