"""Read tables as R, Python, GIS and spreadsheets write them: their signs for "no value", separators, decimal commas."""

import csv
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from data.addresses import copied_here

__all__ = [
    "NULLS",
    "Rows",
    "has_decimal_commas",
    "is_formula",
    "quote_formula",
    "read_rows",
    "sniff_separator",
    "warn_of_formulas",
]

logger = logging.getLogger(__name__)

NULLS = ("", "NA", "N/A", "#N/A", "None", "null", "NULL", "\\N", "<Null>", "<NULL>", "nan", "NaN", "NAN")
"""Cells without a value, of R, spreadsheets, Python, databases and GIS."""

COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")

SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""What formulas begin with, in one spreadsheet or another."""

NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?|[+-](inf|nan)")

SAMPLE = 200
"""Lines that are looked at."""


def is_formula(cell: object) -> bool:
    """Return whether a spreadsheet would take a text for a formula, and run what it says.

    >>> is_formula("=1+1"), is_formula("@SUM(A1)"), is_formula("-1.5"), is_formula("a=b")
    (True, True, False, False)
    """
    return isinstance(cell, str) and cell.startswith(SIGNS) and not NUMBER.fullmatch(cell)


def quote_formula(cell: object) -> object:
    """Return a cell with an apostrophe before what a spreadsheet would take for a formula.

    >>> quote_formula("=1+1"), quote_formula("kelp"), quote_formula(-2)
    ("'=1+1", 'kelp', -2)
    """
    return f"'{cell}" if is_formula(cell) else cell


def warn_of_formulas(path: Path, cells: Iterable[object]) -> None:
    """Warn of a table whose cells must stay as they are, where a spreadsheet would take some for formulas."""
    found = [str(cell) for cell in cells if is_formula(cell)]
    if found:
        logger.warning(
            "%s: %d cells begin like formulas, such as %r: open it in a spreadsheet as text alone, or rename them.",
            path,
            len(found),
            found[0][:60],
        )


def sniff_separator(path: Path) -> str:
    """Return what separates the columns of a CSV file, by its first line: a semicolon, a tab or a comma.

    Raises
    ------
    OSError, UnicodeDecodeError
        If it cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        head = stream.readline()
    counts = Counter(sign for sign in head if sign in ";\t,")
    return counts.most_common(1)[0][0] if counts else ","


def has_decimal_commas(path: Path, separator: str) -> bool:
    """Return whether numbers of a CSV file are written with a comma, as no file can that is separated by commas.

    Raises
    ------
    OSError, UnicodeDecodeError
        If it cannot be read.
    """
    if separator == ",":
        return False
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(islice(stream, SAMPLE), delimiter=separator)
        return any(COMMA.fullmatch(cell) for row in rows for cell in row)


class Rows(NamedTuple):
    """The rows of a CSV file.

    Parameters
    ----------
    columns : tuple of str
    lines : tuple of int
        Of the file, that each row ends on.
    cells : tuple of dict
        Column → text of each row; of a row that is cut short only the first columns.
    """

    columns: tuple[str, ...]
    lines: tuple[int, ...]
    cells: tuple[dict[str, str], ...]


def read_rows(path: Path, texts: Collection[str] = (), decimals: bool = True) -> Rows:
    """Read the rows of a small CSV file with a header, cells without a value empty, decimal commas as points.

    Parameters
    ----------
    path : Path
        On this disk, or elsewhere; see `data.addresses`.
    texts : collection of str
        Columns, such as ids, whose cells are what is written there though it looks like no value. Of a name in small
        letters, those in large ones too.
    decimals : bool
        Whether a comma may stand for a decimal point.

    Raises
    ------
    OSError, UnicodeDecodeError, csv.Error
        If it cannot be read.
    """
    with copied_here(path) as here:
        return _read_rows(here, texts, decimals)


def _read_rows(path: Path, texts: Collection[str], decimals: bool) -> Rows:
    separator = sniff_separator(path)
    commas = decimals and has_decimal_commas(path, separator)
    # A table saved by a spreadsheet starts with a byte order mark.
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=separator)
        try:
            columns = tuple(name.strip() for name in next(reader, ()))
            rows = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise csv.Error(f"line {reader.line_num}: {error}") from error
    cells = tuple(
        {
            name: cell.strip() if {name, name.lower()} & {*texts} else _clean(cell, commas)
            for name, cell in zip(columns, row, strict=False)
        }
        for _, row in rows
    )
    return Rows(columns, tuple(line for line, _ in rows), cells)


def _clean(cell: str, commas: bool) -> str:
    text = "" if cell.strip() in NULLS else cell.strip()
    return text.replace(",", ".") if commas and COMMA.fullmatch(text) else text
