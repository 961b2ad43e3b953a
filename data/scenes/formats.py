"""Tell which rasters GDAL may open: those that hold their own pixels, whatever the name of a file says.

GDAL takes a file for what it holds. A VRT called ``scene.tif`` names other files, whose pixels it lends, or addresses,
which are asked; WMS, STACIT and others do likewise. Formats are opened by a list, so that a file of a stranger reads
nothing but itself and the files beside it that bear its name.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import rasterio
from rasterio._path import _parse_path
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from data.addresses import gdal_name
from data.errors import SceneError
from data.scenes.paths import Subdataset

__all__ = ["allow_vrt", "allowed_vrt", "check_vrt", "open_plain", "raster_formats"]

VRT = "VRT"

FORMATS = (
    "GTiff", "COG", "LIBERTIFF", "JPEG", "PNG", "JP2OpenJPEG", "JP2ECW", "JP2KAK", "JP2MrSID", "JP2GROK", "JPEGXL",
    "WEBP", "GIF", "BIGGIF", "BMP", "PNM", "AVIF", "HEIF", "ENVI", "EHdr", "HFA", "AAIGrid", "AIG", "GRASSASCIIGrid",
    "GSAG", "GSBG", "GS7BG", "SAGA", "RST", "RRASTER", "ILWIS", "PCRaster", "ISCE", "ROI_PAC", "SNAP_TIFF", "SRTMHGT",
    "DTED", "USGSDEM", "BT", "GXF", "XYZ", "LCP", "NITF", "GRIB", "netCDF", "HDF4", "HDF4Image", "HDF5", "HDF5Image",
    "BAG", "Zarr", "GPKG", "MBTiles",
)  # fmt: skip
"""GDAL's drivers of rasters that hold their own pixels."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""What a mask or overviews beside a raster begin with."""

OTHER_FILES = (b"OVERVIEW_FILE", b"<VRT", b"GEOLOCATION")
"""By which metadata beside a raster leads GDAL to other files."""

SOURCES = frozenset(("SimpleSource", "ComplexSource", "AveragedSource", "KernelFilteredSource", "NoDataFromMaskSource"))
BANDS = frozenset((None, "VRTSourcedRasterBand", "VRTDerivedRasterBand"))
FILE_NAMES = frozenset(("SourceFilename", "SourceDataset"))

HEAD = 4096
SYSTEMS = frozenset(("zip", "tar", "gzip", "s3", "gs", "az", "adls", "oss", "swift", "curl", "mem"))
"""Of GDAL's file systems, those that read what a path names, and take no options that send other files along."""

SYSTEM = re.compile(r"/vsi(\w*)(.?)")

MOST_SIDE, MOST_VRT = 2**24, 2**26
"""Bytes of metadata beside a raster, and of a VRT."""

DEEPEST = 4
"""VRTs within VRTs."""


@lru_cache(maxsize=1)
def raster_formats() -> list[str]:
    """Return the names of GDAL's drivers that may open a file, of those that there are."""
    with rasterio.Env() as env:
        known = env.drivers()
    return [name for name in FORMATS if name in known]


def open_plain(path: str) -> Any:
    """Open a raster that holds its own pixels; raises what rasterio and `_require_plain` raise."""
    _require_plain(path)
    try:
        # `rasterio.open` takes one driver alone.
        return DatasetReader(_parse_path(gdal_name(path)), driver=raster_formats(), sharing=False)
    except RasterioError as error:
        if _is_vrt(path):
            raise SceneError(
                f"{path}: expected a raster that holds its own pixels, got a VRT, which reads other files. If you "
                "trust it, say so: scenes.allow: [vrt]."
            ) from error
        raise


def _require_plain(path: str) -> None:
    """Refuse what is no name of a file but describes other files, and files beside a raster that lead to others.

    Raises
    ------
    SceneError
        Naming it.
    """
    if path.lstrip().startswith("<") or path.lower().startswith(("vrt://", "derived_subdataset:")) or "\n" in path:
        raise SceneError(f"{path[:200]!r}: expected the name of a file, got a description of others. Name a file.")
    if path.startswith("/vsi"):
        for name, sign in SYSTEM.findall(path):
            if name.removesuffix("_streaming") not in SYSTEMS or sign != "/":
                raise SceneError(f"{path[:200]}: expected a file or its address, got /vsi{name}{sign}. Name the file.")
    base = path.rstrip("/")
    for side in (f"{base}.msk", f"{base}.ovr"):
        if _head(side, 4) not in (None, *TIFF):
            raise SceneError(f"{side}: expected a TIFF that belongs to {base}, got another file. Remove it.")
    content = _head(f"{base}.aux.xml", MOST_SIDE)
    if content is not None and any(mark in content for mark in OTHER_FILES):
        raise SceneError(
            f"{base}.aux.xml: expected metadata of {base}, got some that leads to other files. Remove it, or write it "
            "anew."
        )


def allow_vrt(path: str, root: Path) -> str:
    """Return the path by which `open_raster` opens a VRT with sources below a folder; that of any other as it is.

    >>> allow_vrt("data/scene.tif", Path("data"))
    'data/scene.tif'
    """
    return Subdataset(VRT, path, f":{root}").path if _is_vrt(path) else path


def allowed_vrt(path: str) -> tuple[str, str] | None:
    """Return the VRT that a path of `allow_vrt` stands for, and the folder of its sources; None for any other.

    >>> allowed_vrt('VRT:"/data/all.vrt":/data'), allowed_vrt("/data/all.vrt")
    (('/data/all.vrt', '/data'), None)
    """
    found = Subdataset.parse(path)
    return (found.file, found.rest[1:]) if found and found.driver == VRT and found.rest else None


def _is_vrt(path: str) -> bool:
    return b"<VRTDataset" in (_head(path, HEAD) or b"")


def check_vrt(path: str, root: str) -> None:
    """Refuse a VRT that reads anything but plain rasters below a folder.

    Parameters
    ----------
    path : str
    root : str

    Raises
    ------
    SceneError
        Naming the first source that lies elsewhere, and what else may not be in a VRT.
    """
    stat = Path(path).stat()
    _check_vrt(path, str(Path(root).resolve()), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _check_vrt(path: str, root: str, modified: int, size: int, level: int = 0) -> None:
    if size > MOST_VRT or level > DEEPEST:
        raise SceneError(f"{path}: expected a VRT of at most {MOST_VRT} bytes and {DEEPEST} levels, got more.")
    try:
        tree = ET.fromstring(Path(path).read_bytes())
    except ET.ParseError as error:
        raise SceneError(f"{path}: expected a VRT, got: {error}. Write it again.") from error
    for source in _sources(tree, path):
        place = source.resolve()
        if not place.is_relative_to(root):
            raise SceneError(
                f"{path}: expected sources below {root}, got {str(source)[:200]}. Bring the file there, or change root."
            )
        if _is_vrt(str(place)):
            stat = place.stat()
            _check_vrt(str(place), root, stat.st_mtime_ns, stat.st_size, level + 1)
            continue
        try:
            open_plain(str(place)).close()
        except RasterioError as error:
            raise SceneError(f"{path}: expected sources that are rasters, got {place}: {error}.") from error


def _sources(tree: ET.Element, path: str) -> Iterator[Path]:
    """Yield the files that a VRT reads; refuse what is no mosaic of files."""
    problem = "" if tree.tag == "VRTDataset" and tree.get("subClass") is None else "a VRT that computes"
    for element in tree.iter():
        kind = element.tag
        if kind == "VRTRasterBand" and element.get("subClass") not in BANDS:
            problem = f"a band {element.get('subClass')}"
        elif kind.endswith("Source") and kind not in SOURCES:
            problem = f"a source {kind}"
        elif kind in ("PixelFunctionLanguage", "PixelFunctionCode") and (element.text or "").strip() != "C":
            problem = "a function in Python"
        elif kind in FILE_NAMES:
            text = (element.text or "").strip()
            if not text or text.startswith(("/vsi", "<")) or "://" in text or ":" in os.path.splitdrive(text)[1]:
                problem = f"the source {text[:200]}"
            elif not problem:
                yield Path(path).parent / text if element.get("relativeToVRT") == "1" else Path(text)
        if problem:
            raise SceneError(f"{path}: expected a VRT that is a mosaic of files, got {problem}. Write a GeoTIFF of it.")


def _head(path: str, size: int) -> bytes | None:
    """Return the beginning of a file on this disk; None where there is none."""
    # Every window of every scene passes here: a Path, a stream and an exception take three times as long.
    try:
        if not os.access(path, os.F_OK):
            return None
        file = os.open(path, os.O_RDONLY)
    except (OSError, ValueError):
        return None
    try:
        return os.read(file, size)
    except OSError:
        return None
    finally:
        os.close(file)
