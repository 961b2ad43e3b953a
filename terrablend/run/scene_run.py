"""The stages of a run on scenes, in the order in which one reads what the other wrote."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from data.errors import ExperimentError, SubmissionError, TerrablendError
from data.files import fingerprint
from data.folds.borders import shape_pairs, trim_labels
from data.folds.leakage import LeakageReport, leakage_warning
from data.folds.plan import plan_folds
from data.folds.shared_ground import SharedGround, default_bands, find_shared_ground
from data.maps.store import LIGHT, open_store, worth_workers, write_maps
from data.pages.quicklook import quicklook
from data.progress import untracked
from data.scenes.catalogue import LABELS, Catalogue
from data.scenes.control import Control
from data.scenes.footprints import has_footprint
from data.scenes.paths import lies_below
from data.scenes.rasters import keep_open
from data.scenes.scene import LabelFile, Scene
from data.settings import FoldSettings
from data.survey.discovery import SceneFiles, find_scenes, list_paths
from data.survey.inspection import build_catalogue, read_label_statistics
from data.survey.scene_list import read_list
from data.vectors.drawn import DrawnLabel
from data.workers import map_ordered
from ensemble.decide.decision.cleaning import Masks
from ensemble.ensemble import Ensemble
from ensemble.fitted import fit_and_measure
from ensemble.maps import MemberFolder, open_maps
from ensemble.predict import predict_tags, write_prediction
from ensemble.report.page import write_report
from ensemble.report.section import ReportSource, RunFacts
from ensemble.score.scores import read_scores
from ensemble.submit.predictions import Predictions
from ensemble.submit.submission import FORMATS, require_task, write_submission
from ensemble.submit.submission_log import describe_submission, log_submission
from features.applicability import ScopedMeasure
from features.branch import Branch, Training
from features.feature_set import FeatureSet
from features.scene_features import SceneFeatureSet
from features.scene_table import build_scene_table, scene_features
from features.settings import feature_names
from features.table import Columns, build_table
from features.unlike import Unlike, find_unlike
from terrablend.experiment import Experiment
from terrablend.experiment.stacking import learning_order
from terrablend.run.fitted_run import FittedRun
from terrablend.run.hidden_labels import hide_labels
from terrablend.run.masks import rule_masks
from terrablend.run.run_folder import RunFolder, Stage
from terrablend.run.teaching import read_taught, teach_fold

__all__ = ["Run"]

EXTRA_MAPS = ("proba", "uncertainty", "sets")
"""Folders of what a submission may hold beside class maps."""


@dataclass(frozen=True)
class Run(FittedRun[Experiment]):
    """A run on scenes: from images and labels to maps."""

    @property
    def stages(self) -> list[Stage]:
        """Every stage, in order."""
        table = [self.features] if self.of_table else []
        last = [self.submit] if self.experiment.scenes.test is not None else []
        members = [stage for name in self.members() for stage in (*self.below(name), self.member(name))]
        # Two members can stand on the same layer.
        once = {stage.name: stage for stage in members}
        return [self.check, *table, *once.values(), *self._explained, self.ensemble, *last]

    def members(self, suits: Callable[[Branch[Any]], bool] = lambda branch: True) -> list[str]:
        """Return the names of members that suit, in the order in which they are learned: pupils last."""
        return sorted(super().members(suits), key=lambda name: name in self._pupils)

    def below(self, name: str) -> list[Stage]:
        """Return the stages of what a member learns from and is no member itself."""
        return [*super().below(name), *([self.teach] if name in self._pupils else ())]

    def member_inputs(self, name: str) -> tuple[Stage, ...]:
        """Return the stages whose results a member learns from."""
        return (*super().member_inputs(name), *((self.teach,) if name in self._pupils else ()))

    def training(self, name: str, folds: Sequence[int] | None = None) -> Training[Any]:
        """Return what fitting a member takes."""
        training = super().training(name, folds)
        return replace(training, taught=partial(read_taught, self)) if name in self._pupils else training

    @property
    def _pupils(self) -> Sequence[str]:
        """Members that scenes without labels teach too."""
        return self.experiment.self_train.pupils if self.experiment.self_train else ()

    @cached_property
    def teach(self) -> Stage:
        """Label scenes without labels by what the teachers say, for the models of each fold without that fold."""
        assert self.experiment.self_train is not None
        table = (self.features,) if self._taught_by_rows else ()
        reads = (self.check, *table, *map(self.member, self.experiment.self_train.teachers))
        settings = self.settings_record("self_train", "ensemble", "seed")
        return self.stage("teach", "run", self._teach, reads, ("taught",), settings)

    @property
    def _taught_by_rows(self) -> bool:
        return any(name in self.of_table for name in self._pupils)

    def _teach(self) -> None:
        settings, folds = self.experiment.self_train, self.load_catalogue().folds
        assert settings is not None
        if len(folds) < 3:
            raise ExperimentError(
                f"self_train: expected 3 folds or more, since each fold's teachers are decided on the others, got "
                f"{len(folds)}. Raise folds.count, or leave self_train out."
            )
        for fold in folds:
            teach_fold(self, settings, fold, self._taught_by_rows)

    @cached_property
    def ensemble(self) -> Stage:
        """Blend the out-of-fold maps, tune thresholds, score, report."""
        reads = (self.check, *map(self.member, self.experiment.members), *self._explained)
        # Formulas can be in the conditions of rules.
        formulas = {"formulas": self.formulas} if self.experiment.ensemble.rules else {}
        settings = {**self.settings_record("ensemble", "seed"), **formulas, **self.experiment.tune.record}
        return self.stage("ensemble", "ensemble", self._ensemble, reads, ("ensemble",), settings)

    @cached_property
    def submit(self) -> Stage:
        """Write the class maps of the test scenes, and the submission."""
        settings = self.settings_record("submission")
        outputs = tuple(dict.fromkeys((FORMATS[self.experiment.submission.format].file, "maps", *EXTRA_MAPS)))
        return self.stage("submit", "submit", self._submit, (self.check, self.ensemble), outputs, settings)

    def feature_set(self, catalogue: Catalogue) -> Columns:
        """Return the columns of the table: of pixels, or of scenes that have tags."""
        return self._scene_features(catalogue) if self.has_tags else self.pixel_features(catalogue)

    def applicable_member(self, ensemble: Ensemble) -> str | None:
        """Return the member by whose columns the ensemble's area of applicability is told: its first of the table."""
        if self.has_tags:
            return None
        return next((name for name in ensemble.used if name in self.of_table), None)

    @property
    def _explained(self) -> list[Stage]:
        return [self.explain(name) for name in self.of_table]

    @property
    def of_table(self) -> list[str]:
        """Names of the members that learn from the table, and can be explained by its columns."""
        return self.members(lambda branch: branch.reads_table)

    @property
    def formulas(self) -> dict[str, str]:
        """The user's own features, by name."""
        return self.experiment.features.formulas

    @property
    def masks(self) -> Masks:
        """Where the conditions of the ensemble's rules hold."""
        return rule_masks([rule.where for rule in self.experiment.ensemble.rules], self.formulas)

    @cached_property
    def files(self) -> tuple[list[SceneFiles], list[str]]:
        """The files of all scenes that the experiment names, and a line for each problem of them."""
        try:
            return find_scenes(self.experiment.scenes, self.experiment.label_classes(), self.experiment.root)
        except TerrablendError as error:
            raise type(error)(f"{self.file}: {error}") from error

    @cached_property
    def _digested(self) -> set[Path]:
        images = {Path(path) for files in self.files[0] for image in files.images for path in image.paths}
        return images | {Path(files.label.path) for files in self.files[0] if isinstance(files.label, LabelFile)}

    @cached_property
    def folds(self) -> FoldSettings:
        """How the training scenes are split; those of a list are grouped by its column of groups, if it has one."""
        folds, table = self.experiment.folds, self.experiment.scenes.train.list
        if table is None or folds.group.file or "group" not in read_list(self.experiment.root / table).columns:
            return folds
        return folds.model_copy(update={"group": folds.group.model_copy(update={"file": table, "column": "group"})})

    def input_files(self) -> list[Path]:
        """Return every file that is learned from."""
        files = [self.folds.group.file, self.folds.file, *(part.list for part in self.experiment.scenes.parts)]
        tables = [self.experiment.root / file for file in files if file is not None]
        return list_paths(self.files[0]) + list(dict.fromkeys(tables))

    def load_catalogue(self) -> Catalogue:
        """Return the catalogue that `check` wrote, its files where they are now."""
        catalogue, root = super().load_catalogue(), self.experiment.root
        if all(lies_below(scene.images[0].path, root) for scene in catalogue.scenes):
            return catalogue
        moved = {(files.split, files.id): files for files in self.files[0]}
        scenes = tuple(
            replace(
                scene,
                images=tuple(
                    replace(image, path=to.path, decoding=to.decoding, control=_moved(image.control, scene, files))
                    for image, to in zip(scene.images, files.images, strict=True)
                ),
                label=self._moved_label(scene, files),
            )
            for scene in catalogue.scenes
            for files in (moved[scene.split, scene.whole.id],)
        )
        return replace(catalogue, scenes=scenes)

    def _moved_label(self, scene: Scene, files: SceneFiles) -> LabelFile | None:
        # Labels of blocks and drawn labels are ours, and lie in the run folder.
        if scene.label is None or scene.block is not None or not isinstance(files.label, LabelFile):
            return scene.label
        return replace(scene.label, path=files.label.path, control=_moved(scene.label.control, scene, files))

    @property
    def _drawn(self) -> dict[str, DrawnLabel]:
        """The drawn labels of training scenes."""
        labels = {files.id: files.label for files in self.files[0] if files.split == "train"}
        return {name: label for name, label in labels.items() if isinstance(label, DrawnLabel)}

    def deal_folds(self, catalogue: Catalogue) -> tuple[Catalogue, LeakageReport]:
        """Return the catalogue with groups and folds, without labels that a fold must not see, or are hidden."""
        folds, root, seed, shared = self.folds, self.experiment.root, self.experiment.seed, self._find_shared(catalogue)
        field = folds.group.field
        together = [] if field is None else [*shape_pairs(catalogue.split("train"), self._drawn, field)]
        catalogue, report = plan_folds(catalogue, folds, root, seed, self.track, together, shared)
        catalogue = self._trim(catalogue)
        return (catalogue if folds.labels == 1 else hide_labels(catalogue, folds.labels, seed)), report

    def _trim(self, catalogue: Catalogue) -> Catalogue:
        folds = self.experiment.folds
        changed = trim_labels(catalogue.split("train"), self._drawn, folds.group.field, folds.gap)
        statistics = dict(catalogue.statistics)
        for scene in changed:
            known = statistics["train", scene.id]
            statistics["train", scene.id] = read_label_statistics(scene, known, catalogue.classes)
        return replace(catalogue, statistics=statistics)

    def _find_shared(self, catalogue: Catalogue) -> SharedGround | None:
        content = self.experiment.folds.group.content
        if content == "none":
            return None
        if not isinstance(content, str):
            return find_shared_ground(catalogue.scenes, content, self.executor, self.track)
        unplaced = [place for place, scene in enumerate(catalogue.scenes) if not has_footprint(scene)]
        if len(unplaced) < 2:
            return None
        scenes = [catalogue.scenes[place] for place in unplaced]
        return find_shared_ground(scenes, default_bands(scenes), self.executor, self.track).numbered(unplaced)

    def read_catalogue(self) -> tuple[Catalogue, list[str]]:
        """Read everything once; return the catalogue, without folds, and what is odd in it."""
        files, problems = self.files
        classes, settings = self.experiment.label_classes(), self.experiment.scenes
        labels = self.folder.path / LABELS
        return build_catalogue(files, problems, settings, classes, self.executor, self.track, labels=labels)

    def find_unlike(self, catalogue: Catalogue) -> Sequence[Unlike]:
        """Return how much of the scenes to be mapped is unlike the training scenes."""
        if self.has_tags:
            return ()
        return find_unlike(catalogue, self.pixel_features(catalogue), seed=self.experiment.seed, track=self.track)

    def pixel_features(self, catalogue: Catalogue) -> FeatureSet:
        """Return the columns of the table of pixels."""
        names = feature_names(catalogue.bands, self.experiment.features, catalogue.decoded)
        return FeatureSet(catalogue.bands, names, self.formulas)

    def _scene_features(self, catalogue: Catalogue) -> SceneFeatureSet:
        settings, seed = self.experiment.features, self.experiment.seed
        return scene_features(catalogue, settings, self.pixels, seed=seed, executor=self.executor)

    def build_table(self, catalogue: Catalogue) -> None:
        """Write the table."""
        experiment = self.experiment
        options: dict[str, Any] = {"experiment": experiment.name, "executor": self.executor, "track": self.track}
        if self.has_tags:
            build_scene_table(catalogue, self._scene_features(catalogue), self.pixels, **options)
        else:
            sample, feature_set = experiment.features.sample, self.pixel_features(catalogue)
            build_table(catalogue, feature_set, sample, self.pixels, seed=experiment.seed, **options)

    def apply_member(self, name: str, catalogue: Catalogue) -> None:
        """Apply a trained member to all that it has not learned from."""
        settings = self.member_settings(name)
        store = open_store(self.member_path(name).resolve(), catalogue.classes, settings.planes)
        if not settings.decides:
            unlearned = tuple(scene for scene in catalogue.scenes if scene.split != "train")
            catalogue = replace(catalogue, scenes=unlearned)
        load = None if self.has_tags else self.loader(name)
        write_maps(self.load_member(name), catalogue, store, self.track, self.executor, load)

    @keep_open()
    def _ensemble(self) -> None:
        experiment, catalogue, folder = self.experiment, self.load_catalogue(), self.folder.path / "ensemble"
        members = {
            name: MemberFolder(self.member_path(name).resolve(), member.branch, member.decides)
            for name, member in experiment.members.items()
        }
        fitted = fit_and_measure(
            members,
            catalogue,
            experiment.ensemble,
            seed=experiment.seed,
            caveats=[*leakage_warning(catalogue), *experiment.tune.caveats],
            masks=self.masks,
            executor=self.executor,
            track=self.track,
        )
        paths = {name: members[name].path for name in fitted.ensemble.members}
        maps = open_maps(paths, catalogue.classes, executor=self.executor)
        source = ReportSource(
            fitted,
            self._run_facts(fitted.ensemble),
            maps,
            catalogue,
            experiment.ensemble,
            masks=self.masks,
            track=self.track,
        )
        write_report(folder / "report.html", source)
        models = self.hash_models(learning_order(experiment.members))
        replace(fitted, ensemble=replace(fitted.ensemble, models=models)).save(folder, catalogue)

    def _run_facts(self, ensemble: Ensemble) -> RunFacts:
        member = self.applicable_member(ensemble)
        return RunFacts(
            self.experiment.name,
            quicklook,
            unit="scenes" if self.has_tags else "px",
            notes=(self.folder.path / "folds.txt").read_text("utf-8").splitlines(),
            features=self.load_facts() if self.of_table else None,
            explanations=[self.load_explanation(name) for name in self.of_table],
            applicability=None if member is None else ScopedMeasure(self.load_applicability(member), self.formulas),
        )

    def _submit(self) -> None:
        catalogue, ensemble, settings = self.load_catalogue(), self.load_ensemble(), self.experiment.submission
        require_task(settings.format, catalogue.classes)
        scenes = catalogue.split("test")
        if not scenes:
            raise SubmissionError("expected test scenes to map, got none. Name their files under scenes.test.")
        folder = self.folder.path
        maps = open_maps({name: self.member_path(name) for name in ensemble.used}, catalogue.classes)
        if self.has_tags:
            tags = predict_tags(ensemble, maps, scenes)
        else:
            tags = {}
            self._map_scenes(scenes)
        predictions = Predictions(scenes, catalogue.classes, folder / "maps", tags, settings.columns)
        path = write_submission(settings.format, folder, predictions)
        scores = read_scores(folder / "ensemble" / "scores.parquet")
        made_from = fingerprint(self.submit.made_from)
        submitted = describe_submission(settings.format, path, ensemble, scores, made_from)
        log_submission(folder / "submissions.csv", submitted)

    def _map_scenes(self, scenes: Sequence[Scene]) -> None:
        """Write the class maps of test scenes, and what else is asked for."""
        run = replace(self, folder=RunFolder(self.folder.path.resolve()), executor=None, track=untracked)
        mapped = map_ordered(partial(_map_scene, run), scenes, worth_workers(self.executor, scenes, LIGHT))
        for _ in self.track(mapped, "class maps", len(scenes)):
            pass


def _map_scene(run: Run, scene: Scene) -> None:
    """Write the class map of a test scene, and what else is asked for."""
    folder, ensemble, settings = run.folder.path, run.load_ensemble(), run.experiment.submission
    wanted = settings.proba or settings.format == "probabilities", settings.uncertainty, settings.sets
    proba, uncertainty, sets = (
        folder / name / f"{scene.id}.tif" if want else None for name, want in zip(EXTRA_MAPS, wanted, strict=True)
    )
    maps = open_maps({name: run.member_path(name) for name in ensemble.used}, ensemble.classes)
    class_map = folder / "maps" / f"{scene.id}.tif"
    write_prediction(ensemble, maps, scene, class_map, proba, uncertainty, run.masks, sets)


def _moved(control: Control | None, scene: Scene, files: SceneFiles) -> Control | None:
    """Return what places a file of a scene, whose files are now elsewhere."""
    if control is None:
        return None
    paths = {image.path: moved_to.path for image, moved_to in zip(scene.images, files.images, strict=True)}
    if scene.label is not None and isinstance(files.label, LabelFile):
        paths.setdefault(scene.label.path, files.label.path)
    return replace(control, path=paths.get(control.path, control.path), heights=files.framing.heights)
