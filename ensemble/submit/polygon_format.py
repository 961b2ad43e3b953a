"""Write and check a submission of polygons: a GeoPackage with a layer for each reference system."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import shapely

from data.errors import SubmissionError
from data.scenes.classes import IGNORE
from data.scenes.footprints import has_footprint
from data.scenes.scene import Scene
from ensemble.audit.geopackage import Layer, Polygons, Value, write_geopackage
from ensemble.audit.outlines import to_coordinates, trace_outlines
from ensemble.submit.predictions import Predictions

__all__ = ["check_polygons", "write_polygons"]

HEADER = 40
"""Bytes of a geometry before its well-known binary: the magic, flags, the reference system and a flat envelope."""

PRECISION = 1e-6
"""Share by which the area of a polygon may differ from that of its pixels: what double coordinates lose."""

Parts = list[tuple[Polygons, dict[str, Value]]]


def write_polygons(path: Path, predictions: Predictions) -> None:
    """Write the outline of every part of a class whose pixels are connected by their sides.

    The background of a binary task and what was not seen have none. Each outline names its scene and class and its
    number of pixels.

    Raises
    ------
    SubmissionError
        If a scene has no coordinates.
    """
    nowhere = [scene.id for scene in predictions.scenes if not has_footprint(scene)]
    if nowhere:
        raise SubmissionError(
            f"submission.format polygons: expected scenes with coordinates, got {len(nowhere)} of "
            f"{len(predictions.scenes)} without: {', '.join(nowhere[:3])}. Use format: geotiff."
        )
    layers: dict[str | None, Parts] = {}
    for scene in predictions.scenes:
        layers.setdefault(scene.grid.crs, []).extend(_trace(scene, predictions))
    filled = [(crs, parts) for crs, parts in layers.items() if parts]
    write_geopackage(path, [Layer(f"classes_{number}", crs, parts) for number, (crs, parts) in enumerate(filled, 1)])


def check_polygons(path: Path, predictions: Predictions) -> None:
    """Refuse a file unless each class has as many pixels in each scene as in its map, and polygons of their area."""
    classes = predictions.classes
    pixels: Counter[tuple[str, str]] = Counter()
    transforms = {scene.id: scene.grid.transform or (1, 0, 0, 0, 1, 0) for scene in predictions.scenes}
    try:
        for scene_id, name, count, shape in _read(path):
            a, b, _, d, e, _ = transforms.get(scene_id, (1, 0, 0, 0, 1, 0))
            if not np.isclose(shape.area, count * abs(a * e - b * d), rtol=PRECISION, atol=0):
                raise SubmissionError(
                    f"{path}, scene {scene_id}: expected a polygon of {name} of {count} pixels, got another area. "
                    "Run `terrablend submit --overwrite`."
                )
            pixels[scene_id, name] += count
    except (sqlite3.Error, shapely.errors.ShapelyError) as error:
        raise SubmissionError(
            f"{path}: expected a GeoPackage, got: {error}. Run `terrablend submit --overwrite`."
        ) from error
    wanted: Counter[tuple[str, str]] = Counter()
    for scene in predictions.scenes:
        counts = np.bincount(predictions.label(scene).ravel(), minlength=256)
        wanted += Counter({(scene.id, name): int(counts[classes.label_names.index(name)]) for name in classes.names})
    wrong = sorted(key for key in wanted.keys() | pixels.keys() if wanted[key] != pixels[key])
    if wrong:
        scene_id, name = wrong[0]
        raise SubmissionError(
            f"{path}: expected polygons of {wanted[wrong[0]]} pixels of {name} in scene {scene_id}, got "
            f"{pixels[wrong[0]]}; {len(wrong)} scenes and classes differ. Run `terrablend submit --overwrite`."
        )


def _trace(scene: Scene, predictions: Predictions) -> Parts:
    label, classes = predictions.label(scene), predictions.classes
    parts: Parts = []
    for index in np.unique(label[label != IGNORE]).tolist():
        if classes.label_names[index] not in classes.names:
            continue
        for polygon in trace_outlines(label == index):
            outer, *inner = polygon
            pixels = round(shapely.Polygon(outer, inner).area)
            values: dict[str, Value] = {
                "scene": scene.id,
                "class": classes.label_names[index],
                "value": classes.label_ids[index],
                "pixels": pixels,
            }
            parts.append((to_coordinates([polygon], scene.grid), values))
    return parts


def _read(path: Path) -> Iterator[tuple[str, str, int, shapely.Geometry]]:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        for (layer,) in database.execute("SELECT table_name FROM gpkg_contents").fetchall():
            quoted = layer.replace('"', '""')
            if database.execute(f'SELECT count(*) FROM "{quoted}"').fetchone() == (0,):
                continue
            for scene, name, count, blob in database.execute(f'SELECT scene, class, pixels, geom FROM "{quoted}"'):
                yield scene, name, count, shapely.from_wkb(blob[HEADER:])
