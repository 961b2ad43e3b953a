"""Labels at the borders of folds: blocks that show one shape together, and what is left out of learning."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from data.scenes.blocks import length_in_pixels
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene, read_label
from data.scenes.windows import Window
from data.vectors.burn import burn_numbers, write_label
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
                place = _place(block)
                both = place.meet(window)
                if both.height and both.width:
                    for number in np.unique(numbers[both.within(window)]).tolist():
                        if number >= 0:
                            yield first.setdefault(names[number], block.id), block.id


def trim_labels(
    scenes: Sequence[Scene], drawn: Mapping[str, DrawnLabel], field: str | None, gap: int | str
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
    """
    concerned = []
    for whole, blocks in _by_whole([scene for scene in scenes if scene.block is not None]).items():
        grid, label = blocks[0].whole.grid, blocks[0].label
        width = length_in_pixels("folds.gap", gap, grid)
        if label is None or (whole not in drawn and not width):
            continue
        folds = np.full((grid.height, grid.width), -1, np.int16)
        for block in blocks:
            folds[_place(block).slices] = -1 if block.fold is None else block.fold
        hidden = _near_others(folds, width)
        if whole in drawn:
            hidden |= _away_from_home(drawn[whole], blocks[0].whole, folds, field)
        scene = blocks[0].whole
        kept = read_label(scene)
        kept[hidden] = IGNORE
        write_label(Path(label.path), grid, iter([(grid.window, kept)]))
        concerned += blocks
    return concerned


def _away_from_home(drawn: DrawnLabel, whole: Scene, folds: NDArray[np.int16], field: str | None) -> NDArray[np.bool_]:
    """Return where a shape lies in another fold than most of it."""
    names, strips = burn_numbers(drawn, whole.grid, field)
    numbers = np.full(folds.shape, -1, np.int32)
    for window, part in strips:
        numbers[window.slices] = part
    there = numbers >= 0
    counts = np.zeros((len(names), int(folds.max()) + 1), np.int64)
    np.add.at(counts, (numbers[there], folds[there]), 1)
    away: NDArray[np.bool_] = there & (counts.argmax(axis=1)[np.maximum(numbers, 0)] != folds)
    return away


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


def _place(scene: Scene) -> Window:
    return scene.grid.window if scene.block is None else scene.block.window
