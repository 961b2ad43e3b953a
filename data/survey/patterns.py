"""Find files by patterns with {id}: in folders, in zip archives, in files of several rasters."""

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.errors import CatalogueError, ExperimentError

__all__ = ["files_on_disk", "find_files", "is_there", "resolve_path"]

LONGEST_ID = 200
"""Bytes of a scene's id: the names of its maps, of at most 255 bytes, hold it."""

SUBDATASET = re.compile(r'(?P<driver>[A-Za-z0-9_]{2,}):(?!//)"?(?P<file>[^":]+)"?(?P<rest>:.+)?')
"""A raster within a file, as GDAL names it: ``NETCDF:"{id}.nc":ndvi``."""

ZIPPED = re.compile(r"/vsizip/\{?(?P<archive>.+?\.(?:zip|kmz))\}?/(?P<member>.+)", re.IGNORECASE)

SIDES = (".aux.xml", ".msk", ".ovr")
"""Added to the name of a raster: what it does not say itself."""
STEMS = (".hdr", ".prj", ".tfw", ".tifw", ".pgw", ".pngw", ".jgw", ".jpgw", ".wld", ".j2w", ".stx", ".clr", ".shx",
         ".dbf", ".cpg")  # fmt: skip
"""In place of the suffix of a file: georeferencing, headers, the parts of a Shapefile."""


def find_files(pattern: str, root: Path) -> dict[str, str]:
    """Return id → path of every file that matches a pattern with one {id}.

    Parameters
    ----------
    pattern : str
        Relative to ``root``, absolute, ``/vsizip/archive.zip/{id}.tif``, or a raster within files, such as
        ``NETCDF:"{id}.nc":ndvi``.
    root : Path

    Raises
    ------
    ExperimentError
        If the pattern has not exactly one {id}, or is of files that cannot be listed.
    CatalogueError
        If no file matches, or the name of one cannot be that of our files.
    """
    if pattern.count("{id}") != 1:
        raise ExperimentError(f"{pattern}: expected a pattern with one {{id}}, which stands for the scene's id.")
    if subdataset := SUBDATASET.fullmatch(pattern):
        files = find_files(subdataset["file"], root)
        return {name: _within(subdataset, path) for name, path in files.items()}
    if "://" in pattern or (pattern.startswith("/vsi") and not ZIPPED.fullmatch(pattern)):
        raise ExperimentError(
            f"{pattern}: expected files that can be listed, to find each {{id}}, got an address. Mount or download "
            "them, or name one file without {id}."
        )
    head, tail = pattern.split("{id}")
    # Braces other than {id} and glob characters in a path mean themselves.
    expression = re.compile(re.escape(head) + r"(?P<id>[^/]+)" + re.escape(tail))
    found = {}
    begins_name = not head or head.endswith("/")
    for name in _list_names(pattern, head, tail, root):
        match = expression.fullmatch(name)
        # Hidden files are none of the user's: one that is being written, or was when its writer was killed.
        if match and not (begins_name and match["id"].startswith(".")):
            path = root / name
            _require_name(match["id"], path)
            # A path would lose the two slashes of an absolute one in an archive.
            found[match["id"]] = name if name.startswith("/vsi") else str(path)
    if not found:
        raise CatalogueError(
            f"{root / pattern}: expected scenes, got no matching file. "
            "Correct root or the pattern in the experiment file."
        )
    return found


def resolve_path(pattern: str, root: Path) -> str:
    """Return the path of one file, with its folder: what GDAL takes."""
    if subdataset := SUBDATASET.fullmatch(pattern):
        return _within(subdataset, str(root / subdataset["file"]))
    return pattern if "://" in pattern or pattern.startswith("/vsi") else str(root / pattern)


def is_there(path: str) -> bool:
    """Return whether a file is there; of one that is not on this disk, GDAL is asked when it is read."""
    return all(file.is_file() or file.is_dir() for file in _bases(path))


def files_on_disk(paths: Iterable[str]) -> list[Path]:
    """Return the files that rasters and vector files are read from, with those beside them that say more of them."""
    folders: dict[Path, set[str]] = {}
    found = set()
    for base in (base for path in paths for base in _bases(path)):
        folder = base.parent
        if folder not in folders:
            folders[folder] = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
        beside = [*(base.name + side for side in SIDES), *(base.stem + ending for ending in STEMS)]
        found |= {folder / name for name in (base.name, *folders[folder].intersection(beside))}
    return sorted(found)


def _bases(path: str) -> list[Path]:
    if zipped := ZIPPED.fullmatch(path):
        return [Path(zipped["archive"])]
    if subdataset := SUBDATASET.fullmatch(path):
        return [Path(subdataset["file"])]
    return [] if "://" in path or path.startswith("/vsi") else [Path(path)]


def _list_names(pattern: str, head: str, tail: str, root: Path) -> Iterator[str]:
    """Yield the names of files that may match, as the pattern writes them."""
    zipped = ZIPPED.fullmatch(pattern)
    if zipped is None:
        yield from _glob(f"{_literal(head)}*{_literal(tail)}", root)
    elif "{id}" in zipped["archive"]:
        before, after = zipped["archive"].split("{id}")
        for archive in _glob(f"{_literal(before)}*{_literal(after)}", root):
            yield f"/vsizip/{archive}/{zipped['member']}"
    else:
        try:
            with zipfile.ZipFile(zipped["archive"]) as archive_file:
                members = archive_file.namelist()
        except (OSError, zipfile.BadZipFile) as error:
            raise CatalogueError(
                f"{zipped['archive']}: expected a zip archive, got: {error}. Correct the pattern."
            ) from error
        for member in members:
            yield f"/vsizip/{zipped['archive']}/{member}"


def _glob(pattern: str, root: Path) -> Iterator[str]:
    anchor = Path(pattern).anchor
    for path in Path(anchor or root).glob(pattern.removeprefix(anchor)):
        yield anchor + path.relative_to(anchor or root).as_posix()


def _within(subdataset: re.Match[str], path: str) -> str:
    return f'{subdataset["driver"]}:"{path}"{subdataset["rest"] or ""}'


def _require_name(scene_id: str, path: Path) -> None:
    """Refuse an id that names of maps, archives and tables cannot hold, before anything is computed."""
    shown = ascii(path.name)
    if not scene_id.isprintable() or re.search(r"[\ud800-\udfff]", str(path)):
        raise CatalogueError(f"{shown[:300]}: expected a name of printable UTF-8, got another. Rename the file.")
    size = len(scene_id.encode())
    if size > LONGEST_ID:
        raise CatalogueError(
            f"{shown[:300]}: expected an id of at most {LONGEST_ID} bytes, got {size}. Rename the file."
        )


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)
