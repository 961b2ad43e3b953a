"""Write and check submissions that are rasters: class maps, probability maps, and archives of masks."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from data.errors import SubmissionError
from data.files import is_hidden, replacing
from data.maps.geotiff import map_names, read_map
from data.scenes.classes import Classes
from data.scenes.rasters import maybe_ungeoreferenced
from ensemble.submit.predictions import Predictions, require_each_once, require_shape

__all__ = ["check_kelp", "check_maps", "check_pngs", "check_probabilities", "write_kelp", "write_nothing", "write_pngs"]

START = (1980, 1, 1, 0, 0, 0)
"""The time of every entry of an archive, the earliest of a zip: the same maps make the same archive."""

UNSEEN = (0, 0, 0)
"""Colour of what was not seen, and of the background of a binary task."""


def write_nothing(path: Path, predictions: Predictions) -> None:
    """Write nothing: the maps, which exist already, are the submission."""


def check_maps(path: Path, predictions: Predictions) -> None:
    """Refuse class maps unless each scene has one, of its size, with class ids only."""
    require_each_once(path, *_ids(path, predictions))
    for scene in predictions.scenes:
        predictions.label(scene)


def check_probabilities(path: Path, predictions: Predictions) -> None:
    """Refuse probability maps unless each scene has one, of its size, with a band for each class."""
    require_each_once(path, *_ids(path, predictions))
    for scene in predictions.scenes:
        file = path / f"{scene.id}.tif"
        require_shape(file, scene, read_map(file).shape[1:])
        if map_names(file) != predictions.classes.names:
            raise SubmissionError(
                f"{file}: expected bands {', '.join(predictions.classes.names)}, got {', '.join(map_names(file))}. "
                "Run `terrablend submit --overwrite`."
            )


def write_kelp(path: Path, predictions: Predictions) -> None:
    """Write a tar of GeoTIFFs ``<id>_kelp.tif`` of 0 and 1, as the Kelp Wanted competition asks for."""
    with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
        for scene in sorted(predictions.scenes, key=lambda scene: scene.id):
            content = encode_raster(predictions.label_or_background(scene)[None], "GTiff", compress="deflate")
            # A member without time or owner: the same maps make the same archive.
            member = tarfile.TarInfo(f"{scene.id}_kelp.tif")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def check_kelp(path: Path, predictions: Predictions) -> None:
    """Refuse an archive unless it has a file for each scene, of its size, in uint8, of 0 and 1."""
    by_name = {f"{scene.id}_kelp.tif": scene for scene in predictions.scenes}
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        require_each_once(path, by_name, [member.name for member in members])
        for member in members:
            stream = archive.extractfile(member)
            values = decode_raster(stream.read() if stream else b"", "GTiff", path / member.name)
            require_shape(path / member.name, by_name[member.name], values.shape[1:])
            if values.dtype != np.uint8 or len(values) != 1 or values.max(initial=0) > 1:
                raise SubmissionError(
                    f"{path}/{member.name}: expected one band of uint8 values 0 and 1, got {len(values)} of "
                    f"{values.dtype} up to {values.max()}. "
                    "Run `terrablend submit --overwrite`."
                )


def write_pngs(path: Path, predictions: Predictions) -> None:
    """Write a zip of ``<id>_mask.png`` in the classes' colours, as DeepGlobe asks for.

    Raises
    ------
    SubmissionError
        If two classes have the same colour, or one has the colour of what was not seen.
    """
    colors = np.full((256, 3), UNSEEN, np.uint8)
    colors[: len(predictions.classes.label_ids)] = mask_colors(predictions.classes)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for scene in sorted(predictions.scenes, key=lambda scene: scene.id):
            content = encode_raster(np.moveaxis(colors[predictions.label(scene)], -1, 0), "PNG")
            archive.writestr(zipfile.ZipInfo(f"{scene.id}_mask.png", START), content)


def check_pngs(path: Path, predictions: Predictions) -> None:
    """Refuse an archive unless it has an RGB image for each scene, of its size, in the classes' colours."""
    by_name = {f"{scene.id}_mask.png": scene for scene in predictions.scenes}
    colors = _packed(np.array([*mask_colors(predictions.classes), UNSEEN]).T)
    with zipfile.ZipFile(path) as archive:
        require_each_once(path, by_name, archive.namelist())
        for name, scene in by_name.items():
            values = decode_raster(archive.read(name), "PNG", path / name)
            require_shape(path / name, scene, values.shape[1:])
            if len(values) != 3 or not np.isin(_packed(values), colors).all():
                raise SubmissionError(
                    f"{path}/{name}: expected an RGB image in the classes' colours, got {len(values)} bands or other "
                    "colours. Run `terrablend submit --overwrite`."
                )


def mask_colors(classes: Classes) -> list[tuple[int, int, int]]:
    """Return the colour of each label index in a colour-coded image: black for the background of a binary task.

    Raises
    ------
    SubmissionError
        If they cannot be told apart.
    """
    colors = [*classes.colors]
    if len({UNSEEN, *colors}) <= len(colors):
        raise SubmissionError(
            f"submission.format png: expected a colour of its own for each class, none of them {UNSEEN} (not seen), "
            f"got {dict(zip(classes.names, colors, strict=True))}. Correct the colours under classes."
        )
    return [UNSEEN, *colors] if classes.task == "binary" else colors


def encode_raster(values: NDArray[np.uint8], driver: str, **options: str) -> bytes:
    """Return bands (C, H, W) as the bytes of a file without a place."""
    count, height, width = values.shape
    with maybe_ungeoreferenced(), MemoryFile() as memory:
        with memory.open(driver=driver, height=height, width=width, count=count, dtype="uint8", **options) as raster:
            raster.write(values)
        return bytes(memory.read())


def decode_raster(content: bytes, driver: str, path: Path) -> NDArray[np.generic]:
    """Return the bands (C, H, W) of a file."""
    try:
        with maybe_ungeoreferenced(), MemoryFile(content) as memory, memory.open(driver=driver) as raster:
            values: NDArray[np.generic] = raster.read()
    except RasterioError as error:
        raise SubmissionError(
            f"{path}: expected a {driver}, got: {error}. Run `terrablend submit --overwrite`."
        ) from error
    return values


def _ids(path: Path, predictions: Predictions) -> tuple[list[str], list[str]]:
    written = [file.stem for file in path.glob("*.tif") if not is_hidden(file)]
    return [scene.id for scene in predictions.scenes], written


def _packed(colors: NDArray[np.generic]) -> NDArray[np.uint32]:
    """Return colours (3, …) as one number each."""
    red, green, blue = colors.astype(np.uint32)
    packed: NDArray[np.uint32] = red << 16 | green << 8 | blue
    return packed
