"""Probability maps that another tool made → checked → probability maps of ours."""

from maps.branch import BRANCH
from maps.settings import MapsSettings

__all__ = ["BRANCH", "MapsSettings"]
