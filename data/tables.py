"""Read the tables that users write."""

import csv
from collections.abc import Collection, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data.addresses import copied_here, shown_path
from data.csv_cells import NULLS, has_decimal_commas, read_rows, sniff_separator
from data.errors import TerrablendError

__all__ = ["read_table", "read_texts"]


def read_table(
    path: Path,
    error: type[TerrablendError],
    advice: str,
    separator: str | None = None,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Read a CSV or parquet file.

    Parameters
    ----------
    path : Path
        On this disk, or elsewhere; see `data.addresses`.
    error : type of TerrablendError
        Raised if it cannot be read.
    advice : str
        What to do then, a sentence.
    separator : str, optional
        Of a CSV file; by default what its first line is separated by.
    columns : sequence of str, optional
        Names of the columns of a CSV file without a header.
    """
    try:
        with copied_here(path) as here:
            if here.suffix == ".parquet":
                # Polars panics at some damaged files, and takes texts for UTF-8 that are not.
                with pq.ParquetFile(here) as file:
                    table = file.read()
                table.validate(full=True)
                # Names too, which are decoded here.
                return pl.DataFrame(table.replace_schema_metadata().rename_columns(table.column_names))
            separator = separator or sniff_separator(here)
            return pl.read_csv(
                here,
                separator=separator,
                decimal_comma=has_decimal_commas(here, separator),
                null_values=[*NULLS],
                has_header=columns is None,
                new_columns=None if columns is None else [*columns],
                infer_schema_length=None,
                glob=False,
            )
    except (OSError, ValueError, csv.Error, pa.ArrowException, pl.exceptions.PolarsError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise error(f"{shown_path(path)}: expected a CSV or parquet file, got: {reason[:300]}. {advice}") from problem


def read_texts(
    path: Path, texts: Collection[str], error: type[TerrablendError], advice: str
) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Return the columns and the rows of a CSV or parquet file, values as texts.

    Parameters
    ----------
    path : Path
    texts : collection of str
        Columns of ids; see `data.csv_cells.read_rows`, which says what is raised of a CSV file.
    error : type of TerrablendError
        Raised if a parquet file cannot be read.
    advice : str
        What to do then, a sentence.
    """
    if path.suffix.lower() == ".parquet":
        table = read_table(path, error, advice)
        rows = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in table.to_dicts()]
        return tuple(table.columns), rows
    found = read_rows(path, texts, decimals=False)
    return found.columns, [*found.cells]
