"""The base of every settings model, and the settings of scenes, classes and folds."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function

from data.names import expand_ranges, near_name

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
    "OneOrMore",
    "PixelScaleSettings",
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

Nodata = float | list[float]
Resampling = Literal["nearest", "bilinear", "cubic", "average", "mode", "lanczos", "med", "min", "max"]
Scale = Literal["declared", "none"] | dict[str, tuple[float, float]]
"""As the file declares, the stored numbers as they are, or factor and offset of some bands."""
Color = Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=3, max_length=3)]
"""Red, green and blue."""


def aliases(*names: str) -> dict[str, JsonValue]:
    """Return what a field's ``json_schema_extra`` says of the names that libraries have for it; they are read too."""
    return {"aliases": [*names]}


class OneOrMore:
    """Marks a list of which one entry may be written alone: ``Annotated[list[str], OneOrMore()]``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read an entry alone as a list of it."""
        return no_info_before_validator_function(
            lambda value: value if isinstance(value, list | tuple) else [value], handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe a list, or an entry."""
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


BandNames = Annotated[list[str], AfterValidator(expand_ranges), OneOrMore()]
"""Names of bands or features; ``A00..A63`` stands for all from the first to the last."""


class Settings(BaseModel):
    """Values read from the experiment file: immutable, and an unknown key is an error.

    Attributes
    ----------
    shorthand : str
        Key that a text alone stands for; empty where a text says too little.
    elsewhere : mapping of str to str
        Keys of other libraries for which there is no setting here, and what serves instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    shorthand: ClassVar[str] = ""
    elsewhere: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def key_names(cls) -> dict[str, str]:
        """Return every name that is read, and the key that it stands for."""
        names = {key: key for key in cls.model_fields}
        for key, field in cls.model_fields.items():
            extra = field.json_schema_extra
            also = extra.get("aliases") if isinstance(extra, dict) else None
            if isinstance(also, list):
                names |= {str(alias): key for alias in also}
        return names

    @classmethod
    def with_defaults(cls, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with the defaults of those keys that are given under none of their names."""
        names = cls.key_names()
        given = {names.get(key, key) for key in values}
        return {**{key: value for key, value in defaults.items() if key not in given}, **values}

    @model_validator(mode="before")
    @classmethod
    def _read_keys(cls, values: Any) -> Any:
        if isinstance(values, str) and cls.shorthand:
            return {cls.shorthand: values}
        if not isinstance(values, dict):
            return values
        names, read = cls.key_names(), dict[str, Any]()
        unknown = [f"{name}.{cls._hint(str(name), names)}" for name in values if name not in names]
        if unknown:
            raise ValueError(f"expected keys among {', '.join(cls.model_fields)}, got {' Got also '.join(unknown)}")
        for name, value in values.items():
            if names[name] in read:
                twice = [other for other in values if names[other] == names[name]]
                raise ValueError(f"expected {names[name]} once, got {' and '.join(twice)}. Leave one of them out")
            read[names[name]] = value
        return read

    @classmethod
    def _hint(cls, name: str, names: Mapping[str, str]) -> str:
        if name in cls.elsewhere:
            return f" {cls.elsewhere[name]}"
        near = near_name(name, names)
        return f" Did you mean {names[near]}?" if near else ""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe what is read: every name of a key, and the text alone that stands for one."""
        reference = handler(schema)
        described = handler.resolve_ref_schema(reference)
        properties = described["properties"]
        # A pattern is checked like a property, but no editor offers it.
        described["patternProperties"] = {
            f"^{name}$": deepcopy(properties[key]) for name, key in cls.key_names().items() if name != key
        }
        if cls.shorthand:
            spelled_out = dict(described)
            described.clear()
            described["anyOf"] = [deepcopy(properties[cls.shorthand]), spelled_out]
        return reference


class PixelScaleSettings(Settings):
    """An embedding stored as whole numbers that a scale of each pixel is multiplied with, as TESSERA's."""

    scale: str = Field(
        description="file under `root` with the scale of each pixel, a raster of one band or an array (.npy); {id} "
        "stands for the scene's id"
    )


Decode = Literal["none", "alphaearth"] | PixelScaleSettings


class RasterSettings(Settings):
    """What a file of a scene holds."""

    bands: BandNames | None = Field(None, description="band names in file order; default: `scenes.bands`")
    nodata: Nodata | None = Field(None, description="nodata values of this file, one or several")
    scale: Scale | None = Field(None, description="as `scenes.scale`, of this file alone")
    decode: Decode | None = Field(None, description="as `scenes.decode`, of this file alone")
    resampling: Resampling | None = Field(
        None,
        description="how the file is brought onto another grid, that of its scene; default: `nearest` where its pixels "
        "are whole multiples of the scene's, else `average` of a finer file and `cubic` of others",
    )


class FileSettings(RasterSettings):
    """One file of a scene: where it lies and which bands it holds, in file order."""

    shorthand: ClassVar[str] = "path"

    path: str = Field(
        description="file under `root`, {id} standing for the scene's id; without {id} every scene uses the same file"
    )


class AssetSettings(RasterSettings):
    """One asset of the items of a STAC collection, or one band of it."""

    shorthand: ClassVar[str] = "asset"

    asset: str = Field(description="key of the asset, or common name or name of one band of an asset")


class StacSettings(Settings):
    """The scenes of a STAC collection, an item each: the files are its assets, the scene's id is the item's."""

    stac: str = Field(
        description="items under `root`: a folder of them, an ItemCollection, an item, a collection with its items, or "
        "stac-geoparquet"
    )
    assets: Annotated[list[AssetSettings], OneOrMore()] = Field(
        min_length=1,
        description="assets by key or common name; scale, offset and nodata are those of the item, unless given here",
    )


class MeaningSettings(Settings):
    """What the values of a label mean."""

    values: dict[int, str] | None = Field(
        None, description="value in the file → class name, `background` or `ignore`; default: the ids under `classes`"
    )
    ignore: list[int] = Field([], description="values in the file that are never trained on or scored")
    colors: bool | dict[str, Color | list[Color]] = Field(
        False,
        description="true: the file is a colour-coded image, the colours are those under `classes`; or a mapping of "
        "class name, `background` or `ignore` → [red, green, blue], or a list of such colours",
    )
    nearest: bool = Field(
        False, description="read an unknown colour as the nearest known one, as labels saved as JPEG need"
    )

    @model_validator(mode="after")
    def _values_or_colors(self) -> "MeaningSettings":
        if self.colors is not False and (self.values is not None or self.ignore):
            raise ValueError("expected values or colors, got both. Name what is ignored as colors: {ignore: [0, 0, 0]}")
        if self.nearest and self.colors is False:
            raise ValueError("nearest is for colours: set colors too")
        return self


class LabelSettings(MeaningSettings):
    """Where a scene's label lies and what its values mean."""

    shorthand: ClassVar[str] = "path"

    path: str = Field(
        description="file under `root`, {id} standing for the scene's id; without {id} every scene uses the same file"
    )


class AssetLabelSettings(MeaningSettings):
    """The asset of a STAC item that is the scene's label, and what its values mean."""

    asset: str = Field(description="key of the asset of a STAC item that is the label")


class TagSettings(Settings):
    """The CSV table of the scenes' tags."""

    tags: str = Field(description="CSV file under `root`, one row per scene")
    id: str = Field("id", description="column with the scene's id or file name")
    column: str = Field("tags", description="column with the scene's tags; may be empty")
    separator: str = Field(" ", min_length=1, description="text between two tags")
    ignore: list[str] = Field([], description="tags of the table that are not classes of the experiment")


class VectorSettings(Settings):
    """Labels that are drawn: polygons, lines or points of a file, or a table of coordinates."""

    vector: str = Field(
        description="file of shapes under `root` (GeoPackage, Shapefile, GeoJSON, GeoParquet, FlatGeobuf, KML), or CSV "
        "table with columns x and y, or lon and lat; {id} stands for the scene's id; without {id} one for all scenes"
    )
    layer: str | None = Field(None, description="layer of a file that has several")
    field: str | None = Field(
        None,
        description="column with the class; default: one called class, label or the like, or in a binary task none: "
        "every shape is of the class",
        json_schema_extra=aliases("attribute", "class_column"),
    )
    values: dict[bool | int | float | str, str] | None = Field(
        None, description="value in the column → class name, `background` or `ignore`; default: names and ids"
    )
    ignore: list[bool | int | float | str] = Field(
        [], description="values in the column that are never trained on or scored"
    )
    crs: str | None = Field(
        None, description="coordinate system, such as EPSG:32610, where the file names none or a wrong one"
    )
    outside: Literal["ignore", "background"] = Field(
        "ignore", description="what lies outside of all shapes: unlabelled, or background"
    )
    area: str | None = Field(
        None, description="file of polygons under `root`: what lies outside of these is unlabelled in any case"
    )
    touched: Literal["centre", "all"] = Field(
        "centre", description="pixels that a polygon labels: those whose centre it covers, or all that it touches"
    )
    radius: float = Field(0, ge=0, description="pixels around its own that a point labels")
    buffer: float | None = Field(None, gt=0, description="pixels on either side of a line that it labels")

    @model_validator(mode="before")
    @classmethod
    def _path_of_shapes(cls, values: Any) -> Any:
        if isinstance(values, str):
            return {"vector": values}
        if isinstance(values, dict) and "path" in values and "vector" not in values:
            return {("vector" if key == "path" else key): value for key, value in values.items()}
        return values


VECTOR_SUFFIXES = (
    ".shp", ".gpkg", ".geojson", ".json", ".fgb", ".parquet", ".geoparquet", ".kml", ".kmz", ".gml", ".gdb", ".csv",
    ".tsv", ".zip", ".shz", ".geojson.gz", ".json.gz",
)  # fmt: skip
"""By which a file of shapes, or a table of coordinates, is known."""


def _kind_of_label(value: Any) -> str:
    if isinstance(value, TagSettings) or (isinstance(value, dict) and "tags" in value):
        return "table"
    if isinstance(value, AssetLabelSettings) or (isinstance(value, dict) and "asset" in value):
        return "asset"
    path = value.get("path", "") if isinstance(value, dict) else value
    drawn = isinstance(value, VectorSettings) or (isinstance(value, dict) and "vector" in value)
    return "vector" if drawn or (isinstance(path, str) and path.lower().endswith(VECTOR_SUFFIXES)) else "raster"


def _kind_of_image(value: Any) -> str:
    return "stac" if isinstance(value, StacSettings) or (isinstance(value, dict) and "stac" in value) else "file"


ImageSettings = Annotated[
    Annotated[FileSettings, Tag("file")] | Annotated[StacSettings, Tag("stac")], Discriminator(_kind_of_image)
]


class SplitSettings(Settings):
    """The scenes of one split: the pattern of their image file or files, and of their label."""

    image: Annotated[list[ImageSettings], OneOrMore()] = Field(
        description="file of a scene's image, list of its files, or a STAC collection",
        json_schema_extra=aliases("images", "img"),
    )
    label: (
        Annotated[
            Annotated[LabelSettings, Tag("raster")]
            | Annotated[VectorSettings, Tag("vector")]
            | Annotated[TagSettings, Tag("table")]
            | Annotated[AssetLabelSettings, Tag("asset")],
            Discriminator(_kind_of_label),
        ]
        | None
    ) = Field(
        None,
        description="file of a scene's label, file of shapes, table of tags, or asset of a STAC item; needed by train "
        "and val",
        json_schema_extra=aliases("labels", "mask", "masks", "target"),
    )

    @property
    def rasters(self) -> list[FileSettings | AssetSettings]:
        """The files of a scene's image, those of a STAC collection among them."""
        return [
            raster for entry in self.image for raster in (entry.assets if isinstance(entry, StacSettings) else [entry])
        ]


class TrainSettings(SplitSettings):
    """The scenes to learn from."""

    blocks: int | str | None = Field(
        None,
        description="side of the squares in which one scene, or a few large ones, are dealt to folds: pixels, or a "
        "length such as `2 km`; default: scenes are dealt whole",
        json_schema_extra=aliases("block_size", "tile_size"),
    )


class GridSettings(Settings):
    """The pixels of a scene: those of one of its files, or pixels of a size."""

    shorthand: ClassVar[str] = "like"

    like: str | None = Field(None, description="band whose file gives the grid")
    resolution: float | None = Field(
        None,
        gt=0,
        description="side of square pixels in units of the coordinate system; corners lie at multiples of it",
        json_schema_extra=aliases("res", "pixel_size"),
    )
    crs: str | None = Field(
        None, description="coordinate system of these pixels, such as EPSG:32630; default: that of the finest file"
    )

    @model_validator(mode="after")
    def _of_a_file_or_a_size(self) -> "GridSettings":
        if (self.like is None) == (self.resolution is None):
            raise ValueError("expected like or resolution, one of them. Name a band, or the side of a pixel")
        if self.crs is not None and self.resolution is None:
            raise ValueError("crs is for pixels of a size: give resolution too, or leave it out")
        return self


class SceneSettings(Settings):
    """Which files make the scenes of each split, and which of their pixels are no data."""

    bands: BandNames | None = Field(
        None,
        description="band names in file order, of scenes that are one file each; `A00..A63` stands for all 64",
        json_schema_extra=aliases("band_names", "channels"),
    )
    train: TrainSettings = Field(
        description="scenes to learn from, dealt to folds", json_schema_extra=aliases("training")
    )
    val: SplitSettings | None = Field(
        None, description="labelled scenes that are only scored", json_schema_extra=aliases("validation", "valid")
    )
    test: SplitSettings | None = Field(None, description="scenes to predict for a submission; without labels")
    nodata: Nodata | None = Field(
        None,
        description="nodata values of every file, one or several",
        json_schema_extra=aliases("no_data", "nodata_value", "nodata_values"),
    )
    scale: Scale = Field(
        "declared",
        description="`declared`: stored numbers become what scale and offset of their file say; `none`: they stay; or "
        "band → [factor, offset]",
    )
    decode: Decode = Field(
        "none",
        description="how whole numbers become an embedding: `alphaearth`: sign(v) (v / 127.5)², -128 is no data; or "
        "{scale: file}: v times the scale of its pixel",
    )
    grid: GridSettings | None = Field(
        None, description="the pixels that files are brought onto; default: those of the scene's finest file"
    )
    heights: str | None = Field(
        None,
        description="elevation raster under `root`, metres, by which files with a sensor model (RPC) are placed; "
        "default: all ground is at height 0",
        json_schema_extra=aliases("rpc_dem"),
    )
    invalid: dict[str, Literal["nonzero"] | list[int]] = Field(
        {}, description="QA band → `nonzero`, or the values that make a pixel nodata in all other bands"
    )
    allow: list[Literal["vrt"]] = Field(
        [],
        description="formats that read other files and are opened all the same: `vrt`, a mosaic of files below `root`",
    )

    @model_validator(mode="after")
    def _assets_need_items(self) -> "SceneSettings":
        for split in ("train", "val", "test"):
            part = getattr(self, split)
            if part is None or not isinstance(part.label, AssetLabelSettings):
                continue
            if not any(isinstance(entry, StacSettings) for entry in part.image):
                raise ValueError(f"scenes.{split}.label: an asset is that of a STAC item, got an image that is none")
        return self

    @model_validator(mode="after")
    def _train_is_labelled(self) -> "SceneSettings":
        for split, settings in (("train", self.train), ("val", self.val)):
            if settings is not None and settings.label is None:
                raise ValueError(f"scenes.{split} needs a label: these scenes are learned from or scored")
        return self


class ClassSettings(Settings):
    """A class: its name, and the colour it is drawn in."""

    shorthand: ClassVar[str] = "name"

    name: str = Field(description="name of the class")
    color: Color | None = Field(
        None, description="[red, green, blue], 0 … 255; default: from a palette", json_schema_extra=aliases("colour")
    )


class GroupSettings(Settings):
    """Which scenes stay together in one fold. Every rule given is applied; groups that share a scene are joined."""

    pattern: str | None = Field(
        None, description="regular expression on the scene id; its first parenthesis is the group's name"
    )
    file: str | None = Field(None, description="JSON or CSV file under `root` of scene id → group")
    column: str | None = Field(
        None, description="column of the CSV `file` with the group; default: `group` or `cluster`"
    )
    overlap: bool = Field(False, description="join scenes whose footprints overlap on the ground")
    field: str | None = Field(
        None,
        description="column of a drawn label, such as `plot`, whose equal values stay together; `shape`: each shape is "
        "kept whole",
    )
    similar: str | None = Field(
        None, description="band by which near-duplicates are found and joined: one that stays the same, such as dem"
    )
    content: Literal["join", "report", "none"] | BandNames = Field(
        "join",
        description="scenes without georeferencing that show the same ground, shifted by any offset: `join` them, "
        "`report` them, or look for `none`; or bands by which scenes are looked through and joined, georeferenced ones "
        "too; default band: dem or the like, else the first",
    )
    similarity: float = Field(0.98, gt=0, le=1, description="least correlation of near-duplicates on that band, 0 … 1")


class FoldSettings(Settings):
    """How the training scenes are split for cross-validation."""

    count: int = Field(
        5, ge=2, description="number of folds", json_schema_extra=aliases("n_splits", "n_folds", "folds", "k")
    )
    group: GroupSettings = Field(GroupSettings(), description="which scenes stay together in one fold")
    file: str | None = Field(
        None,
        description="CSV file under `root` with the columns `id` and `fold`: folds that are given, in place of `count`",
    )
    labels: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the labelled groups of each fold that is learned from; maps are made of all scenes",
    )
    gap: int | str = Field(
        0,
        description="pixels, or a length such as `60 m`: labels of a block this near to a block of another fold are "
        "left out",
        json_schema_extra=aliases("buffer_distance"),
    )
    stratify: Literal["presence", "none"] = Field(
        "presence",
        description="presence: folds alike in the share of scenes that show a class; none: alike in size alone",
    )
    match: Literal["none", "test"] = Field(
        "none",
        description="test: join groups that lie close together until folds are as far apart as test scenes are from "
        "training scenes, on the ground or, without georeferencing, in what they look like",
    )
