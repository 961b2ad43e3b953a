"""The stages of a run on a table of the user's own: members that learn from tables, scored on the rows held out."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from data.errors import ExperimentError
from data.files import write_json
from data.records import write_parquet
from data.scenes.catalogue import Catalogue
from ensemble.score.row_scores import score_rows
from features.feature_set import FeatureSet
from features.foreign import catalogue_of_table, find_tables, write_table
from terrablend.branches import branch_of
from terrablend.experiment import TableExperiment
from terrablend.run.base_run import BaseRun
from terrablend.run.run_folder import Stage

__all__ = ["TableRun"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableRun(BaseRun[TableExperiment]):
    """A run on a table: rows in, models and out-of-fold probabilities of the rows out."""

    @property
    def stages(self) -> list[Stage]:
        """Every stage, in order."""
        names = self.experiment.members
        return [self.check, self.features, *map(self.member, names), *map(self.explain, names)]

    @property
    def ensemble(self) -> Stage:
        """Refuse: there are no maps to blend."""
        raise self._no_scenes("ensemble")

    @property
    def submit(self) -> Stage:
        """Refuse: there are no scenes to map."""
        raise self._no_scenes("submit")

    def feature_set(self, catalogue: Catalogue) -> FeatureSet:
        """Return the columns that are learned from: to the boosters they are bands."""
        return FeatureSet(catalogue.bands, catalogue.bands)

    def _no_scenes(self, command: str) -> ExperimentError:
        return ExperimentError(
            f"{self.source}: expected scenes for `terrablend {command}`, got a table. "
            "Its members are scored by `terrablend trees`."
        )

    def _input_files(self) -> list[Path]:
        return find_tables(self.experiment.table, self.experiment.root)

    def _read_catalogue(self) -> tuple[Catalogue, list[str]]:
        experiment = self.experiment
        classes = experiment.label_classes()
        return catalogue_of_table(experiment.table, classes, experiment.root, experiment.seed), []

    def _build_table(self, catalogue: Catalogue) -> None:
        experiment = self.experiment
        write_table(
            experiment.table, catalogue, experiment.root, self.pixels, experiment=experiment.name, seed=experiment.seed
        )

    def _apply_member(self, name: str, catalogue: Catalogue) -> None:
        directory, classes = self.member_path(name), catalogue.classes
        # The same bytes everywhere come from a CPU.
        loading = replace(self.loading(name), device="cpu")
        table = branch_of(loading.settings).table
        assert table is not None
        probas = [f"proba_{one}" for one in classes.names]
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
