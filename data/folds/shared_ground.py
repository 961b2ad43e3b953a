"""Find scenes that show the same ground, shifted by any offset, by what their pixels hold."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.folds.anchors import Anchors, find_anchors
from data.progress import Track, untracked
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import Window
from data.workers import map_ordered

__all__ = ["SharedGround", "SharedPair", "default_bands", "find_shared_ground"]

STABLE = ("dem", "elevation", "height", "altitude", "slope", "hand", "srtm")
"""Names of bands that are the same in every acquisition of a place."""

MOST_ANCHORS, DENSEST = 10_000_000, 0.1
"""Anchors of all scenes together, about, and the share of a scene's windows that are anchors at most."""

VOTES = 3
"""Anchors that must agree on an offset before two scenes are compared."""

FEW = 8
"""Scenes with an anchor in common up to which each is paired with each; of more, each with the next."""

LOOK = 1024
"""Pixels on a side of the part of an overlap that is compared."""

LEAST = 256
"""Pixels with data in both scenes that an overlap has at least."""

ALIKE, ALIKE_STEPS = 0.95, 0.9
"""Correlation of the overlap's values, and of their steps from pixel to pixel, at least."""


@dataclass(frozen=True)
class SharedPair:
    """Two scenes that show the same ground.

    Parameters
    ----------
    first, second : int
        Positions among the scenes, the smaller first.
    rows, cols : int
        Where the second scene's upper left pixel lies in the first.
    share : float
        Of the smaller scene that the other shows too.
    """

    first: int
    second: int
    rows: int
    cols: int
    share: float


@dataclass(frozen=True)
class SharedGround:
    """What was found among the scenes that could be looked at.

    Parameters
    ----------
    bands : tuple of str
        By which it was looked for.
    looked : int
        Scenes.
    pairs : tuple of SharedPair
    """

    bands: tuple[str, ...]
    looked: int
    pairs: tuple[SharedPair, ...]

    @property
    def positions(self) -> NDArray[np.int64]:
        """The positions (n_pairs, 2) of the pairs."""
        return np.array([(pair.first, pair.second) for pair in self.pairs], np.int64).reshape(-1, 2)

    def numbered(self, positions: Sequence[int]) -> "SharedGround":
        """Return the same with other numbers of the scenes, which rise."""
        pairs = (replace(pair, first=positions[pair.first], second=positions[pair.second]) for pair in self.pairs)
        return replace(self, pairs=tuple(pairs))


def default_bands(scenes: Sequence[Scene]) -> tuple[str, ...]:
    """Return the band by which shared ground is looked for: one that stays the same, else the first that is no mask."""
    masks = {band for scene in scenes for band, _ in scene.invalid}
    names = [band for band in (scenes[0].bands if scenes else ()) if band not in masks]
    stable = [name for name in names if name.lower().split("_")[0] in STABLE]
    return tuple((stable or names)[:1])


def find_shared_ground(
    scenes: Sequence[Scene], bands: Sequence[str], executor: Executor | None = None, track: Track = untracked
) -> SharedGround:
    """Find all pairs of scenes whose pixels show the same ground, if only a part of it.

    Windows of 16 × 16 pixels at every offset are hashed, and those are kept whose hash is low: so two scenes keep the
    same ones, wherever they lie in them (content-defined sampling, as of Schleimer, Wilkerson and Aiken 2003,
    "Winnowing"). Scenes with the same hashes at one offset are then compared pixel by pixel where they overlap.

    Parameters
    ----------
    scenes : sequence of Scene
        Blocks are in no pair.
    bands : sequence of str
        Each is looked at by itself. One that changes in time finds scenes of one acquisition.
    executor : Executor, optional
    track : Track

    Raises
    ------
    SceneError
        If a scene cannot be read or lacks a band.
    """
    places = [place for place, scene in enumerate(scenes) if scene.images and scene.block is None]
    chosen = [scenes[place] for place in places]
    found: dict[tuple[int, int], SharedPair] = {}
    pixels = sum(scene.grid.height * scene.grid.width for scene in chosen)
    density = min(DENSEST, MOST_ANCHORS / max(pixels, 1))
    for band in bands if len(chosen) > 1 else ():
        work = partial(find_anchors, band=band, density=density)
        anchors = [*track(map_ordered(work, chosen, executor), f"ground in {band}", len(chosen))]
        order = _vote(anchors)
        candidates = ((chosen[a], chosen[b], rows, cols) for a, b, rows, cols in order)
        compared = map_ordered(partial(_compare, band=band), candidates, executor)
        for (a, b, rows, cols), share in zip(order, track(compared, "overlaps compared", len(order)), strict=True):
            if share:
                pair = SharedPair(places[a], places[b], rows, cols, share)
                found.setdefault((pair.first, pair.second), pair)
    return SharedGround(tuple(bands), len(chosen), tuple(found[key] for key in sorted(found)))


def _vote(anchors: Sequence[Anchors]) -> list[tuple[int, int, int, int]]:
    """Return pairs of scenes and the offset of the second in the first that most of their common anchors agree on."""
    scene = np.repeat(np.arange(len(anchors), dtype=np.int64), [len(each.hashes) for each in anchors])
    hashes = np.concatenate([each.hashes for each in anchors])
    rows, cols = (np.concatenate([getattr(each, name) for each in anchors]) for name in ("rows", "cols"))
    # Stable: within a run of one hash the scenes rise.
    order = np.argsort(hashes, kind="stable")
    hashes, scene, rows, cols = hashes[order], scene[order], rows[order], cols[order]
    starts = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] ^ np.uint64(1)))
    lengths = np.diff(starts, append=len(hashes))
    pairs = [*_pair_up(starts, lengths)]
    if not pairs:
        return []
    first, second = np.concatenate(pairs, axis=1)
    votes = np.column_stack([scene[first], scene[second], rows[first] - rows[second], cols[first] - cols[second]])
    offsets, count = np.unique(votes, axis=0, return_counts=True)
    offsets, count = offsets[count >= VOTES], count[count >= VOTES]
    best: dict[tuple[int, int], tuple[int, tuple[int, int]]] = {}
    for (a, b, down, right), number in zip(offsets.tolist(), count.tolist(), strict=True):
        if number > best.get((a, b), (0, (0, 0)))[0]:
            best[a, b] = number, (down, right)
    return [(a, b, *offset) for (a, b), (_, offset) in best.items()]


def _pair_up(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield positions (2, n) of equal hashes: each with each, or in long runs each with the next."""
    for length in range(2, FEW + 1):
        runs = starts[lengths == length]
        for one in range(length):
            for other in range(one + 1, length):
                yield np.stack([runs + one, runs + other])
    for start, length in zip(starts[lengths > FEW].tolist(), lengths[lengths > FEW].tolist(), strict=True):
        run = np.arange(start, start + length - 1)
        yield np.stack([run, run + 1])


def _compare(candidate: tuple[Scene, Scene, int, int], band: str) -> float:
    """Return the share of the smaller scene that another shows too, 0 where they are not alike in their overlap."""
    first, second, rows, cols = candidate
    overlap = Window(rows, cols, second.grid.height, second.grid.width).meet(first.grid.window)
    # In the middle of a large overlap.
    height, width = min(overlap.height, LOOK), min(overlap.width, LOOK)
    area = Window(
        overlap.row + (overlap.height - height) // 2, overlap.col + (overlap.width - width) // 2, height, width
    )
    with keep_open():
        ours = read_scene(first, area, bands=[band])[0].astype(np.float64)
        theirs = read_scene(second, Window(area.row - rows, area.col - cols, height, width), bands=[band])[0]
    both = np.isfinite(ours) & np.isfinite(theirs)
    if both.sum() < LEAST or not _is_alike(ours, theirs.astype(np.float64), both):
        return 0.0
    smaller = min(scene.grid.height * scene.grid.width for scene in (first, second))
    return overlap.height * overlap.width / smaller


def _is_alike(ours: NDArray[np.float64], theirs: NDArray[np.float64], both: NDArray[np.bool_]) -> bool:
    if _correlation(ours[both], theirs[both]) < ALIKE:
        return False
    steps = []
    for axis in (0, 1):
        known = both[1:] & both[:-1] if axis == 0 else both[:, 1:] & both[:, :-1]
        steps.append(np.stack([np.diff(plane, axis=axis)[known] for plane in (ours, theirs)]))
    return _correlation(*np.concatenate(steps, axis=1)) >= ALIKE_STEPS


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale else -1.0
