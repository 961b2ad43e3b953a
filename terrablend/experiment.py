"""The experiment file: what a user writes, checked and completed with every default."""

import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import tagged_union_schema

from data.addresses import FOLDERS, is_elsewhere, is_remote, remote_path
from data.errors import ExperimentError
from data.files import replacing
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
from terrablend.reference import list_settings, spellings
from terrablend.search import TuneSettings
from terrablend.self_train import SelfTrainSettings
from terrablend.stacking import learning_order
from terrablend.written_paths import expand_paths, write_paths
from terrablend.yaml_text import brief, parse_yaml

__all__ = [
    "AnyExperiment",
    "Experiment",
    "TableExperiment",
    "change_experiment",
    "experiment_file",
    "load_experiment",
    "load_scene_experiment",
    "read_experiment",
    "save_experiment",
]

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

MOST_PROBLEMS = 50
"""Of an experiment file, that are listed."""

DEEPEST_KEY = 20
"""Dots in a key of --set."""

LIBRARIES = (
    "terrablend",
    "numpy",
    "rasterio",
    "pyarrow",
    "lightgbm",
    "xgboost",
    "torch",
    "segmentation-models-pytorch",
)


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
        learning_order(self.members)
        for name, member in self.members.items():
            _require_layers(name, member, self.members)
            _require_inner(name, member, self.members)
            in_sample = [
                below for below in member.stacked_on if below in self.members and not self.members[below].decides
            ]
            if in_sample:
                raise ValueError(
                    f"members.{name}.stack: expected members whose maps are out of fold, got {in_sample[0]}, which is "
                    "in-sample. Leave it out"
                )
        if self.members and not any(member.decides for member in self.members.values()):
            raise ValueError(
                f"expected a member whose maps of training scenes are out of fold, got {', '.join(self.members)}, "
                "in-sample: there is nothing to decide on"
            )
        return self

    @model_validator(mode="after")
    def _pupils_can_be_taught(self) -> "Experiment":
        if self.self_train is not None:
            _require_pupils(self.self_train, self.members, [*self.label_classes().label_names])
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


def _require_layers(name: str, member: MemberSettings, members: Mapping[str, MemberSettings]) -> None:
    """Refuse layers of what has none."""
    of = [below for layer in member.derived.values() for below in layer.stacked_on]
    flat = [below for below in of if BRANCHES[members[below].branch].layers is None]
    if flat:
        raise ValueError(f"members.{name}.stack: expected a layer of a network, got one of {flat[0]}. Leave it out")


def _require_inner(name: str, member: MemberSettings, members: Mapping[str, MemberSettings]) -> None:
    """Refuse strict stacks on what cannot be fitted inside of a fold."""
    for below in member.inner:
        if not BRANCHES[members[below].branch].computes:
            raise ValueError(f"members.{name}.stack: expected strict of a member that is fitted here, got {below}")
        if members[below].stacked_on:
            raise ValueError(f"members.{name}.stack: expected strict of a member without a stack, got {below}")


def _require_pupils(settings: SelfTrainSettings, members: Mapping[str, MemberSettings], labels: Sequence[str]) -> None:
    """Refuse teachers that cannot teach, and pupils that cannot be taught."""
    for key, names in (("teachers", settings.teachers), ("pupils", settings.pupils)):
        for name in names:
            where = f"self_train.{key}: expected"
            if name not in members:
                raise ValueError(f"{where} members among {', '.join(members)}, got {name}")
            member = members[name]
            if not (member.decides and BRANCHES[member.branch].computes):
                raise ValueError(f"{where} members that are fitted here, out of fold, got {name}")
            if member.stacked_on:
                raise ValueError(f"{where} members without a stack, got {name}")
            if key == "pupils" and getattr(member, "validation_fraction", None):
                raise ValueError(f"{where} members without validation_fraction, got {name}")
    both = [name for name in settings.pupils if name in settings.teachers]
    if both:
        raise ValueError(
            f"self_train: expected pupils that are no teachers, got {both[0]}: give the pupil another name"
        )
    for name, member in members.items():
        if any(below in settings.pupils for below in (*member.stacked_on, *member.derived)):
            raise ValueError(f"members.{name}.stack: expected members that are no pupils of self_train")
    if isinstance(settings.confidence, dict):
        unknown = [name for name in settings.confidence if name not in labels]
        if unknown:
            raise ValueError(f"self_train.confidence: expected classes among {', '.join(labels)}, got {unknown[0]}")


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


def experiment_file(source: Path) -> Path:
    """Return the experiment file of what a user named: a run folder's, or the file itself."""
    return source / "experiment.yaml" if source.is_dir() else source


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> AnyExperiment:
    """Read an experiment file: on a table of the user's own if it has the key ``table``, else on scenes.

    Parameters
    ----------
    path : Path
        A YAML file; ``${NAME}`` in its paths stands for an environment variable, and a relative ``root`` starts
        from the file's folder.
    overrides : sequence of str
        ``members.lightgbm.rounds=300``: a dotted key and its value, in YAML.

    Raises
    ------
    ExperimentError
        If the file cannot be read, or any value in it is missing, unknown or of the wrong kind; all of these
        are listed at once.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: expected an experiment file in YAML, got: {error}") from error
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ExperimentError(f"{path}: expected keys such as name, task and scenes, got {type(values).__name__}.")
    return read_experiment(values, path, overrides)


def read_experiment(values: dict[str, Any], path: Path, overrides: Sequence[str] = ()) -> AnyExperiment:
    """Return the experiment of what stands in an experiment file; see `load_experiment`.

    Parameters
    ----------
    values : dict
        It is changed by overrides.
    path : Path
        Of the file, for messages and a relative ``root``.
    overrides : sequence of str
    """
    kind = TableExperiment if "table" in values else Experiment
    for override in overrides:
        _override(kind, values, override)
    given = values.get("root")
    values, written = expand_paths(values, path)
    if isinstance(given, str):
        root = values["root"] = _find_root(values["root"], path)
        if is_remote(root):
            written[str(root)] = given
        elif "${" in given:
            # Written into a run folder, it must mean the same.
            written[str(root)] = given if given.startswith(("$", "/", "~")) else str(path.parent.resolve() / given)
    experiment: AnyExperiment = _validate(kind, values, path)
    experiment._written = written
    return experiment


def change_experiment(experiment: E, changes: Mapping[str, Any], path: Path) -> E:
    """Return an experiment with other values.

    Parameters
    ----------
    experiment : Experiment or TableExperiment
        Defaults that depend on what is changed change with it, values that somebody wrote do not.
    changes : mapping of str to value
        By dotted key, such as ``members.lightgbm.rounds``.
    path : Path
        Of the experiment, for messages.

    Raises
    ------
    ExperimentError
        If a key is unknown, or a value of the wrong kind.
    """
    values = experiment.model_dump(mode="json", exclude_unset=True)
    for key, value in changes.items():
        _set(type(experiment), values, key, value, key)
    changed: E = _validate(type(experiment), values, path)
    changed._written = experiment._written
    return changed


def load_scene_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file that must be on scenes; see `load_experiment`."""
    experiment = load_experiment(path, overrides)
    if isinstance(experiment, TableExperiment):
        raise ExperimentError(f"{path}: expected an experiment on scenes, got one on a table, which makes no maps.")
    return experiment


def save_experiment(experiment: AnyExperiment, path: Path) -> None:
    """Write an experiment with every default, and what it was made with, such that it can be loaded again."""
    values = experiment.dump_written()
    made = [f"{name} {version(name)}" for name in LIBRARIES] + [f"Python {platform.python_version()}"]
    commit = _git_commit()
    header = f"# Made with {', '.join(made)}" + (f"; git commit {commit}" if commit else "")
    with replacing(path) as temporary:
        temporary.write_text(f"{header}\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}", "utf-8")


def _override(kind: type[BaseExperiment], values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key or key.count(".") > DEEPEST_KEY:
        raise ExperimentError(f"--set {brief(override, plain=True)}: expected KEY=VALUE, such as folds.count=5.")
    what = f"--set {brief(override, plain=True)}"
    _set(kind, values, key, parse_yaml(text, what), what)


def _set(kind: type[BaseExperiment], values: dict[str, Any], key: str, value: Any, what: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ExperimentError(
                f"{what}: expected a key with keys below it, got the value {brief(values)} at {parent}."
            )
    for name in spellings(list_settings(kind), key):
        # What the file says under another name of the same setting gives way.
        values.pop(name, None)
    values[last] = value


def _validate(kind: type[BaseExperiment], values: dict[str, Any], path: Path) -> Any:
    try:
        experiment = kind.model_validate(values)
        experiment.label_classes()
    except ValidationError as error:
        raise ExperimentError(f"{path}: " + _list_problems(error)) from error
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from error
    return experiment


def _find_root(root: str, path: Path) -> Path:
    if is_elsewhere(root):
        address = remote_path(root)
        if not is_remote(address) or "?" in root or ".." in address.parts:
            kinds = ", ".join(f"{kind}://" for kind in FOLDERS)
            raise ExperimentError(f"{path}: root: expected a folder, or an address of {kinds}, got {brief(root)}.")
        return address
    try:
        return (path.parent.resolve() / Path(root).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ExperimentError(f"{path}: root: expected a folder, got {brief(root)}: {error}.") from error


def _list_problems(error: ValidationError) -> str:
    lines, total = [], error.error_count()
    for problem in error.errors(include_url=False)[:MOST_PROBLEMS]:
        where = ".".join(brief(str(part), plain=True) for part in problem["loc"])
        message = brief(problem["msg"].removeprefix("Value error, "), 1000, plain=True)
        got = "" if problem["type"] in ("missing", "value_error") else f" Got {brief(problem['input'])}."
        lines.append(f"{where + ': ' if where else ''}{message}{got}")
    if total == 1:
        return lines[0]
    lines += [f"and {total - len(lines)} more"] * (total > len(lines))
    return f"{total} problems:\n" + "\n".join(f"  - {line}" for line in lines)


def _git_commit() -> str:
    """Return the commit of Terrablend's own checkout, empty where it was not installed from one."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
