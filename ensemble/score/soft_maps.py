"""Read what a probability map says at points and of each mapped class, for estimates that it assists."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import MapError
from data.maps.geotiff import map_names, read_proba
from data.scenes.classes import IGNORE, Classes
from data.scenes.grids import grid_problem
from data.scenes.rasters import read_grid
from data.scenes.windows import Grid, tile_windows

__all__ = ["read_soft_map"]

Floats = NDArray[np.float64]


def read_soft_map(
    path: Path,
    grid: Grid,
    mapped: NDArray[np.uint8],
    points: Sequence[tuple[int, int]],
    classes: Classes,
    strip_pixels: int = 2**22,
) -> tuple[Floats, Floats]:
    """Sum the probabilities of each label over the pixels of each mapped class, and read those of some points.

    Parameters
    ----------
    path : Path
        Probability map.
    grid : Grid
        Of the class map.
    mapped : (H, W) uint8
        Label indices, `IGNORE` where nothing is mapped.
    points : sequence of (int, int)
        Rows and columns.
    classes : Classes
    strip_pixels : int
        Pixels that are read at a time.

    Returns
    -------
    sums : (n_labels, n_labels) float64
        Of each label (columns) on each mapped class (rows). A pixel without a probability counts as one of 0.
    proba : (n_points, n_labels) float64

    Raises
    ------
    MapError
        If the map cannot be read, is of other classes, or does not lie where the class map does.
    """
    if map_names(path) != classes.names:
        raise MapError(
            f"{path}: expected probabilities of {', '.join(classes.names)}, got {', '.join(map_names(path))}. "
            "Name the maps that were written with these class maps."
        )
    problem = grid_problem(read_grid(str(path))[0], grid)
    if problem:
        raise MapError(f"{path}: {problem}")
    n_labels = classes.n_labels
    sums, at = np.zeros((n_labels, n_labels)), np.zeros((len(points), n_labels))
    rows, cols = np.array(points, np.int64).reshape(-1, 2).T
    for window in tile_windows(grid.height, grid.width, (max(strip_pixels // grid.width, 1), grid.width)):
        proba = np.nan_to_num(read_proba(path, window)).astype(np.float64)
        planes = proba if len(proba) > 1 else np.concatenate([1 - proba, proba])
        stratum = mapped[window.slices].ravel()
        seen = stratum != IGNORE
        for label, plane in enumerate(planes):
            sums[:, label] += np.bincount(stratum[seen], plane.ravel()[seen], n_labels)
        inside = (rows >= window.row) & (rows < window.row + window.height)
        at[inside] = planes[:, rows[inside] - window.row, cols[inside]].T
    return sums, at
