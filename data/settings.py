"""The base of every settings model, and the settings of this folder: scenes, classes, folds."""

from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

__all__ = [
    "ClassSettings",
    "Color",
    "FileSettings",
    "FoldSettings",
    "GroupSettings",
    "LabelSettings",
    "SceneSettings",
    "Settings",
    "SplitSettings",
    "TagSettings",
]

Nodata = float | list[float]
Color = Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=3, max_length=3)]
"""Red, green and blue."""


class Settings(BaseModel):
    """Values read from the experiment file: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        unknown = [key for key in value if key not in cls.model_fields] if isinstance(value, dict) else []
        if unknown:
            nearest = get_close_matches(str(unknown[0]), cls.model_fields, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            raise ValueError(f"expected keys among {', '.join(cls.model_fields)}, got {unknown[0]}.{hint}")
        return value


class FileSettings(Settings):
    """One file of a scene: where it lies and which bands it holds, in file order."""

    path: str = Field(
        description="path under `root`, with {id} where the scene's name stands; without it, of every scene"
    )
    bands: list[str] | None = Field(None, description="names of its bands; default: `scenes.bands`")
    nodata: Nodata | None = Field(None, description="values that mean 'no data' in this file")


class LabelSettings(Settings):
    """Where a scene's label lies and what its values mean."""

    path: str = Field(
        description="path under `root`, with {id} where the scene's name stands; without it, of every scene"
    )
    values: dict[int, str] | None = Field(
        None, description="what a value in the file means: a class name, `background` or `ignore`"
    )
    ignore: list[int] = Field([], description="values never trained on or scored")
    colors: bool | dict[str, Color | list[Color]] = Field(
        False,
        description="the file is a picture: each class is drawn in its `color`; or the colours by class name, "
        "`background` or `ignore`, those not named as under `classes`",
    )
    nearest: bool = Field(
        False,
        description="take a colour that none is drawn in for the nearest that one is, as labels saved as JPEG need",
    )

    @model_validator(mode="after")
    def _values_or_colors(self) -> "LabelSettings":
        if self.colors is not False and (self.values is not None or self.ignore):
            raise ValueError("expected values or colors, got both. Name what is ignored as colors: {ignore: [0, 0, 0]}")
        if self.nearest and self.colors is False:
            raise ValueError("nearest is for colours: set colors too")
        return self


class TagSettings(Settings):
    """The table that says which tags a scene has."""

    tags: str = Field(description="CSV file under `root`, one row a scene")
    id: str = Field("id", description="column of the scene's id, or of the name of its file")
    column: str = Field("tags", description="column of its tags; a scene may have none")
    separator: str = Field(" ", min_length=1, description="what stands between tags")
    ignore: list[str] = Field([], description="tags in the table that are no class of the experiment")


def _kind_of_label(value: Any) -> str:
    return "table" if isinstance(value, TagSettings) or (isinstance(value, dict) and "tags" in value) else "raster"


class SplitSettings(Settings):
    """The scenes of one split: the pattern of their image file or files, and of their label."""

    image: list[FileSettings]
    label: (
        Annotated[
            Annotated[LabelSettings, Tag("raster")] | Annotated[TagSettings, Tag("table")],
            Discriminator(_kind_of_label),
        ]
        | None
    ) = None

    @field_validator("image", mode="before")
    @classmethod
    def _wrap_image(cls, value: Any) -> Any:
        entries = value if isinstance(value, list) else [value]
        return [{"path": entry} if isinstance(entry, str) else entry for entry in entries]

    @field_validator("label", mode="before")
    @classmethod
    def _wrap_label(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class SceneSettings(Settings):
    """Which files make the scenes of each split, and which of their pixels are no data."""

    bands: list[str] | None = Field(None, description="band names in file order, for one-file scenes")
    train: SplitSettings
    val: SplitSettings | None = None
    test: SplitSettings | None = None
    nodata: Nodata | None = Field(None, description="values that mean 'no data' in every file")
    invalid: dict[str, Literal["nonzero"] | list[int]] = Field(
        {}, description="band → the values with which it condemns a pixel in all the other bands"
    )

    @model_validator(mode="after")
    def _train_is_labelled(self) -> "SceneSettings":
        for split, settings in (("train", self.train), ("val", self.val)):
            if settings is not None and settings.label is None:
                raise ValueError(f"scenes.{split} needs a label: these scenes are learned from or scored")
        return self


class ClassSettings(Settings):
    """A class: its name, and the colour it is drawn in."""

    name: str
    color: Color | None = None


class GroupSettings(Settings):
    """What keeps scenes together in one fold. Every rule given is applied; groups that touch are joined."""

    pattern: str | None = Field(None, description="regular expression on the scene id; its first group names the group")
    file: str | None = Field(None, description="JSON or CSV file that maps a scene id to its group")
    column: str | None = Field(None, description="column of a CSV `file` that holds the group")
    overlap: bool = Field(False, description="scenes whose footprints overlap on the ground share a group")
    similar: str | None = Field(None, description="band on which near-duplicate scenes are found, such as dem")
    similarity: float = Field(0.98, gt=0, le=1, description="least correlation of near-duplicates on that band")


class FoldSettings(Settings):
    """How the training scenes are split for cross-validation."""

    count: int = Field(5, ge=2)
    group: GroupSettings = GroupSettings()
    stratify: Literal["presence", "none"] = "presence"
