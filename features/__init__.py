"""Scenes → named features → the pixel table."""

from features.feature_set import FeatureSet
from features.settings import FeatureSettings, feature_names
from features.table import build_table, open_table

__all__ = ["FeatureSet", "FeatureSettings", "build_table", "feature_names", "open_table"]
