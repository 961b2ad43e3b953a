"""Find the scenes that overlap or touch on the ground."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import CRSError
from rasterio.warp import transform_bounds

from data.errors import FoldError
from data.scenes.scene import Scene

__all__ = ["has_footprint", "overlapping_pairs", "touching_pairs"]

ROUNDING = 0.25
"""Share of a pixel by which an edge may be off: tiles cut from one mosaic differ in the last digits."""


def has_footprint(scene: Scene) -> bool:
    """Return whether a scene is georeferenced."""
    return scene.grid.crs is not None and scene.grid.transform is not None


def overlapping_pairs(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """Find the scenes that show the same ground, if only a strip of it.

    Parameters
    ----------
    scenes : sequence of Scene
        Those without georeferencing are in no pair.

    Returns
    -------
    pairs : (n_pairs, 2) int64
        Positions in ``scenes``, the smaller first, sorted. Scenes that merely touch are no pair. Footprints in
        different reference systems are compared by their bounding boxes in one of them, which are a little too
        large: such scenes may be paired though they narrowly miss each other.

    Raises
    ------
    FoldError
        If the reference systems cannot be converted into each other.
    """
    return _find_pairs(scenes, -ROUNDING)


def touching_pairs(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """Find the scenes that overlap or have an edge or corner in common; see `overlapping_pairs`."""
    return _find_pairs(scenes, ROUNDING)


def _find_pairs(scenes: Sequence[Scene], margin: float) -> NDArray[np.int64]:
    """Pair scenes whose footprints meet after each edge was moved outwards by ``margin`` pixels."""
    by_crs = defaultdict(list)
    for position, scene in enumerate(scenes):
        if has_footprint(scene):
            by_crs[scene.grid.crs].append(position)
    systems = sorted(by_crs, key=str)
    pairs = [np.empty((0, 2), np.int64)]
    for number, crs in enumerate(systems):
        positions = by_crs[crs]
        boxes = np.array([_bounds(scenes[position], crs, margin) for position in positions])
        pairs.append(np.array(positions)[_meeting_boxes(boxes, boxes)])
        for other_crs in systems[number + 1 :]:
            others = by_crs[other_crs]
            moved = np.array([_bounds(scenes[position], crs, margin) for position in others])
            # Where the other system has no coordinates for a place, it is far away.
            known = np.isfinite(moved).all(axis=1)
            first, second = _meeting_boxes(boxes, moved[known]).T
            pairs.append(np.column_stack([np.array(positions)[first], np.array(others)[known][second]]))
    found = np.concatenate(pairs)
    found = np.sort(found[found[:, 0] != found[:, 1]], axis=1)
    return np.unique(found, axis=0)


def _bounds(scene: Scene, crs: str | None, margin: float) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of a scene in ``crs``, each moved outwards by ``margin`` pixels."""
    grid = scene.grid
    assert grid.transform is not None
    a, b, c, d, e, f = grid.transform
    corners = [
        (-margin, -margin),
        (grid.width + margin, -margin),
        (-margin, grid.height + margin),
        (grid.width + margin, grid.height + margin),
    ]
    x = [a * col + b * row + c for col, row in corners]
    y = [d * col + e * row + f for col, row in corners]
    box = (min(x), min(y), max(x), max(y))
    if grid.crs == crs:
        return box
    try:
        left, bottom, right, top = transform_bounds(grid.crs, crs, *box)
    except CRSError as error:
        raise FoldError(
            f"scene {scene.id}: expected a reference system that can be converted to that of the other scenes, "
            f"got: {error}. Reproject it, or remove its georeferencing and group the scenes by a file."
        ) from error
    return left, bottom, right, top


def _meeting_boxes(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the positions (n_pairs, 2) of boxes and others, (n, 4) each, that have a point in common."""
    order = np.argsort(others[:, 0], kind="stable")
    left, bottom, right, top = others[order].T
    # Only boxes that start before this one ends can meet it; those that also start in time are few.
    starts = np.searchsorted(left, boxes[:, 0] - (right - left).max(initial=0), side="left")
    stops = np.searchsorted(left, boxes[:, 2], side="right")
    found = [np.empty((0, 2), np.int64)]
    for position, (box, start, stop) in enumerate(zip(boxes, starts, stops, strict=True)):
        near = slice(start, stop)
        meets = (right[near] >= box[0]) & (bottom[near] <= box[3]) & (top[near] >= box[1])
        hits = order[near][meets]
        found.append(np.column_stack([np.full(len(hits), position), hits]))
    return np.concatenate(found)
