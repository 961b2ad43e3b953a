"""Sound files of each kind that a user writes: scenes and labels, tables, lists."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyogrio.raw
import rasterio
import shapely
from PIL import Image
from pyarrow import csv, parquet

from campaigns.damage import Kind
from data.errors import LabelError
from data.folds.groups import group_scenes
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.color_labels import pack_color
from data.scenes.rasters import maybe_ungeoreferenced, read_grid
from data.scenes.scene import LabelFile, Scene, read_label, read_scene
from data.scenes.tags import read_tag_table
from data.settings import GroupSettings, TagSettings
from data.survey.verification import verify_scenes
from data.vectors.shapes import read_shapes
from ensemble.score.design_sample import read_sample
from features.foreign import catalogue_of_table
from features.settings import TableSettings
from maps.settings import MapsSettings
from maps.tags import read_rows

__all__ = ["make_user_files"]

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deflate": {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16},
    "LZW": {"compress": "lzw", "predictor": 2},
    "PNG": {"driver": "PNG"},
    "JPEG": {"driver": "JPEG"},
}


def make_user_files(folder: Path, catalogue: Catalogue) -> list[Kind]:
    """Write a small sound file of each kind that a user writes, and say how it is read.

    Parameters
    ----------
    folder : Path
    catalogue : Catalogue
        Of scenes from which the rasters are made.
    """
    scenes = catalogue.split("train")
    return [*_rasters(folder, scenes[0], catalogue), *_tables(folder, scenes, catalogue.classes), *_shapes(folder)]


def _rasters(folder: Path, scene: Scene, catalogue: Catalogue) -> Iterator[Kind]:
    """Yield scenes and labels in several layouts: what changes unseen is found by the digests of the check."""
    with maybe_ungeoreferenced(), rasterio.open(scene.images[0].path) as raster:
        pixels, profile = raster.read(), dict(raster.profile)
    for layout, options in LAYOUTS.items():
        path = folder / f"scene-{layout}.{options.get('driver', 'tif').lower()}"
        planes = pixels
        if "driver" in options:
            planes = (pixels[:3] / 40).clip(0, 255).astype(np.uint8)
            options = {**options, "count": 3, "dtype": "uint8", "nodata": None}
        with maybe_ungeoreferenced(), rasterio.open(path, "w", **{**profile, **options}) as raster:
            raster.write(planes)
        image = replace(scene.images[0], path=str(path), bands=scene.images[0].bands[: len(planes)])
        yield _raster_kind(f"scene, {layout}", path, replace(scene, images=(image,), invalid=(), label=None), catalogue)
    label = read_label(scene)
    colors = np.array([(0, 0, 0), (230, 159, 0)], np.uint8)
    for name, values in (("ids", label), ("colours", colors[np.minimum(label, 1)])):
        for suffix in (".png", ".tif"):
            path = folder / f"label-{name}{suffix}"
            Image.fromarray(values).save(path)
            meaning = ((0, 0), (1, 1), (255, 255))
            if name == "colours":
                meaning = tuple((pack_color(color), number) for number, color in enumerate(colors.tolist()))
            file = LabelFile(str(path), meaning, name == "colours")
            yield _raster_kind(f"label, {name} {suffix}", path, replace(scene, label=file), catalogue)


def _raster_kind(name: str, path: Path, scene: Scene, catalogue: Catalogue) -> Kind:
    def read(path: Path) -> object:
        read_grid(str(path))
        pixels = read_scene(scene).tobytes()
        return pixels, None if scene.label is None else read_label(scene).tobytes()

    pixels = hashlib.sha256(read_scene(scene).tobytes()).hexdigest()
    label = "" if scene.label is None else hashlib.sha256(read_label(scene).tobytes()).hexdigest()
    statistics = {(scene.split, scene.id): SceneStatistics(0, (), digest=pixels, label_digest=label)}
    held = replace(catalogue, scenes=(scene,), statistics=statistics)
    return Kind(name, path, read, verify=lambda path: verify_scenes(held))


def _tables(folder: Path, scenes: Sequence[Scene], classes: Classes) -> Iterator[Kind]:
    tags = Classes("multilabel", (0, 1), ("haze", "kelp"), ((1, 2, 3), (4, 5, 6)))
    ids = [scene.id for scene in scenes]
    grids = {scene.id: scene.grid for scene in scenes}
    rng = np.random.default_rng(0)

    def write(name: str, header: str, rows: Iterator[str] | list[str]) -> Path:
        path = folder / name
        path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
        return path

    def read_tags(path: Path) -> object:
        table, problems = read_tag_table(TagSettings(tags=str(path), id="image_name", column="tags"), tags, folder)
        if problems:
            raise LabelError(problems[0])
        return sorted(table.tags.items())

    def read_groups(path: Path) -> object:
        return sorted(group_scenes(scenes, GroupSettings(file=str(path)), folder).items())

    def read_own(path: Path) -> object:
        settings = TableSettings(files=[path.name], label="label", group="place")
        catalogue = catalogue_of_table(settings, classes, folder, 0)
        return sorted((name, found.label_counts) for name, found in catalogue.statistics.items())

    def read_foreign_tags(path: Path) -> object:
        settings = MapsSettings(branch="maps", path=str(path), fold="unseen")
        return [(name, proba.tobytes()) for name, proba in read_rows(path, settings, tags.names).items()]

    listed = {name: f"g{number // 2}" for number, name in enumerate(ids)}
    (folder / "groups.json").write_text(json.dumps(listed, indent=1))
    own = [f"{rng.normal():.4f},{rng.normal():.4f},{n % 2},p{n % 5}" for n in range(60)]
    foreign = [f"{name},{rng.random():.4f},{rng.random():.4f}" for name in ids]
    tables: list[tuple[str, Path, Callable[[Path], object]]] = [
        ("table of tags", write("tags.csv", "image_name,tags", [f"{name},haze kelp" for name in ids]), read_tags),
        ("groups, JSON", folder / "groups.json", read_groups),
        ("groups, CSV", write("groups.csv", "id,group", [f"{a},{b}" for a, b in listed.items()]), read_groups),
        (
            "sample of points",
            write("points.csv", "scene,row,col,class", [f"{name},{n},{n},kelp" for n, name in enumerate(ids)]),
            lambda path: read_sample(path, grids, classes),
        ),
        ("own table, CSV", write("own.csv", "a,b,label,place", own), read_own),
        ("tags of another tool", write("proba.csv", "id,haze,kelp", foreign), read_foreign_tags),
    ]
    for name in ("own", "proba"):
        # Not by polars, whose threads would not outlive a fork.
        parquet.write_table(csv.read_csv(folder / f"{name}.csv"), folder / f"{name}.parquet")
    tables += [
        ("own table, parquet", folder / "own.parquet", read_own),
        ("tags of another tool, parquet", folder / "proba.parquet", read_foreign_tags),
    ]
    yield from (Kind(name, path, read, sealed=False) for name, path, read in tables)


def _shapes(folder: Path) -> Iterator[Kind]:
    """Yield drawn labels, as GDAL and others write them."""
    squares = shapely.box([0, 2, 5], [0, 1, 5], [1, 4, 8], [1, 3, 9])
    values = np.array(["kelp", "rock", "kelp"], object)
    wkb = shapely.to_wkb(squares)
    for driver, suffix in (("GPKG", ".gpkg"), ("GeoJSON", ".geojson"), ("FlatGeobuf", ".fgb")):
        path = folder / f"drawn{suffix}"
        options = {"geometry_type": "Polygon", "crs": "EPSG:4326", "driver": driver}
        pyogrio.raw.write(path, wkb, [values], ["class"], **options)
        yield Kind(f"drawn labels, {driver}", path, _read_drawn, sealed=False)
    about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
    table = pa.table({"geometry": wkb, "class": values}).replace_schema_metadata({"geo": json.dumps(about)})
    parquet.write_table(table, folder / "drawn.parquet")
    yield Kind("drawn labels, GeoParquet", folder / "drawn.parquet", _read_drawn, sealed=False)
    (folder / "drawn.csv").write_text("lon,lat,class\n1.5,2.5,kelp\n3,4,rock\n")
    yield Kind("drawn labels, points", folder / "drawn.csv", _read_drawn, sealed=False)


def _read_drawn(path: Path) -> object:
    shapes = read_shapes(str(path))
    return shapes.crs, shapely.to_wkb(shapes.geometries).tolist(), shapes.column("class").tolist()
