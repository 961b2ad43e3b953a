"""Find near-duplicate scenes: the same place seen again, by one band that stays the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.progress import Track, untracked
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import Window

__all__ = ["BLOCKS", "Thumbnails", "read_thumbnails", "similar_pairs"]

BLOCKS = 24
"""Blocks along each side of a thumbnail."""

CHUNK = 512
"""Thumbnails that are compared with all others at a time."""

BATCH = 4096
"""Candidate pairs whose relief is compared at a time."""

RELIEF_SLACK = 5
"""How much faster the likeness of steps between blocks falls off than that of values, when a scene is shifted a
little. Two mountainsides have like values but other steps: 150 synthetic coasts, all different, had values that
correlate up to 0.99 and steps up to 0.86; the same coast shifted by 4 of 350 pixels has 0.99 and 0.95."""

ROUNDING = 1e-5

SHARED = 0.25
"""Least share of blocks that both scenes must show for their likeness to mean anything."""

SPREAD = 0.05
"""Least share of a scene's variance that must lie in the blocks shared: two flat seas are not alike."""


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


def read_thumbnails(
    scenes: Sequence[Scene], band: str, track: Track = untracked, *, strip_pixels: int = 2**22
) -> Thumbnails:
    """Read scenes as thumbnails of one band.

    Parameters
    ----------
    scenes : sequence of Scene
    band : str
        Such as ``dem``, which is the same in every acquisition of a place.
    track : Track
    strip_pixels : int
        Pixels of a scene held at a time.

    Raises
    ------
    SceneError
        If a scene lacks the band or cannot be read.
    """
    values = np.zeros((len(scenes), BLOCKS * BLOCKS), np.float32)
    valid = np.zeros((len(scenes), BLOCKS * BLOCKS), np.float32)
    for position, scene in enumerate(track(scenes, f"thumbnails of {band}", len(scenes))):
        values[position], valid[position] = _shrink(scene, band, strip_pixels)
    return Thumbnails(values, valid)


def similar_pairs(thumbnails: Thumbnails, similarity: float) -> NDArray[np.int64]:
    """Find near-duplicates by the correlation of thumbnails over the blocks that both scenes show.

    Both the block means and the steps from block to block must correlate, the steps by at least
    1 − `RELIEF_SLACK` (1 − similarity): smooth scenes of different places often have like means.

    Parameters
    ----------
    thumbnails : Thumbnails
    similarity : float
        Least correlation of the block means.

    Returns
    -------
    pairs : (n_pairs, 2) int64
        Positions in ``thumbnails``, the smaller first, sorted. Constant scenes are in no pair, nor are scenes
        that have too little in common to be compared.
    """
    pairs = [np.empty((0, 2), np.int64)]
    steps, count = _steps(thumbnails), len(thumbnails.values)
    least = 1 - RELIEF_SLACK * (1 - similarity)
    for start in range(0, count, CHUNK):
        part, rest = (thumbnails.take(range(start, stop)) for stop in (min(start + CHUNK, count), count))
        alike = np.triu(_correlation(part, rest) >= similarity - ROUNDING, k=1)
        candidates = np.argwhere(alike) + start
        for batch in range(0, len(candidates), BATCH):
            first, second = candidates[batch : batch + BATCH].T
            kept = _correlate_steps(steps[first], steps[second]) >= least - ROUNDING
            pairs.append(np.column_stack([first[kept], second[kept]]))
    return np.concatenate(pairs)


def _steps(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Return the differences (n, 2, …) of neighbouring blocks, down and right, NaN where one is not valid."""
    values = np.where(thumbnails.valid > 0, thumbnails.values, np.nan).reshape(-1, BLOCKS, BLOCKS)
    down, right = np.diff(values, axis=1), np.diff(values, axis=2)
    shape = len(values), 1, BLOCKS * (BLOCKS - 1)
    steps: NDArray[np.float32] = np.concatenate([down.reshape(shape), right.reshape(shape)], axis=1)
    return steps


def _correlate_steps(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the correlation (n,) of the steps (n, 2, …) of pairs, the mean slope of each direction taken out."""
    both = np.isfinite(x) & np.isfinite(y)
    count = np.maximum(both.sum(axis=2, keepdims=True), 1)
    x, y = np.where(both, x, 0), np.where(both, y, 0)
    x = np.where(both, x - x.sum(axis=2, keepdims=True) / count, 0)
    y = np.where(both, y - y.sum(axis=2, keepdims=True) / count, 0)
    scale = np.sqrt((x**2).sum(axis=(1, 2)) * (y**2).sum(axis=(1, 2)))
    # Two even slopes tell as little as two flat seas.
    telling = scale > ROUNDING * count.sum(axis=(1, 2))
    return np.where(telling, (x * y).sum(axis=(1, 2)) / np.where(telling, scale, 1), -1).astype(np.float32)


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


def _shrink(scene: Scene, band: str, strip_pixels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the standardised block means of one scene and which of them are valid, (BLOCKS²,) each."""
    height, width = scene.grid.height, scene.grid.width
    block_of_row, block_of_col = np.arange(height) * BLOCKS // height, np.arange(width) * BLOCKS // width
    total, count, size = (np.zeros(BLOCKS * BLOCKS) for _ in range(3))
    rows = max(1, strip_pixels // width)
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
