"""Settings of scenes, classes and folds in the experiment file, and the base of every settings model."""

from data.settings.base import BandNames, OneOrMore, Settings, aliases
from data.settings.folds import FoldSettings, GroupSettings
from data.settings.images import (
    AssetSettings,
    FileSettings,
    ImageSettings,
    Nodata,
    PixelScaleSettings,
    RasterSettings,
    Resampling,
    StacSettings,
)
from data.settings.labels import (
    VECTOR_SUFFIXES,
    AssetLabelSettings,
    ClassSettings,
    Color,
    LabelSettings,
    MeaningSettings,
    TagSettings,
    VectorSettings,
)
from data.settings.scenes import GridSettings, SceneSettings, SplitSettings, TrainSettings

__all__ = [
    "VECTOR_SUFFIXES",
    "AssetLabelSettings",
    "AssetSettings",
    "BandNames",
    "ClassSettings",
    "Color",
    "FileSettings",
    "FoldSettings",
    "GridSettings",
    "GroupSettings",
    "ImageSettings",
    "LabelSettings",
    "MeaningSettings",
    "Nodata",
    "OneOrMore",
    "PixelScaleSettings",
    "RasterSettings",
    "Resampling",
    "SceneSettings",
    "Settings",
    "SplitSettings",
    "StacSettings",
    "TagSettings",
    "TrainSettings",
    "VectorSettings",
    "aliases",
]
