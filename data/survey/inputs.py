"""Tell the files that an experiment names by their content: moved or copied they stay the same."""

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from data.addresses import identify, is_remote, shown_path
from data.errors import RunError
from data.files import hash_file

__all__ = ["InputFile", "load_inputs", "read_inputs"]


class InputFile(NamedTuple):
    """A file as it was when it was last read: while size and time (ns) stay, its content is taken to stay.

    Of a file of a store or a server stands in place of the hash what these say of its version.
    """

    size: int
    modified: int
    sha256: str


INPUT_FILES = TypeAdapter(dict[str, InputFile])


def read_inputs(
    paths: Iterable[Path], root: Path, known: dict[str, InputFile], again: Collection[Path] = ()
) -> dict[str, InputFile]:
    """Return what files are, by path from a root; only those are read that are not known with their size and time.

    Parameters
    ----------
    paths : iterable of Path
        Of this disk, or elsewhere; see `data.addresses`.
    root : Path
    known : dict of str to InputFile
    again : collection of Path
        Files that are read though they are known.

    Raises
    ------
    RunError
        If one cannot be read.
    """
    files = {
        path.relative_to(root).as_posix() if path.is_relative_to(root) else shown_path(path): path for path in paths
    }
    remote = identify([path for path in files.values() if is_remote(path)])

    def read(name: str) -> InputFile:
        if files[name] in remote:
            return InputFile(*remote[files[name]])
        try:
            stat = files[name].stat()
            before = known.get(name)
            if (
                before is not None
                and files[name] not in again
                and (before.size, before.modified) == (stat.st_size, stat.st_mtime_ns)
            ):
                return before
            return InputFile(stat.st_size, stat.st_mtime_ns, hash_file(files[name]))
        except OSError as error:
            raise RunError(f"{files[name]}: expected a file that can be read, got: {error}. Correct it.") from error

    with ThreadPoolExecutor() as pool:
        return dict(zip(sorted(files), pool.map(read, sorted(files)), strict=True))


def load_inputs(path: Path) -> dict[str, InputFile]:
    """Return what is known of files; nothing if there is no record or it is damaged, since all can be read again."""
    try:
        return INPUT_FILES.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}
