"""Read tables as R, Python, GIS and spreadsheets write them: their signs for "no value", separators, decimal commas."""

import csv
import re
from collections import Counter
from itertools import islice
from pathlib import Path

__all__ = ["NULLS", "has_decimal_commas", "read_rows", "sniff_separator"]

NULLS = ("", "NA", "N/A", "#N/A", "None", "null", "NULL", "\\N", "<Null>", "<NULL>", "nan", "NaN", "NAN")
"""Cells without a value, of R, spreadsheets, Python, databases and GIS."""

COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")

SAMPLE = 200
"""Lines that are looked at."""


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


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a small CSV file with a header, cells without a value empty, decimal commas as points.

    Raises
    ------
    OSError, UnicodeDecodeError
        If it cannot be read.
    """
    separator = sniff_separator(path)
    commas = has_decimal_commas(path, separator)
    # A table saved by a spreadsheet starts with a byte order mark.
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return [
            {str(name): _clean(cell, commas) for name, cell in row.items() if isinstance(cell, str)}
            for row in csv.DictReader(stream, delimiter=separator)
        ]


def _clean(cell: str, commas: bool) -> str:
    text = "" if cell.strip() in NULLS else cell.strip()
    return text.replace(",", ".") if commas and COMMA.fullmatch(text) else text
