"""Near-duplicate scenes: the same place seen again, told by one band that does not change."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.progress import Track, untracked
from data.scene import Scene, read_scene
from data.windows import Window

__all__ = ["BLOCKS", "Thumbnails", "read_thumbnails", "similar_pairs"]

BLOCKS = 24
"""Blocks along each side of a thumbnail."""

STRIP_PIXELS = 2**22
"""Pixels held at a time while a thumbnail is made."""

CHUNK = 512
"""Thumbnails that are compared with all others at a time."""

SHARED = 0.25
"""Least share of blocks that both scenes must show for their likeness to mean anything."""

SPREAD = 0.05
"""Least share of a scene's variance that must lie in the blocks shared: the flat sea beside two islands is no likeness."""


@dataclass(frozen=True)
class Thumbnails:
    """Many scenes, made small and comparable.

    Parameters
    ----------
    values : (n_scenes, BLOCKS²) float32
        Block means with mean 0 and deviation 1 over each scene's valid blocks, 0 in the others. All 0 where
        a scene is constant and so tells nothing.
    valid : (n_scenes, BLOCKS²) float32
        1 where at least half of a block's pixels are valid, else 0.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.float32]

    def take(self, positions: Sequence[int]) -> "Thumbnails":
        """Return the thumbnails of some scenes."""
        return Thumbnails(self.values[list(positions)], self.valid[list(positions)])


def read_thumbnails(scenes: Sequence[Scene], band: str, track: Track = untracked) -> Thumbnails:
    """Make the thumbnails of scenes on one band.

    Parameters
    ----------
    scenes : sequence of Scene
    band : str
        Such as ``dem``, which is the same in every acquisition of a place.
    track : Track

    Raises
    ------
    SceneError
        If a scene lacks the band or cannot be read.
    """
    values = np.zeros((len(scenes), BLOCKS * BLOCKS), np.float32)
    valid = np.zeros((len(scenes), BLOCKS * BLOCKS), np.float32)
    for position, scene in enumerate(track(scenes, f"thumbnails of {band}", len(scenes))):
        values[position], valid[position] = _shrink(scene, band)
    return Thumbnails(values, valid)


def similar_pairs(first: Thumbnails, second: Thumbnails, similarity: float) -> NDArray[np.int64]:
    """Find near-duplicates by the correlation of thumbnails over the blocks that both scenes show.

    Parameters
    ----------
    first, second : Thumbnails
        Of n and m scenes.
    similarity : float
        Least correlation.

    Returns
    -------
    pairs : (n_pairs, 2) int64
        Positions in ``first`` and ``second``, sorted. Constant scenes are in no pair, nor are scenes that have
        too little in common to be compared.
    """
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(first.values), CHUNK):
        part = first.take(range(start, min(start + CHUNK, len(first.values))))
        rows, cols = np.nonzero(_correlation(part, second) >= similarity)
        pairs.append(np.column_stack([rows + start, cols]))
    return np.concatenate(pairs)


def _correlation(first: Thumbnails, second: Thumbnails) -> NDArray[np.float32]:
    """Return the correlation (n, m) of each pair over the blocks that both show, NaN where it means nothing."""
    x, y, seen_x, seen_y = first.values, second.values, first.valid, second.valid
    count = np.maximum(seen_x @ seen_y.T, 1)
    mean_x, mean_y = x @ seen_y.T / count, seen_x @ y.T / count
    variance_x = x**2 @ seen_y.T / count - mean_x**2
    variance_y = seen_x @ (y**2).T / count - mean_y**2
    covariance = x @ y.T / count - mean_x * mean_y
    # A whole scene's variance is 1, so these compare the part shared with the whole.
    telling = (count >= SHARED * x.shape[1]) & (np.minimum(variance_x, variance_y) * count >= SPREAD * x.shape[1])
    scale = np.sqrt(np.where(telling, variance_x * variance_y, 1))
    return np.where(telling, covariance / scale, np.nan).astype(np.float32)


def _shrink(scene: Scene, band: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the standardised block means of one scene and which of them are valid, (BLOCKS²,) each."""
    height, width = scene.grid.height, scene.grid.width
    block_of_row, block_of_col = np.arange(height) * BLOCKS // height, np.arange(width) * BLOCKS // width
    total, count, size = (np.zeros(BLOCKS * BLOCKS) for _ in range(3))
    rows = max(1, STRIP_PIXELS // width)
    for row in range(0, height, rows):
        window = Window(row, 0, min(rows, height - row), width)
        pixels = read_scene(scene, window, bands=[band])[0]
        known = np.isfinite(pixels)
        block = (block_of_row[row : row + window.height, None] * BLOCKS + block_of_col).ravel()
        total += np.bincount(block, np.where(known, pixels, 0).ravel(), len(total))
        count += np.bincount(block, known.ravel(), len(total))
        size += np.bincount(block, minlength=len(total))
    # A scene smaller than its thumbnail leaves blocks empty: they are not valid.
    valid = (count > 0) & (2 * count >= size)
    means = total[valid] / count[valid]
    values = np.zeros(BLOCKS * BLOCKS)
    spread = means.std() if len(means) else 0.0
    if len(means) and spread > 1e-6 * np.abs(means).max():
        values[valid] = (means - means.mean()) / spread
    return values.astype(np.float32), valid.astype(np.float32)
