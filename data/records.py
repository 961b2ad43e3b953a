"""Our own files, read by one reader each kind: JSON by a model and its checksum, parquet by those of its chunks.

A damaged file is never taken for another: it is an error that names the file and the command that makes it again.
"""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from data.errors import TerrablendError
from data.files import fingerprint, hash_file, replacing, write_json

__all__ = [
    "CHECKSUM",
    "FileKind",
    "Number",
    "parquet_writer",
    "read_footer",
    "read_parquet",
    "read_record",
    "require_hash",
    "write_parquet",
    "write_record",
]

T = TypeVar("T")

_adapters: dict[Any, TypeAdapter[Any]] = {}

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A float; NaN is null in files."""

CHECKSUM = "checksum"
"""Key of a record: the fingerprint of all others."""

TAIL = 8
"""Bytes after a parquet file's footer: its length, and PAR1."""

SEAL = 4 + hashlib.sha256().digest_size
"""Bytes before it: how many column chunks there are, and a SHA-256; before them lies the CRC-32 of each chunk."""


@dataclass(frozen=True)
class FileKind:
    """What a file is, and how it is made.

    Parameters
    ----------
    name : str
        With its article, such as "a catalogue".
    error : type of TerrablendError
        Raised where it is missing or damaged.
    command : str
        Makes it, such as ``terrablend check``.
    advice : str
        What to do where it is damaged; by default to make it again.
    """

    name: str
    error: type[TerrablendError]
    command: str
    advice: str = ""

    def missing(self, path: Path) -> TerrablendError:
        """Return the error that there is no file."""
        return self.error(f"{path}: expected {self.name}, got no such file. Run `{self.command}` first.")

    def damaged(self, path: Path, reason: object) -> TerrablendError:
        """Return the error that a file is not what was written."""
        if isinstance(reason, ValidationError):
            problem = reason.errors(include_url=False)[0]
            reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        lines = str(reason).splitlines() or [type(reason).__name__]
        return self.error(
            f"{path}: expected {self.name}, got a damaged file or another's: {lines[0][:300]}. "
            + (self.advice or f"Make it again: `{self.command} --overwrite`.")
        )


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass or mapping as JSON with a checksum of its content, atomically; NaN as null."""
    values = json.loads(_adapter(type(record)).dump_json(record))
    write_json(path, {**values, CHECKSUM: fingerprint(values)})


def read_record(path: Path, model: type[T], kind: FileKind) -> T:
    """Read a record that `write_record` wrote.

    Parameters
    ----------
    path : Path
    model : type
        Of the record: a dataclass, or a type of mapping.
    kind : FileKind

    Raises
    ------
    TerrablendError
        Of the kind, if there is no file, its content is not what was written, or does not fit the model.
    """
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or CHECKSUM not in values:
            raise ValueError("it has no checksum, as had none of an earlier version")
        if values.pop(CHECKSUM) != fingerprint(values):
            raise ValueError("its checksum is not that of its content")
        record: T = _adapter(model).validate_python(values)
    except FileNotFoundError as error:
        raise kind.missing(path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise kind.damaged(path, error) from error
    return record


def _adapter(model: Any) -> TypeAdapter[Any]:
    """Return what validates a type: made once, which takes longer than to read a record."""
    if model not in _adapters:
        _adapters[model] = TypeAdapter(model)
    return _adapters[model]


def require_hash(path: Path, sha256: str, kind: FileKind) -> None:
    """Refuse a file that is not the one of a hash; raises the error of its kind."""
    if not path.is_file():
        raise kind.missing(path)
    if hash_file(path) != sha256:
        raise kind.damaged(path, "its hash is not the one on record")


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema, *, sync: bool = True, **options: Any) -> Iterator[pq.ParquetWriter]:
    """Open a parquet file for writing, with checksums of all that it holds; see `data.files.replacing`.

    Checksums of pages, which other readers know, leave out the headers of the pages: one lost with its header is
    missed. So ours are of column chunks and of the footer, and lie before the footer, where readers, who go by
    offsets, find nothing.
    """
    with replacing(path, sync) as temporary:
        with pq.ParquetWriter(temporary, schema, write_page_checksum=True, **options) as writer:
            yield writer
        _seal(temporary)


def write_parquet(path: Path, table: pa.Table, **options: Any) -> None:
    """Write a table as parquet with checksums, atomically."""
    with parquet_writer(path, table.schema, **options) as writer:
        writer.write_table(table)


def read_parquet(
    path: Path, kind: FileKind, columns: Sequence[str] | None = None, group: int | None = None
) -> pa.Table:
    """Read a parquet file that `parquet_writer` wrote, or those of some columns that it has, or a row group.

    Raises
    ------
    TerrablendError
        Of the kind, if there is no file, or what is read of it is not what was written.
    """
    footer, checksums = _read_seal(path, kind)
    names = None if columns is None else list(columns)
    try:
        with path.open("rb") as stream:
            for chunk, checksum in zip(_chunks(footer), checksums, strict=True):
                if group in (None, chunk.group) and (names is None or chunk.is_of(names)):
                    stream.seek(chunk.start)
                    if zlib.crc32(stream.read(chunk.size)) != checksum:
                        raise ValueError(f"the checksum of {chunk.column} is not that of its content")
        # `read_table` takes the file for a data set, in which names must differ.
        with pq.ParquetFile(path, metadata=footer) as file:
            return file.read(names) if group is None else file.read_row_group(group, names)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise kind.damaged(path, error) from error


def read_footer(path: Path, kind: FileKind) -> pq.FileMetaData:
    """Read what a parquet file says of itself, once its checksum agrees; raises as `read_parquet` does."""
    return _read_seal(path, kind)[0]


class _Chunk(NamedTuple):
    """Where the rows of a row group lie of a column, or of a part of a nested one."""

    group: int
    column: str
    start: int
    size: int

    def is_of(self, names: Sequence[str]) -> bool:
        """Return whether it is read with some columns."""
        return self.column in names or self.column.partition(".")[0] in names


def _chunks(footer: pq.FileMetaData) -> Iterator[_Chunk]:
    for group in range(footer.num_row_groups):
        columns = footer.row_group(group)
        for column in map(columns.column, range(columns.num_columns)):
            start = column.dictionary_page_offset or column.data_page_offset
            yield _Chunk(group, column.path_in_schema, start, column.total_compressed_size)


def _read_seal(path: Path, kind: FileKind) -> tuple[pq.FileMetaData, tuple[int, ...]]:
    """Return a file's footer and the checksums of its chunks, once the checksum of both agrees."""
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, 2)
            stream.seek(max(end - TAIL, 0))
            size = _footer_size(stream.read())
            stream.seek(max(end - TAIL - size - SEAL, 0))
            count, seal = struct.unpack(f"<I{SEAL - 4}s", stream.read(SEAL))
            stream.seek(max(end - TAIL - size - SEAL - 4 * count, 0))
            checksums, _, footer = stream.read(4 * count), stream.read(SEAL), stream.read(size)
        if hashlib.sha256(checksums + footer).digest() != seal:
            raise ValueError("the checksum of its footer is not that of its content")
        return pq.read_metadata(path), struct.unpack(f"<{count}I", checksums)
    except FileNotFoundError as error:
        raise kind.missing(path) from error
    except (OSError, pa.ArrowException, ValueError, struct.error) as error:
        raise kind.damaged(path, error) from error


def _seal(path: Path) -> None:
    """Put the checksums of a parquet file before its footer."""
    chunks = list(_chunks(pq.read_metadata(path)))
    with path.open("rb+") as stream:
        found = []
        for chunk in chunks:
            stream.seek(chunk.start)
            found.append(zlib.crc32(stream.read(chunk.size)))
        checksums = struct.pack(f"<{len(found)}I", *found)
        end = stream.seek(-TAIL, 2)
        stream.seek(end - _footer_size(stream.read()))
        begin = stream.tell()
        footer = stream.read()
        seal = hashlib.sha256(checksums + footer[:-TAIL]).digest()
        stream.seek(begin)
        stream.write(checksums + struct.pack("<I", len(found)) + seal + footer)


def _footer_size(tail: bytes) -> int:
    if len(tail) < TAIL or tail[4:] != b"PAR1":
        raise ValueError("it has no end")
    size: int = struct.unpack("<I", tail[:4])[0]
    return size
