"""The settings of a member whose maps another tool made."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from data.scenes.scene import Split
from data.settings import Nodata, Settings, aliases
from features.branch import MemberSettings

__all__ = ["SCALES", "FoldFile", "MapsSettings", "SplitPaths"]

SCALES: dict[str, float] = {"percent": 1 / 100, "uint8": 1 / 255, "uint16": 1 / 65535}
"""What a stored value is multiplied by to be a probability."""

UNSEEN = "unseen"


class SplitPaths(Settings):
    """Where the maps of each split lie, if not under one pattern."""

    train: str | None = Field(None, description="pattern of the maps of training scenes")
    val: str | None = Field(None, description="pattern of the maps of validation scenes")
    test: str | None = Field(None, description="pattern of the maps of test scenes")


class FoldFile(Settings):
    """A table that says in which fold of the other tool's own cross-validation each training scene was held out."""

    shorthand: ClassVar[str] = "file"

    file: str = Field(description="CSV or parquet file under `root`, one row a training scene")
    id: str = Field("id", description="column of the scene's id, or of the name of its file")
    column: str = Field("fold", description="column of the fold that held the scene out")


class MapsSettings(MemberSettings):
    """A member whose probability maps another tool made: where they lie, how they are read, what they have seen."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "classes": "bands names the class of each band, in file order.",
        "device": "Nothing is computed here: leave it out.",
    }

    branch: Literal["maps"] = Field("maps", description="probability maps that another tool made")

    path: str | SplitPaths = Field(
        description="pattern of the maps under `root`, or one for each split: {id} stands for the scene's id, {split} "
        "for train, val or test, {fold} for the fold of `terrablend check` that the model never saw; with the task "
        "multilabel a CSV or parquet file with a column of ids and one of probabilities for each tag",
        json_schema_extra=aliases("maps", "pattern"),
    )
    bands: list[str] | None = Field(
        None,
        description="class of each band in file order, other names for bands to leave out; default: as the file's band "
        "descriptions say, or in the order of `classes` where it has none",
    )
    scale: Literal["percent", "uint8", "uint16"] | float | None = Field(
        None,
        description="factor that makes a stored value a probability: percent is 1/100, uint8 1/255, uint16 1/65535; "
        "default: as the file declares, 1 for floating-point numbers",
    )
    nodata: Nodata | None = Field(None, description="values without a probability, besides what the file declares")
    fold: Literal["unseen"] | FoldFile | None = Field(
        None,
        description="what the maps of training scenes have seen: `unseen`, none of these scenes; or a file of the "
        "other tool's own folds; with {fold} in `path` the folds are those of `terrablend check`",
        json_schema_extra=aliases("folds"),
    )
    insample: bool = Field(
        False,
        description="the maps are by a model that learned from the training scenes: nothing is decided on them, and "
        "they are used for val and test only",
    )

    @property
    def decides(self) -> bool:
        """Whether the maps of training scenes are out of fold."""
        return not self.insample

    def pattern(self, split: Split) -> str | None:
        """Return the pattern of the maps of a split."""
        path = self.path if isinstance(self.path, str) else getattr(self.path, split)
        return None if path is None else path.replace("{split}", split)

    @model_validator(mode="after")
    def _say_what_was_seen(self) -> "MapsSettings":
        declared = [
            text
            for text, given in (
                ("{fold} in path", "{fold}" in (self.pattern("train") or "")),
                ("fold", self.fold is not None),
                ("insample", self.insample),
            )
            if given
        ]
        if len(declared) != 1:
            raise ValueError(
                "expected one word on what the maps of training scenes have seen, got "
                f"{' and '.join(declared) or 'none'}. Write {{fold}} in path if a model a fold of `terrablend check` "
                "made them, fold: cv.csv if they are from a cross-validation of the other tool's own, fold: unseen if "
                "its model saw none of these scenes, insample: true if it learned from them"
            )
        if isinstance(self.scale, float) and self.scale <= 0:
            raise ValueError(f"expected a scale above 0, got {self.scale}")
        return self
