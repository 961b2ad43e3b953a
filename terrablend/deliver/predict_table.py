"""Apply a finished ensemble to the rows of a table that it has never seen."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from data.csv_cells import warn_of_formulas
from data.errors import ExperimentError, TableError
from data.files import replacing, require_replaceable
from data.maps.geotiff import dequantise, quantise
from data.names import list_names
from data.records import write_parquet
from features.foreign import read_features
from terrablend.branches import branch_of
from terrablend.run.table_run import TableRun, proba_columns

__all__ = ["predict_tables"]

logger = logging.getLogger(__name__)

PREDICTIONS = "_predictions"
"""What the names of tables end in: none has the name of what it was made from."""


def predict_tables(run: TableRun, tables: Sequence[Path], out: Path, options: Sequence[str] = ()) -> None:
    """Write each table with the class of every row and its probabilities.

    Parameters
    ----------
    run : TableRun
        With a finished ensemble.
    tables : sequence of Path
        CSV or parquet files with the columns that were learned from; others are handed on.
    out : Path
        Gets ``<name>_predictions`` of the same kind, with the columns ``prediction``, the id of the class, and
        ``proba_<class>``.
    options : sequence of str
        That were given and are for scenes alone: with any it is refused.

    Raises
    ------
    ExperimentError
        If there are such options, or tables of one name.
    TableError
        If a table cannot be read or lacks a column.
    EnsembleError
        If there is no ensemble yet, or the members are others than it was fitted to.
    OutputError
        If a file is there already.
    """
    if options:
        raise ExperimentError(f"{options[0]}: expected scenes to map, got a run on a table. Leave it out.")
    ensemble, catalogue = run.load_ensemble(), run.load_catalogue()
    run.require_models(ensemble)
    classes = ensemble.classes
    ours = ["prediction", *proba_columns(classes)]
    outputs = [out / f"{path.stem}{PREDICTIONS}{path.suffix}" for path in tables]
    if twice := sorted({path.name for path in outputs if outputs.count(path) > 1}):
        raise ExperimentError(
            f"expected tables of distinct names, got {', '.join(twice)} twice. Predict them one by one."
        )
    for path in outputs:
        require_replaceable(path)
    out.mkdir(parents=True, exist_ok=True)
    for path, output in zip(tables, outputs, strict=True):
        rows, features = read_features(path, run.experiment.table, catalogue.bands)
        if taken := [name for name in ours if name in rows.columns]:
            raise TableError(f"{path}: expected no column {list_names(taken)}, which is what is written. Rename it.")
        stored = []
        for name in ensemble.used:
            loading = replace(run.loading(name), device="cpu")
            table = branch_of(loading.settings).table
            assert table is not None
            stored.append(quantise(table.predict_new(loading, features).T))
        blended = ensemble.proba(np.stack(stored))
        prediction = np.array(classes.label_ids)[ensemble.decide(blended)[0]]
        columns = [prediction, *dequantise(ensemble.show(blended))]
        found = rows.with_columns(pl.Series(name, values) for name, values in zip(ours, columns, strict=True))
        if output.suffix == ".parquet":
            write_parquet(output, found.to_arrow())
        else:
            warn_of_formulas(output, (cell for name in found.columns for cell in (name, *_texts(found[name]))))
            with replacing(output) as temporary:
                found.write_csv(temporary, separator=run.experiment.table.separator or ",")
    logger.info("%d tables predicted, in %s", len(tables), out)


def _texts(column: pl.Series) -> list[str]:
    """Return the distinct texts of a column; none of numbers."""
    return column.unique().drop_nulls().to_list() if column.dtype == pl.String else []
