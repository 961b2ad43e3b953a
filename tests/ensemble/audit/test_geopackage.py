import json
import sqlite3

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS
from scipy import ndimage

from data.scenes.windows import Grid
from ensemble.audit.geopackage import Layer, write_geopackage
from ensemble.audit.outlines import to_coordinates, to_longitude_latitude, trace_outlines, write_geojson

UTM = CRS.from_epsg(32610).to_wkt()
GRID = Grid(40, 40, UTM, (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_000_000.0))
# An equal-area system that no authority has a number for.
OWN = CRS.from_proj4("+proj=laea +lat_0=52.3 +lon_0=10.1 +datum=WGS84 +units=m").to_wkt()


@pytest.fixture
def features():
    """Return regions with holes and corners that touch, and the pixels of each."""
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 40)), 2)
    parts, count = ndimage.label(field > 0, np.ones((3, 3)))
    made = []
    for number in range(1, count + 1):
        mask = parts == number
        values = {"rank": number, "scene": f"Küste {number}", "score": number / 7}
        made.append((to_coordinates(trace_outlines(mask), GRID), values, int(mask.sum())))
    return made


def test_gdal_reads_back_what_was_written(features, tmp_path):
    path = tmp_path / "regions.gpkg"
    write_geopackage(path, [Layer("regions", UTM, [(polygons, values) for polygons, values, _ in features])])
    found = geopandas.read_file(path, layer="regions")
    assert found.crs.to_epsg() == 32610
    assert found.geometry.is_valid.all()
    assert all(map(shapely.is_ccw, (part.exterior for whole in found.geometry for part in whole.geoms)))
    np.testing.assert_allclose(found.area, [100 * pixels for *_, pixels in features])
    columns = found.drop(columns="geometry").to_dict("records")
    assert columns == [values for _, values, _ in features]
    assert pyogrio.read_info(path, layer="regions")["geometry_type"] == "MultiPolygon"
    np.testing.assert_allclose(found.total_bounds, pyogrio.read_info(path, layer="regions")["total_bounds"])


def test_each_layer_has_its_own_reference_system(features, tmp_path):
    path = tmp_path / "regions.gpkg"
    some = [(polygons, values) for polygons, values, _ in features[:2]]
    write_geopackage(
        path, [Layer("utm", UTM, some), Layer("own", OWN, some), Layer("pixels", None, some, "In pixels.")]
    )
    assert set(pyogrio.list_layers(path)[:, 0]) == {"utm", "own", "pixels"}
    assert geopandas.read_file(path, layer="own").crs.equals(OWN)
    with sqlite3.connect(path) as database:
        assert dict(database.execute("SELECT table_name, srs_id FROM gpkg_contents")) == {
            "utm": 32610,
            "own": 100_000,
            "pixels": -1,
        }


def test_the_file_keeps_what_sqlite_and_geopackage_ask_for(features, tmp_path):
    path = tmp_path / "regions.gpkg"
    write_geopackage(path, [Layer("regions", UTM, [(polygons, values) for polygons, values, _ in features])])
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert database.execute("PRAGMA application_id").fetchone() == (0x47504B47,)
        assert {row[0] for row in database.execute("SELECT srs_id FROM gpkg_spatial_ref_sys")} == {-1, 0, 4326, 32610}


def test_the_same_layers_make_the_same_bytes(features, tmp_path):
    layers = [Layer("regions", UTM, [(polygons, values) for polygons, values, _ in features])]
    for name in ("one.gpkg", "two.gpkg"):
        write_geopackage(tmp_path / name, layers)
    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes()


def test_geojson_is_in_longitude_and_latitude(features, tmp_path):
    path = tmp_path / "regions.geojson"
    write_geojson(path, [(to_longitude_latitude(polygons, UTM), values) for polygons, values, _ in features])
    found = geopandas.read_file(path)
    assert found.crs.to_epsg() == 4326
    np.testing.assert_allclose(found.to_crs(32610).area, [100 * pixels for *_, pixels in features], rtol=1e-2)
    ((longitude, latitude), *_), *_ = json.loads(path.read_text("utf-8"))["features"][0]["geometry"]["coordinates"][0]
    assert (longitude, latitude) == pytest.approx((-123, 36.1), abs=0.1)
