"""Read zip archives that anyone may have made: sizes are bounded before memory is asked for, checksums compared."""

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.records import FileKind

__all__ = ["ZIP_ERRORS", "open_zip", "read_array", "require_bounded"]

ZIP_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    struct.error,
    TypeError,
    ValueError,
)
"""What a damaged zip, or what is read of its entries, ends in."""

MOST_ENTRIES = 100_000

MOST_PLAIN = 64 * 2**20
MOST_GROWTH = 100
"""Bytes that any archive may unpack to, and how many times its own size a larger one may: models grow ten times."""

HEADER = re.compile(r"\{'descr': '([<|][biufU]\d{1,4})', 'fortran_order': False, 'shape': \(((?:\d+, ?)*\d*)\), \} *\n")
"""Of an array as numpy writes those of plain numbers and texts; anything else is not read."""


@contextmanager
def open_zip(path: Path, kind: FileKind) -> Iterator[zipfile.ZipFile]:
    """Open a zip once the checksum of each entry agrees; what goes wrong within is the error of its kind, too."""
    try:
        with zipfile.ZipFile(path) as archive:
            require_bounded(archive, path.stat().st_size)
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {damaged} is not that of its content")
            yield archive
    except FileNotFoundError as error:
        raise kind.missing(path) from error
    except ZIP_ERRORS as error:
        raise kind.damaged(path, error) from error


def require_bounded(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive of a size that unpacks to far more than it can hold honestly; raises BadZipFile."""
    entries = archive.infolist()
    total, most = sum(entry.file_size for entry in entries), max(MOST_PLAIN, MOST_GROWTH * size)
    if len(entries) > MOST_ENTRIES or total > most:
        raise zipfile.BadZipFile(f"{len(entries)} entries of {total} bytes in a file of {size} bytes")


def read_array(archive: zipfile.ZipFile, name: str, kind: type[np.generic], dimensions: int) -> NDArray[Any]:
    """Read an array that `numpy.savez` wrote.

    Parameters
    ----------
    archive : ZipFile
        See `open_zip`.
    name : str
    kind : numpy scalar type
    dimensions : int

    Raises
    ------
    ValueError, KeyError
        If there is none, or it is of another kind or size than its header says.
    """
    data = archive.read(f"{name}.npy")
    if data[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError(f"{name} that is no array")
    begin = 10 + int.from_bytes(data[8:10], "little")
    header = HEADER.fullmatch(data[10:begin].decode("ascii"))
    if header is None:
        raise ValueError(f"{name} that is no plain array")
    dtype, shape = np.dtype(header[1]), tuple(int(side) for side in header[2].split(",") if side.strip())
    if dtype.type is not kind or len(shape) != dimensions:
        raise ValueError(f"{name} of kind {dtype} and {len(shape)} dimensions")
    if math.prod(shape) * dtype.itemsize != len(data) - begin:
        raise ValueError(f"{name} of another size than it says")
    return np.frombuffer(data, dtype, offset=begin).reshape(shape).copy()
