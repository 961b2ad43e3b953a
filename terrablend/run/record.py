"""What a stage wrote and what it was made from, as its record says, and as it is found."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field

from data.errors import RunError
from data.files import TIMINGS, fingerprint, hash_file, relative_name
from data.maps.qgis_style import STYLE
from data.records import FileKind, read_record, write_record
from data.settings import Settings

__all__ = ["FileRecord", "StageRecord", "changed_files", "list_files", "load_record", "record_files"]


RECORD = FileKind(
    "the record of a stage",
    RunError,
    "terrablend run",
    "Move it away, with the results of the stage, and run the stage again.",
)


class FileRecord(NamedTuple):
    """A file as it was written."""

    size: int
    sha256: str


class StageRecord(Settings):
    """What the record of a stage holds.

    Attributes
    ----------
    state : {"clearing", "unfinished", "done"}
        While what was there before is removed, while the stage works or after it was stopped, and at its end.
    made_from : dict
        All that the result depends on.
    reads : dict of str to str
        By stage that it reads: a hash of all that this one had written.
    files : dict of str to FileRecord
        By path below the run folder: all that the stage wrote; of an unfinished one, what it wrote when it was done.
    """

    state: Literal["clearing", "unfinished", "done"]
    made_from: dict[str, Any]
    reads: dict[str, str] = Field({})
    files: dict[Annotated[str, AfterValidator(relative_name)], FileRecord] = Field({})

    @cached_property
    def wrote(self) -> str:
        """A hash of all that the stage wrote."""
        return fingerprint(self.files)

    def save(self, path: Path) -> None:
        """Write the record."""
        write_record(path, self)


def load_record(path: Path) -> StageRecord:
    """Read the record of a stage; raises RunError if it is damaged."""
    return read_record(path, StageRecord, RECORD)


def list_files(folder: Path, outputs: tuple[str, ...]) -> list[str]:
    """Return the files that lie in outputs, or are outputs; neither hidden ones nor what was measured."""
    found = []
    for output in outputs:
        path = folder / output
        found += [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    names = {file: file.relative_to(folder) for file in found if file.name != TIMINGS}
    return [name.as_posix() for name in names.values() if not any(part.startswith(".") for part in name.parts)]


def record_files(folder: Path, outputs: tuple[str, ...]) -> dict[str, FileRecord]:
    """Return what a stage wrote, as its record keeps it."""
    names = list_files(folder, outputs)
    return dict(zip(names, _measure(folder, names), strict=True))


def changed_files(folder: Path, files: Mapping[str, FileRecord], content: bool = False) -> list[str]:
    """Return the files that are missing or other than they were written: by size, or also by content.

    Styles are left out: QGIS may save them anew.
    """
    files = {name: record for name, record in files.items() if not name.endswith(STYLE)}
    same = [name for name, record in files.items() if _size(folder / name) == record.size]
    if content:
        same = [name for name, now in zip(same, _measure(folder, same), strict=True) if now == files[name]]
    return sorted(files.keys() - same)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _measure(folder: Path, names: list[str]) -> Iterator[FileRecord]:
    def measure(name: str) -> FileRecord:
        path = folder / name
        return FileRecord(path.stat().st_size, hash_file(path))

    # Hashing a file of some size lets other threads work.
    with ThreadPoolExecutor() as pool:
        yield from pool.map(measure, names)
