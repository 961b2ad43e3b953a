"""Labels at the borders of folds: blocks that show one shape together, and what is left out of learning."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from data.scenes.blocks import length_in_pixels
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene, read_labels
from data.scenes.windows import Window
from data.vectors.burn import STRIP_PIXELS, burn_numbers, label_strips, write_label
from data.vectors.drawn import DrawnLabel

__all__ = ["shape_pairs", "trim_labels"]


def shape_pairs(scenes: Sequence[Scene], drawn: Mapping[str, DrawnLabel], field: str) -> Iterator[tuple[str, str]]:
    """Yield pairs of scenes or blocks that show shapes with an equal value of a column.

    Parameters
    ----------
    scenes : sequence of Scene
        Training scenes, or blocks.
    drawn : mapping
        Scene, of blocks the whole one → its drawn label.
    field : str
    """
    first: dict[str, str] = {}
    for whole, blocks in _by_whole(scenes).items():
        if whole not in drawn:
            continue
        names, strips = burn_numbers(drawn[whole], blocks[0].whole.grid, field)
        for window, numbers in strips:
            for block in blocks:
                place = block.place
                both = place.meet(window)
                if both.height and both.width:
                    for number in np.unique(numbers[both.within(window)]).tolist():
                        if number >= 0:
                            yield first.setdefault(names[number], block.id), block.id


def trim_labels(
    scenes: Sequence[Scene],
    drawn: Mapping[str, DrawnLabel],
    field: str | None,
    gap: int | str,
    *,
    strip_pixels: int = STRIP_PIXELS,
) -> list[Scene]:
    """Leave out labels that would let a fold see what another one holds out; return the blocks that this may concern.

    A shape belongs to the fold that most of it lies in; its parts in blocks of other folds are left out, and so are
    labels within a gap of such blocks. The label files, which are ours, are written again.

    Parameters
    ----------
    scenes : sequence of Scene
        Training scenes with folds; those that are no blocks are left alone.
    drawn : mapping
        Whole scene → its drawn label, if it has one.
    field : str or None
        Shapes with an equal value of this column are one.
    gap : int or str
        Pixels, or a length.
    strip_pixels : int
        That are looked at a time.
    """
    concerned = []
    for whole, blocks in _by_whole([scene for scene in scenes if scene.block is not None]).items():
        grid, label = blocks[0].whole.grid, blocks[0].label
        width = length_in_pixels("folds.gap", gap, grid)
        if label is not None and (whole in drawn or width):
            strips = _trimmed(blocks, drawn.get(whole), field, width, strip_pixels)
            write_label(Path(label.path), grid, strips, 1 + label.opinions)
            concerned += blocks
    return concerned


def _trimmed(
    blocks: Sequence[Scene], drawn: DrawnLabel | None, field: str | None, width: int, pixels: int
) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Yield strips of the labels of a scene without what lies near other folds or in another than its shape's."""
    scene = blocks[0].whole
    homes = None if drawn is None else _homes(drawn, blocks, field, pixels)
    strips = None if drawn is None else burn_numbers(drawn, scene.grid, field, pixels)[1]
    numbers = repeat(None) if strips is None else (found for _, found in strips)
    for window, number in zip(label_strips(scene.grid, pixels), numbers, strict=False):
        around = window.grow(width).meet(scene.grid.window)
        folds = _folds_in(blocks, around)
        inner = window.within(around)
        hidden = _near_others(folds, width)[inner]
        if homes is not None and number is not None:
            hidden |= (number >= 0) & (homes[np.maximum(number, 0)] != folds[inner])
        kept = read_labels(scene, window)
        kept[:, hidden] = IGNORE
        yield window, kept


def _folds_in(blocks: Sequence[Scene], window: Window) -> NDArray[np.int16]:
    """Return the fold of each pixel of a window, -1 where there is none."""
    folds = np.full((window.height, window.width), -1, np.int16)
    for block in blocks:
        both = block.place.meet(window)
        if both.height and both.width and block.fold is not None:
            folds[both.within(window)] = block.fold
    return folds


def _homes(drawn: DrawnLabel, blocks: Sequence[Scene], field: str | None, pixels: int) -> NDArray[np.intp]:
    """Return the fold that most of each shape lies in."""
    names, strips = burn_numbers(drawn, blocks[0].whole.grid, field, pixels)
    counts = np.zeros((max(len(names), 1), 1 + max(block.fold or 0 for block in blocks)), np.int64)
    for window, numbers in strips:
        folds = _folds_in(blocks, window)
        there = (numbers >= 0) & (folds >= 0)
        np.add.at(counts, (numbers[there], folds[there]), 1)
    homes: NDArray[np.intp] = counts.argmax(axis=1)
    return homes


def _near_others(folds: NDArray[np.int16], width: int) -> NDArray[np.bool_]:
    """Return the pixels with one of another fold at most ``width`` rows and columns away."""
    if not width:
        return np.zeros(folds.shape, bool)
    size = 2 * width + 1
    near: NDArray[np.bool_] = maximum_filter(folds, size, mode="nearest") != minimum_filter(folds, size, mode="nearest")
    return near


def _by_whole(scenes: Sequence[Scene]) -> dict[str, list[Scene]]:
    blocks: dict[str, list[Scene]] = defaultdict(list)
    for scene in scenes:
        blocks[scene.whole.id].append(scene)
    return blocks
