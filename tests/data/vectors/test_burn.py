import gzip
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio.raw
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform

from data.errors import LabelError
from data.scenes.classes import Classes
from data.scenes.scene import Scene, read_label
from data.scenes.windows import Grid
from data.settings import VectorSettings
from data.vectors.burn import burn_label
from data.vectors.drawn import drawn_label

GRID = Grid(20, 30, CRS.from_epsg(32630).to_wkt(), (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_600_000.0))
LAND = Classes("multiclass", (1, 5, 7), ("water", "forest", "background"), ((0, 0, 9),) * 3)
KELP = Classes("binary", (1,), ("kelp",), ((0, 0, 9),))


def box(left, top, right, bottom):
    """A rectangle in pixels of the grid, as it lies on the ground."""
    return shapely.box(500_000 + 10 * left, 4_600_000 - 10 * bottom, 500_000 + 10 * right, 4_600_000 - 10 * top)


def point(col, row):
    return shapely.Point(500_000 + 10 * col, 4_600_000 - 10 * row)


def write(path, shapes, crs="EPSG:32630", **columns):
    geometry = np.array([shapely.to_wkb(shape) for shape in shapes], object)
    kinds = {shape.geom_type for shape in shapes}
    pyogrio.raw.write(
        str(path), geometry, [np.asarray(values) for values in columns.values()], list(columns), crs=crs,
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
    )  # fmt: skip
    return str(path)


def burn(path, classes=LAND, tmp=None, area=None, grid=GRID, **settings):
    drawn = drawn_label(path, VectorSettings(vector=path, **settings), classes, area)
    burnt = burn_label(drawn, grid, classes, tmp / "label.tif")
    return read_label(Scene("a", "train", (), grid, burnt.label)), burnt


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.geojson", "a.fgb"])
def test_polygons_of_every_format_label_the_pixels_whose_centre_they_cover(name, tmp_path):
    path = write(tmp_path / name, [box(2, 3, 8, 9), box(8, 3, 11.4, 9)], kind=["Forest", "water"])
    label, burnt = burn(path, tmp=tmp_path, field="kind")
    expected = np.full((20, 30), 255)
    expected[3:9, 2:8], expected[3:9, 8:11] = 1, 0
    np.testing.assert_array_equal(label, expected)
    assert (burnt.problem, burnt.warnings) == ("", ())


def test_shapes_of_another_system_lie_where_they_should(tmp_path):
    ring = shapely.segmentize(box(4, 4, 20, 15), 5)

    def to_degrees(points):
        return np.column_stack(transform("EPSG:32630", "EPSG:4326", *points.T))

    path = write(tmp_path / "a.geojson", [shapely.transform(ring, to_degrees)], "EPSG:4326", label=[5])
    label, _ = burn(path, tmp=tmp_path)
    expected = np.full((20, 30), 255)
    expected[4:15, 4:20] = 1
    np.testing.assert_array_equal(label, expected)


def test_geoparquet_is_read_by_its_own_system(tmp_path):
    table = pa.table({"geometry": [shapely.to_wkb(box(0, 0, 3, 3))], "class": ["water"]})
    column = {"encoding": "WKB", "geometry_types": [], "crs": CRS.from_epsg(32630).to_dict(projjson=True)}
    about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(about)}), tmp_path / "a.parquet")
    label, _ = burn(str(tmp_path / "a.parquet"), tmp=tmp_path)
    assert np.argwhere(label == 0).tolist() == [[row, col] for row in range(3) for col in range(3)]


def test_a_point_stands_for_its_pixel_or_for_those_around_it(tmp_path):
    path = write(tmp_path / "a.gpkg", [point(4.5, 6.9), point(0, 0), point(90, 3)], label=["water", "forest", "water"])
    label, _ = burn(path, tmp=tmp_path)
    assert np.argwhere(label != 255).tolist() == [[0, 0], [6, 4]]
    label, _ = burn(path, tmp=tmp_path, radius=1.5)
    assert np.argwhere(label == 0).tolist() == [[row, col] for row in (5, 6, 7) for col in (3, 4, 5)]
    assert np.argwhere(label == 1).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    "text",
    [
        "id,x,y,class\n1,500045,4599931,water\n2,500005,4599995,5\n",
        "id;X;Y;Class\n1;500045,0;4599931,0;water\n2;500005,0;4599995,0;5\n",
    ],
)
def test_a_table_of_coordinates_is_points(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    label, _ = burn(str(tmp_path / "a.csv"), tmp=tmp_path)
    assert np.argwhere(label == 0).tolist() == [[6, 4]]
    assert np.argwhere(label == 1).tolist() == [[0, 0]]


def test_columns_called_lon_and_lat_are_degrees_and_bad_cells_are_named(tmp_path):
    [lon], [lat] = transform("EPSG:32630", "EPSG:4326", [500_045], [4_599_931])
    (tmp_path / "a.csv").write_text(f"lon,lat,class\n{lon},{lat},water\n")
    assert np.argwhere(burn(str(tmp_path / "a.csv"), tmp=tmp_path)[0] == 0).tolist() == [[6, 4]]
    (tmp_path / "b.csv").write_text(f"lon,lat,class\n{lon},NA,water\n")
    with pytest.raises(LabelError, match=r"b\.csv, row 1, lat: expected a number, got ''"):
        burn(str(tmp_path / "b.csv"), tmp=tmp_path)


def test_a_line_labels_what_it_crosses_or_what_lies_within_a_buffer(tmp_path):
    path = write(tmp_path / "a.gpkg", [shapely.LineString([point(3.5, 4.5), point(12.5, 4.5)])])
    label, _ = burn(path, KELP, tmp=tmp_path)
    assert np.argwhere(label == 1)[:, 0].tolist() == [4] * 10
    label, _ = burn(path, KELP, tmp=tmp_path, buffer=1.2)
    assert sorted(set(np.argwhere(label == 1)[:, 0].tolist())) == [3, 4, 5]


def test_outside_is_background_within_an_area_if_one_is_given(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(2, 2, 5, 5)], label=["forest"])
    area = write(tmp_path / "area.gpkg", [box(0, 0, 10, 10)])
    label, _ = burn(path, tmp=tmp_path, outside="background")
    assert np.unique(label, return_counts=True)[1].tolist() == [9, 591]
    label, _ = burn(path, tmp=tmp_path, outside="background", area=area)
    assert [int((label == code).sum()) for code in (1, 2, 255)] == [9, 91, 500]


def test_polygons_of_two_classes_over_each_other_are_a_problem_and_of_one_a_union(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(2, 2, 8, 8), box(6, 6, 12, 12)], label=["water", "forest"])
    _, burnt = burn(path, tmp=tmp_path)
    assert "got polygons of forest and water over each other, first at row 6, column 6" in burnt.problem
    path = write(tmp_path / "b.gpkg", [box(2, 2, 8, 8), box(6, 6, 12, 12)], label=["water", "water"])
    label, burnt = burn(path, tmp=tmp_path)
    assert burnt.problem == ""
    assert (label == 0).sum() == 36 + 36 - 4


def test_pixels_that_two_classes_merely_touch_are_unlabelled(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(2, 2, 5.4, 8), box(5.4, 2, 9, 8)], label=["water", "forest"])
    label, burnt = burn(path, tmp=tmp_path, touched="all")
    assert burnt.problem == ""
    assert (label[2:8, 5] == 255).all()
    assert "pixels touch shapes of several classes" in burnt.warnings[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"field": "kind"}, "expected the column kind, got label, other"),
        ({}, r"expected in label the values 1, .*, got also swamp\. Declare"),
        ({"values": {"swamp": "lake"}}, "expected class names among .*, got lake"),
        ({"crs": "EPSG:nine"}, "expected a coordinate system, got EPSG:nine"),
    ],
)
def test_what_cannot_be_understood_is_said_with_what_there_is(tmp_path, settings, message):
    path = write(tmp_path / "a.gpkg", [box(2, 2, 8, 8), box(9, 9, 12, 12)], label=["water", "swamp"], other=[1, 2])
    with pytest.raises(LabelError, match=message):
        burn(path, tmp=tmp_path, **settings)


def test_values_map_names_and_numbers_and_some_are_ignored(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 2, 2), box(4, 4, 6, 6), box(8, 8, 9, 9)], code=[11.0, 12.0, 99.0])
    label, _ = burn(path, tmp=tmp_path, values={11: "water", "12": "forest"}, ignore=[99])
    assert [int((label == code).sum()) for code in (0, 1)] == [4, 4]


def test_a_scene_that_says_not_where_it_lies_cannot_be_drawn_on(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 2, 2)], label=["water"])
    with pytest.raises(LabelError, match="expected a scene that says where it lies"):
        burn(path, tmp=tmp_path, grid=Grid(20, 30))


def test_shapes_without_a_class_are_unlabelled_and_counted(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 2, 2), box(4, 4, 6, 6)], label=np.array(["water", None], object))
    label, burnt = burn(path, tmp=tmp_path, outside="background")
    assert (label[4:6, 4:6] == 255).all()
    assert "a.gpkg: 1 shapes have no class" in burnt.warnings[0]


def test_what_is_to_be_ignored_wins_over_what_it_lies_on(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 8, 8), box(4, 4, 6, 6)], label=["water", "cloud"])
    label, burnt = burn(path, tmp=tmp_path, ignore=["cloud"])
    assert (burnt.problem, burnt.warnings) == ("", ())
    assert (int((label == 0).sum()), int((label[4:6, 4:6] == 255).sum())) == (60, 4)


@pytest.mark.parametrize("values", [None, {True: "kelp", False: "background"}, {"true": "kelp", "false": "background"}])
def test_a_column_of_yes_and_no_is_a_class(tmp_path, values):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 2, 2), box(4, 4, 6, 6)], label=np.array([True, False]))
    label, _ = burn(path, KELP, tmp=tmp_path, values=values)
    assert (label[0, 0], label[4, 4]) == (1, 0)


def test_a_column_is_found_though_its_letters_are_large_or_a_shapefile_cut_its_name(tmp_path):
    path = write(tmp_path / "a.shp", [box(0, 0, 2, 2)], landcover_=["water"])
    assert burn(path, tmp=tmp_path, field="Landcover_Class")[0][0, 0] == 0


def test_shapes_that_lie_elsewhere_are_told_with_the_distance(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(1000, 0, 1002, 2)], label=["water"])
    _, burnt = burn(path, tmp=tmp_path)
    assert "expected shapes on the scene, got 1 that lie elsewhere, 986 pixels (9,860 m) off" in burnt.elsewhere


def test_shapes_without_a_coordinate_system_are_taken_for_the_scenes_and_that_is_said(tmp_path):
    path = write(tmp_path / "a.shp", [box(0, 0, 2, 2)], label=["water"])
    (tmp_path / "a.prj").unlink()
    label, burnt = burn(path, tmp=tmp_path)
    assert label[0, 0] == 0
    assert "names no coordinate system" in burnt.warnings[0]


@pytest.mark.parametrize("number", ["-1", "0"])
def test_a_system_of_no_ground_is_none(tmp_path, number):
    path = tmp_path / "a.gpkg"
    options = {"geometry_type": "Polygon", "crs": None, "layer_options": {"SRID": number}}
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        pyogrio.raw.write(path, shapely.to_wkb([box(0, 0, 2, 2)]), [np.array(["water"], object)], ["label"], **options)
    label, burnt = burn(str(path), tmp=tmp_path)
    assert label[0, 0] == 0
    assert "names no coordinate system" in burnt.warnings[0]


def test_days_are_values_as_they_are_written(tmp_path):
    days = np.array(["2024-05-01", "2024-05-02"], "datetime64[ms]")
    path = write(tmp_path / "a.gpkg", [box(0, 0, 2, 2), box(2, 0, 4, 2)], day=days)
    label, _ = burn(path, tmp=tmp_path, field="day", values={"2024-05-01": "water", "2024-05-02": "forest"})
    assert label[0, :4].tolist() == [0, 0, 1, 1]


def test_a_parquet_table_without_shapes_or_of_other_shapes_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"label": ["water"], "geometry": [{"x": 1.0, "y": 2.0}]})
    pq.write_table(table, path)
    with pytest.raises(LabelError, match=r"a\.parquet: expected shapes \(GeoParquet\), got a table without"):
        burn(str(path), tmp=tmp_path)
    about = {"primary_column": "geometry", "columns": {"geometry": {"encoding": "point"}}}
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(about)}), path)
    with pytest.raises(LabelError, match="expected shapes written as WKB, got point"):
        burn(str(path), tmp=tmp_path)


def test_tables_beside_the_layer_are_no_layers_and_a_wrong_layer_is_named(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 2, 2)], label=["water"])
    pyogrio.raw.write(path, None, [np.array(["x"])], ["style"], layer="layer_styles", append=True, geometry_type=None)
    assert burn(path, tmp=tmp_path)[0][0, 0] == 0
    with pytest.raises(LabelError, match="expected the layer tarin, got a"):
        burn(path, tmp=tmp_path, layer="tarin")


def test_shapes_in_an_archive_or_written_as_text_are_read(tmp_path):
    write(tmp_path / "a.geojson", [box(0, 0, 2, 2)], label=["water"])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.geojson", "a.geojson")
    assert burn(f"/vsizip/{tmp_path}/a.zip/a.geojson", tmp=tmp_path)[0][0, 0] == 0
    packed = tmp_path / "b.geojson.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.geojson").read_bytes()))
    assert burn(str(packed), tmp=tmp_path)[0][0, 0] == 0
    (tmp_path / "a.csv").write_text(f'class,WKT\nwater,"{box(3, 3, 5, 5).wkt}"\n')
    assert (burn(str(tmp_path / "a.csv"), tmp=tmp_path)[0][3:5, 3:5] == 0).all()


@pytest.mark.parametrize("west", [179.98, -180.02, 359.98])
def test_shapes_are_found_on_both_sides_of_the_date_line(tmp_path, west):
    grid = Grid(20, 40, CRS.from_epsg(4326).to_wkt(), (1e-3, 0, west, 0, -1e-3, 10))
    line = 0 if west > 300 else 180
    ends = [(line - 0.01, line - 0.005), (line - 360 + 0.005, line - 360 + 0.01)] if line else [(-0.01, 0.01)]
    path = write(
        tmp_path / "a.gpkg", [shapely.box(a, 9.985, b, 9.99) for a, b in ends], "EPSG:4326", label=["water"] * len(ends)
    )
    label, _ = burn(path, tmp=tmp_path, grid=grid)
    cols = np.flatnonzero((label == 0).any(axis=0)).tolist()
    assert cols == ([*range(10, 15), *range(25, 30)] if line else [*range(10, 30)])


def test_shapes_label_nothing_where_the_scene_has_no_data(tmp_path):
    path = write(tmp_path / "a.gpkg", [box(0, 0, 8, 4)], label=["water"])
    drawn = drawn_label(path, VectorSettings(vector=path, outside="background"), LAND, None)

    def seen(window):
        return np.indices((window.height, window.width))[1] + window.col < 6

    burnt = burn_label(drawn, GRID, LAND, tmp_path / "label.tif", seen)
    label = read_label(Scene("a", "train", (), GRID, burnt.label))
    assert (int((label == 0).sum()), int((label == 2).sum()), int((label[:, 6:] != 255).sum())) == (24, 96, 0)
    assert "shapes cover 8 pixels where the scene has no data" in burnt.warnings[0]
