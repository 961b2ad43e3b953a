"""The stages of a run on a table of the user's own: members that learn from tables, and their blend."""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from data.errors import ExperimentError
from data.files import write_json
from data.records import write_parquet
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from ensemble.fitted import fit_rows
from ensemble.report.page import write_report
from ensemble.report.section import ReportSource, RunFacts
from ensemble.rows import LabelledRows, open_rows
from ensemble.score.row_scores import score_rows
from features.feature_set import FeatureSet
from features.foreign import catalogue_of_table, find_tables, write_table
from terrablend.branches import branch_of
from terrablend.experiment import TableExperiment
from terrablend.run.fitted_run import FittedRun
from terrablend.run.run_folder import Stage

__all__ = ["TableRun", "proba_columns"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableRun(FittedRun[TableExperiment]):
    """A run on a table: rows in, models, and out-of-fold probabilities of the rows out."""

    @property
    def stages(self) -> list[Stage]:
        """Every stage, in order."""
        names = self.experiment.members
        return [self.check, self.features, *map(self.member, names), *map(self.explain, names), self.ensemble]

    @cached_property
    def ensemble(self) -> Stage:
        """Blend what members say of the rows held out, tune thresholds, score, report."""
        names = self.experiment.members
        reads = (self.check, self.features, *map(self.member, names), *map(self.explain, names))
        settings = {**self.settings_record("ensemble", "seed"), **self.experiment.tune.record}
        return self.stage("ensemble", "ensemble", self._ensemble, reads, ("ensemble",), settings)

    @property
    def submit(self) -> Stage:
        """Refuse: there are no scenes to map."""
        raise ExperimentError(
            f"{self.source}: expected scenes for `terrablend submit`, got a table. "
            f"Rows are predicted by `terrablend predict {self.folder.path} TABLE`."
        )

    def feature_set(self, catalogue: Catalogue) -> FeatureSet:
        """Return the columns that are learned from: to the boosters they are bands."""
        return FeatureSet(catalogue.bands, catalogue.bands)

    def input_files(self) -> list[Path]:
        """Return every file that is learned from."""
        return find_tables(self.experiment.table, self.experiment.root)

    def read_catalogue(self) -> tuple[Catalogue, list[str]]:
        """Read everything once; return the catalogue, without folds, and what is odd in it."""
        experiment = self.experiment
        classes = experiment.label_classes()
        return catalogue_of_table(experiment.table, classes, experiment.root, experiment.seed), []

    def build_table(self, catalogue: Catalogue) -> None:
        """Write the table."""
        experiment = self.experiment
        write_table(
            experiment.table, catalogue, experiment.root, self.pixels, experiment=experiment.name, seed=experiment.seed
        )

    def apply_member(self, name: str, catalogue: Catalogue) -> None:
        """Apply a trained member to all that it has not learned from."""
        directory, classes = self.member_path(name), catalogue.classes
        # The same bytes everywhere come from a CPU.
        loading = replace(self.loading(name), device="cpu")
        table = branch_of(loading.settings).table
        assert table is not None
        probas = proba_columns(classes)
        frames = []
        for fold, rows, proba in table.predict_rows(loading, catalogue, self.pixels):
            columns = {
                "group": np.array(rows.scenes)[rows.scene],
                "row": rows.row,
                "fold": np.full(len(rows), fold, np.int16),
                "label": rows.label,
                "weight": rows.weight,
            }
            frames.append(pl.DataFrame(columns | dict(zip(probas, proba.T, strict=True))))
        held_out = pl.concat(frames).sort("row")
        write_parquet(directory / "oof.parquet", held_out.to_arrow())
        proba = held_out.select(probas).to_numpy()
        label, weight, fold_of = (held_out[column].to_numpy() for column in ("label", "weight", "fold"))
        scores = score_rows(label, proba, weight, fold_of, classes)
        for line in scores.lines():
            logger.info("%s, held out: %s", name, line)
        write_json(directory / "scores.json", {"pooled": scores.pooled, "by_fold": scores.by_fold})

    def _ensemble(self) -> None:
        experiment, catalogue, folder = self.experiment, self.load_catalogue(), self.folder.path / "ensemble"
        held_out, rows = self._held_out(catalogue.classes)
        branches = {name: member.branch for name, member in experiment.members.items()}
        maps, of_rows = open_rows(rows, catalogue.classes)
        fitted = fit_rows(
            maps,
            of_rows,
            experiment.ensemble,
            seed=experiment.seed,
            branches=branches,
            caveats=experiment.tune.caveats,
            track=self.track,
        )
        write_report(
            folder / "report.html",
            ReportSource(fitted, self._run_facts(), maps, of_rows, experiment.ensemble, track=self.track),
        )
        proba, label = fitted.decide_rows(maps, rows.fold)
        columns = {name: pl.Series(of) for name, of in zip(proba_columns(catalogue.classes), proba, strict=True)}
        prediction = pl.Series(np.array(catalogue.classes.label_ids)[label[0]])
        write_parquet(folder / "oof.parquet", held_out.with_columns(**columns, prediction=prediction).to_arrow())
        models = self.hash_models(experiment.members)
        replace(fitted, ensemble=replace(fitted.ensemble, models=models)).save(folder, of_rows)

    def _held_out(self, classes: Classes) -> tuple[pl.DataFrame, LabelledRows]:
        """Return the rows, and what members say of them out of fold."""
        frames = {name: pl.read_parquet(self.member_path(name) / "oof.parquet") for name in self.experiment.members}
        probas = proba_columns(classes)
        held_out = next(iter(frames.values())).drop(probas)
        weight = held_out["weight"].to_numpy()
        rows = LabelledRows(
            {name: frame.select(probas).to_numpy() for name, frame in frames.items()},
            held_out["label"].to_numpy(),
            held_out["group"].to_list(),
            held_out["fold"].to_numpy(),
            # Rows that all count the same are counted.
            None if (weight == weight[0]).all() else weight,
        )
        return held_out, rows

    def _run_facts(self) -> RunFacts:
        return RunFacts(
            self.experiment.name,
            None,
            unit="rows",
            notes=(self.folder.path / "folds.txt").read_text("utf-8").splitlines(),
            features=self.load_facts(),
            explanations=[self.load_explanation(name) for name in self.experiment.members],
        )


def proba_columns(classes: Classes) -> list[str]:
    """Return the names of the columns of probabilities, one a class."""
    return [f"proba_{name}" for name in classes.names]
