"""The settings of features, of the sample of pixels, and of a table of your own."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from data.errors import FeatureError
from data.names import numbered_names
from data.settings import BandNames, OneOrMore, Settings
from features.aggregates import AGGREGATES, QUANTILE, histogram_names
from features.context import STATISTICS
from features.formula import is_condition
from features.indices import contrasts_of, dates_of, indices_of

__all__ = [
    "ROW_COLUMNS",
    "AggregateSettings",
    "ChangeSettings",
    "ContextSettings",
    "DistanceSettings",
    "FeatureSettings",
    "RelativeSettings",
    "SampleSettings",
    "TableSettings",
    "aggregated_names",
    "embedding_bands",
    "feature_names",
    "scene_feature_names",
]

NUMBERED = 16
"""Numbered bands from which on they are taken for an embedding; context of them all would be thousands of columns."""

ROW_COLUMNS = ("scene", "row", "col", "label", "stratum", "weight", "fold", "geometry")
"""Columns of the pixel table that are no features, and what programs make of its folders and of its points."""

Amount = Literal["all"] | Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(gt=0, lt=1, strict=True)]
"""All pixels of a stratum, a number of them, or a share below 1."""


class ContextSettings(Settings):
    """Statistics of the window around each pixel."""

    of: BandNames | None = Field(
        None,
        description="bands, indices or formulas; default: one contrast, and all bands but those of an embedding: "
        "decoded ones, and 16 or more that are numbered, such as A00 … A63",
    )
    radii: list[Annotated[int, Field(ge=1, le=1024)]] = Field(
        [1, 3, 7, 15], description="radii in pixels: the window's side is 2 × radius + 1"
    )
    statistics: list[str] = Field(
        ["mean", "std", "min", "max", "gradient", "edges", "coherence", "dob", "laplacian"],
        description=f"among {', '.join(STATISTICS)}",
    )

    @field_validator("statistics")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        return _known_surroundings(names)


class ChangeSettings(Settings):
    """Change of bands and indices between two dates."""

    of: BandNames = Field(description="bands or indices, without the date's suffix")
    start: str = Field("before", description="suffix of the earlier date's bands, after _")
    end: str = Field("after", description="suffix of the later date's bands, after _")
    by: list[Literal["minus", "over"]] = Field(["minus"], description="minus: later − earlier; over: later / earlier")


class RelativeSettings(Settings):
    """Values relative to the rest of their scene."""

    of: BandNames = Field(description="bands, indices or formulas")
    to: list[str] = Field(
        ["scene"],
        description="what is subtracted: the median of the scene's valid pixels, or of those where this formula holds",
    )
    rank: bool = Field(
        False, description="add each value's rank in its scene: the share of valid pixels with a lower value, 0 … 1"
    )


class DistanceSettings(Settings):
    """Distance to the edge of where a formula holds, such as the shore or a cloud."""

    to: list[str] = Field(description="names of formulas that are conditions")
    within: int = Field(64, ge=1, le=1024, description="greatest distance, pixels; what is farther gets this value")


class AggregateSettings(Settings):
    """Aggregates of a scene's pixels, the features of tagged scenes."""

    of: BandNames | None = Field(
        None,
        description="features to aggregate; default: bands, indices, changes, and formulas that are not conditions",
    )
    statistics: list[str] = Field(
        ["mean", "std", "q05", "q25", "q50", "q75", "q95"],
        description="mean, std, min, max, energy (mean of squares), or quantiles such as q05",
    )
    bins: int = Field(
        8, ge=0, description="bins of each feature's histogram, equally full over the training scenes; 0: no histograms"
    )
    edges: dict[str, list[float]] = Field({}, description="feature → edges between bins, in place of equally full ones")
    radii: list[Annotated[int, Field(ge=1, le=1024)]] = Field([1, 3], description="radii of texture, in pixels")
    texture: dict[str, str] = Field(
        {"std": "mean", "gradient": "mean", "laplacian": "energy"},
        description="statistic of the window around each pixel, as under `context` → how the scene's values are "
        "aggregated",
    )

    @field_validator("statistics")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        return [_known_statistic(name) for name in names]

    @field_validator("texture")
    @classmethod
    def _known_texture(cls, texture: dict[str, str]) -> dict[str, str]:
        _known_surroundings(list(texture))
        return {around: _known_statistic(name) for around, name in texture.items()}

    @field_validator("edges")
    @classmethod
    def _rising(cls, edges: dict[str, list[float]]) -> dict[str, list[float]]:
        for name, marks in edges.items():
            if not marks or any(low >= high for low, high in pairwise(marks)):
                raise ValueError(f"expected rising numbers for {name}, got {marks}")
        return edges


class SampleSettings(Settings):
    """How many pixels of a scene are sampled; each row's weight is 1 / its probability of being sampled.

    Amounts are ``all``, a number, or a share below 1.
    """

    positives: Amount = Field(
        50_000, description="binary: positive pixels per scene at most; all, a number, or a share below 1"
    )
    buffer: int = Field(5, ge=0, description="binary: width of the ring around positives, pixels")
    ring: Amount = Field(50_000, description="binary: pixels of the ring per scene, as `positives`")
    negatives: Amount = Field(1000, description="binary: all other pixels per scene, as `positives`")
    quota: Amount = Field(500, description="multiclass: pixels per class and scene, as `positives`")
    quotas: dict[str, Amount] = Field({}, description="multiclass: class → its own quota")
    cap: int | None = Field(None, ge=10, description="most pixels per scene; all strata are reduced in proportion")
    spacing: int = Field(1, ge=1, description="least distance of sampled pixels along rows and columns, pixels")


class FeatureSettings(Settings):
    """The columns and rows of the pixel table."""

    formulas: dict[str, str] = Field({}, description="your own features and masks, name → formula: `water: MNDWI > 0`")
    indices: list[str] | Literal["contrasts", "all"] = Field(
        "contrasts",
        description="names of spectral indices; contrasts: a normalised difference of each pair of bands; all: all "
        "that the bands allow",
    )
    changes: list[ChangeSettings] = Field([], description="changes between two dates")
    context: ContextSettings = Field(ContextSettings(), description="statistics of the window around each pixel")
    relative: RelativeSettings | None = Field(None, description="values relative to their scene's median")
    distance: DistanceSettings | None = Field(None, description="distance to the edges of masks")
    shares: list[str] = Field(
        [], description="shares of the whole scene: `valid`, or names of formulas that are conditions"
    )
    coordinates: list[Literal["row", "col", "x", "y"]] = Field(
        [], description="where the pixel lies: row and col in pixels, x and y in units of the scene's coordinate system"
    )
    extra: BandNames = Field([], description="further features, by name")
    sample: SampleSettings = Field(SampleSettings(), description="pixels per scene in the table")
    aggregate: AggregateSettings = Field(AggregateSettings(), description="multilabel: aggregates of a scene's pixels")


class TableSettings(Settings):
    """A pixel table of your own, in place of scenes."""

    files: Annotated[list[Annotated[str, Field(min_length=1)]], OneOrMore()] = Field(
        min_length=1, description="pattern or patterns under `root` of CSV or .parquet files"
    )
    label: str = Field(description="column with the class's id")
    features: list[str] | None = Field(
        None, min_length=1, description="columns to learn from; default: all but those named here"
    )
    exclude: list[str] = Field([], description="columns not to learn from")
    weight: str | None = Field(
        None, description="column with the number of pixels that a row stands for; default: 1 each"
    )
    group: str | None = Field(None, description="column whose equal values stay in one fold; `file`: the file's name")
    xy: tuple[str, str] | None = Field(None, description="columns with x and y, for `block`")
    block: float | None = Field(
        None, gt=0, description="side of the squares on the ground that stay in one fold, in units of `xy`"
    )
    separator: str | None = Field(
        None,
        pattern=r"^[\x01-\x7f]$",
        description="character between the columns of a CSV file; default: the commonest of `;`, tab and `,` in its "
        "first line",
    )
    columns: list[str] | None = Field(None, description="names of all columns, of CSV files without a header")

    @model_validator(mode="after")
    def _blocks_need_xy(self) -> "TableSettings":
        if (self.block is None) != (self.xy is None):
            raise ValueError("xy and block need each other: rows are grouped by squares of that side")
        return self


def feature_names(bands: Sequence[str], settings: FeatureSettings, decoded: Collection[str] = ()) -> tuple[str, ...]:
    """Return the name of every feature, in the order of the table's columns.

    Parameters
    ----------
    bands : sequence of str
    settings : FeatureSettings
    decoded : collection of str
        Bands that are decoded to an embedding: of them context is computed only where it is asked for by name.

    Examples
    --------
    >>> context = ContextSettings(of=["red"], radii=[3], statistics=["mean", "std"])
    >>> feature_names(["red", "nir"], FeatureSettings(indices=["NDVI"], context=context))
    ('red', 'nir', 'NDVI', 'red_mean_r3', 'red_std_r3')
    """
    _refuse(settings, ["aggregate"], "only with the task multilabel")
    indices, changes = _index_names(bands, settings), _change_names(settings)
    context, relative, distance = settings.context, settings.relative, settings.distance
    around = [
        f"{base}_{statistic}_r{radius}"
        for base in (_default_bases(bands, decoded) if context.of is None else context.of)
        for radius in context.radii
        for statistic in context.statistics
    ]
    above = [] if relative is None else [f"{base}_above_{mask}" for mask in relative.to for base in relative.of]
    ranks = [] if relative is None or not relative.rank else [f"{base}_rank" for base in relative.of]
    far = [] if distance is None else [f"{mask}_distance_r{distance.within}" for mask in distance.to]
    shares = [f"{mask}_share" for mask in settings.shares]
    at = [f"at_{name}" for name in settings.coordinates]
    of_pixels = (*bands, *indices, *settings.formulas, *changes)
    return _once((*of_pixels, *around, *above, *ranks, *far, *shares, *at, *settings.extra))


def aggregated_names(bands: Sequence[str], settings: FeatureSettings) -> list[str]:
    """Return the features of pixels that are aggregated over scenes."""
    if settings.aggregate.of is not None:
        return settings.aggregate.of
    numbers = [name for name, text in settings.formulas.items() if not is_condition(text)]
    return [*bands, *_index_names(bands, settings), *numbers, *_change_names(settings)]


def scene_feature_names(
    bands: Sequence[str], settings: FeatureSettings, edges: Mapping[str, Sequence[float]], decoded: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the name of every feature of whole scenes, in the order of the table's columns.

    Parameters
    ----------
    bands : sequence of str
    settings : FeatureSettings
        The formulas that are conditions give shares.
    edges : mapping of str to sequence of float
        Between the bins of histograms, of the features that have one.
    decoded : collection of str
        As of `feature_names`: they have no texture.

    Examples
    --------
    >>> aggregate = AggregateSettings(statistics=["mean"], radii=[3], texture={"std": "mean"})
    >>> settings = FeatureSettings(formulas={"dark": "red < 9"}, indices=[], aggregate=aggregate)
    >>> scene_feature_names(["red"], settings, {"red": [35]})
    ('red_mean', 'red_below_35', 'red_from_35', 'red_std_r3_mean', 'dark_share', 'valid_share')

    Raises
    ------
    FeatureError
        If the settings ask for features of single pixels, or for one twice.
    """
    _refuse(settings, ["context", "relative", "distance", "coordinates", "sample"], "not with the task multilabel")
    bases, aggregate = aggregated_names(bands, settings), settings.aggregate
    unknown = [name for name in aggregate.edges if name not in bases]
    if unknown:
        raise FeatureError(
            f"features.aggregate.edges: expected features that are aggregated, {', '.join(bases)}, got {unknown[0]}. "
            "Add it to features.aggregate.of, or leave its edges out."
        )
    names = [f"{base}_{statistic}" for base in bases for statistic in aggregate.statistics]
    names += [f"{base}_{part}" for base in bases for part in histogram_names(edges.get(base, ()))]
    smooth = embedding_bands(bands, decoded) if aggregate.of is None else ()
    names += [
        f"{base}_{around}_r{radius}_{statistic}"
        for base in bases
        if base not in smooth
        for radius in aggregate.radii
        for around, statistic in aggregate.texture.items()
    ]
    shares = [*(name for name, text in settings.formulas.items() if is_condition(text)), "valid", *settings.shares]
    return _once((*names, *(f"{name}_share" for name in dict.fromkeys(shares)), *settings.extra))


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FeatureError(f"features: expected each feature once, got {', '.join(twice)} twice. Remove one of them.")
    return names


def _refuse(settings: FeatureSettings, keys: Sequence[str], when: str) -> None:
    """Refuse settings that were changed and would have no effect."""
    given = [key for key in keys if getattr(settings, key) != FeatureSettings.model_fields[key].default]
    if given:
        raise FeatureError(f"features: expected {given[0]} {when}, got it. Leave features.{given[0]} out.")


def _index_names(bands: Sequence[str], settings: FeatureSettings) -> list[str]:
    named = {"all": indices_of, "contrasts": contrasts_of}
    if isinstance(settings.indices, str):
        return [name for name in named[settings.indices](bands) if name not in bands]
    return settings.indices


def _change_names(settings: FeatureSettings) -> list[str]:
    return [
        f"{what}_{change.end}_{how}_{change.start}"
        for change in settings.changes
        for what in change.of
        for how in change.by
    ]


def _known_surroundings(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in STATISTICS]
    if unknown:
        raise ValueError(f"expected statistics among {', '.join(STATISTICS)}, got {unknown[0]}")
    return names


def _known_statistic(name: str) -> str:
    if name not in AGGREGATES and not QUANTILE.fullmatch(name):
        raise ValueError(f"expected {', '.join(AGGREGATES)} or a quantile such as q05, got {name}")
    return name


def embedding_bands(bands: Sequence[str], decoded: Collection[str] = ()) -> tuple[str, ...]:
    """Return the bands of an embedding: those that are decoded, and many that differ in a number alone."""
    numbered = numbered_names(bands, NUMBERED)
    return tuple(band for band in bands if band in decoded or band in numbered)


def _default_bases(bands: Sequence[str], decoded: Collection[str]) -> list[str]:
    """Return every band but those of embeddings, and of each date the first index: NDVI where there is infrared."""
    embedded = embedding_bands(bands, decoded)
    by_date = [
        [index for index in indices_of(bands) if index.partition("_")[2] == date[1:]] for date in dates_of(bands)
    ]
    own = [band for band in bands if band not in embedded]
    return [*own, *(indices[0] for indices in by_date if indices and indices[0] not in bands)]
