"""Refuse vector files that describe other files, queries or addresses: GDAL would read those in their place."""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from data.addresses import is_elsewhere
from data.errors import LabelError
from data.scenes.paths import Archived, Subdataset

__all__ = ["require_own_shapes"]

MARKS = (
    b"OGRVRT", b"VRTDataset", b"OGRWFS", b"WFS_Capabilities", b"OGRCSW", b"gdal_streamed_alg", b"GDAL_WMS",
    b"WMT_MS_Capabilities", b"WMS_Capabilities",
)  # fmt: skip
"""In the beginning of files that GDAL takes for a description: OGR VRT, WFS, CSW, a pipeline of GDAL, WMS."""

HEAD = 2**16
"""Bytes that GDAL looks at, and more."""

MOST_MEMBERS = 1000


def require_own_shapes(path: str) -> None:
    """Refuse a vector file whose shapes are not its own, or that lies elsewhere.

    Raises
    ------
    LabelError
        Naming it.
    """
    if path.lstrip().startswith("<") or "\n" in path or Subdataset.parse(path):
        raise LabelError(f"{path[:200]!r}: expected the name of a file of shapes, got a description. Name a file.")
    if is_elsewhere(path) and not Archived.parse(path):
        raise LabelError(f"{path}: expected a file of shapes on this disk, got an address. Download it, and name it.")
    for head in _heads(path):
        if mark := next((mark for mark in MARKS if mark in head), None):
            raise LabelError(
                f"{path}: expected shapes of its own, got a description of others ({mark.decode()}). Export the shapes "
                "to a GeoPackage, and name that."
            )


def _heads(path: str) -> Iterator[bytes]:
    """Yield the beginnings of a file on this disk, or of all files in an archive."""
    archived = Archived.parse(path)
    file = Path(archived.archive if archived else path)
    try:
        if not file.is_file():
            return
        if file.suffix.lower() == ".gz":
            with gzip.open(file) as packed:
                yield packed.read(HEAD)
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist()[:MOST_MEMBERS]:
                    with archive.open(entry) as stream:
                        yield stream.read(HEAD)
        elif archived:
            with tarfile.open(file) as tar:
                for _, member in zip(range(MOST_MEMBERS), tar, strict=False):
                    if (content := tar.extractfile(member)) is not None:
                        yield content.read(HEAD)
        with file.open("rb") as plain:
            yield plain.read(HEAD)
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error):
        # What is wrong with it GDAL tells.
        return
