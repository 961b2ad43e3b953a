"""Burn drawn labels onto the grid of a scene: a raster of label indices that is read like any other label."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
import shapely.affinity
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.errors import ShapeSkipWarning
from rasterio.features import rasterize

from data.errors import LabelError
from data.files import replacing
from data.scenes.classes import IGNORE, Classes
from data.scenes.grids import distance_text, edges, is_geographic, is_placed, move_points, same_system
from data.scenes.image import raster_window
from data.scenes.rasters import GDAL_OPTIONS, maybe_ungeoreferenced
from data.scenes.scene import LabelFile
from data.scenes.windows import Grid, Window, tile_windows
from data.settings import VectorSettings
from data.vectors.drawn import DrawnLabel, as_text, class_codes, count_unnamed
from data.vectors.shapes import Shapes, open_shapes

__all__ = [
    "STRIP_PIXELS",
    "Burnt",
    "burn_label",
    "burn_numbers",
    "identity_values",
    "label_strips",
    "on_grid",
    "write_label",
]

STRIP_PIXELS = 2**22
"""Pixels that are burnt at a time."""

TILE = 512
"""Side in pixels of the parts in which is looked up where a scene has data."""

Seen = Callable[[Window], NDArray[np.bool_]]

SHAPE = "shape"
"""Stands for a column in which each shape has a value of its own."""

NONE = -1
"""Where no shape lies."""


@dataclass(frozen=True)
class Burnt:
    """What came of burning a label.

    Parameters
    ----------
    label : LabelFile
    problem : str
        Why it cannot be used; empty if it can.
    warnings : tuple of str
        What looks odd.
    elsewhere : str
        Where the shapes lie if none is on the scene, else empty.
    """

    label: LabelFile
    problem: str = ""
    warnings: tuple[str, ...] = ()
    elsewhere: str = ""


def burn_label(drawn: DrawnLabel, grid: Grid, classes: Classes, path: Path, seen: Seen | None = None) -> Burnt:
    """Burn the shapes of a label onto a grid and write it.

    A polygon labels the pixels whose centre it covers, or those that it touches; a line those that it crosses; a point
    its own, or those within a radius. A pixel that polygons of two classes cover is a problem; one that two classes
    merely touch, or that holds points of two, is unlabelled, and so is what a shape to be ignored covers.

    Parameters
    ----------
    drawn : DrawnLabel
    grid : Grid
        The scene's.
    classes : Classes
    path : Path
        Gets the label: a GeoTIFF of label indices, `IGNORE` where there is none.
    seen : callable, optional
        Returns where the scene has data in a window of it. A shape labels nothing where it has none, as it labels
        nothing beyond the scene's edge.

    Raises
    ------
    LabelError
        If the shapes cannot be read, have no classes, or the scene does not say where it lies.
    """
    settings = drawn.settings
    everywhere = open_shapes(drawn.path, settings.layer, settings.crs)
    shapes = on_grid(everywhere, grid)
    codes = class_codes(shapes, settings, classes)
    area = None if drawn.area is None else on_grid(open_shapes(drawn.area), grid)
    overlap = np.zeros(0, np.int64)
    mixed = unseen = 0

    def strips() -> Iterator[tuple[Window, NDArray[np.uint8]]]:
        nonlocal overlap, mixed, unseen
        for window in label_strips(grid):
            low, high = _burn(shapes, codes, settings, window)
            clash = low != high
            # What is to be ignored has the greatest code.
            if (clash & (high != IGNORE)).any():
                both = _polygon_clash(shapes, codes, settings, window)
                overlap = overlap if len(overlap) or not both.any() else np.argwhere(both)[0] + (window.row, 0)
                mixed += int((clash & (high != IGNORE) & ~both).sum())
            label = np.where(clash, IGNORE, np.where(low == NONE, drawn.outside, low)).astype(np.uint8)
            if area is not None:
                inside = _draw(area.geometries, [1] * len(area), window, touched=False)
                label[(low == NONE) & (inside != 1)] = IGNORE
            if seen is not None:
                blind = _blind(label, window, seen)
                unseen += int((blind & (low != NONE)).sum())
                label[blind] = IGNORE
            yield window, label

    write_label(path, grid, strips())
    label = LabelFile(str(path), identity_values(classes))
    if len(overlap):
        return Burnt(label, problem=_overlap_problem(drawn.path, shapes, codes, classes, overlap))
    elsewhere = "" if len(shapes) else _where_they_lie(everywhere, grid)
    return Burnt(label, warnings=tuple(_oddities(everywhere, shapes, drawn, mixed, unseen)), elsewhere=elsewhere)


def _blind(label: NDArray[np.uint8], window: Window, seen: Seen) -> NDArray[np.bool_]:
    """Return where a label in a window says something of a scene that has no data there."""
    blind = np.zeros(label.shape, bool)
    for tile in tile_windows(window.height, window.width, TILE):
        known = label[tile.slices] != IGNORE
        if known.any():
            blind[tile.slices] = known & ~seen(tile.shift(window))
    return blind


def _oddities(everywhere: Shapes, shapes: Shapes, drawn: DrawnLabel, mixed: int, unseen: int) -> Iterator[str]:
    """Yield what looks odd about shapes on a scene: of pixels, some touch several classes and some have no data."""
    if everywhere.crs is None and len(shapes):
        yield (
            f"{drawn.path}: it names no coordinate system; its coordinates are taken for those of the scene. "
            "Set label.crs if they are others."
        )
    if unnamed := count_unnamed(shapes, drawn.settings):
        yield f"{drawn.path}: {unnamed} shapes have no class, and what they cover is left unlabelled."
    if mixed:
        yield f"{drawn.path}: {mixed} pixels touch shapes of several classes, and are left unlabelled."
    if unseen:
        yield f"{drawn.path}: shapes cover {unseen} pixels where the scene has no data; they label nothing there."


def _where_they_lie(shapes: Shapes, grid: Grid) -> str:
    """Return in words how far shapes lie from a scene."""
    if not len(shapes):
        return f"{shapes.path}: expected shapes on the scene, got none at all. Draw some, or export the layer again."
    left, bottom, right, top = shapely.total_bounds(shapes.geometries).tolist()
    far = distance_text(np.array([(left + right) / 2, (bottom + top) / 2]), shapes.crs, grid)
    unnamed = "" if shapes.crs else ", and the file names no coordinate system"
    return (
        f"{shapes.path}: expected shapes on the scene, got {len(shapes)} that lie elsewhere, {far} off "
        f"(x {left:.6g} … {right:.6g}, y {bottom:.6g} … {top:.6g}){unnamed}. Set label.crs if their coordinates are of "
        "another system, or name the file of this place."
    )


def burn_numbers(
    drawn: DrawnLabel, grid: Grid, field: str | None, strip_pixels: int = STRIP_PIXELS
) -> tuple[list[str], Iterator[tuple[Window, NDArray[np.int32]]]]:
    """Return the names of what the shapes of a label belong to, and strips with its number at each pixel.

    Parameters
    ----------
    drawn : DrawnLabel
    grid : Grid
    field : str or None
        Shapes with an equal value in this column belong together; without one, or by ``shape``, each is by itself.
    strip_pixels : int
        That are burnt at a time.

    Returns
    -------
    names : list of str
    strips : iterator of (Window, (height, width) int32)
        -1 where there is no shape.
    """
    settings = drawn.settings
    shapes = on_grid(open_shapes(drawn.path, settings.layer, settings.crs), grid)
    alone = field is None or (field == SHAPE and SHAPE not in shapes.values)
    values = map(str, range(len(shapes))) if alone or field is None else map(as_text, shapes.column(field))
    names, numbers = np.unique(np.array([*values], object).astype(str), return_inverse=True)

    def strips() -> Iterator[tuple[Window, NDArray[np.int32]]]:
        for window in label_strips(grid, strip_pixels):
            yield window, _burn(shapes, numbers.astype(np.int32), settings, window)[1]

    return names.tolist(), strips()


def label_strips(grid: Grid, pixels: int = STRIP_PIXELS) -> Iterator[Window]:
    """Yield the windows, whole rows of about a number of pixels, in which a label is burnt."""
    rows = max(1, pixels // grid.width)
    for row in range(0, grid.height, rows):
        yield Window(row, 0, min(rows, grid.height - row), grid.width)


def identity_values(classes: Classes) -> tuple[tuple[int, int], ...]:
    """Return the values of a label file that holds label indices."""
    return (*((index, index) for index in range(len(classes.label_names))), (IGNORE, IGNORE))


def on_grid(shapes: Shapes, grid: Grid) -> Shapes:
    """Return the shapes that may meet a grid, in its pixels: x is the column and y the row, from the upper left corner.

    Raises
    ------
    LabelError
        If the grid does not say where it lies.
    """
    if not is_placed(grid) or grid.transform is None:
        raise LabelError(
            f"{shapes.path}: expected a scene that says where it lies, to draw shapes on it, got one without "
            "georeferencing. Georeference the image, or draw the label as a raster."
        )
    moved = move_points(edges(grid), grid.crs, shapes.crs)
    moved = moved[np.isfinite(moved).all(axis=1)]
    if not len(moved):
        return shapes.take(np.zeros(len(shapes), bool))
    (left, bottom), (right, top) = moved.min(axis=0), moved.max(axis=0)
    # A little more than the scene: its edges are curves in another projection.
    margin = 0.01 * max(right - left, top - bottom)
    box = shapely.box(left - margin, bottom - margin, right + margin, top + margin)
    geometries, chosen = _meeting(shapes.geometries, box, is_geographic(shapes.crs or grid.crs))
    near = shapes.take(chosen)
    if not same_system(shapes.crs, grid.crs):
        # So that straight lines of one projection bend as they should in the other.
        geometries = shapely.segmentize(geometries, max(right - left, top - bottom) / 64)
    matrix = np.linalg.inv(np.array([*grid.transform, 0, 0, 1]).reshape(3, 3))

    def to_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
        there = move_points(points, shapes.crs, grid.crs)
        return np.asarray(there @ matrix[:2, :2].T + matrix[:2, 2])

    return Shapes(near.path, None, shapely.transform(geometries, to_pixels), near.values)


def _meeting(
    geometries: NDArray[np.object_], box: shapely.Polygon, geographic: bool
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return the shapes that may meet a box, and their places.

    Scenes may reach over the date line, and longitudes count from -180 or from 0: then shapes are turned to the box.
    """
    found, places = [], []
    for turn in (0, 360, -360) if geographic else (0,):
        there = np.flatnonzero(shapely.intersects(shapely.envelope(geometries), shapely.affinity.translate(box, -turn)))
        shift = np.array([turn, 0.0])
        found.append(shapely.transform(geometries[there], shift.__add__) if turn else geometries[there])
        places.append(there)
    return np.concatenate(found), np.concatenate(places)


def write_label(path: Path, grid: Grid, strips: Iterator[tuple[Window, NDArray[np.uint8]]], bands: int = 1) -> None:
    """Write a label (H, W), or a number of bands (n, H, W), by strips; it appears under its name once complete."""
    where = {} if grid.transform is None else {"crs": grid.crs, "transform": Affine(*grid.transform)}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512} if max(grid.height, grid.width) > 512 else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as temporary,
        rasterio.Env(**GDAL_OPTIONS),
        maybe_ungeoreferenced(),
        rasterio.open(
            temporary, "w", driver="GTiff", height=grid.height, width=grid.width, count=bands,
            dtype="uint8", nodata=IGNORE, compress="deflate", interleave="band", **layout, **where,
        ) as raster,
    ):  # fmt: skip
        for window, label in strips:
            raster.write(label.reshape(bands, *label.shape[-2:]), window=raster_window(window))


def _burn(
    shapes: Shapes, codes: NDArray[np.integer], settings: VectorSettings, window: Window
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the least and the greatest code of the shapes at each pixel, `NONE` where there is none."""
    kinds = shapely.get_type_id(shapes.geometries)
    points = np.isin(kinds, (0, 4))
    drawn = _prepared(shapes.geometries[~points], kinds[~points], settings)
    touched = settings.touched == "all"
    order = np.argsort(codes[~points], kind="stable")
    low, high = (
        _draw(drawn[places], codes[~points][places].tolist(), window, touched) for places in (order[::-1], order)
    )
    _dot(shapes.geometries[points], codes[points], settings.radius, window, low, high)
    return low, high


def _polygon_clash(
    shapes: Shapes, codes: NDArray[np.integer], settings: VectorSettings, window: Window
) -> NDArray[np.bool_]:
    """Return where polygons of two classes cover the centre of a pixel."""
    polygons = np.isin(shapely.get_type_id(shapes.geometries), (3, 6))
    only = shapes.take(polygons)
    low, high = _burn(only, codes[polygons], settings.model_copy(update={"touched": "centre"}), window)
    clash: NDArray[np.bool_] = (low != high) & (high != IGNORE)
    return clash


def _prepared(
    geometries: NDArray[np.object_], kinds: NDArray[np.integer], settings: VectorSettings
) -> NDArray[np.object_]:
    if settings.buffer is None:
        return geometries
    lines = np.isin(kinds, (1, 2, 5))
    return np.where(lines, shapely.buffer(geometries, settings.buffer), geometries)


def _draw(geometries: NDArray[np.object_], codes: list[int], window: Window, touched: bool) -> NDArray[np.int32]:
    """Draw shapes one over the other."""
    if not len(geometries):
        return np.full((window.height, window.width), NONE, np.int32)
    with warnings.catch_warnings():
        # A shape that was cut to nothing.
        warnings.simplefilter("ignore", ShapeSkipWarning)
        return np.asarray(
            rasterize(
                zip(geometries, codes, strict=True),
                (window.height, window.width),
                fill=NONE,
                transform=Affine(1, 0, window.col, 0, 1, window.row),
                all_touched=touched,
                dtype="int32",
            )
        )


def _dot(
    geometries: NDArray[np.object_],
    codes: NDArray[np.integer],
    radius: float,
    window: Window,
    low: NDArray[np.int32],
    high: NDArray[np.int32],
) -> None:
    """Draw points into both."""
    if not len(geometries):
        return
    coordinates, owner = shapely.get_coordinates(geometries, return_index=True)
    reach = np.arange(-int(radius), int(radius) + 1)
    rows, cols = np.meshgrid(reach, reach, indexing="ij")
    disc = np.argwhere(rows**2 + cols**2 <= radius**2) - int(radius)
    places = np.floor(coordinates[:, ::-1]).astype(np.int64)[:, None] + disc
    values = np.repeat(codes[owner].astype(np.int32), len(disc))
    places = places.reshape(-1, 2) - (window.row, window.col)
    inside = ((places >= 0) & (places < (window.height, window.width))).all(axis=1)
    where = tuple(places[inside].T)
    # Where nothing was drawn the least is what the point says.
    most = np.iinfo(np.int32).max
    low[low == NONE] = most
    np.minimum.at(low, where, values[inside])
    low[low == most] = NONE
    np.maximum.at(high, where, values[inside])


def _overlap_problem(
    path: str, shapes: Shapes, codes: NDArray[np.uint8], classes: Classes, place: NDArray[np.int64]
) -> str:
    row, col = place.tolist()
    there = shapely.intersects(shapes.geometries, shapely.points(col + 0.5, row + 0.5))
    names = sorted({classes.label_names[code] if code != IGNORE else "ignore" for code in codes[there].tolist()})
    return (
        f"{path}: expected one class at each place, got polygons of {' and '.join(names)} over each other, first at "
        f"row {row}, column {col} of the scene. Draw them apart, or join their classes."
    )
