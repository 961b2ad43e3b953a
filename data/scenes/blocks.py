"""Blocks: the windows of a large scene that are dealt to folds like scenes of their own."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from data.errors import ExperimentError
from data.scenes.ground import pixel_metres
from data.scenes.scene import Block, Scene
from data.scenes.windows import Grid, tile_windows

__all__ = ["length_in_pixels", "split_scene"]

LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(px|m|km)?")


def split_scene(scene: Scene, length: int | str) -> Iterator[Scene]:
    """Yield the blocks of a scene, row by row; those at its lower and right edges may be smaller.

    Parameters
    ----------
    scene : Scene
    length : int or str
        Side of a block; see `length_in_pixels`.

    Raises
    ------
    ExperimentError
        If it is less than a pixel, or no length.
    """
    side = length_in_pixels("scenes.train.blocks", length, scene.grid)
    if side < 1:
        raise ExperimentError(
            f"scenes.train.blocks: expected blocks of a pixel or more, got {length}. Give a larger side."
        )
    for window in tile_windows(scene.grid.height, scene.grid.width, side):
        name = f"{scene.id}_{window.row:05d}_{window.col:05d}"
        yield replace(
            scene, id=name, grid=scene.grid.part(window), block=Block(scene.id, scene.grid, window), group="", fold=None
        )


def length_in_pixels(key: str, length: int | str, grid: Grid) -> int:
    """Return a length that is written in pixels, metres or kilometres, in whole pixels of a grid.

    >>> length_in_pixels("gap", "1.5 km", Grid(9, 9, None, (10, 0, 0, 0, -10, 0)))
    150

    Raises
    ------
    ExperimentError
        If it is no length, or one in metres of a scene that does not say how large its pixels are.
    """
    match = LENGTH.fullmatch(str(length).strip().lower())
    if match is None:
        raise ExperimentError(f"{key}: expected pixels or a length such as 256, 500 m or 2 km, got {length}.")
    value, unit = float(match[1]), match[2] or "px"
    if unit == "px":
        return math.ceil(value)
    side = pixel_metres(grid)
    if side is None:
        raise ExperimentError(
            f"{key}: expected scenes with georeferencing, to turn {length} into pixels, got one without. Give pixels."
        )
    return math.ceil(round(value * (1000 if unit == "km" else 1) / side, 3))
