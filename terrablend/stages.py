"""The stages of a run on scenes, in the order in which one reads what the other wrote."""

from dataclasses import dataclass
from functools import cached_property

from data.catalogue import Catalogue
from data.discovery import SceneFiles, find_scenes, stat_files
from data.errors import SubmissionError
from data.inspection import build_catalogue
from data.members import map_path, write_maps
from data.quicklook import quicklook
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
from terrablend.base_run import BaseRun
from terrablend.experiment import Experiment
from terrablend.run_folder import Stage
from terrablend.stacking import learning_order

__all__ = ["Run"]


@dataclass(frozen=True)
class Run(BaseRun[Experiment]):
    """A run on scenes: from images and labels to maps."""

    @property
    def stages(self) -> list[Stage]:
        """Every stage, in order."""
        table = [self.features] if self.members("trees") else []
        last = [self.submit] if self.experiment.scenes.test is not None else []
        members = map(self.member, learning_order(self.experiment.members))
        return [self.check, *table, *members, *self._explained, self.ensemble, *last]

    @cached_property
    def ensemble(self) -> Stage:
        """Blend the out-of-fold maps, tune thresholds, score, report."""
        reads = (self.check, *map(self.member, self.experiment.members), *self._explained)
        settings = self._settings("ensemble", "seed")
        return self._stage("ensemble", "ensemble", self._ensemble, reads, ("ensemble",), settings)

    @cached_property
    def submit(self) -> Stage:
        """Write the class maps of the test scenes, and the submission."""
        settings = self._settings("submission")
        archive = FORMATS[self.experiment.submission.format].file
        outputs = (archive, "maps") if archive else ("maps",)
        return self._stage("submit", "submit", self._submit, (self.check, self.ensemble), outputs, settings)

    def feature_set(self, catalogue: Catalogue) -> FeatureSet:
        """Return the columns of the pixel table."""
        return FeatureSet(catalogue.bands, feature_names(catalogue.bands, self.experiment.features), self.formulas)

    def load_ensemble(self) -> Ensemble:
        """Return the fitted ensemble."""
        return Ensemble.load(self.folder.path / "ensemble" / "ensemble.json")

    @property
    def _explained(self) -> list[Stage]:
        return [self.explain(name) for name in self.members("trees")]

    @property
    def formulas(self) -> dict[str, str]:
        """The user's own features, by name."""
        return self.experiment.features.formulas

    @cached_property
    def _files(self) -> tuple[list[SceneFiles], list[str]]:
        return find_scenes(self.experiment.scenes, self.experiment.label_classes(), self.experiment.root)

    def _input_files(self) -> list[list[str | int]]:
        return [[*facts] for facts in stat_files(self._files[0])]

    def _read_catalogue(self) -> tuple[Catalogue, list[str]]:
        files, problems = self._files
        classes, settings = self.experiment.label_classes(), self.experiment.scenes
        return build_catalogue(files, problems, settings, classes, self.executor, self.track)

    def _build_table(self, catalogue: Catalogue, feature_set: FeatureSet) -> None:
        build_table(
            catalogue, feature_set, self.experiment.features.sample, self.pixels,
            experiment=self.experiment.name, seed=self.experiment.seed, executor=self.executor, track=self.track,
        )  # fmt: skip

    def _apply_member(self, name: str, catalogue: Catalogue) -> None:
        write_maps(self.load_member(name), catalogue, self.member_path(name), self.track)

    def _ensemble(self) -> None:
        experiment, catalogue, folder = self.experiment, self.load_catalogue(), self.folder.path / "ensemble"
        members = {name: self.member_path(name) for name in experiment.members}
        settings, seed, track = experiment.ensemble, experiment.seed, self.track
        ensemble, evaluations = fit_ensemble(members, catalogue, settings, seed=seed, track=track)
        scores = score_table(evaluations, catalogue.classes.label_names, experiment.task, settings, seed)
        notes = (self.folder.path / "folds.txt").read_text("utf-8").splitlines()
        facts = self.load_facts() if self.members("trees") else None
        explanations = [self.load_explanation(name) for name in self.members("trees")]
        write_report(
            folder / "report.html", ensemble, evaluations, scores, MemberMaps(members), catalogue, settings,
            name=experiment.name, notes=notes, features=facts, explanations=explanations,
            quicklook=quicklook, track=track,
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
            members = [map_path(self.member_path(name), scene) for name in ensemble.used]
            write_prediction(ensemble, members, scene, maps / f"{scene.id}.tif")
        write_submission(self.experiment.submission.format, self.folder.path, scenes, maps, catalogue.classes)
