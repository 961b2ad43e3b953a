"""The stages of a run, in the order in which one reads what the other wrote."""

import json
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import cnn
import trees
from cnn.settings import CnnSettings
from data.catalogue import Catalogue
from data.discovery import SceneFiles, find_scenes, stat_files
from data.errors import ExperimentError, RunError, SubmissionError
from data.files import replacing
from data.folds import plan_folds
from data.inspection import build_catalogue
from data.members import MAP_FOLDERS, Member, write_maps
from data.progress import Track, untracked
from data.quicklook import quicklook
from data.workers import cores
from ensemble.ensemble import Ensemble
from ensemble.fit import fit_ensemble
from ensemble.maps import MemberMaps
from ensemble.predict import write_prediction
from ensemble.report import write_report
from ensemble.scores import score_table, write_scores
from ensemble.submission import FORMATS, write_submission
from features.feature_set import FeatureSet
from features.settings import feature_names
from features.table import build_table
from terrablend.experiment import Experiment, save_experiment
from terrablend.run_folder import RunFolder, Stage
from trees.settings import TreeSettings

__all__ = ["Run"]

logger = logging.getLogger(__name__)

Branch = Literal["trees", "cnn"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Run:
    """An experiment, the folder it writes to, and the machine it runs on.

    Parameters
    ----------
    experiment : Experiment
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
    """

    experiment: Experiment
    source: Path
    folder: RunFolder
    device: Device | None = None
    workers: int = cores()
    executor: Executor | None = None
    track: Track = untracked

    @property
    def stages(self) -> list[Stage]:
        """Every stage, in order."""
        table = [self.features] if self.members("trees") else []
        last = [self.submit] if self.experiment.scenes.test is not None else []
        return [self.check, *table, *map(self.member, self.experiment.members), self.ensemble, *last]

    def members(self, branch: Branch) -> list[str]:
        """Return the names of the members of a branch."""
        return [name for name, settings in self.experiment.members.items() if settings.branch == branch]

    @cached_property
    def check(self) -> Stage:
        """Read every scene, list every problem, write the catalogue with its groups and folds."""
        settings = self._settings("task", "scenes", "classes", "folds", "seed")
        settings["files"] = _jsonable(stat_files(self._files[0]))
        return self._stage("check", "check", self._check, (), ("catalogue.parquet", "folds.txt"), settings)

    @cached_property
    def features(self) -> Stage:
        """Write the pixel table."""
        settings = self._settings("features", "seed")
        return self._stage("features", "features", self._features, (self.check,), ("pixels",), settings)

    def member(self, name: str, folds: Sequence[int] | None = None) -> Stage:
        """Train a member's models and write its maps; or train the models of some folds alone."""
        settings = self._member_settings(name)
        kept = {**_jsonable(settings.model_dump(mode="json", exclude={"device"})), "seed": self.experiment.seed}
        if isinstance(settings, CnnSettings):
            kept["formulas"] = self.experiment.features.formulas
        reads = (self.check, self.features) if isinstance(settings, TreeSettings) else (self.check,)
        work = partial(self._member, name, folds)
        outputs = (f"members/{name}",)
        # Some folds alone leave the stage unfinished; run without them it goes on from there.
        return self._stage(name, f"{settings.branch} {name}", work, reads, outputs, kept, complete=folds is None)

    @cached_property
    def ensemble(self) -> Stage:
        """Blend the out-of-fold maps, tune thresholds, score, report."""
        reads = (self.check, *map(self.member, self.experiment.members))
        settings = self._settings("ensemble", "seed")
        return self._stage("ensemble", "ensemble", self._ensemble, reads, ("ensemble",), settings)

    @cached_property
    def submit(self) -> Stage:
        """Write the class maps of the test scenes, and the submission."""
        settings = self._settings("submission")
        archive = FORMATS[self.experiment.submission.format].file
        outputs = (archive, "maps") if archive else ("maps",)
        return self._stage("submit", "submit", self._submit, (self.check, self.ensemble), outputs, settings)

    def save_experiment(self) -> None:
        """Write the resolved experiment into the run folder.

        Raises
        ------
        RunError
            If the folder cannot be written.
        """
        try:
            save_experiment(self.experiment, self.folder.path / "experiment.yaml")
        except OSError as error:
            raise RunError(
                f"{self.folder.path}: expected a folder to write to, got: {error}. Choose another: --run."
            ) from error

    def load_catalogue(self) -> Catalogue:
        """Return the catalogue that `check` wrote."""
        return Catalogue.load(self.folder.path / "catalogue.parquet")

    def load_ensemble(self) -> Ensemble:
        """Return the fitted ensemble."""
        return Ensemble.load(self.folder.path / "ensemble" / "ensemble.json")

    def member_path(self, name: str) -> Path:
        """Return the folder of a member."""
        return self.folder.path / "members" / name

    def load_member(self, name: str) -> Member:
        """Return a trained member of either branch."""
        settings, directory = self._member_settings(name), self.member_path(name)
        if isinstance(settings, TreeSettings):
            return trees.load_member(directory, self.workers)
        return cnn.load_member(directory, self.workers, self.device or settings.device)

    @cached_property
    def _files(self) -> tuple[list[SceneFiles], list[str]]:
        return find_scenes(self.experiment.scenes, self.experiment.label_classes(), self.experiment.root)

    def _check(self) -> None:
        experiment = self.experiment
        files, problems = self._files
        classes = experiment.label_classes()
        catalogue, warnings = build_catalogue(files, problems, experiment.scenes, classes, self.executor, self.track)
        for warning in warnings:
            logger.warning("%s", warning)
        catalogue, report = plan_folds(catalogue, experiment.folds, experiment.root, experiment.seed, self.track)
        for line in report.lines():
            logger.info("%s", line)
        with replacing(self.folder.path / "folds.txt") as temporary:
            temporary.write_text("\n".join([*report.lines(), *warnings]) + "\n", "utf-8")
        catalogue.save(self.folder.path / "catalogue.parquet")

    def _features(self) -> None:
        catalogue = self.load_catalogue()
        build_table(
            catalogue, self._feature_set(catalogue), self.experiment.features.sample, self.folder.path / "pixels",
            experiment=self.experiment.name, seed=self.experiment.seed, executor=self.executor, track=self.track,
        )  # fmt: skip

    def _member(self, name: str, folds: Sequence[int] | None) -> None:
        settings, directory, catalogue = self._member_settings(name), self.member_path(name), self.load_catalogue()
        unknown = sorted(set(folds or ()) - set(catalogue.folds))
        if unknown:
            raise ExperimentError(f"--fold {unknown[0]}: expected one of {', '.join(map(str, catalogue.folds))}.")
        options: dict[str, Any] = {
            "seed": self.experiment.seed, "threads": self.workers, "device": self.device or settings.device,
            "folds": folds, "track": self.track,
        }  # fmt: skip
        if isinstance(settings, TreeSettings):
            pixels = self.folder.path / "pixels"
            trees.fit_member(name, settings, catalogue, pixels, self._feature_set(catalogue), directory, **options)
        else:
            formulas = self.experiment.features.formulas
            cnn.fit_member(name, settings, catalogue, directory, formulas=formulas, **options)
        if folds is None:
            write_maps(self.load_member(name), catalogue, directory, self.track)

    def _ensemble(self) -> None:
        experiment, catalogue, folder = self.experiment, self.load_catalogue(), self.folder.path / "ensemble"
        members = {name: self.member_path(name) for name in experiment.members}
        settings, seed, track = experiment.ensemble, experiment.seed, self.track
        ensemble, evaluations = fit_ensemble(members, catalogue, settings, seed=seed, track=track)
        scores = score_table(evaluations, catalogue.classes.label_names, experiment.task, settings, seed)
        notes = (self.folder.path / "folds.txt").read_text("utf-8").splitlines()
        write_report(
            folder / "report.html", ensemble, evaluations, scores, MemberMaps(members), catalogue, settings,
            name=experiment.name, notes=notes, quicklook=quicklook, track=track,
        )  # fmt: skip
        write_scores(scores, folder / "scores.parquet")
        ensemble.save(folder / "ensemble.json")

    def _submit(self) -> None:
        catalogue, maps = self.load_catalogue(), self.folder.path / "maps"
        ensemble = self.load_ensemble()
        scenes = catalogue.split("test")
        if not scenes:
            raise SubmissionError("expected test scenes to map, got none. Name their files under scenes.test.")
        for scene in self.track(scenes, "class maps", len(scenes)):
            members = [self.member_path(name) / MAP_FOLDERS["test"] / f"{scene.id}.tif" for name in ensemble.used]
            write_prediction(ensemble, members, scene, maps / f"{scene.id}.tif")
        write_submission(self.experiment.submission.format, self.folder.path, scenes, maps, catalogue.classes)

    def _feature_set(self, catalogue: Catalogue) -> FeatureSet:
        settings = self.experiment.features
        return FeatureSet(catalogue.bands, feature_names(catalogue.bands, settings), settings.formulas)

    def _member_settings(self, name: str) -> TreeSettings | CnnSettings:
        if name not in self.experiment.members:
            raise ExperimentError(f"expected a member among {', '.join(self.experiment.members)}, got {name}.")
        return self.experiment.members[name]

    def _settings(self, *keys: str) -> dict[str, Any]:
        settings: dict[str, Any] = _jsonable(self.experiment.model_dump(mode="json", include=set(keys)))
        return settings

    def _stage(self, name: str, command: str, *rest: Any, **options: Any) -> Stage:
        verb, *arguments = command.split()
        return Stage(name, " ".join(("terrablend", verb, str(self.source), *arguments)), *rest, **options)


def _jsonable(value: Any) -> Any:
    """Return a value as it would be after a round trip through JSON, so that it compares equal to a record."""
    return json.loads(json.dumps(value))
