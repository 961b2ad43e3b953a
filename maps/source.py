"""Read another tool's map of a scene as probabilities, and say what is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from data.errors import MapError, SceneError
from data.scenes.grids import grid_problem
from data.scenes.rasters import keep_open, open_raster, read_grid
from data.scenes.windows import Grid, Window, tile_windows
from maps.settings import SCALES, MapsSettings

__all__ = ["Reading", "check_map", "open_reading"]

SLACK = 1e-3
"""By which probabilities may miss [0, 1], as rounded ones do; they are cut off."""

SUM_SLACK = 0.05
"""By which probabilities of classes that exclude each other may miss 1 together: 20 classes in bytes do by 0.04."""


@dataclass(frozen=True)
class Reading:
    """How the bands of a file become the probabilities of the classes.

    Parameters
    ----------
    path : Path
    indexes : tuple of int
        Band of each class, from 1.
    scale, offset : NDArray
        (n_classes, 1, 1); probability = stored × scale + offset.
    nodata : tuple of float
        Values without a probability, in every band.
    declared : tuple of (float or None)
        Nodata value that the file declares for each class's band.
    """

    path: Path
    indexes: tuple[int, ...]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    nodata: tuple[float, ...]
    declared: tuple[float | None, ...]

    def read(self, window: Window) -> NDArray[np.float32]:
        """Read probabilities (n_classes, height, width) as they stand, not cut off; NaN where any class has none."""
        area = RasterWindow(window.col, window.row, window.width, window.height)
        with open_raster(str(self.path)) as raster:
            stored = raster.read([*self.indexes], window=area)
        absent = ~np.isfinite(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
        for plane, without, declared in zip(stored, absent, self.declared, strict=True):
            for nodata in self.nodata if declared is None else (*self.nodata, declared):
                without |= plane == nodata
        proba: NDArray[np.float32] = stored.astype(np.float32) * self.scale + self.offset
        proba[:, absent.any(axis=0)] = np.nan
        return proba


def open_reading(path: Path, settings: MapsSettings, classes: Sequence[str]) -> Reading:
    """Return how a file is read.

    Raises
    ------
    MapError
        If its bands cannot be told apart, or nothing says what its values mean.
    SceneError
        If it cannot be opened.
    """
    with open_raster(str(path)) as raster:
        indexes = _find_bands(path, raster, settings.bands, classes)
        places = [index - 1 for index in indexes]
        scales, offsets = ([values[place] for place in places] for values in (raster.scales, raster.offsets))
        declared = any(scale != 1 or offset != 0 for scale, offset in zip(scales, offsets, strict=True))
        if declared and settings.scale is not None:
            raise MapError(
                f"{path}: expected one scale, got {scales[0]:g} declared by the file and scale: {settings.scale}. "
                "Leave scale out."
            )
        if settings.scale is not None:
            scales = [SCALES.get(str(settings.scale), settings.scale)] * len(indexes)
        elif not declared and np.dtype(raster.dtypes[places[0]]).kind != "f":
            raise MapError(
                f"{path}: expected a scale, the file holds {raster.dtypes[places[0]]} and declares none. Write scale: "
                "uint8 where 255 means certain, uint16 where 65535 does, percent where 100 does, or the factor."
            )
        nodata = settings.nodata if isinstance(settings.nodata, list) else [settings.nodata]
        return Reading(
            path,
            indexes,
            np.array(scales, np.float32)[:, None, None],
            np.array(offsets, np.float32)[:, None, None],
            tuple(value for value in nodata if value is not None),
            tuple(raster.nodatavals[place] for place in places),
        )


def check_map(
    path: Path, settings: MapsSettings, classes: Sequence[str], exclusive: bool, grid: Grid, size: int = 1024
) -> tuple[list[str], int]:
    """Read a file whole; return what is wrong with it, a line each, and its pixels with a probability.

    Parameters
    ----------
    path : Path
    settings : MapsSettings
    classes : sequence of str
        A plane each.
    exclusive : bool
        Whether the classes exclude each other, so that their probabilities add up to 1.
    grid : Grid
        The scene's.
    size : int
        Pixels on a side of the windows that are read at a time.
    """
    if not path.is_file():
        return [f"{path}: expected a map, got no such file. Write it there, or correct path."], 0
    try:
        problem = grid_problem(read_grid(str(path))[0], grid)
        if problem:
            return [f"{path}: {problem}"], 0
        reading = open_reading(path, settings, classes)
        pixels, low, high = 0, np.inf, -np.inf
        least, most = np.inf, -np.inf
        with keep_open():
            for window in tile_windows(grid.height, grid.width, size):
                proba = reading.read(window)
                proba = proba[:, np.isfinite(proba[0])]
                if proba.size:
                    pixels += proba.shape[1]
                    low, high = min(low, float(proba.min())), max(high, float(proba.max()))
                    total = proba.sum(axis=0)
                    least, most = min(least, float(total.min())), max(most, float(total.max()))
    except (MapError, SceneError) as error:
        return [str(error)], 0
    if not pixels:
        return [f"{path}: expected probabilities, got nodata alone. Write the map again, or correct nodata."], 0
    if low < -SLACK or high > 1 + SLACK:
        advice = "Write scale: percent." if high <= 100 + SLACK and low >= 0 else "Write the scale that they have."
        return [f"{path}: expected probabilities in [0, 1], got {low:.4g} to {high:.4g}. {advice}"], pixels
    if exclusive and len(classes) > 1 and max(1 - least, most - 1) > SUM_SLACK:
        return [
            f"{path}: expected probabilities of the classes that add up to 1, got sums from {least:.3g} to {most:.3g}. "
            "Write softmax probabilities."
        ], pixels
    return [], pixels


def _find_bands(path: Path, raster: Any, named: Sequence[str] | None, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the band of each class, from 1."""
    described = [description or "" for description in raster.descriptions]
    if named is not None:
        if len(named) != raster.count:
            raise MapError(
                f"{path}: expected {len(named)} bands as bands says ({', '.join(named)}), the file has {raster.count}. "
                "Name each, in file order."
            )
        names: Sequence[str] = named
    elif any(described):
        names = described
    elif raster.count == len(classes):
        names = classes
    else:
        raise MapError(
            f"{path}: expected a band for each class ({', '.join(classes)}), the file has {raster.count} without "
            "descriptions. Name them under bands, in file order."
        )
    lacking = [name for name in classes if list(names).count(name) != 1]
    if lacking:
        raise MapError(
            f"{path}: expected one band named {lacking[0]}, got {', '.join(name or '(no name)' for name in names)}. "
            "Name the bands under bands, in file order."
        )
    return tuple(names.index(name) + 1 for name in classes)
