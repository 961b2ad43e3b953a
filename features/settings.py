"""Which features there are, and which pixels are drawn for the table."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from data.errors import FeatureError
from data.settings import Settings
from features.context import STATISTICS
from features.indices import indices_of

__all__ = ["ContextSettings", "FeatureSettings", "SampleSettings", "feature_names"]


class ContextSettings(Settings):
    """Statistics of every pixel's surroundings."""

    of: list[str] | None = Field(None, description="bands and indices; default: every band and one contrast of theirs")
    radii: list[int] = Field([1, 3, 7, 15], description="pixels; windows are squares of side 2 radius + 1")
    statistics: list[str] = Field(["mean", "std", "min", "max", "gradient"], description="names of statistics")

    @field_validator("radii")
    @classmethod
    def _positive(cls, radii: list[int]) -> list[int]:
        if any(radius < 1 for radius in radii):
            raise ValueError(f"expected radii of 1 pixel or more, got {radii}")
        return radii

    @field_validator("statistics")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in STATISTICS]
        if unknown:
            raise ValueError(f"expected statistics among {', '.join(STATISTICS)}, got {unknown[0]}")
        return names


class SampleSettings(Settings):
    """Which pixels of a scene are drawn; each is weighted by 1 / the probability of that."""

    positives: Literal["all"] | int = Field("all", description="binary: positive pixels per scene")
    buffer: int = Field(5, ge=0, description="binary: pixels around a positive of which all are drawn")
    negatives: int = Field(1000, ge=0, description="binary: other pixels per scene")
    quota: int = Field(500, ge=1, description="multiclass: pixels per class and scene")


class FeatureSettings(Settings):
    """The columns of the pixel table, and its rows."""

    indices: list[str] | Literal["all"] = Field("all", description="spectral indices; all that the bands allow")
    context: ContextSettings = ContextSettings()
    sample: SampleSettings = SampleSettings()


def feature_names(bands: Sequence[str], settings: FeatureSettings) -> tuple[str, ...]:
    """Return the name of every feature: bands, indices, context.

    >>> context = ContextSettings(of=["red"], radii=[3], statistics=["mean", "std"])
    >>> feature_names(["red", "nir"], FeatureSettings(indices=["NDVI"], context=context))
    ('red', 'nir', 'NDVI', 'red_mean_r3', 'red_std_r3')
    """
    indices = indices_of(bands) if settings.indices == "all" else tuple(settings.indices)
    context = settings.context
    bases = context.of
    if bases is None:
        # The first index of each date is the contrast that separates most: NDVI where there is infrared.
        bases = [*bands, *_first_of_each_date(indices)]
    around = [
        f"{base}_{statistic}_r{radius}"
        for base in bases
        for radius in context.radii
        for statistic in context.statistics
    ]  # fmt: skip
    names = (*bands, *indices, *around)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FeatureError(f"features: expected each feature once, got {', '.join(twice)} twice. Remove one of them.")
    return names


def _first_of_each_date(indices: Sequence[str]) -> list[str]:
    first: dict[str, str] = {}
    for index in indices:
        first.setdefault(index.partition("_")[2], index)
    return list(first.values())
