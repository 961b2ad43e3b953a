"""The base of every settings model, and the settings of scenes, classes and folds."""

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
        description="file under `root`, {id} standing for the scene's id; without {id} every scene uses the same file"
    )
    bands: list[str] | None = Field(None, description="band names in file order; default: `scenes.bands`")
    nodata: Nodata | None = Field(None, description="nodata values of this file, one or several")


class LabelSettings(Settings):
    """Where a scene's label lies and what its values mean."""

    path: str = Field(
        description="file under `root`, {id} standing for the scene's id; without {id} every scene uses the same file"
    )
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
    def _values_or_colors(self) -> "LabelSettings":
        if self.colors is not False and (self.values is not None or self.ignore):
            raise ValueError("expected values or colors, got both. Name what is ignored as colors: {ignore: [0, 0, 0]}")
        if self.nearest and self.colors is False:
            raise ValueError("nearest is for colours: set colors too")
        return self


class TagSettings(Settings):
    """The CSV table of the scenes' tags."""

    tags: str = Field(description="CSV file under `root`, one row per scene")
    id: str = Field("id", description="column with the scene's id or file name")
    column: str = Field("tags", description="column with the scene's tags; may be empty")
    separator: str = Field(" ", min_length=1, description="text between two tags")
    ignore: list[str] = Field([], description="tags of the table that are not classes of the experiment")


def _kind_of_label(value: Any) -> str:
    return "table" if isinstance(value, TagSettings) or (isinstance(value, dict) and "tags" in value) else "raster"


class SplitSettings(Settings):
    """The scenes of one split: the pattern of their image file or files, and of their label."""

    image: list[FileSettings] = Field(description="file of a scene's image, or list of its files")
    label: (
        Annotated[
            Annotated[LabelSettings, Tag("raster")] | Annotated[TagSettings, Tag("table")],
            Discriminator(_kind_of_label),
        ]
        | None
    ) = Field(None, description="file of a scene's label, or table of tags; needed by train and val")

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

    bands: list[str] | None = Field(None, description="band names in file order, of scenes that are one file each")
    train: SplitSettings = Field(description="scenes to learn from, dealt to folds")
    val: SplitSettings | None = Field(None, description="labelled scenes that are only scored")
    test: SplitSettings | None = Field(None, description="scenes to predict for a submission; without labels")
    nodata: Nodata | None = Field(None, description="nodata values of every file, one or several")
    invalid: dict[str, Literal["nonzero"] | list[int]] = Field(
        {}, description="QA band → `nonzero`, or the values that make a pixel nodata in all other bands"
    )

    @model_validator(mode="after")
    def _train_is_labelled(self) -> "SceneSettings":
        for split, settings in (("train", self.train), ("val", self.val)):
            if settings is not None and settings.label is None:
                raise ValueError(f"scenes.{split} needs a label: these scenes are learned from or scored")
        return self


class ClassSettings(Settings):
    """A class: its name, and the colour it is drawn in."""

    name: str = Field(description="name of the class")
    color: Color | None = Field(None, description="[red, green, blue], 0 … 255; default: from a palette")


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
    similar: str | None = Field(
        None, description="band by which near-duplicates are found and joined: one that stays the same, such as dem"
    )
    similarity: float = Field(0.98, gt=0, le=1, description="least correlation of near-duplicates on that band, 0 … 1")


class FoldSettings(Settings):
    """How the training scenes are split for cross-validation."""

    count: int = Field(5, ge=2, description="number of folds")
    group: GroupSettings = Field(GroupSettings(), description="which scenes stay together in one fold")
    stratify: Literal["presence", "none"] = Field(
        "presence",
        description="presence: folds alike in the share of scenes that show a class; none: alike in size alone",
    )
