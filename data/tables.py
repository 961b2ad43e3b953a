"""Read the tables that users write."""

import csv
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data.csv_cells import NULLS, has_decimal_commas, sniff_separator
from data.errors import TerrablendError

__all__ = ["read_table"]


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
        if path.suffix == ".parquet":
            # Polars panics at some damaged files, and takes texts for UTF-8 that are not.
            with pq.ParquetFile(path) as file:
                table = file.read()
            table.validate(full=True)
            # Names too, which are decoded here.
            return pl.DataFrame(table.replace_schema_metadata().rename_columns(table.column_names))
        separator = separator or sniff_separator(path)
        return pl.read_csv(
            path,
            separator=separator,
            decimal_comma=has_decimal_commas(path, separator),
            null_values=[*NULLS],
            has_header=columns is None,
            new_columns=None if columns is None else [*columns],
            infer_schema_length=None,
            glob=False,
        )
    except (OSError, ValueError, csv.Error, pa.ArrowException, pl.exceptions.PolarsError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise error(f"{path}: expected a CSV or parquet file, got: {reason[:300]}. {advice}") from problem
