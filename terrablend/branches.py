"""The kinds of model that there are: a further one is a folder of its own, and a line here."""

from typing import Any

import cnn.branch
import maps.branch
import trees.branch
from features.branch import Branch, MemberSettings

__all__ = ["BRANCHES", "branch_of"]

BRANCHES: dict[str, Branch[Any]] = {
    branch.name: branch for branch in (trees.branch.BRANCH, cnn.branch.BRANCH, maps.branch.BRANCH)
}

LAYERS: dict[str, Branch[Any]] = {branch.layers.name: branch.layers for branch in BRANCHES.values() if branch.layers}
"""Of layers of members' models, which only stacks name."""


def branch_of(settings: MemberSettings) -> Branch[Any]:
    """Return the branch of a member, or of a layer."""
    return BRANCHES.get(settings.branch) or LAYERS[settings.branch]
