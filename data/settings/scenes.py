"""Settings of scenes: the files of each split, and what is common to all of them."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from data.settings.base import BandNames, OneOrMore, Settings, aliases
from data.settings.images import AssetSettings, Decode, FileSettings, ImageSettings, Nodata, Scale, StacSettings
from data.settings.labels import VECTOR_SUFFIXES, AssetLabelSettings, LabelSettings, TagSettings, VectorSettings

__all__ = ["GridSettings", "SceneSettings", "SplitSettings", "TrainSettings"]


def _kind_of_label(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "annotators"
    if isinstance(value, TagSettings) or (isinstance(value, dict) and "tags" in value):
        return "table"
    if isinstance(value, AssetLabelSettings) or (isinstance(value, dict) and "asset" in value):
        return "asset"
    path = value.get("path", "") if isinstance(value, dict) else value
    drawn = isinstance(value, VectorSettings) or (isinstance(value, dict) and "vector" in value)
    return "vector" if drawn or (isinstance(path, str) and path.lower().endswith(VECTOR_SUFFIXES)) else "raster"


Images = Annotated[list[ImageSettings], OneOrMore()]


def _require_classes(files: list[LabelSettings]) -> list[LabelSettings]:
    for file in files:
        if file.certain or file.path.lower().endswith(VECTOR_SUFFIXES):
            kind = "probabilities" if file.certain else "shapes"
            raise ValueError(f"expected rasters of classes of several annotators, got {kind} in {file.path}")
    return files


Annotators = Annotated[list[LabelSettings], Field(min_length=2), AfterValidator(_require_classes)]
"""The labels of one scene, each by somebody else."""


class SplitSettings(Settings):
    """The scenes of one split: the pattern of their image file or files, and of their label."""

    image: Images = Field(
        description="file of a scene's image, list of its files, or a STAC collection",
        json_schema_extra=aliases("images", "img"),
    )
    label: (
        Annotated[
            Annotated[LabelSettings, Tag("raster")]
            | Annotated[VectorSettings, Tag("vector")]
            | Annotated[TagSettings, Tag("table")]
            | Annotated[AssetLabelSettings, Tag("asset")]
            | Annotated[Annotators, Tag("annotators")],
            Discriminator(_kind_of_label),
        ]
        | None
    ) = Field(
        None,
        description="file of a scene's label, file of shapes, table of tags, or asset of a STAC item; or a list of "
        "files, one of each annotator; needed by train and val",
        json_schema_extra=aliases("labels", "mask", "masks", "target"),
    )

    list: str | None = Field(
        None,
        description="CSV or parquet table under `root` of the scenes: a column `id`, and others that stand in the "
        "patterns by name, by default {image} and {label}; a column `group` is that of `folds.group.file`",
    )

    @property
    def rasters(self) -> Sequence[FileSettings | AssetSettings]:
        """The files of a scene's image, those of a STAC collection among them."""
        return [
            raster for entry in self.image for raster in (entry.assets if isinstance(entry, StacSettings) else [entry])
        ]


class TrainSettings(SplitSettings):
    """The scenes to learn from."""

    blocks: int | str | None = Field(
        None,
        description="side of the squares in which one scene, or a few large ones, are split into folds: pixels, or a "
        "length such as `2 km`; default: scenes stay whole",
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
        description="scenes to learn from, split into folds", json_schema_extra=aliases("training")
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

    @property
    def parts(self) -> Sequence[SplitSettings]:
        """The splits that there are."""
        return [part for part in (self.train, self.val, self.test) if part is not None]

    @model_validator(mode="before")
    @classmethod
    def _listed_by_columns(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        names = SplitSettings.key_names()
        for split in ("train", "training", "val", "validation", "valid", "test"):
            part = values.get(split)
            if isinstance(part, dict) and part.get("list") is not None:
                given = {names.get(key, key) for key in part}
                usual = {"image": "{image}", **({} if split == "test" else {"label": "{label}"})}
                values = {**values, split: {**{k: v for k, v in usual.items() if k not in given}, **part}}
        return values

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
