"""Files that lie elsewhere: in object stores (S3, Google, Azure) and on servers of the web.

An address such as ``s3://bucket/a.tif`` is also a path, ``/vsis3/bucket/a.tif``, as GDAL has it: so a folder in a store
is a `Path` as any other, that others start from. Pixels are read by GDAL; what lies in a store is listed by
pyarrow's file systems. Both take credentials and endpoint from the environment, never from a file.
"""

import os
import tempfile
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from data.errors import RunError

__all__ = [
    "FOLDERS",
    "RemoteFile",
    "copied_here",
    "gdal_name",
    "gdal_options",
    "identify",
    "is_elsewhere",
    "is_remote",
    "list_store",
    "remote_path",
    "shown_path",
]

FOLDERS = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/", "http": "/vsicurl/http:/", "https": "/vsicurl/https:/"}
"""What addresses of a kind begin with as paths, in which no two slashes follow each other."""

YES = ("YES", "TRUE", "ON", "1")

AT_ONCE = 32
"""Requests on their way together."""

PATIENCE = 30.0
"""Seconds to wait for an answer."""

MOST_COPIED, CHUNK = 2**30, 2**20
"""Bytes of a table, and those that are read at a time."""

NOT_TOLD = (401, 403, 405, 501)
"""Answers of servers that know the file, or may, but tell no more of it to us."""


class RemoteFile(NamedTuple):
    """What a store or a server says of a file.

    Parameters
    ----------
    size : int
        Bytes; -1 where that is not told.
    modified : int
        ns since 1970; 0 where that is not told.
    version : str
        Other when the content is: size and time, or the entity tag of a server.
    """

    size: int
    modified: int
    version: str


def is_elsewhere(path: str) -> bool:
    """Return whether a path is that of no file of this disk.

    >>> is_elsewhere("https://host/a.tif"), is_elsewhere("/vsis3/b/a.tif"), is_elsewhere("/data/a.tif")
    (True, True, False)
    """
    return "://" in path or path.startswith("/vsi")


def is_remote(path: str | Path) -> bool:
    """Return whether a path, or an address, is that of a file of a store or a server that we know how to ask.

    >>> is_remote("s3://bucket/a.tif"), is_remote(Path("/vsis3/bucket/a.tif")), is_remote("zip+https://host/a.zip!a.tif")
    (True, True, False)
    """
    text = str(path)
    return text.startswith((*(f"{kind}://" for kind in FOLDERS), *FOLDERS.values()))


def remote_path(address: str) -> Path:
    """Return an address as a path; one that is a path already, as it is.

    >>> remote_path("s3://bucket/data") / "a.tif", remote_path("https://host/a.tif")
    (PosixPath('/vsis3/bucket/data/a.tif'), PosixPath('/vsicurl/https:/host/a.tif'))
    """
    kind, colon, rest = address.partition("://")
    return Path(FOLDERS[kind] + rest) if colon and kind in FOLDERS else Path(address)


def shown_path(path: Path) -> str:
    """Return the address that a path stands for; of a file of this disk its path.

    >>> shown_path(Path("/vsis3/bucket/a.tif")), shown_path(Path("/vsicurl/https:/host/a")), shown_path(Path("/data/a"))
    ('s3://bucket/a.tif', 'https://host/a', '/data/a')
    """
    text = str(path)
    kind = next((kind for kind, folder in FOLDERS.items() if text.startswith(folder)), None)
    return text if kind is None else f"{kind}://{text.removeprefix(FOLDERS[kind])}"


def gdal_name(path: str) -> str:
    """Return how GDAL names a file.

    >>> gdal_name("s3://bucket/a b.tif"), gdal_name("https://host/a.tif"), gdal_name("a.tif")
    ('/vsis3/bucket/a b.tif', '/vsicurl/https://host/a.tif', 'a.tif')
    """
    kind, colon, rest = path.partition("://")
    if not colon or kind not in FOLDERS:
        return path
    return f"/vsicurl/{path}" if kind.startswith("http") else FOLDERS[kind] + rest


def gdal_options() -> dict[str, Any]:
    """Return how GDAL reads what lies elsewhere: nothing beside a file, and S3 where AWS_ENDPOINT_URL says."""
    options = {"GDAL_HTTP_MAX_RETRY": "3", "GDAL_HTTP_RETRY_DELAY": "1", "GDAL_HTTP_CONNECTTIMEOUT": f"{PATIENCE:g}"}
    endpoint = _s3_endpoint()
    if endpoint is not None:
        options["AWS_S3_ENDPOINT"] = endpoint.netloc
        options["AWS_HTTPS"] = "YES" if endpoint.scheme == "https" else "NO"
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    given = {name: os.environ.get(name, value) for name, value in options.items()}
    # Neither asked for nor read: files beside a raster can lead to others.
    return {**given, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}


def list_store(folder: str, deep: bool) -> Iterator[str]:
    """Yield the addresses of the files in a folder of a store, sorted.

    Parameters
    ----------
    folder : str
        ``s3://bucket/prefix``; also of gs:// and az://.
    deep : bool
        Whether to list the folders below it, too.

    Raises
    ------
    RunError
        If it cannot be listed.
    """
    kind, _, name = folder.partition("://")
    selector = fs.FileSelector(name.rstrip("/"), recursive=deep, allow_not_found=True)
    with _asking(folder):
        found = _open_store(kind, name.partition("/")[0]).get_file_info(selector)
    yield from sorted(f"{kind}://{info.path}" for info in found if info.type == fs.FileType.File)


def identify(paths: Sequence[Path]) -> dict[Path, RemoteFile]:
    """Return what stores and servers say of files.

    Parameters
    ----------
    paths : sequence of Path
        See `remote_path`.

    Raises
    ------
    RunError
        If one is not there, or cannot be asked for.
    """
    folders = defaultdict[Path, list[Path]](list)
    for path in paths:
        folders[path.parent].append(path)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # Of several files of a folder its list tells all at once.
        several = [found for found in folders.values() if len(found) > 1 and not _is_on_web(found[0])]
        listed = {path: file for found in pool.map(_identify_folder, several) for path, file in found}
        rest = [path for path in paths if path not in listed]
        return listed | dict(zip(rest, pool.map(_identify_one, rest), strict=True))


@contextmanager
def copied_here(path: Path) -> Iterator[Path]:
    """Yield a file of this disk with the content of a table, wherever that lies.

    Raises
    ------
    RunError
        If it lies elsewhere and cannot be read, or is larger than 1 GiB.
    """
    if not is_remote(path):
        yield path
        return
    address = shown_path(path)
    with tempfile.NamedTemporaryFile(suffix=path.suffix) as copy:
        with _asking(address), _open_remote(address) as stream:
            left = MOST_COPIED
            while chunk := stream.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise RunError(f"{address}: expected a table of at most {MOST_COPIED} bytes, got more.")
                copy.write(chunk)
        copy.flush()
        yield Path(copy.name)


def _is_on_web(path: Path) -> bool:
    return str(path).startswith("/vsicurl/")


def _identify_folder(paths: Sequence[Path]) -> list[tuple[Path, RemoteFile]]:
    """Return what the list of their folder says of files; those that it lacks are left out."""
    kind, _, folder = shown_path(paths[0].parent).partition("://")
    with _asking(f"{kind}://{folder}"):
        store = _open_store(kind, folder.partition("/")[0])
        found = {info.path: info for info in store.get_file_info(fs.FileSelector(folder))}
    names = {path: shown_path(path).partition("://")[2] for path in paths}
    return [(path, _described(found[name])) for path, name in names.items() if name in found]


def _identify_one(path: Path) -> RemoteFile:
    address = shown_path(path)
    if _is_on_web(path):
        return _identify_on_web(address)
    kind, _, name = address.partition("://")
    with _asking(address):
        info = _open_store(kind, name.partition("/")[0]).get_file_info(name)
    if info.type != fs.FileType.File:
        raise RunError(f"{address}: expected a file, got none. Add it, or correct the address.")
    return _described(info)


def _described(info: fs.FileInfo) -> RemoteFile:
    return RemoteFile(info.size, info.mtime_ns, f"{info.size} bytes of {info.mtime.isoformat()}")


def _identify_on_web(address: str) -> RemoteFile:
    # Of signed addresses many servers answer no HEAD.
    try:
        with _asking(address), _open_web(address, {"Range": "bytes=0-0"}) as answer:
            told = answer.headers
    except RunError as error:
        cause = error.__cause__
        if isinstance(cause, urllib.error.HTTPError) and cause.code in NOT_TOLD:
            return RemoteFile(-1, 0, "not told")
        raise
    size = (told["Content-Range"] or "").rpartition("/")[2] or told["Content-Length"] or ""
    size = size if size.isdigit() else "-1"
    return RemoteFile(int(size), 0, told["ETag"] or f"{size} bytes of {told['Last-Modified']}")


def _open_remote(address: str) -> Any:
    kind, _, name = address.partition("://")
    if kind in ("http", "https"):
        return _open_web(address)
    return _open_store(kind, name.partition("/")[0]).open_input_stream(name)


def _open_web(address: str, headers: dict[str, str] | None = None) -> Any:
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers=headers or {}), timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        error.close()
        raise


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """Name the address in errors."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(
            f"{address}: expected files that can be read and listed, got: {str(error)[:300]}. Correct the address, or "
            "the credentials in the environment, such as AWS_ACCESS_KEY_ID, AWS_PROFILE or AWS_ENDPOINT_URL."
        ) from error


def _open_store(kind: str, bucket: str) -> fs.FileSystem:
    return STORES[kind](bucket)


def _open_s3(bucket: str) -> fs.FileSystem:
    endpoint, region = _s3_endpoint(), os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint is not None:
        where = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme, "region": region or "us-east-1"}
    else:
        where = {"region": region or fs.resolve_s3_region(bucket)}
    anonymous = os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in YES
    return fs.S3FileSystem(anonymous=anonymous, connect_timeout=PATIENCE, request_timeout=PATIENCE, **where)


def _s3_endpoint() -> Any:
    """Return the parts of the endpoint of S3, as its users name it or as GDAL's do; None for that of Amazon."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    address = next((os.environ[name] for name in names if os.environ.get(name)), None)
    if address is None and os.environ.get("AWS_S3_ENDPOINT"):
        plain = os.environ.get("AWS_HTTPS", "YES").upper() not in YES
        address = f"http{'' if plain else 's'}://{os.environ['AWS_S3_ENDPOINT']}"
    return None if address is None else urlsplit(address)


def _open_gs(bucket: str) -> fs.FileSystem:
    anonymous = os.environ.get("GS_NO_SIGN_REQUEST", "").upper() in YES
    return fs.GcsFileSystem(anonymous=anonymous, retry_time_limit=timedelta(seconds=PATIENCE))


def _open_az(container: str) -> fs.FileSystem:
    account = os.environ.get("AZURE_STORAGE_ACCOUNT")
    if not account:
        raise OSError("no account of Azure's storage: set AZURE_STORAGE_ACCOUNT")
    key, token = os.environ.get("AZURE_STORAGE_ACCESS_KEY"), os.environ.get("AZURE_STORAGE_SAS_TOKEN")
    return fs.AzureFileSystem(account, account_key=key, sas_token=token)


STORES = {"s3": _open_s3, "gs": _open_gs, "az": _open_az}
