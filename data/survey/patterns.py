"""Find files by patterns with {id}: in folders, in archives, in files of several rasters."""

import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from data.addresses import is_elsewhere, list_store, shown_path
from data.errors import CatalogueError, ExperimentError
from data.scenes.paths import SIDE_ENDINGS, Archived, Subdataset, sides_of

__all__ = ["find_files", "require_name"]

LISTED = re.compile(r"(s3|gs|az)://[^/]")
"""Folders of stores, with the name of the bucket."""

LONGEST_ID = 200
"""Bytes of a scene's id: the names of its maps, of at most 255 bytes, hold it."""


def find_files(pattern: str, root: Path) -> dict[str, str]:
    """Return id → path of every file that matches a pattern with {id}.

    Parameters
    ----------
    pattern : str
        Relative to ``root``, absolute, in an object store (``s3://bucket/{id}.tif``, gs://, az://), through an archive
        (``/vsizip/archive.zip/{id}.tif``), or a raster within files, such as ``NETCDF:"{id}.nc":ndvi``. Where {id}
        stands twice, as in ``{id}/{id}_B04.tif``, it is the same.
    root : Path

    Raises
    ------
    ExperimentError
        If the pattern has no {id}, or is of files that cannot be listed.
    CatalogueError
        If no file matches, or the name of one cannot be that of our files.
    """
    if "{id}" not in pattern:
        raise ExperimentError(f"{pattern}: expected a pattern with {{id}}, which stands for the scene's id.")
    if subdataset := Subdataset.parse(pattern):
        files = find_files(subdataset.file, root)
        return {
            name: subdataset._replace(file=path, rest=subdataset.rest.replace("{id}", name)).path
            for name, path in files.items()
        }
    pattern = pattern.removeprefix("file://")
    archived = Archived.parse(pattern)
    place = pattern if archived is None else archived.archive
    place = place if is_elsewhere(place) else shown_path(root / place)
    if is_elsewhere(place):
        found = dict(_list_store(place, archived))
    else:
        found = dict(_list_folder(pattern, root) if archived is None else _list_archives(archived, root))
    for name, path in found.items():
        require_name(name, Path(path))
    if not found:
        raise CatalogueError(
            f"{place}: expected scenes, got no matching file. Correct root or the pattern in the experiment file."
        )
    return found


def _list_folder(pattern: str, root: Path) -> Iterator[tuple[str, str]]:
    """Yield the id and the path of each file of a folder that matches."""
    # Neither "./" nor doubled slashes are in what is listed.
    pattern = str(PurePosixPath(pattern))
    anchor = Path(pattern).anchor
    start = Path(anchor or root)
    for path in start.glob("*".join(map(_literal, pattern.removeprefix(anchor).split("{id}")))):
        name = anchor + path.relative_to(start).as_posix()
        scene = _match(pattern, name)
        # Of a pattern without a suffix, folders and the files beside others are no scenes.
        if scene is not None and not (
            pattern.endswith("{id}") and (name.lower().endswith(SIDE_ENDINGS) or path.is_dir())
        ):
            yield scene, str(root / name)


def _list_store(pattern: str, archived: Archived | None) -> Iterator[tuple[str, str]]:
    """Yield the id and the address of each file of a store that matches."""
    head, _, tail = pattern.partition("{id}")
    folder = head.rpartition("/")[0]
    if archived or not LISTED.match(folder):
        raise ExperimentError(
            f"{pattern}: expected files that can be listed, to find each {{id}}: in a bucket of s3://, gs:// or az://. "
            "Name them in a table: list: scenes.csv, with a column id. Files in archives are to be unpacked."
        )
    addresses = set(list_store(folder, "/" in tail))
    for address in sorted(addresses):
        scene = _match(pattern, address)
        if scene is None or (pattern.endswith("{id}") and address.lower().endswith(SIDE_ENDINGS)):
            continue
        beside = addresses & {side for side in sides_of(address) if not side.endswith(".ovr")}
        if beside:
            raise CatalogueError(
                f"{min(beside)}: expected rasters that say all themselves, got a file beside one, which is not "
                "read from a store. Write GeoTIFFs, or download the files."
            )
        yield scene, address


def _list_archives(pattern: Archived, root: Path) -> Iterator[tuple[str, str]]:
    """Yield the id and the path of each file in archives that matches."""
    if "{id}" in pattern.archive:
        archives = dict(_list_folder(pattern.archive, root))
    else:
        archives = {"": str(root / pattern.archive)}
    for scene, archive in archives.items():
        if scene and "{id}" not in pattern.member:
            # GDAL tells whether it is there.
            yield scene, Archived(archive, pattern.member).path
            continue
        member = pattern.member.replace("{id}", scene) if scene else pattern.member
        for name in _members(archive):
            found = (scene if name == member else None) if scene else _match(member, name)
            if found is not None:
                yield found, Archived(archive, name).path


def _members(archive: str) -> list[str]:
    """Return the names of the files in an archive."""
    try:
        if archive.lower().endswith((".zip", ".kmz")):
            with zipfile.ZipFile(archive) as zipped:
                return zipped.namelist()
        with tarfile.open(archive) as tar:
            return tar.getnames()
    except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise CatalogueError(f"{archive}: expected a zip or tar archive, got: {error}. Correct the pattern.") from error


def _match(pattern: str, name: str) -> str | None:
    """Return the id in a name that a pattern fits.

    >>> _match("{id}/{id}_B04.tif", "s1/s1_B04.tif"), _match("{id}/{id}_B04.tif", "s1/s2_B04.tif")
    ('s1', None)
    """
    head, *rest = map(re.escape, pattern.split("{id}"))
    # Braces other than {id} and glob characters in a path mean themselves.
    match = re.fullmatch(f"{head}(?P<id>[^/]+){'(?P=id)'.join(rest)}", name)
    # Hidden files are none of the user's: one that is being written, or was when its writer was killed.
    hidden = match is not None and match["id"].startswith(".") and (not head or head.endswith("/"))
    return None if match is None or hidden else match["id"]


def require_name(scene_id: str, path: Path) -> None:
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
