"""A design sample: reference points drawn on a map, read from a CSV and counted against the map."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import rowcol
from scipy.special import betaincinv

from data.csv_cells import read_rows
from data.errors import LabelError
from data.maps.geotiff import read_class_map
from data.names import list_names, nearest
from data.pages.numbers import format_count, format_number, format_percent
from data.progress import Track, untracked
from data.scenes.classes import IGNORE, Classes
from data.scenes.rasters import read_grid
from data.scenes.windows import Grid
from ensemble.score.area_estimates import areas_of_sample
from ensemble.score.areas import Areas, pixel_sizes
from ensemble.score.assisted_areas import AssistedAreas, SoftSample, assist_areas
from ensemble.score.soft_maps import read_soft_map

__all__ = ["Point", "SampleScores", "read_sample", "score_sample"]

MATTERS = 0.1
"""Share of a class's estimated area that may be overlooked in a mapped class without a word."""

FEWEST = 2
"""Points that a mapped class needs, since of a single one no deviation is known."""


@dataclass(frozen=True)
class Point:
    """A pixel of a scene, and its true label index."""

    scene: str
    row: int
    col: int
    label: int


@dataclass(frozen=True)
class SampleScores:
    """The accuracy and areas of a map by a design sample.

    Parameters
    ----------
    points : int
    unmapped : int
        Points where nothing is mapped: they are no part of the mapped area and tell nothing of it.
    counts : (n_labels, n_labels + 1) int64
        The points, as `data.metrics.confusion.confusion_counts` counts pixels.
    areas : Areas
    unsettled : tuple of str
        In words: of which class none was seen in a mapped class so large that there could be much of it all the same.
    assisted : AssistedAreas, optional
        Estimated with the help of the map's probabilities, where there are any.
    """

    points: int
    unmapped: int
    counts: NDArray[np.int64]
    areas: Areas
    unsettled: tuple[str, ...] = ()
    assisted: AssistedAreas | None = None


def read_sample(path: Path, grids: Mapping[str, Grid], classes: Classes) -> list[Point]:
    """Read the points of a CSV file with a header.

    Parameters
    ----------
    path : Path
        Columns ``scene``, ``class`` (a name, or an id as in class maps), and ``row`` and ``col`` of the pixel, from 0,
        or ``x`` and ``y`` in the scene's CRS. Others are not looked at.
    grids : mapping
        Scene → grid of its map.
    classes : Classes

    Raises
    ------
    LabelError
        If the file cannot be read or lacks a column, or a point is of no scene or class, outside its map, or given
        twice; all such lines are counted, and the first few named.
    """
    try:
        header, lines, rows = read_rows(path, texts=("scene",))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path}: expected a CSV file of points, got: {error}. Correct --sample.") from error
    by_pixel = {"row", "col"} <= {*header}
    if not rows or not {"scene", "class"} <= {*header} or not (by_pixel or {"x", "y"} <= {*header}):
        columns = list_names(sorted(header)) if rows else "no row"
        raise LabelError(
            f"{path}: expected points in columns scene, class, and row and col or x and y, got {columns}. "
            "Write a header with these names, and a row a point."
        )
    points: dict[tuple[str, int, int], Point] = {}
    problems = []
    for line, row in zip(lines, rows, strict=True):
        try:
            point = _point(row, grids, classes, by_pixel)
        except LabelError as problem:
            problems.append(f"line {line}: {problem}"[:200])
            continue
        if (point.scene, point.row, point.col) in points:
            again = f"{point.scene} {point.row}, {point.col}"
            problems.append(f"line {line}: expected each pixel once, got {again} again")
        points[point.scene, point.row, point.col] = point
    if problems:
        more = " …" if len(problems) > 3 else ""
        raise LabelError(
            f"{path}: expected {len(rows)} points on the maps, got {len(problems)} that are not: "
            f"{'; '.join(problems[:3])}{more}. Correct these lines."
        )
    return list(points.values())


def score_sample(
    path: Path,
    maps: Mapping[str, Path],
    classes: Classes,
    confidence_level: float,
    proba: Mapping[str, Path] | None = None,
    track: Track = untracked,
) -> SampleScores:
    """Score class maps by a design sample; the strata are the map's classes and their areas.

    A simple random or systematic sample may be scored as well: it is then stratified afterwards.

    Parameters
    ----------
    path : Path
        As `read_sample` reads it.
    maps : mapping of str to Path
        Scene → class map. All of them are the mapped area, with points or without.
    classes : Classes
    confidence_level : float
        Of the intervals, such as 0.95.
    proba : mapping of str to Path, optional
        Scene → probability map, of all scenes: areas are then also estimated with their help.
    track : Track

    Raises
    ------
    LabelError
        As `read_sample` raises it, and if a mapped class has fewer than two points.
    MapError
        If a probability map does not lie where its class map does, or is of other classes.
    """
    grids = {scene: read_grid(str(file))[0] for scene, file in maps.items()}
    points = read_sample(path, grids, classes)
    n_labels = len(classes.label_names)
    drawn: dict[str, list[Point]] = {}
    for point in points:
        drawn.setdefault(point.scene, []).append(point)
    counts = np.zeros((n_labels, n_labels + 1), np.int64)
    pixels, soft, read = {}, {}, []
    for scene in track(list(maps), "maps sampled", len(maps)):
        label, some = read_class_map(maps[scene], classes), drawn.get(scene, [])
        pixels[scene] = np.bincount(label.ravel(), minlength=IGNORE + 1)[:n_labels]
        strata = np.array([min(int(label[point.row, point.col]), n_labels) for point in some], np.int64)
        true = np.array([point.label for point in some], np.int64)
        np.add.at(counts, (true, strata), 1)
        if proba is not None:
            places = [(point.row, point.col) for point in some]
            soft[scene], at = read_soft_map(proba[scene], grids[scene], label, places, classes)
            read.append((strata, true, at))
    sizes, metric = pixel_sizes(grids[scene] for scene in pixels)
    mapped = np.sum([count * size for count, size in zip(pixels.values(), sizes, strict=True)], axis=0)
    few = list(_too_few(counts, mapped, classes))
    if few:
        raise LabelError(
            f"{path}: expected at least {FEWEST} points in each mapped class, got {', '.join(few)}. "
            "Draw more points where the map shows it."
        )
    areas = areas_of_sample(counts, mapped, classes.label_names, confidence_level, metric=metric)
    unsettled = tuple(_unsettled(counts, areas, confidence_level))
    assisted = None
    if proba is not None:
        strata, true, at = (np.concatenate(column) for column in zip(*read, strict=True))
        sums = np.sum([soft[scene] * size for scene, size in zip(pixels, sizes, strict=True)], axis=0)
        mean = np.divide(sums, mapped[:, None], out=np.zeros_like(sums), where=mapped[:, None] > 0)
        seen = strata < n_labels
        assisted = assist_areas(SoftSample(strata[seen], true[seen], at[seen], mean), mapped, confidence_level)
    return SampleScores(len(points), int(counts[:, -1].sum()), counts, areas, unsettled, assisted)


def _unsettled(counts: NDArray[np.int64], areas: Areas, confidence_level: float) -> Iterator[str]:
    """Yield where no omission was seen that could still be more than `MATTERS` of a class's estimated area."""
    drawn, whole = counts[:, :-1].sum(axis=0), sum(areas.mapped)
    for label, area in zip(range(len(counts)), areas.area, strict=True):
        for stratum, mapped in enumerate(areas.mapped):
            could_be = float(betaincinv(0.5, drawn[stratum] + 0.5, (1 + confidence_level) / 2)) if mapped else 0.0
            if label != stratum and not counts[label, stratum] and 0 < MATTERS * area.value < could_be * mapped:
                # The upper end of Jeffreys' interval after n points without any is nearly its value of one over n.
                enough = math.ceil(could_be * (drawn[stratum] + 0.5) * mapped / (MATTERS * area.value))
                yield (
                    f"no {areas.labels[label]} among {drawn[stratum]} points on {areas.labels[stratum]} "
                    f"({format_percent(mapped / whole)} of the map): there could still be "
                    f"{format_number(could_be * mapped / area.value, 1)} times the estimated area of "
                    f"{areas.labels[label]} there. {format_count(enough)} points without any would leave a tenth of it"
                )


def _too_few(counts: NDArray[np.int64], mapped: NDArray[np.float64], classes: Classes) -> Iterator[str]:
    for label, drawn, area in zip(classes.label_names, counts.sum(axis=0), mapped, strict=False):
        if area > 0 and drawn < FEWEST:
            yield f"{drawn} in {label} ({format_percent(area / mapped.sum())} of the map)"


def _point(row: Mapping[str, str], grids: Mapping[str, Grid], classes: Classes, by_pixel: bool) -> Point:
    scene = row.get("scene", "")
    if scene not in grids:
        raise LabelError(f"expected a scene with a map, got {scene} (nearest: {nearest(scene, grids, 1)})")
    grid = grids[scene]
    texts = [row.get(name) or "(none)" for name in (("row", "col") if by_pixel else ("x", "y"))]
    try:
        first, second = map(float, texts)
    except ValueError:
        first = second = math.nan
    if not math.isfinite(first + second):
        raise LabelError(f"expected two numbers, got {' and '.join(texts)}")
    if not by_pixel:
        if grid.transform is None:
            raise LabelError(f"expected row and col, got x and y, but the map of {scene} has no coordinates")
        first, second = rowcol(rasterio.Affine(*grid.transform), first, second)
    place = math.floor(first), math.floor(second)
    if not (0 <= place[0] < grid.height and 0 <= place[1] < grid.width):
        raise LabelError(f"expected a pixel of {grid.height} × {grid.width}, got row {place[0]}, col {place[1]}")
    return Point(scene, *place, _label(row.get("class", ""), classes))


def _label(text: str, classes: Classes) -> int:
    names, ids = classes.label_names, [str(value) for value in classes.label_ids]
    if text in names:
        return names.index(text)
    if text in ids:
        return ids.index(text)
    raise LabelError(f"expected a class, got {text} (nearest: {nearest(text, names, 1)})")
