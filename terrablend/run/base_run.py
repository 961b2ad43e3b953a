"""The stages that runs on scenes and on tables have in common."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Generic

from data.cluster import Cluster
from data.errors import ExperimentError, MemberError
from data.files import hash_file, write_json
from data.folds.leakage import LeakageReport
from data.folds.plan import plan_folds
from data.maps.member import Member
from data.progress import Track, untracked
from data.scenes.catalogue import LABELS, Catalogue
from data.settings import FoldSettings
from data.survey.inputs import load_inputs, read_inputs
from data.workers import cores
from features.applicability import Applicability, load_applicability
from features.branch import Branch, DeviceName, Loading, MemberSettings, Training, load_alone
from features.description import TableFacts, load_facts
from features.explanation import Explanation, load_explanation
from features.table import Columns
from features.unlike import Unlike
from terrablend.branches import branch_of
from terrablend.experiment import E, experiment_file, save_experiment
from terrablend.experiment.stacking import learning_order, with_layers
from terrablend.run.run_folder import RunFolder, Stage
from terrablend.run.work import (
    applicability_file,
    check_data,
    explain_member,
    fit_and_apply,
    fit_inside_folds,
    write_features,
)

__all__ = ["BaseRun"]


@dataclass(frozen=True)
class BaseRun(ABC, Generic[E]):
    """An experiment, the folder it writes to, and the machine it runs on.

    Parameters
    ----------
    experiment : Experiment or TableExperiment
    source : Path
        What the user named, the experiment file or the run folder; for messages.
    folder : RunFolder
    device : {"auto", "cpu", "cuda"} or None
        Overrides that of every member.
    workers : int
        Cores to use.
    executor : Executor or None
        Where scenes are worked on in parallel.
    track : Track
    verify : bool
        Whether to read every file of the user's again, though its size and time are as they were: once, and not those
        whose digests are in the catalogue.
    """

    experiment: E
    source: Path
    folder: RunFolder
    device: DeviceName | None = None
    workers: int = cores()
    executor: Executor | None = None
    track: Track = untracked
    verify: bool = False

    def carry_out(self, stages: Iterable[Stage], overwrite: bool = False) -> None:
        """Do stages in turn, with the run folder locked; see `RunFolder.carry_out`."""
        with self.folder.lock():
            if isinstance(self.executor, Cluster):
                self.executor.require(self.folder.path, self.input_files())
            for stage in stages:
                self.folder.carry_out(stage, overwrite)

    @property
    @abstractmethod
    def stages(self) -> list[Stage]:
        """Every stage, in order."""

    @property
    @abstractmethod
    def ensemble(self) -> Stage:
        """Blend the out-of-fold maps, tune thresholds, score, report."""

    @property
    @abstractmethod
    def submit(self) -> Stage:
        """Write the class maps of the test scenes, and the submission."""

    @abstractmethod
    def feature_set(self, catalogue: Catalogue) -> Columns:
        """Return the columns of the table."""

    def members(self, suits: Callable[[Branch[Any]], bool] = lambda branch: True) -> list[str]:
        """Return the names of the members of all branches that suit, in the order in which they are learned."""
        members = self.experiment.members
        return [name for name in learning_order(members) if name in members and suits(branch_of(members[name]))]

    def below(self, name: str) -> list[Stage]:
        """Return the stages of what a member is stacked on and is no member itself: layers, models inside of folds."""
        settings = self.member_settings(name)
        return [*map(self.member, settings.derived), *map(self.inner, settings.inner)]

    def inner(self, name: str) -> Stage:
        """Fit a member inside of each fold, on the others alone, and map these out of fold: for strict stacks."""
        settings, outputs = self.member_settings(name), (f"members/{name}@inner",)
        reads, work = self.member_inputs(name), partial(fit_inside_folds, self, name)
        inputs = partial(branch_of(settings).files, settings, self.experiment.root)
        return self.stage(f"{name}@inner", "run", work, reads, outputs, self.member(name).settings, inputs=inputs)

    @cached_property
    def check(self) -> Stage:
        """Read everything once, list every problem, write the catalogue with its groups and folds, draw the data."""
        settings = self.settings_record("task", "scenes", "table", "classes", "folds", "seed")
        outputs = ("catalogue.parquet", "folds.txt", "check.html", LABELS)
        return self.stage("check", "check", partial(check_data, self), (), outputs, settings, inputs=self.input_files)

    @cached_property
    def features(self) -> Stage:
        """Write the pixel table, and what its columns are."""
        settings = self.settings_record("features", "seed")
        return self.stage(
            "features", "features", partial(write_features, self), (self.check,), ("pixels", "columns.json"), settings
        )

    def member(self, name: str, folds: Sequence[int] | None = None) -> Stage:
        """Train a member's models and apply them out of fold; or train the models of some folds alone."""
        settings = self.member_settings(name)
        branch, record = branch_of(settings), {**self.member_record(name), "seed": self.experiment.seed}
        if branch.reads_formulas:
            record["formulas"] = self.formulas
        inputs = partial(branch.files, settings, self.experiment.root)
        work = partial(fit_and_apply, self, name, folds)
        outputs = (f"members/{name}",)
        # Some folds alone leave the stage unfinished; run without them it goes on from there.
        command = f"{branch.name} {name}" if name in self.experiment.members else "run"
        reads = self.member_inputs(name)
        return self.stage(name, command, work, reads, outputs, record, inputs=inputs, complete=folds is None)

    def explain(self, name: str) -> Stage:
        """Explain what the models of a member that learned from the table look at."""
        reads, work = (self.check, self.features, self.member(name)), partial(explain_member, self, name)
        outputs = (f"explain/{name}.json", *(() if self.has_tags else (applicability_file(name),)))
        return self.stage(f"explain-{name}", f"explain {name}", work, reads, outputs, self.settings_record("seed"))

    def member_settings(self, name: str) -> MemberSettings:
        """Return the settings of a member, or of a layer that one is stacked on.

        Raises
        ------
        ExperimentError
            If there is no such member.
        """
        every = with_layers(self.experiment.members)
        if name not in every:
            raise ExperimentError(f"expected a member among {', '.join(self.experiment.members)}, got {name}.")
        return every[name]

    def member_record(self, name: str) -> dict[str, Any]:
        """Return a member's settings as a stage records them: the device changes no result worth a new one."""
        settings = self.member_settings(name)
        if name not in self.experiment.members:
            return settings.model_dump(mode="json")
        record: dict[str, Any] = _jsonable(self.experiment.dump_written({"members"})["members"][name])
        record.pop("device", None)
        return record

    def member_inputs(self, name: str) -> tuple[Stage, ...]:
        """Return the stages whose results a member learns from."""
        settings = self.member_settings(name)
        table = (self.features,) if branch_of(settings).reads_table else ()
        return (self.check, *table, *map(self.member, settings.stacked_on), *map(self.inner, settings.inner))

    def settings_record(self, *keys: str) -> dict[str, Any]:
        """Return some parts of the experiment as a stage records them."""
        record: dict[str, Any] = _jsonable(self.experiment.dump_written({*keys}))
        return record

    def stage(
        self,
        name: str,
        command: str,
        work: Callable[[], None],
        reads: tuple[Stage, ...],
        outputs: tuple[str, ...],
        settings: dict[str, Any],
        *,
        inputs: Callable[[], Sequence[Path]] = tuple,
        complete: bool = True,
    ) -> Stage:
        """Return a stage that a command carries out.

        Parameters
        ----------
        name, reads, outputs, settings, complete
            As of `Stage`.
        command : str
            Without the experiment file.
        work : callable
            Before it the experiment is written into the run folder: it is the one that results were made by.
        inputs : callable
            Returns the files of the user's that it reads.
        """
        verb, *arguments = command.split()
        command = " ".join(("terrablend", verb, str(self.source), *arguments))
        read = cache(lambda: self._read_inputs(inputs()))

        def begin() -> None:
            save_experiment(self.experiment, self.folder.path / "experiment.yaml")
            work()

        return Stage(name, command, begin, reads, outputs, settings, read, complete)

    def _read_inputs(self, paths: Sequence[Path]) -> dict[str, str]:
        """Return the hash of the content of some files by their path from the root."""
        if not paths:
            return {}
        path = self.folder.path / "inputs.json"
        known = load_inputs(path)
        again = {path for path in paths if self.verify and path not in self._read | self._digested}
        self._read.update(again)
        files = read_inputs(paths, self.experiment.root, known, again)
        if self.folder.is_ours and known | files != known:
            # What is not remembered is read again.
            with suppress(OSError):
                write_json(path, known | files)
        return {name: file.sha256 for name, file in files.items()}

    @cached_property
    def _read(self) -> set[Path]:
        """Files of the user's that were read again."""
        return set()

    @cached_property
    def _digested(self) -> set[Path]:
        """Files of the user's whose content the catalogue has a digest of."""
        return set()

    def load_catalogue(self) -> Catalogue:
        """Return the catalogue that `check` wrote."""
        return Catalogue.load(self.folder.path / "catalogue.parquet")

    def load_facts(self) -> TableFacts:
        """Return what the columns of the pixel table are."""
        self.folder.require(self.features)
        return load_facts(self.folder.path / "columns.json")

    def load_explanation(self, name: str) -> Explanation:
        """Return what the boosters of a member look at."""
        return load_explanation(self.folder.path / "explain" / f"{name}.json")

    def load_applicability(self, name: str) -> Applicability:
        """Return what tells where a member may be applied."""
        return load_applicability(self.folder.path / applicability_file(name))

    @property
    def file(self) -> Path:
        """The experiment file."""
        return experiment_file(self.source)

    @property
    def members_folder(self) -> Path:
        """The folder of all members' folders."""
        return self.folder.path / "members"

    def member_path(self, name: str) -> Path:
        """Return the folder of a member."""
        return self.members_folder / name

    def load_member(self, name: str, members: Path | None = None, given: str | None = None) -> Member:
        """Return a fitted member of any branch; see `loading`.

        Raises
        ------
        MemberError
            If its folder holds none, or another one: of its name are the folders that its maps are written to.
        """
        member = branch_of(self.member_settings(name)).load(self.loading(name, members, given))
        if member.name != name:
            raise MemberError(
                f"{self.member_path(name)}: expected the member {name}, got {member.name[:100]!r}. Train it again."
            )
        return member

    def loader(self, name: str) -> Callable[[], Member] | None:
        """Return what loads a member in a process of one thread; None where it is better mapped in one process."""
        branch, loading = branch_of(self.member_settings(name)), self.loading(name)
        if not branch.by_process(loading):
            return None
        folder, members = loading.directory.resolve(), loading.members.resolve()
        # Another hash is another member, also for a process that holds the one before.
        made = hash_file(folder / "member.json")
        alone = replace(loading, directory=folder, members=members, threads=1, executor=None)
        return partial(load_alone, branch.load, alone, made)

    def training(self, name: str, folds: Sequence[int] | None = None) -> Training[Any]:
        """Return what fitting a member takes."""
        catalogue = self.load_catalogue()
        return Training(
            name,
            self.member_settings(name),
            catalogue,
            self.member_path(name),
            self.experiment.root,
            self.members_folder,
            self.pixels,
            partial(self.feature_set, catalogue),
            self.formulas,
            self.experiment.seed,
            self.workers,
            self.device,
            folds,
            self.executor,
            self.track,
        )

    def loading(self, name: str, members: Path | None = None, given: str | None = None) -> Loading[Any]:
        """Return what loading a member takes.

        Parameters
        ----------
        name : str
        members : Path, optional
            Where it finds the maps of members that it is stacked on; in the run by default.
        given : str, optional
            Pattern of maps of scenes that the experiment does not know.
        """
        return Loading(
            self.member_path(name),
            self.member_settings(name),
            self.experiment.root,
            members or self.members_folder,
            self.workers,
            self.device,
            self.executor,
            given,
        )

    @property
    def pixels(self) -> Path:
        """The folder of the table of pixels, or of scenes."""
        return self.folder.path / "pixels"

    @property
    def formulas(self) -> dict[str, str]:
        """The user's own features, by name."""
        return {}

    @property
    def folds(self) -> FoldSettings:
        """How the training scenes are split."""
        return self.experiment.folds

    @abstractmethod
    def input_files(self) -> list[Path]:
        """Return every file that is learned from."""

    @abstractmethod
    def read_catalogue(self) -> tuple[Catalogue, list[str]]:
        """Read everything once; return the catalogue, without folds, and what is odd in it."""

    @abstractmethod
    def build_table(self, catalogue: Catalogue) -> None:
        """Write the table."""

    @abstractmethod
    def apply_member(self, name: str, catalogue: Catalogue) -> None:
        """Apply a trained member to all that it has not learned from."""

    def deal_folds(self, catalogue: Catalogue) -> tuple[Catalogue, LeakageReport]:
        """Return the catalogue with groups and folds, and what tells whether one fold sees another."""
        return plan_folds(catalogue, self.folds, self.experiment.root, self.experiment.seed, self.track)

    def find_unlike(self, catalogue: Catalogue) -> Sequence[Unlike]:
        """Return how much of the scenes to be mapped is unlike the training scenes, where pixels can tell."""
        return ()

    @property
    def has_tags(self) -> bool:
        """Whether scenes have tags, and pixels nothing of their own."""
        return self.experiment.task == "multilabel"


def _jsonable(value: Any) -> Any:
    """Return a value as it would be after a round trip through JSON, so that it compares equal to a record."""
    return json.loads(json.dumps(value))
