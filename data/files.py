"""Write files that are either whole or absent, and fingerprint their content."""

import hashlib
import json
import math
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data.errors import MemberError, OutputError

__all__ = [
    "LEFTOVER",
    "TIMINGS",
    "clear_leftovers",
    "fingerprint",
    "hash_file",
    "is_hidden",
    "read_json",
    "relative_name",
    "replacing",
    "require_on_disk",
    "require_replaceable",
    "require_suffix",
    "scene_rng",
    "sync_files",
    "temporary_prefix",
    "write_json",
]

TIMINGS = "timings.json"
"""Name of the files of what was measured: it differs from run to run, as nothing else does."""

LEFTOVER = re.compile(r"\.(writing|plain|members|bundle)-(?P<host>.+)-(?P<process>\d+)-\w+(\.[\w-]+)*")
"""Names that `temporary_prefix` begins."""


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which it replaces on success; else it is removed.

    The temporary name keeps the suffix, since GDAL and others choose a format by it. Content reaches the
    disk before the rename, so whoever finds ``path`` finds it complete, even after a power cut. Without ``sync``
    that holds when the process is killed, but not after a power cut: for many small files, which `sync_files` makes
    sure of together.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=temporary_prefix("writing"), suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if sync:
            sync_files([temporary])
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_prefix(kind: str) -> str:
    """Return what the names of temporary files of a kind begin with: they are hidden, and name their process."""
    return f".{kind}-{_host()}-{os.getpid()}-"


def clear_leftovers(folder: Path, *below: str) -> None:
    """Remove what processes that were killed on this machine left in a folder, beside files and in folders below it."""
    places = [folder / name for name in below]
    for path in (
        *folder.glob(".*"),
        *(path for place in places for path in place.parent.glob(".*")),
        *(path for place in places for path in place.rglob(".*")),
    ):
        match = LEFTOVER.fullmatch(path.name)
        if match and match["host"] == _host() and not _is_alive(int(match["process"])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def require_suffix(path: Path, suffix: str) -> None:
    """Refuse to write an export under another kind of name; raises MemberError."""
    if path.suffix != suffix:
        raise MemberError(f"{path}: expected a file name that ends in {suffix}. Write -o {path.with_suffix(suffix)}.")


def require_on_disk(path: Path, option: str) -> None:
    """Refuse to write to an address; raises OutputError.

    >>> require_on_disk(Path("runs/kelp"), "--run")
    """
    # A path that was an address has lost one of its slashes.
    if re.match(r"\w{2,}:/|/vsi", str(path)):
        raise OutputError(
            f"{option} {path}: expected a folder of this disk, got an address. Write to a local folder, and copy it."
        )


def require_replaceable(path: Path, is_ours: Callable[[Path], bool] = lambda path: False) -> None:
    """Refuse to write where a file is that the same command did not write earlier.

    Raises
    ------
    OutputError
        Naming the file.
    """
    if path.exists() and not is_ours(path):
        raise OutputError(
            f"{path}: expected no such file yet, got one that is not an earlier output of this command, and leaves it "
            "alone. Move it away, or choose another place: -o."
        )


def is_hidden(path: Path) -> bool:
    """Return whether a file is none of the user's, such as one that is being written.

    >>> is_hidden(Path("scenes/.writing-a.tif")), is_hidden(Path(".data/a.tif"))
    (True, False)
    """
    return path.name.startswith(".")


def _host() -> str:
    return re.sub(r"[^\w.]", "_", platform.node()) or "host"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # It is another user's.
        return True
    return True


def relative_name(name: str) -> str:
    """Return the name of a file below a folder; raises ValueError if it leads out of it.

    >>> relative_name("members/unet/fold0.json")
    'members/unet/fold0.json'
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or not name.isprintable():
        raise ValueError(f"expected the name of a file below the folder, got {name[:200]!r}")
    return name


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until the content of files has reached the disk."""
    for path in paths:
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write a value as sorted, indented JSON, atomically; NaN, which JSON has not, as null."""
    with replacing(path) as temporary:
        text = json.dumps(_without_nan(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text("utf-8"))


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a JSON-like value, independent of the order of its keys.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def scene_rng(seed: int, scene_id: str) -> np.random.Generator:
    """Return the random generator of one scene, whatever the order in which scenes are worked on."""
    digest = hashlib.sha256(scene_id.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
