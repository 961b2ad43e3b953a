"""Submissions: written from class maps, then read again and checked against the test scenes."""

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from data.classes import IGNORE, Classes
from data.errors import SubmissionError
from data.files import replacing
from data.maps import read_class_map
from data.scene import Scene, maybe_ungeoreferenced

__all__ = ["FORMATS", "Format", "write_submission"]


@dataclass(frozen=True)
class Format:
    """A form of submission.

    Parameters
    ----------
    file : str
        Name of the archive; empty where the class maps themselves are the submission.
    write : callable
        (path, test scenes, maps by id, classes) → None; raises SubmissionError.
    check : callable
        The same arguments; raises SubmissionError if what was written is not what the format demands.
    """

    file: str
    write: Callable[[Path, Sequence[Scene], Mapping[str, Path], Classes], None]
    check: Callable[[Path, Sequence[Scene], Mapping[str, Path], Classes], None]


def write_submission(name: str, folder: Path, scenes: Sequence[Scene], maps: Path, classes: Classes) -> Path:
    """Write the submission and read it again.

    Parameters
    ----------
    name : str
        Key of `FORMATS`.
    folder : Path
        Gets the archive.
    scenes : sequence of Scene
        Of the test split.
    maps : Path
        Folder of their class maps ``<id>.tif``.
    classes : Classes

    Returns
    -------
    path : Path
        The archive, or the folder of maps.

    Raises
    ------
    SubmissionError
        If the format does not suit the classes, or what was written is not whole.
    """
    chosen = FORMATS[name]
    files = {scene.id: maps / f"{scene.id}.tif" for scene in scenes}
    if len(files) < len(scenes):
        raise SubmissionError(f"expected test scenes of distinct ids, got {len(scenes) - len(files)} twice.")
    missing = [str(file) for file in files.values() if not file.exists()]
    if missing:
        raise SubmissionError(
            f"{maps}: expected a class map of each of {len(files)} test scenes, {len(missing)} are missing: "
            f"{', '.join(missing[:3])}. Run `terrablend submit --overwrite`."
        )
    path = folder / chosen.file if chosen.file else maps
    chosen.write(path, scenes, files, classes)
    chosen.check(path, scenes, files, classes)
    return path


def _write_nothing(path: Path, scenes: Sequence[Scene], files: Mapping[str, Path], classes: Classes) -> None:
    """Class maps are written before; there is no archive."""


def _check_maps(path: Path, scenes: Sequence[Scene], files: Mapping[str, Path], classes: Classes) -> None:
    # A stage that was killed can leave a half-written file, under a hidden name.
    found = {file.stem for file in path.glob("*.tif") if not file.name.startswith(".")}
    _require_ids(path, {scene.id for scene in scenes}, found)
    for scene in scenes:
        label = read_class_map(files[scene.id], classes)
        _require_shape(files[scene.id], scene, label.shape)


def _write_kelp(path: Path, scenes: Sequence[Scene], files: Mapping[str, Path], classes: Classes) -> None:
    if classes.task != "binary":
        raise SubmissionError(
            f"submission.format kelp: expected the task binary, got {len(classes.names)} classes. Use format: geotiff."
        )
    with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        for scene in sorted(scenes, key=lambda scene: scene.id):
            label = read_class_map(files[scene.id], classes)
            # The format knows no "nothing predicted": what was not seen is not kelp.
            content = _encode(np.where(label == IGNORE, 0, label).astype(np.uint8))
            # A member without time or owner: the same maps make the same archive.
            member = tarfile.TarInfo(f"{scene.id}_kelp.tif")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _check_kelp(path: Path, scenes: Sequence[Scene], files: Mapping[str, Path], classes: Classes) -> None:
    by_name = {f"{scene.id}_kelp.tif": scene for scene in scenes}
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        names = [member.name for member in members]
        _require_ids(path, set(by_name), set(names))
        if len(set(names)) < len(names):
            raise SubmissionError(f"{path}: expected each scene once, got {len(names) - len(set(names))} twice.")
        for member in members:
            stream = archive.extractfile(member)
            values = _decode(stream.read() if stream else b"", f"{path}/{member.name}")
            _require_shape(Path(member.name), by_name[member.name], values.shape)
            if values.dtype != np.uint8 or values.max(initial=0) > 1:
                raise SubmissionError(
                    f"{path}/{member.name}: expected uint8 values 0 and 1, got {values.dtype} up to {values.max()}."
                )


def _encode(values: NDArray[np.uint8]) -> bytes:
    height, width = values.shape
    with maybe_ungeoreferenced(), MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=height, width=width, count=1, dtype="uint8", compress="deflate"
        ) as raster:
            raster.write(values, 1)
        return bytes(memory.read())


def _decode(content: bytes, name: str) -> NDArray[np.generic]:
    try:
        with maybe_ungeoreferenced(), MemoryFile(content) as memory, memory.open() as raster:
            values: NDArray[np.generic] = raster.read(1)
    except RasterioError as error:
        raise SubmissionError(f"{name}: expected a GeoTIFF, got: {error}. Run `terrablend submit` again.") from error
    return values


def _require_ids(path: Path, wanted: set[str], found: set[str]) -> None:
    if wanted != found:
        missing, extra = sorted(wanted - found), sorted(found - wanted)
        raise SubmissionError(
            f"{path}: expected exactly the {len(wanted)} test scenes, got {len(missing)} missing {missing[:3]} and "
            f"{len(extra)} unknown {extra[:3]}. Run `terrablend submit --overwrite`."
        )


def _require_shape(path: Path, scene: Scene, shape: tuple[int, ...]) -> None:
    if shape != (scene.grid.height, scene.grid.width):
        raise SubmissionError(
            f"{path}: expected {scene.grid.height} × {scene.grid.width} pixels like scene {scene.id}, got {shape}."
        )


FORMATS: dict[str, Format] = {
    "geotiff": Format("", _write_nothing, _check_maps),
    "kelp": Format("submission.tar", _write_kelp, _check_kelp),
}
