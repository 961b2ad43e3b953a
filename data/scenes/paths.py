"""Paths as GDAL takes them: files, files in archives, rasters within files; and which files on disk they stand for."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NamedTuple, Self

from data.addresses import is_elsewhere, is_remote, remote_path, shown_path

__all__ = [
    "SIDE_ENDINGS",
    "Archived",
    "Subdataset",
    "files_on_disk",
    "is_there",
    "lies_below",
    "remote_files",
    "resolve_path",
    "sides_of",
]

SIDES = (".aux.xml", ".msk", ".ovr")
"""Added to the name of a raster: what it does not say itself."""
STEMS = (".hdr", ".prj", ".tfw", ".tifw", ".pgw", ".pngw", ".jgw", ".jpgw", ".wld", ".j2w", ".stx", ".clr", ".shx",
         ".dbf", ".cpg")  # fmt: skip
"""In place of the suffix of a file: georeferencing, headers, the parts of a Shapefile."""

SIDE_ENDINGS = (*SIDES, *STEMS)
"""Endings of files that lie beside others and say more of them."""

SUBDATASET = re.compile(r'(?P<driver>[A-Za-z0-9_]{2,}):(?!//)"?(?P<file>[^":]+)"?(?P<rest>:.+)?')

ENDING = r"\.(?:zip|kmz|tar|tgz|tar\.gz)"
ARCHIVED = (
    re.compile(r"/vsi(?:zip|tar)/\{(?P<archive>(?:[^{}]|\{id\})+)\}/(?P<member>.+)", re.IGNORECASE),
    re.compile(rf"/vsi(?:zip|tar)/(?P<archive>.+?{ENDING})/(?P<member>.+)", re.IGNORECASE),
    re.compile(r"(?:zip|tar)(?:\+file)?://(?P<archive>.+?)!/?(?P<member>.+)", re.IGNORECASE),
    re.compile(rf"(?!/vsi|\w+://)(?P<archive>.+?{ENDING})/(?P<member>.+)", re.IGNORECASE),
)
"""A file in an archive as GDAL names it, with or without braces, as rasterio does, and as a path through it."""


class Archived(NamedTuple):
    """A file in a zip or tar archive."""

    archive: str
    member: str

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """Return the archive and the file in it that a path means; None if it means none.

        >>> Archived.parse("/vsizip/data.zip/img/{id}.tif")
        Archived(archive='data.zip', member='img/{id}.tif')
        """
        match = next((match for form in ARCHIVED if (match := form.fullmatch(path))), None)
        return None if match is None else cls(match["archive"], match["member"])

    @property
    def path(self) -> str:
        """The path that GDAL takes."""
        kind = "zip" if self.archive.lower().endswith((".zip", ".kmz")) else "tar"
        return f"/vsi{kind}/{self.archive}/{self.member}"


class Subdataset(NamedTuple):
    """A raster within a file, as GDAL names it: ``NETCDF:"{id}.nc":ndvi``."""

    driver: str
    file: str
    rest: str

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """Return the driver, the file and the rest of a name; None if a path is none."""
        match = SUBDATASET.fullmatch(path)
        return None if match is None else cls(match["driver"], match["file"], match["rest"] or "")

    @property
    def path(self) -> str:
        """The path that GDAL takes."""
        return f'{self.driver}:"{self.file}"{self.rest}'


def resolve_path(path: str, root: Path) -> str:
    """Return the path of one file, with its folder: what GDAL takes."""
    if subdataset := Subdataset.parse(path):
        return subdataset._replace(file=str(root / subdataset.file)).path
    path = path.removeprefix("file://")
    if archived := Archived.parse(path):
        archive = root / archived.archive
        # A folder may be called like an archive.
        if not archive.is_dir():
            return archived._replace(archive=str(archive)).path
    return path if is_elsewhere(path) else shown_path(root / path)


def lies_below(path: str, root: Path) -> bool:
    """Return whether a file lies in a folder, or in one below it.

    >>> lies_below("s3://bucket/data/a.tif", Path("/vsis3/bucket/data")), lies_below("/data/a.tif", Path("/more"))
    (True, False)
    """
    return remote_path(path).is_relative_to(root)


def sides_of(path: str) -> list[str]:
    """Return the names of files beside one that may say more of it.

    >>> sides_of("s3://bucket/a.tif")[:4]
    ['s3://bucket/a.tif.aux.xml', 's3://bucket/a.tif.msk', 's3://bucket/a.tif.ovr', 's3://bucket/a.hdr']
    """
    folder, slash, name = path.rpartition("/")
    return [*(path + side for side in SIDES), *(folder + slash + PurePath(name).stem + ending for ending in STEMS)]


def is_there(path: str) -> bool:
    """Return whether a file is there; of one that is not on this disk, GDAL is asked when it is read."""
    return all(file.exists() for file in _bases(path))


def files_on_disk(paths: Iterable[str]) -> list[Path]:
    """Return the files that rasters and vector files are read from, with those beside them that say more of them."""
    folders: dict[Path, set[str]] = {}
    found = set[Path]()
    for base in (base for path in paths for base in _bases(path)):
        folder = base.parent
        if folder not in folders:
            folders[folder] = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
        found |= {folder / name for name in folders[folder].intersection(sides_of(base.name))}
        # Zarr and file geodatabases are folders.
        found |= {file for file in base.rglob("*") if file.is_file()} if base.is_dir() else {base}
    return sorted(found)


def remote_files(paths: Iterable[str]) -> list[Path]:
    """Return the files of stores and servers among some, which are asked whether these change.

    Of an address with a query, such as one that is signed for an hour, that cannot be told.
    """
    return sorted({remote_path(path) for path in paths if is_remote(path) and "?" not in path})


def _bases(path: str) -> list[Path]:
    """Return the file that a path needs on this disk, if any."""
    if archived := Archived.parse(path):
        if not Path(archived.archive).is_dir():
            return [Path(archived.archive)]
    elif subdataset := Subdataset.parse(path):
        return [Path(subdataset.file)]
    return [] if is_elsewhere(path) else [Path(path)]
