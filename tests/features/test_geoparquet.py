import json
import struct
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform

from data.errors import OutputError, TableError
from data.records import write_parquet
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.image import ImageFile
from data.scenes.rasters import read_grid
from data.scenes.scene import LabelFile, Scene
from features import FeatureSet, build_table
from features.geoparquet import write_points
from features.settings import SampleSettings
from features.table import table_path

from ..conftest import BANDS, KELP

NAMES = ("nir", "NDVI")
ZONE_33, ZONE_34 = "EPSG:32633", "EPSG:32634"
NORTH_UP = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
ROTATED = (8.0, 6.0, 501_000.0, 6.0, -8.0, 5_000_000.0)
NOWHERE = (None, None)


@pytest.fixture
def make_table(write_raster, tmp_path):
    """Return a function that writes scenes at given places and their table; returns folder and scenes."""

    def make(*places):
        scenes, statistics = [], {}
        for number, (affine, crs) in enumerate(places):
            rng = np.random.default_rng(number)
            label = (rng.random((23, 31)) < 0.2).astype(np.uint8)
            pixels = rng.normal(100, 10, (3, *label.shape)).astype(np.float32)
            image = write_raster(f"i{number}.tif", pixels, transform=affine, crs=crs)
            mask = write_raster(f"m{number}.tif", label, transform=affine, crs=crs)
            scene = Scene(
                f"s{number}",
                "train",
                (ImageFile(str(image), BANDS),),
                read_grid(str(image))[0],
                LabelFile(str(mask), ((0, 0), (1, 1))),
                group=f"g{number}",
                fold=number % 2,
            )
            scenes.append(scene)
            statistics["train", scene.id] = SceneStatistics(label.size, (int(label.sum()),))
        catalogue = Catalogue(KELP, BANDS, tuple(scenes), statistics)
        sample = SampleSettings(buffer=1, negatives=100)
        build_table(catalogue, FeatureSet(BANDS, NAMES), sample, tmp_path / "table", experiment="test", seed=7)
        return tmp_path / "table", scenes

    return make


def decode(rows):
    points = [struct.unpack("<BIdd", value) for value in rows["geometry"].to_pylist()]
    assert {point[:2] for point in points} == {(1, 1)}
    return np.array([point[2:] for point in points])


def centres(rows, scenes):
    by_id = {scene.id: scene.grid.transform for scene in scenes}
    found = []
    for name, row, col in zip(*(rows[key].to_pylist() for key in ("scene", "row", "col")), strict=True):
        a, b, c, d, e, f = by_id[name]
        found.append((a * (col + 0.5) + b * (row + 0.5) + c, d * (col + 0.5) + e * (row + 0.5) + f))
    return np.array(found)


def read_geo(path):
    return json.loads(pq.read_metadata(path).metadata[b"geo"])


def test_points_are_the_centres_of_their_pixels_and_all_columns_are_kept(make_table, tmp_path):
    directory, scenes = make_table((NORTH_UP, ZONE_33), (ROTATED, ZONE_33))
    path = tmp_path / "points.parquet"
    count = write_points(directory, scenes, path, batch_rows=100)
    rows = pq.read_table(path)
    table = pa.concat_tables([pq.read_table(table_path(directory, scene), partitioning=None) for scene in scenes])
    assert count == len(rows) == len(table) > 200
    np.testing.assert_allclose(decode(rows), centres(rows, scenes), rtol=0, atol=1e-6)
    kept = rows.drop_columns("geometry")
    assert kept.to_pylist() == table.to_pylist()
    assert kept.schema.field("scene").type == table.schema.field("scene").type
    for field in table.schema:
        assert field.metadata.items() <= kept.schema.field(field.name).metadata.items()
    assert rows.schema.metadata[b"terrablend"] == table.schema.metadata[b"terrablend"]


def test_the_metadata_is_as_the_standard_says(make_table, tmp_path):
    directory, scenes = make_table((NORTH_UP, ZONE_33), (ROTATED, ZONE_33))
    path = tmp_path / "points.parquet"
    write_points(directory, scenes, path)
    geo, xy = read_geo(path), decode(pq.read_table(path))
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    assert list(geo["columns"]) == ["geometry"]
    column = geo["columns"]["geometry"]
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Point"])
    assert column["crs"]["type"] == "ProjectedCRS"
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32633}
    assert column["bbox"] == [*xy.min(axis=0), *xy.max(axis=0)]
    geometry = pq.ParquetFile(path).schema.column(len(pq.read_schema(path).names) - 1)
    assert (geometry.name, geometry.physical_type) == ("geometry", "BYTE_ARRAY")
    assert geometry.max_repetition_level == 0


def test_scenes_in_several_zones_become_longitude_and_latitude(make_table, tmp_path):
    directory, scenes = make_table((NORTH_UP, ZONE_33), (NORTH_UP, ZONE_34))
    path = tmp_path / "points.parquet"
    write_points(directory, scenes, path)
    rows = pq.read_table(path)
    column = read_geo(path)["columns"]["geometry"]
    assert "crs" not in column
    xy = decode(rows)
    assert column["bbox"] == [*xy.min(axis=0), *xy.max(axis=0)]
    places, names = centres(rows, scenes), np.array(rows["scene"].to_pylist())
    # Both central meridians have the easting 500 km.
    for scene, meridian in zip(scenes, (15, 21), strict=True):
        here = names == scene.id
        np.testing.assert_allclose(xy[here], [[meridian, 45.15]] * here.sum(), rtol=0, atol=0.01)
        back = np.column_stack(transform("OGC:CRS84", CRS.from_wkt(scene.grid.crs), *xy[here].T))
        np.testing.assert_allclose(back, places[here], rtol=0, atol=1e-3)


def test_points_take_the_place_of_earlier_points_and_of_nothing_else(make_table, tmp_path):
    directory, scenes = make_table((NORTH_UP, ZONE_33))
    path = tmp_path / "points.parquet"
    for _ in range(2):
        write_points(directory, scenes, path)
    for content in (b"a survey", table_path(directory, scenes[0]).read_bytes()):
        path.write_bytes(content)
        with pytest.raises(OutputError, match=r"points\.parquet: expected no such file yet"):
            write_points(directory, scenes, path)
        assert path.read_bytes() == content


def test_one_reference_system_in_two_spellings_is_kept(make_table, tmp_path):
    directory, scenes = make_table((NORTH_UP, ZONE_33), (ROTATED, ZONE_33))
    other = CRS.from_wkt(scenes[1].grid.crs).to_wkt(version="WKT2_2019")
    assert other != scenes[1].grid.crs
    scenes[1] = replace(scenes[1], grid=replace(scenes[1].grid, crs=other))
    write_points(directory, scenes, tmp_path / "points.parquet")
    assert read_geo(tmp_path / "points.parquet")["columns"]["geometry"]["crs"]["id"]["code"] == 32633


@pytest.mark.parametrize(
    ("places", "culprit"),
    [([NOWHERE, NOWHERE], "s0"), ([(NORTH_UP, ZONE_33), NOWHERE], "s1"), ([(NORTH_UP, None)], "s0")],
)
def test_scenes_without_coordinates_are_refused(make_table, tmp_path, places, culprit):
    directory, scenes = make_table(*places)
    with pytest.raises(TableError, match=f"scene {culprit}: expected scenes with coordinates"):
        write_points(directory, scenes, tmp_path / "points.parquet")
    assert not (tmp_path / "points.parquet").exists()
    with pytest.raises(TableError, match="expected scenes with coordinates, got no scene"):
        write_points(directory, [], tmp_path / "points.parquet")


def test_a_table_whose_rows_are_scenes_is_refused(make_table, tmp_path):
    directory, scenes = make_table((NORTH_UP, ZONE_33))
    with pytest.raises(TableError, match=r"got scenes with tags\. Leave --points out"):
        write_points(directory, [replace(scenes[0], tags=())], tmp_path / "points.parquet")


def test_a_place_without_longitude_and_latitude_is_refused_and_leaves_no_file(make_table, tmp_path):
    local = 'LOCAL_CS["quarry",UNIT["metre",1]]'
    directory, scenes = make_table((NORTH_UP, ZONE_33), (NORTH_UP, ZONE_34))
    scenes[1] = replace(scenes[1], grid=replace(scenes[1].grid, crs=local))
    with pytest.raises(TableError, match="scene s1: expected a reference system that converts"):
        write_points(directory, scenes, tmp_path / "out" / "points.parquet")
    assert not list((tmp_path / "out").iterdir())


def test_rows_that_are_missing_or_of_other_columns_are_refused(make_table, tmp_path):
    directory, scenes = make_table((NORTH_UP, ZONE_33), (NORTH_UP, ZONE_33))
    last = table_path(directory, scenes[1])
    write_parquet(last, pq.read_table(last, partitioning=None).drop_columns("NDVI"))
    with pytest.raises(TableError, match=r"s1\.parquet: expected the columns .*NDVI like the first scene"):
        write_points(directory, scenes, tmp_path / "points.parquet")
    last.unlink()
    with pytest.raises(TableError, match=r"s1\.parquet: expected the rows of scenes, got no such file"):
        write_points(directory, scenes, tmp_path / "points.parquet")
    assert not (tmp_path / "points.parquet").exists()


def test_a_table_without_rows_is_a_file_without_points(make_table, tmp_path):
    directory, scenes = make_table((NORTH_UP, ZONE_33))
    only = table_path(directory, scenes[0])
    write_parquet(only, pq.read_table(only, partitioning=None).slice(0, 0))
    assert write_points(directory, scenes, tmp_path / "points.parquet") == 0
    assert len(pq.read_table(tmp_path / "points.parquet")) == 0
    assert "bbox" not in read_geo(tmp_path / "points.parquet")["columns"]["geometry"]


@pytest.mark.parametrize("second_zone", [ZONE_33, ZONE_34])
def test_geopandas_reads_the_points(make_table, tmp_path, second_zone):
    geopandas = pytest.importorskip("geopandas")
    directory, scenes = make_table((NORTH_UP, ZONE_33), (ROTATED, second_zone))
    path = tmp_path / "points.parquet"
    write_points(directory, scenes, path)
    frame, rows = geopandas.read_parquet(path), pq.read_table(path)
    assert frame.crs == (ZONE_33 if second_zone == ZONE_33 else "OGC:CRS84")
    np.testing.assert_array_equal(np.column_stack([frame.geometry.x, frame.geometry.y]), decode(rows))
    np.testing.assert_array_equal(frame["NDVI"], rows["NDVI"])
