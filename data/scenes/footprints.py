"""Find the scenes that overlap or touch on the ground."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.errors import CRSError
from rasterio.warp import transform as transform_points
from shapely import STRtree

from data.errors import FoldError
from data.scenes.scene import Scene

__all__ = ["has_footprint", "overlapping_pairs", "touching_pairs"]

ROUNDING = 0.25
"""Share of a pixel by which an edge may be off: tiles cut from one mosaic differ in the last digits."""

DENSE = 21
"""Points along each edge of a footprint that is moved to another reference system."""


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
    corners = {crs: np.array([_corners(scenes[position], margin) for position in by_crs[crs]]) for crs in systems}
    pairs = [np.empty((0, 2), np.int64)]
    for number, crs in enumerate(systems):
        positions, tree = np.array(by_crs[crs]), STRtree(_boxes(corners[crs]))
        pairs.append(positions[_meeting(tree, corners[crs])])
        for other_crs in systems[number + 1 :]:
            first = scenes[by_crs[other_crs][0]]
            moved = _move(corners[other_crs], first, crs)
            # Where the other system has no coordinates for a place, it is far away.
            known = np.isfinite(moved).all(axis=(1, 2))
            found = _meeting(tree, moved[known])
            pairs.append(np.column_stack([np.array(by_crs[other_crs])[known][found[:, 0]], positions[found[:, 1]]]))
    found = np.concatenate(pairs)
    found = np.sort(found[found[:, 0] != found[:, 1]], axis=1)
    return np.unique(found, axis=0)


def _corners(scene: Scene, margin: float) -> list[tuple[float, float]]:
    """Return the corners (4, 2) of a scene around it, each edge moved outwards by ``margin`` pixels."""
    grid = scene.grid
    assert grid.transform is not None
    a, b, c, d, e, f = grid.transform
    ends = (
        (-margin, -margin),
        (grid.width + margin, -margin),
        (grid.width + margin, grid.height + margin),
        (-margin, grid.height + margin),
    )
    return [(a * col + b * row + c, d * col + e * row + f) for col, row in ends]


def _move(corners: NDArray[np.float64], scene: Scene, crs: str | None) -> NDArray[np.float64]:
    """Return points along the bounding boxes (n, 4, 2) of a scene's system in another: (n, points, 2).

    Edges that are straight in one are curves in the other: points along them are moved too.
    """
    low, high = corners.min(axis=1), corners.max(axis=1)
    along = np.linspace(0, 1, DENSE)
    edges = [(along, 0 * along), (along, 0 * along + 1), (0 * along, along), (0 * along + 1, along)]
    x, y = (np.concatenate(each) for each in zip(*edges, strict=True))
    points = low[:, None] + (high - low)[:, None] * np.stack([x, y], axis=1)
    try:
        moved = transform_points(scene.grid.crs, crs, *points.reshape(-1, 2).T.tolist())
    except CRSError as error:
        raise FoldError(
            f"scene {scene.id}: expected a reference system that can be converted to that of the other scenes, "
            f"got: {error}. Reproject it, or remove its georeferencing and group the scenes by a file."
        ) from error
    return np.stack(moved, axis=1).reshape(points.shape)


def _boxes(corners: NDArray[np.float64]) -> NDArray[Any]:
    (left, bottom), (right, top) = corners.min(axis=1).T, corners.max(axis=1).T
    boxes: NDArray[Any] = shapely.box(left, bottom, right, top)
    return boxes


def _meeting(tree: STRtree, corners: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the positions (n_pairs, 2) of bounding boxes of points, and of those in a tree, with a point in common."""
    found: NDArray[np.int64] = tree.query(_boxes(corners)).T
    return found
