"""Prove that a GeoTIFF is whole, by its directories: GDAL loses the error of a file that it could not end.

Where a disk is full the last blocks are lost, or a hole is where one should be. So every block must lie within the
file, and begin as its compression begins; none of it is decoded.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from data.errors import MapError

__all__ = ["require_whole", "writing_pixels"]

COMPRESSION, STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 259, 273, 279, 324, 325
"""Tags of TIFF 6.0."""
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type."""
KINDS = {3: "u2", 4: "u4", 16: "u8"}
"""Types of numbers of bytes."""
BEGINNINGS = {8: bytes.fromhex("78"), 50000: bytes.fromhex("28b52ffd")}
"""By compression: what every block begins with. Of DEFLATE zlib's header, of ZSTD its frame's magic number."""


class Layout(NamedTuple):
    """How numbers are laid out in a TIFF, or in a BigTIFF."""

    order: str
    length: str
    entry: str
    offset: str


def require_whole(path: Path) -> None:
    """Refuse a GeoTIFF of ours that has not reached the disk as it should.

    Raises
    ------
    MapError
        If a directory or a block of it, or of its overviews, is not all there.

    References
    ----------
    .. [1] TIFF, revision 6.0, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
    .. [2] BigTIFF, http://www.simplesystems.org/libtiff/specification/bigtiff.html
    """
    with path.open("rb") as stream:
        file, size = stream.fileno(), path.stat().st_size
        try:
            whole = all(_holds_blocks(file, size, *blocks) for blocks in _directories(file))
        except (struct.error, KeyError, ValueError):
            whole = False
    if not whole:
        raise _no_room(path)


@contextmanager
def writing_pixels(path: Path) -> Iterator[None]:
    """Turn GDAL's errors of writing into one that says what to do."""
    try:
        yield
    except (CPLE_BaseError, RasterioError) as error:
        raise _no_room(path) from error


def _no_room(path: Path) -> MapError:
    folder = next(folder for folder in path.absolute().parents if not folder.name.startswith("."))
    return MapError(
        f"{folder}: expected room for a map, got one that could not be written to its end. "
        "Free space on that disk, and give the same command again."
    )


def _directories(file: int) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the compression of each raster in a file, and the offset and bytes of each of its blocks."""
    head = os.pread(file, 16, 0)
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    big = {42: False, 43: True}[struct.unpack(order + "H", head[2:4])[0]]
    layout = Layout(order, "Q", "HHQ8s", "Q") if big else Layout(order, "H", "HHI4s", "I")
    [place] = struct.unpack_from(order + layout.offset, head, 8 if big else 4)
    if not place:
        raise ValueError("no directory")
    while place:
        entries, place = _read_directory(file, place, layout)
        offsets, sizes = (TILE_OFFSETS, TILE_BYTES) if TILE_OFFSETS in entries else (STRIP_OFFSETS, STRIP_BYTES)
        [compression], starts, lengths = (
            _read_numbers(file, layout, *entries[tag]) for tag in (COMPRESSION, offsets, sizes)
        )
        yield int(compression), starts, lengths


def _read_directory(file: int, place: int, layout: Layout) -> tuple[dict[int, tuple[int, int, bytes]], int]:
    """Return type, count and value of each tag of a directory, and where the next directory lies."""
    entry = struct.Struct(layout.order + layout.entry)
    first = struct.calcsize(layout.order + layout.length)
    [count] = struct.unpack(layout.order + layout.length, os.pread(file, first, place))
    last = struct.calcsize(layout.order + layout.offset)
    text = os.pread(file, count * entry.size + last, place + first)
    if len(text) < count * entry.size + last:
        raise ValueError("the directory is cut off")
    [following] = struct.unpack(layout.order + layout.offset, text[-last:])
    return {tag: (kind, number, value) for tag, kind, number, value in entry.iter_unpack(text[:-last])}, following


def _read_numbers(file: int, layout: Layout, kind: int, count: int, value: bytes) -> NDArray[np.int64]:
    wanted = count * SIZES[kind]
    if wanted > len(value):
        value = os.pread(file, wanted, struct.unpack(layout.order + layout.offset, value)[0])
    if len(value) < wanted:
        raise ValueError("the numbers of a tag are cut off")
    return np.frombuffer(value[:wanted], layout.order + KINDS[kind]).astype(np.int64)


def _holds_blocks(file: int, size: int, compression: int, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> bool:
    if len(offsets) != len(sizes) or not sizes.all() or (offsets + sizes).max(initial=0) > size:
        return False
    beginning = BEGINNINGS.get(compression, b"")
    return not beginning or all(os.pread(file, len(beginning), offset) == beginning for offset in offsets.tolist())
