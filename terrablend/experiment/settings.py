"""What an experiment file says: checked, and completed with every default."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, PrivateAttr, field_validator, model_validator
from pydantic_core import CoreSchema
from pydantic_core.core_schema import tagged_union_schema

from data.addresses import is_remote
from data.scenes.classes import Classes, Task
from data.settings import (
    ClassSettings,
    FoldSettings,
    GroupSettings,
    MeaningSettings,
    SceneSettings,
    Settings,
    TagSettings,
    VectorSettings,
    aliases,
)
from ensemble.settings import EnsembleSettings, SubmissionSettings
from features.branch import Branch, MemberSettings
from features.settings import ROW_COLUMNS, FeatureSettings, TableSettings
from terrablend.branches import BRANCHES
from terrablend.experiment.search import TuneSettings
from terrablend.experiment.self_train import SelfTrainSettings, require_pupils
from terrablend.experiment.stacking import require_stacks
from terrablend.experiment.written_paths import write_paths

__all__ = ["AnyExperiment", "BaseExperiment", "E", "Experiment", "TableExperiment"]

NAME = r"^[\w-][\w.-]*$"
"""Of an experiment or a member: also that of a folder, and neither hidden nor the folder above."""

STAGES = re.compile(r"check|compare|features|ensemble|submit|teach|(explain|tune)-.*", re.IGNORECASE)
"""Names of the records of other stages, which lie beside those of the members."""


def _require_own_name(name: str) -> str:
    if STAGES.fullmatch(name):
        raise ValueError(f"expected a name that no stage has, got {name}. Rename the member")
    return name


MemberName = Annotated[str, Field(pattern=NAME, max_length=100), AfterValidator(_require_own_name)]


class OfABranch:
    """Marks settings of a member, which ``branch`` says the kind of: one that suits."""

    def __init__(self, suits: Callable[[Branch[Any]], bool]) -> None:
        self.suits = suits

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read the settings of the branch that is named."""
        branches = [branch for branch in BRANCHES.values() if self.suits(branch)]
        kinds = {branch.name: handler.generate_schema(branch.settings) for branch in branches}
        return tagged_union_schema(kinds, discriminator="branch")


AnyMember = Annotated[MemberSettings, OfABranch(lambda branch: True)]
TableMember = Annotated[MemberSettings, OfABranch(lambda branch: branch.reads_table)]


class BaseExperiment(Settings):
    """What an experiment on scenes and one on a table have in common."""

    name: str = Field(pattern=NAME, max_length=100, description="name of the experiment and of its run folder")
    task: Task = Field(
        description="binary: a class and its background; multiclass: one of several classes a pixel; multilabel: any "
        "number of tags a scene"
    )
    root: Path = Field(
        description="folder that the patterns of the files start from; if relative, from the experiment file's; or one "
        "in an object store: `s3://bucket/folder`, gs://, az://, or https:// with lists of scenes"
    )
    seed: int = Field(
        0,
        ge=0,
        description="of all that is drawn at random: the same seed gives the same results",
        json_schema_extra=aliases("random_state", "random_seed"),
    )
    classes: dict[int, ClassSettings] = Field(
        description="name of each value in the labels, or a list of names, numbered from 0"
    )
    folds: FoldSettings = Field(FoldSettings(), description="how the training scenes are split for cross-validation")
    tune: TuneSettings = Field(TuneSettings(), description="how `terrablend tune` looks for better settings")

    @field_validator("classes", mode="before", json_schema_input_type=dict[int, ClassSettings] | list[ClassSettings])
    @classmethod
    def _numbered_from_0(cls, value: Any) -> Any:
        return dict(enumerate(value)) if isinstance(value, list) else value

    _written: dict[str, str] = PrivateAttr(default_factory=dict)
    """Paths with the values of variables in them, and as they were written."""

    def dump_written(self, keys: set[str] | None = None) -> dict[str, Any]:
        """Return values as JSON has them, of some keys or of all, with variables in paths as they were written."""
        values: dict[str, Any] = write_paths(self.model_dump(mode="json", include=keys), self._written)
        return values

    def label_classes(self) -> Classes:
        """Return the classes; raises ExperimentError where they do not suit the task."""
        return Classes.from_settings(self.task, self.classes)


class Experiment(BaseExperiment):
    """Everything that a run on scenes depends on."""

    scenes: SceneSettings = Field(description="the files of the scenes, and what their values mean")
    features: FeatureSettings = Field(FeatureSettings(), description="the columns and rows of the pixel table")
    members: dict[MemberName, AnyMember] = Field(description="the models, by a name of your own")
    self_train: SelfTrainSettings | None = Field(
        None, description="scenes without labels, those of scenes.test and unlabelled training scenes, teach too"
    )
    ensemble: EnsembleSettings = Field(EnsembleSettings(), description="how the members are blended, and for what")
    submission: SubmissionSettings = Field(SubmissionSettings(), description="the maps of the test scenes")

    @model_validator(mode="before")
    @classmethod
    def _suit_the_task(cls, values: Any) -> Any:
        members = values.get("members") if isinstance(values, dict) and values.get("task") == "multilabel" else None
        if not isinstance(members, dict):
            return values
        suited = {
            name: branch.settings.with_defaults(member, branch.tag_defaults)
            if isinstance(member, dict) and (branch := BRANCHES.get(member.get("branch", ""))) is not None
            else member
            for name, member in members.items()
        }
        return {**values, "members": suited}

    @model_validator(mode="after")
    def _stacked_in_an_order(self) -> "Experiment":
        require_stacks(self.members)
        if self.members and not any(member.decides for member in self.members.values()):
            raise ValueError(
                f"expected a member whose maps of training scenes are out of fold, got {', '.join(self.members)}, "
                "in-sample: there is nothing to decide on"
            )
        return self

    @model_validator(mode="after")
    def _pupils_can_be_taught(self) -> "Experiment":
        if self.self_train is not None:
            require_pupils(self.self_train, self.members, [*self.label_classes().label_names])
            if self.task == "multilabel":
                raise ValueError("self_train: expected none with the task multilabel: only pixels are taught")
        return self

    @model_validator(mode="after")
    def _features_have_names_of_their_own(self) -> "Experiment":
        parts = [part for part in (self.scenes.train, self.scenes.val, self.scenes.test) if part is not None]
        bands = [
            *(self.scenes.bands or ()),
            *(band for part in parts for file in part.rasters for band in file.bands or ()),
        ]
        for key, names in (("scenes.bands", bands), ("features.formulas", [*self.features.formulas])):
            for name in names:
                if name in ROW_COLUMNS:
                    raise ValueError(
                        f"{key}: expected names other than {', '.join(ROW_COLUMNS)}, columns that the pixel table has "
                        f"of its own, got {name}. Rename it"
                    )
                if not name.strip() or not name.isprintable():
                    raise ValueError(f"{key}: expected names of printable letters, got {name!r}. Rename it")
        return self

    @model_validator(mode="after")
    def _shares_are_of_maps(self) -> "Experiment":
        if self.folds.labels != 1 and self.task == "multilabel":
            raise ValueError("folds.labels: expected 1 with the task multilabel: only labels of pixels can be hidden")
        return self

    @model_validator(mode="after")
    def _labels_suit_the_task(self) -> "Experiment":
        for split in ("train", "val", "test"):
            part = getattr(self.scenes, split)
            if part is None or part.label is None:
                continue
            tagged = isinstance(part.label, TagSettings)
            if tagged and self.task != "multilabel":
                raise ValueError(f"scenes.{split}.label: a table of tags is for the task multilabel, not {self.task}")
            if not tagged and self.task == "multilabel":
                raise ValueError(
                    f"scenes.{split}.label: the task multilabel needs a table, "
                    "such as {tags: labels.csv, id: image_name, column: tags}"
                )
            for label in part.label if isinstance(part.label, list) else [part.label]:
                self._require_colors(split, label)
        return self

    def _require_colors(self, split: str, label: MeaningSettings | VectorSettings | TagSettings) -> None:
        if not isinstance(label, MeaningSettings) or label.colors is False:
            return
        given = () if label.colors is True else label.colors
        lacking = [entry.name for entry in self.classes.values() if entry.color is None and entry.name not in given]
        if lacking:
            raise ValueError(
                f"scenes.{split}.label.colors: expected a colour for each class, got none for {', '.join(lacking)}. "
                f"Name it as classes: {{0: {{name: {lacking[0]}, color: [255, 0, 0]}}}}"
            )


class TableExperiment(BaseExperiment):
    """Everything that a run on a table of the user's own depends on."""

    table: TableSettings = Field(description="the files of the table, and what their columns are")
    members: dict[MemberName, TableMember] = Field(
        description="the models, by a name of your own, of a branch that learns from tables"
    )
    ensemble: EnsembleSettings = Field(EnsembleSettings(), description="how the members are blended, and for what")

    @field_validator("members")
    @classmethod
    def _stacked_on_none(cls, members: dict[str, MemberSettings]) -> dict[str, MemberSettings]:
        for name, member in members.items():
            if member.stacked_on:
                raise ValueError(
                    f"{name}.stack: expected none, got {', '.join(member.stacked_on)}: tables have no maps"
                )
        return members

    @field_validator("task")
    @classmethod
    def _one_label_a_row(cls, task: Task) -> Task:
        if task == "multilabel":
            raise ValueError("expected binary or multiclass, got multilabel: a row of a table has one label")
        return task

    @field_validator("root")
    @classmethod
    def _on_this_disk(cls, root: Path) -> Path:
        if is_remote(root):
            raise ValueError("expected a folder of this disk, got an address: download the table")
        return root

    @field_validator("folds")
    @classmethod
    def _grouped_by_the_table(cls, folds: FoldSettings) -> FoldSettings:
        if folds.group != GroupSettings():
            raise ValueError("expected no rule under group: a table is grouped by table.group, xy and block")
        if folds.labels != 1 or folds.file is not None:
            raise ValueError("expected no file and no share of labels: these are of scenes")
        return folds


AnyExperiment = Experiment | TableExperiment
E = TypeVar("E", bound=AnyExperiment)
