"""Describe small windows of a band, at all offsets, by hashes: windows of the same content have the same hash."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.compiled import compiled
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import Window, tile_windows

__all__ = ["WINDOW", "Anchors", "find_anchors", "hash_windows"]

BOX, STEP, POINTS = 4, 4, 4
"""Means of boxes of 4 × 4 pixels are taken at 4 × 4 points, 4 pixels apart: what noise there is changes few of them."""

WINDOW = STEP * (POINTS - 1) + BOX
"""Pixels on a side of what a hash is made of."""

TEXTURE = 0.1
"""Share of a window's variance that is neither of its rows nor of its columns: slopes, stripes and straight edges tell
no place."""

FLAT = 1e-6
"""Deviation of a window in parts of its mean up to which it differs by rounding alone."""

UNIT = 0.4
"""Deviations of a window that its values are rounded to: a brighter or steeper picture of it has the same hash."""

PER_PEAK = 50
"""Windows to one that has its highest place in the middle, about."""

DIFFERENT = 6
"""Different values that the points of a window have at least."""


@dataclass(frozen=True)
class Anchors:
    """Windows of a scene that were chosen by their content alone.

    Parameters
    ----------
    hashes : (n,) uint64
    rows, cols : (n,) int32
        Of their upper left pixels.
    """

    hashes: NDArray[np.uint64]
    rows: NDArray[np.int32]
    cols: NDArray[np.int32]


def find_anchors(scene: Scene, band: str, density: float, *, side: int = 1024) -> Anchors:
    """Find the anchors of a scene; those whose hash it has more than once tell no place and are left out.

    Parameters
    ----------
    scene : Scene
    band : str
    density : float
        Share of the windows that are chosen: by their hash, so that two scenes choose the same.
    side : int
        Pixels on a side of the parts in which it is read.
    """
    height, width = scene.grid.height, scene.grid.width
    limit = np.uint64(min(density * PER_PEAK, 1.0) * (2.0**64 - 2**12))
    parts = []
    with keep_open():
        for tile in tile_windows(height, width, side):
            area = Window(tile.row, tile.col, tile.height + WINDOW - 1, tile.width + WINDOW - 1)
            area = area.meet(scene.grid.window)
            hashes = hash_windows(read_scene(scene, area, bands=[band])[0])
            rows, cols = np.nonzero((hashes > 0) & (hashes < limit))
            parts.append((hashes[rows, cols], rows + tile.row, cols + tile.col))
    found, rows, cols = (np.concatenate(each) for each in zip(*parts, strict=True))
    _, first, count = np.unique(found, return_index=True, return_counts=True)
    once = first[count == 1]
    return Anchors(found[once], rows[once].astype(np.int32), cols[once].astype(np.int32))


def hash_windows(plane: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return a hash for each window of a plane that has its highest place in the middle, else 0.

    It is 0 too where a window tells nothing: no data, flat, a slope, stripes.

    Values count by how far they lie from the window's mean, in its deviation, coarsely: pictures of one place that were
    stretched each in its own way have the same hashes, and a little noise changes few.

    Parameters
    ----------
    plane : (H, W) float32

    Returns
    -------
    hashes : (H - WINDOW + 1, W - WINDOW + 1) uint64
    """
    if min(plane.shape) < WINDOW:
        return np.zeros((0, 0), np.uint64)
    return _hash(np.ascontiguousarray(plane, np.float64))


@compiled
def _hash(plane: NDArray[np.float64]) -> NDArray[np.uint64]:
    height, width = plane.shape
    # Sums of the same values in the same order have the same bits wherever they lie.
    along = np.empty((height, width - 3))
    for row in range(height):
        for col in range(width - 3):
            along[row, col] = (plane[row, col] + plane[row, col + 1]) + (plane[row, col + 2] + plane[row, col + 3])
    means = np.empty((height - 3, width - 3))
    for row in range(height - 3):
        for col in range(width - 3):
            total = (along[row, col] + along[row + 1, col]) + (along[row + 2, col] + along[row + 3, col])
            means[row, col] = total / 16
    hashes = np.zeros((height - 15, width - 15), np.uint64)
    values, codes = np.empty((4, 4)), np.empty(16, np.int64)
    of_rows, of_cols = np.empty(4), np.empty(4)
    for top in range(height - 15):
        for left in range(width - 15):
            peak = means[top + 6, left + 6]
            # Few windows have their highest place in the middle: only these are looked at.
            if not (
                peak > means[top + 6, left + 4]
                and peak > means[top + 6, left + 8]
                and peak > means[top + 4, left + 6]
                and peak > means[top + 8, left + 6]
                and peak > means[top + 4, left + 4]
                and peak > means[top + 8, left + 8]
                and peak > means[top + 4, left + 8]
                and peak > means[top + 8, left + 4]
            ):
                continue
            of_rows[:] = 0
            of_cols[:] = 0
            for row in range(4):
                for col in range(4):
                    value = means[top + 4 * row, left + 4 * col]
                    values[row, col] = value
                    of_rows[row] += value / 4
                    of_cols[col] += value / 4
            mean = (of_rows[0] + of_rows[1] + of_rows[2] + of_rows[3]) / 4
            if not math.isfinite(mean):
                continue
            total, own = 0.0, 0.0
            for row in range(4):
                for col in range(4):
                    total += (values[row, col] - mean) ** 2
                    own += (values[row, col] - of_rows[row] - of_cols[col] + mean) ** 2
            deviation = math.sqrt(total / 16)
            if deviation <= FLAT * abs(mean) or deviation < 1e-30 or own < TEXTURE * total:
                continue
            unit = deviation * UNIT
            mixed = np.uint64(1)
            different = 0
            for place in range(16):
                code = np.int64(math.floor((values[place // 4, place % 4] - mean) / unit))
                codes[place] = code
                new = True
                for before in range(place):
                    if codes[before] == code:
                        new = False
                        break
                different += new
                mixed = (mixed ^ np.uint64(code)) * np.uint64(0x9E3779B97F4A7C15)
                mixed ^= mixed >> np.uint64(29)
            if different < DIFFERENT:
                continue
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
            hashes[top, left] = max(mixed, np.uint64(1))
    return hashes
