"""Guess an experiment file where labels are drawn: shapes or points beside one scene, or beside several."""

import math
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from data.errors import LabelError
from data.folds.groups import connected_components
from data.scenes.control import placed_grid
from data.scenes.grids import corners, is_placed, move_points
from data.scenes.image import raster_window
from data.scenes.rasters import open_raster
from data.scenes.windows import Grid, Window
from data.settings import VECTOR_SUFFIXES
from data.vectors.burn import on_grid
from data.vectors.drawn import FIELDS, as_text
from data.vectors.shapes import Shapes, read_shapes
from terrablend.start.band_names import as_word, common_names, of_file

__all__ = ["guess_drawn"]

MOST_CLASSES = 32
"""Distinct values above which a column is taken for none of classes."""

LOOK = 2048
"""Pixels on a side of the part of a raster that is looked at."""

SIDES = (512, 256, 128, 64, 32)
"""Sides of blocks, in pixels, that are tried for one scene, or a few."""

ENOUGH = 50
"""Groups of shapes that are enough to be dealt to folds."""

FEW = 10
"""Scenes from which on they are dealt to folds whole."""


def guess_drawn(folder: Path, images: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> dict[str, Any] | None:
    """Return scenes, classes, folds and task of an experiment file whose labels are shapes; None if there are none.

    Parameters
    ----------
    folder : Path
    images : sequence of (pattern, ids, bands)
        The image files below it, those of a folder together.
    """
    paths = [folder / pattern.replace("{id}", name) for pattern, ids, _ in images for name in sorted(ids)]
    grids = {path: placed_grid(str(path)) for path in paths if not _shows_classes(path)}
    grids = {path: grid for path, grid in grids.items() if is_placed(grid)}
    if not grids:
        return None
    found = max(_labels(folder, next(iter(grids.values()))), key=lambda label: label[0], default=None)
    if found is None:
        return None
    _, shapes, field = found
    if _lie_together([*grids.values()]):
        entries: list[dict[str, Any]] = [
            {"path": path.relative_to(folder).as_posix(), "bands": bands}
            for path, bands in zip(grids, _bands_of_files([*grids]), strict=True)
        ]
        scenes = 1
    else:
        entries = [{"path": pattern, "bands": list(bands)} for pattern, _, bands in images]
        scenes = max(len(ids) for _, ids, _ in images)
    values = sorted({as_text(value) for value in shapes.column(field).tolist()}, key=_in_order)
    names = {text: f"class {text}" if text.isdigit() else text for text in values}
    numbered = {int(text) if text.isdigit() and int(text) < 255 else place for place, text in enumerate(values, 1)}
    ids = sorted(numbered) if len(numbered) == len(values) else [*range(1, len(values) + 1)]
    label: dict[str, Any] = {"vector": Path(shapes.path).relative_to(folder).as_posix(), "field": field}
    if any(text.isdigit() for text in values):
        label["values"] = names
    train: dict[str, Any] = {"image": entries, "label": label}
    folds: dict[str, Any] = {"count": 5}
    if scenes < FEW:
        # Labels are few: none is left out at the border of a fold.
        folds["group"] = {"field": "shape"}
        train["blocks"] = _block_side(shapes, next(iter(grids.values())))
    return {
        "task": "multiclass" if len(values) > 1 else "binary",
        "scenes": {"train": train, "test": {"image": deepcopy(entries)}},
        "classes": dict(zip(ids, names.values(), strict=True)),
        "folds": folds,
    }


def _labels(folder: Path, grid: Grid) -> Iterator[tuple[tuple[bool, int], Shapes, str]]:
    """Yield files of shapes with a column of classes on a scene, with how well they suit."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.name.lower().endswith(VECTOR_SUFFIXES) or not (path.is_file() or path.suffix == ".gdb"):
            continue
        try:
            shapes = read_shapes(str(path))
            there = len(on_grid(shapes, grid))
        except LabelError:
            continue
        field = _class_field(shapes)
        if there and field is not None:
            polygons = bool(np.isin(shapely.get_type_id(shapes.geometries), (3, 6)).any())
            yield (polygons, there), shapes, field


def _shows_classes(path: Path) -> bool:
    """Return whether a raster is a map of classes, or a label: one band of few whole numbers."""
    with open_raster(str(path)) as raster:
        if raster.count > 1:
            return False
        window = raster_window(Window(0, 0, *raster.shape).meet(Window(0, 0, LOOK, LOOK)))
        values = np.unique(raster.read(1, window=window, masked=True).compressed())
    return bool(len(values) <= MOST_CLASSES and (values == np.rint(values)).all())


def _class_field(shapes: Shapes) -> str | None:
    """Return the column that is likeliest to hold classes: a known name, else the first of few values."""
    small = {name.lower(): name for name in shapes.values}
    known = [small[name] for name in FIELDS if name in small]
    for name in (*known, *shapes.values):
        values = {as_text(value) for value in shapes.column(name).tolist()}
        if 1 < len(values) <= min(MOST_CLASSES, max(len(shapes) - 1, 2)) and "" not in values:
            return name
    return None


def _lie_together(grids: Sequence[Grid]) -> bool:
    """Return whether several files show one place: all their middles lie within each other."""
    first = grids[0]
    box = _box(first, first)
    others = [_box(grid, first) for grid in grids[1:]]
    shared = [box.intersection(other).area / box.union(other).area for other in others]
    return bool(all(share > 0.5 for share in shared))


def _box(grid: Grid, first: Grid) -> shapely.Polygon:
    points = move_points(corners(grid), grid.crs, first.crs)
    return shapely.box(*points.min(axis=0), *points.max(axis=0))


def _bands_of_files(paths: Sequence[Path]) -> Iterator[list[str]]:
    """Yield the names of the bands of each file of one scene."""
    stems = [path.stem for path in paths]
    ends = [re.search(r"(?:^|[_\-. ])[bB]?(\d{1,3}[aA]?)$", stem) for stem in stems]
    numbers = [end[1].lower().lstrip("0") if end else "" for end in ends]
    if all(len(number) == 2 and number.endswith("0") for number in numbers):
        # GRASS writes 10 for band 1, as it writes 61 and 62 for the two of band 6.
        numbers = [number[0] for number in numbers]
    for path, number in zip(paths, numbers, strict=True):
        with open_raster(str(path)) as raster:
            count, descriptions = raster.count, raster.descriptions
        meaning = of_file(path.stem, number)
        word = as_word(path.stem)
        if count == 1:
            yield [*common_names([descriptions[0] or meaning or word], path.stem)]
        else:
            names = [name or f"{word}_{place}" for place, name in enumerate(descriptions, 1)]
            yield [*common_names(names, path.stem)]


def _block_side(shapes: Shapes, grid: Grid) -> int:
    """Return the largest side at which shapes fall into enough groups, those in one block or in one shape's blocks."""
    placed = on_grid(shapes, grid)
    bounds: NDArray[np.float64] = shapely.bounds(placed.geometries)
    wanted = min(ENOUGH, 0.8 * len(placed))
    for side in SIDES:
        if side < min(grid.height, grid.width) and _count_groups(bounds // side) >= wanted:
            return side
    return SIDES[-1]


def _count_groups(spans: NDArray[np.float64]) -> int:
    """Return how many groups of shapes share no block; ``spans`` are the first and last column and row of each."""
    owner: dict[tuple[int, int], int] = {}
    pairs = [
        (owner.setdefault((row, col), number), number)
        for number, (left, top, right, bottom) in enumerate(spans.astype(int).tolist())
        for row in range(top, bottom + 1)
        for col in range(left, right + 1)
    ]
    return len(np.unique(connected_components(len(spans), pairs)))


def _in_order(text: str) -> tuple[float, str]:
    return (float(text), "") if text.lstrip("-").isdigit() else (math.inf, text)
