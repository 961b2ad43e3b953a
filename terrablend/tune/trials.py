"""Score a member with other settings: it is fitted anew, and applied to the fold that it has not seen."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from data.files import fingerprint
from data.maps.geotiff import NODATA, quantise
from data.maps.member import Member
from data.metrics.confusion import plain_prediction, weighted_counts
from data.progress import untracked
from data.scenes.classes import IGNORE
from data.scenes.tags import read_map_label
from ensemble.decide.decision.thresholds import histogram_counts, score_histogram
from ensemble.decide.thresholds.threshold_curves import coarsen
from features.branch import Rows, TableBranch
from terrablend.branches import branch_of
from terrablend.experiment import E, change_experiment
from terrablend.run.base_run import BaseRun
from terrablend.run.run_folder import RunFolder

__all__ = ["Counts", "Trials"]

Counts = NDArray[np.float64]
"""(n_thresholds, Q, n_labels, n_labels + 1): confusion counts of every threshold or, of exclusive classes, of the most
probable one alone."""
Pieces = Iterator[tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float32]]]
"""Label (Q, n), weight (n,) and probability (n, n_classes) of some pixels, or scenes, at a time."""


class Trials(Generic[E]):
    """Score one member with changed settings; what trials have in common is kept between them.

    Parameters
    ----------
    run : BaseRun
        Whose check is done, and for a member of the trees its pixel table.
    name : str
        Of the member.
    directory : Path
        For what a trial needs and nobody later; removed by `close`.
    """

    def __init__(self, run: BaseRun[E], name: str, directory: Path) -> None:
        self.run, self.name, self.directory = run, name, directory
        self.catalogue = run.load_catalogue()
        self._rows: tuple[Any, Rows] | None = None

    def count(self, changes: Mapping[str, Any]) -> Iterator[Counts]:
        """Yield the confusion counts of each fold in turn, as predicted by models that never saw it.

        A member that learns from the pixel table is counted on its rows, which by their weights stand for the full
        scenes; any other on the full scenes.

        Parameters
        ----------
        changes : mapping of str to value
            By dotted key of the experiment file.

        Raises
        ------
        TerrablendError
            If the member cannot be learned so.
        """
        run = replace(self.run, experiment=change_experiment(self.run.experiment, changes, self.run.source))
        settings = run.experiment.members[self.name]
        table = branch_of(settings).table
        if table is not None:
            rows = self._open_rows(self._with_table(run), table)
            for fold in self.catalogue.folds:
                booster, _ = rows.fit(settings, fold, run.experiment.seed)
                yield self._count(
                    (np.atleast_2d(label.T), weight, proba)
                    for label, weight, proba in rows.predict_held_out(booster, fold)
                )
        else:
            directory = self.directory / f"member-{fingerprint(dict(changes))[:16]}"
            for fold in self.catalogue.folds:
                yield self._count(self._predict_scenes(self._train(run, directory, fold), fold))
            shutil.rmtree(directory)

    def close(self) -> None:
        """Remove what the trials needed."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _with_table(self, run: BaseRun[E]) -> BaseRun[E]:
        """Return a run whose folder holds the pixel table of its features, which is built if they are others."""
        if run.folder.state(run.features) == "done":
            return run
        made_from = run.features.made_from
        folder = RunFolder(self.directory / f"features-{fingerprint(made_from)[:16]}")
        if not folder.is_ours:
            # One table at a time: they are large.
            self.close()
            run.folder.copy_stage(run.check, folder)
        changed = replace(run, folder=folder)
        folder.carry_out(changed.features)
        return changed

    def _open_rows(self, run: BaseRun[E], table: TableBranch[Any]) -> Rows:
        training = run.training(self.name)
        opened_by = training.settings.model_dump(mode="json", include=set(table.opened_by))
        if self._rows is None or self._rows[0] != (run.pixels, opened_by):
            # Those opened before go first: they are large.
            self._rows = None
            self._rows = (run.pixels, opened_by), table.open_rows(training)
        return self._rows[1]

    def _train(self, run: BaseRun[E], directory: Path, fold: int) -> Member:
        training = replace(run.training(self.name, [fold]), catalogue=self.catalogue, directory=directory)
        for below in training.settings.stacked_on:
            # Its maps are those of the experiment as it is written, whatever else a trial changes.
            self.run.folder.require(self.run.member(below))
        for below in training.settings.inner:
            self.run.folder.require(self.run.inner(below))
        branch = branch_of(training.settings)
        branch.fit(replace(training, track=untracked))
        return branch.load(replace(run.loading(self.name), directory=directory))

    def _predict_scenes(self, member: Member, fold: int) -> Pieces:
        for scene, window, proba in member.predict(self.catalogue.in_fold(fold), [fold]):
            label = read_map_label(scene, self.catalogue.classes, window)
            pixels = label[0].size
            yield label.reshape(-1, pixels), np.ones(pixels), proba.reshape(-1, pixels).T

    def _count(self, pieces: Pieces) -> Counts:
        classes = self.catalogue.classes
        n_questions, n_labels = classes.n_questions, classes.n_labels
        if classes.exclusive:
            counts = np.zeros((1, 1, n_labels, n_labels + 1))
            for label, weight, proba in pieces:
                prediction = np.where(np.isnan(proba[:, 0]), np.uint8(IGNORE), plain_prediction(proba))
                counts += weighted_counts(label[0], prediction, weight, n_labels)
            return counts
        histograms = np.zeros((n_questions, 2, NODATA + 1))
        for label, weight, proba in pieces:
            for histogram, truth, stored in zip(histograms, label, quantise(proba.T), strict=True):
                histogram += score_histogram(stored, truth, weight)
        # Of many questions every 64th threshold is kept: the counts of all folds are held at once.
        return np.moveaxis(histogram_counts(histograms if n_questions == 1 else coarsen(histograms)), 0, 1)
