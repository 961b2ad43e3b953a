import io
import sqlite3
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydantic import ValidationError

from data.errors import MapError, SubmissionError
from data.maps.geotiff import map_writer, write_class_map
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from ensemble.settings import COLUMN_FIELDS, FormatName, SubmissionSettings
from ensemble.submit.predictions import Predictions
from ensemble.submit.raster_formats import decode_raster, encode_raster
from ensemble.submit.submission import FORMATS, write_submission
from ensemble.submit.text_formats import decode_runs, encode_runs

from ..conftest import KELP, LAND

SHAPE = (6, 7)
PLACE = {"crs": "EPSG:32633", "transform": (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)}
TAGS = Classes("multilabel", (0, 1, 2), ("haze", "primary", "water"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))


def make_labels(classes):
    rng = np.random.default_rng(0)
    n = len(classes.label_names)
    labels = {"b": rng.integers(0, n, SHAPE).astype(np.uint8), "a": np.zeros(SHAPE, np.uint8)}
    labels["b"][2:4, 3] = IGNORE
    return labels


@pytest.fixture
def predict(tmp_path):
    """Return a function that writes the maps of two test scenes, "b" of all classes and "a" of the first alone."""

    def make(classes, placed=False):
        grid = Grid(*SHAPE, **PLACE) if placed else Grid(*SHAPE)
        scenes = tuple(Scene(name, "test", (), grid) for name in ("b", "a"))
        for scene in scenes:
            write_class_map(
                tmp_path / "maps" / f"{scene.id}.tif", make_labels(classes)[scene.id], scene.grid, classes, {}
            )
        return Predictions(scenes, classes, tmp_path / "maps")

    return make


@pytest.fixture
def tagged(tmp_path):
    scenes = tuple(Scene(name, "test", (), Grid(1, 1)) for name in ("test_1", "test_0"))
    tags = {"test_0": np.array([True, False, True]), "test_1": np.zeros(3, bool)}
    return Predictions(scenes, TAGS, tmp_path / "maps", tags)


def rewrite_tar(path, change):
    """Change the members of an archive: {name: bytes} → {name: bytes}."""
    with tarfile.open(path) as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    with tarfile.open(path, "w") as archive:
        for name, data in change(content).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def rewrite_zip(path, change):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in change(content).items():
            archive.writestr(name, data)


def png(values):
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def refused(name, path, predictions, message):
    with pytest.raises(SubmissionError, match=message):
        FORMATS[name].check(path, predictions)


def test_every_format_that_can_be_asked_for_can_be_written():
    assert set(FORMATS) == set(get_args(FormatName))
    assert COLUMN_FIELDS.keys() < FORMATS.keys()


@pytest.mark.parametrize("name", ["kelp", "png", "rle", "polygons"])
def test_the_same_maps_make_the_same_bytes_in_whatever_order_scenes_come_into_an_archive(predict, tmp_path, name):
    predictions = predict(KELP, placed=True)
    first = write_submission(name, tmp_path / "one", predictions).read_bytes()
    assert write_submission(name, tmp_path / "two", predictions).read_bytes() == first
    if name in ("kelp", "png"):
        turned = replace(predictions, scenes=predictions.scenes[::-1])
        assert write_submission(name, tmp_path / "two", turned).read_bytes() == first


def test_the_kelp_archive_holds_zeros_and_ones_of_every_scene(predict, tmp_path):
    path = write_submission("kelp", tmp_path, predict(KELP))
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["a_kelp.tif", "b_kelp.tif"]
        for name in ("a", "b"):
            [values] = decode_raster(archive.extractfile(f"{name}_kelp.tif").read(), "GTiff", path)
            label = make_labels(KELP)[name]
            assert values.dtype == np.uint8
            np.testing.assert_array_equal(values, np.where(label == IGNORE, 0, label))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: {"a_kelp.tif": content["a_kelp.tif"]}, "1 missing"),
        (lambda content: content | {"c_kelp.tif": content["a_kelp.tif"]}, "1 unknown"),
        (
            lambda content: content | {"a_kelp.tif": encode_raster(np.zeros((1, 6, 8), np.uint8), "GTiff")},
            "expected 6 × 7 pixels",
        ),
        (
            lambda content: content | {"a_kelp.tif": encode_raster(np.full((1, 6, 7), 2, np.uint8), "GTiff")},
            "expected one band of uint8 values 0 and 1",
        ),
        (lambda content: content | {"a_kelp.tif": b"II*\0 broken"}, "expected a GTiff"),
    ],
)
def test_a_kelp_archive_that_is_not_whole_is_refused(predict, tmp_path, change, message):
    predictions = predict(KELP)
    path = write_submission("kelp", tmp_path, predictions)
    rewrite_tar(path, change)
    refused("kelp", path, predictions, message)


@pytest.mark.parametrize("classes", [KELP, LAND], ids=["binary", "multiclass"])
def test_images_hold_the_classes_colours_and_black_where_nothing_was_seen(predict, tmp_path, classes):
    path = write_submission("png", tmp_path, predict(classes))
    colors = [(0, 0, 0), *classes.colors] if classes.task == "binary" else classes.colors
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a_mask.png", "b_mask.png"]
        for name in ("a", "b"):
            with Image.open(archive.open(f"{name}_mask.png")) as image:
                assert image.mode == "RGB"
                values = np.asarray(image)
            for place, index in np.ndenumerate(make_labels(classes)[name]):
                assert tuple(values[place]) == ((0, 0, 0) if index == IGNORE else colors[index])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: {"a_mask.png": content["a_mask.png"]}, "1 missing"),
        (lambda content: content | {"c_mask.png": content["a_mask.png"]}, "1 unknown"),
        (lambda content: content | {"a_mask.png": png(np.zeros((6, 8, 3), np.uint8))}, "expected 6 × 7 pixels"),
        (lambda content: content | {"a_mask.png": png(np.full((6, 7, 3), 7, np.uint8))}, "RGB image in the classes'"),
        (
            lambda content: content | {"a_mask.png": png(np.zeros((6, 7), np.uint8))},
            "expected an RGB image .* got 1 bands",
        ),
        (lambda content: content | {"a_mask.png": b"broken"}, "expected a PNG"),
    ],
)
def test_an_archive_of_images_that_is_not_whole_is_refused(predict, tmp_path, change, message):
    predictions = predict(LAND)
    path = write_submission("png", tmp_path, predictions)
    rewrite_zip(path, change)
    refused("png", path, predictions, message)


@pytest.mark.parametrize("colors", [((9, 9, 9), (9, 9, 9), (1, 1, 1)), ((0, 0, 0), (9, 9, 9), (1, 1, 1))])
def test_colours_that_cannot_be_told_apart_are_refused(predict, tmp_path, colors):
    with pytest.raises(SubmissionError, match="expected a colour of its own for each class"):
        write_submission("png", tmp_path, predict(replace(LAND, colors=colors)))


def slow_runs(mask):
    """Return run lengths by walking down every column."""
    runs, open_ = [], False
    flat = [mask[row, col] for col in range(mask.shape[1]) for row in range(mask.shape[0])]
    for number, there in enumerate(flat, 1):
        if there and not open_:
            runs.append([number, 0])
        if there:
            runs[-1][1] += 1
        open_ = bool(there)
    return " ".join(f"{start} {length}" for start, length in runs)


@given(arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))))
def test_runs_are_counted_down_the_columns_from_one_and_come_back(mask):
    assert encode_runs(mask) == slow_runs(mask)
    np.testing.assert_array_equal(decode_runs(encode_runs(mask), mask.shape), mask)


@pytest.mark.parametrize("text", ["1", "0 2", "1 0", "3 2 1 1", "1 2 2 1", "1 2 3 1", "41 3", "one 2"])
def test_runs_that_are_no_mask_are_refused(text):
    with pytest.raises(ValueError, match=r"odd|empty|invalid literal|could not"):
        decode_runs(text, SHAPE)


def test_a_binary_table_has_a_row_a_scene_and_an_empty_one_where_nothing_is(predict, tmp_path):
    path = write_submission("rle", tmp_path, predict(KELP))
    lines = path.read_text().splitlines()
    assert lines == ["ImageId,EncodedPixels", f"b,{slow_runs(make_labels(KELP)['b'] == 1)}", "a,"]


def test_a_table_of_classes_has_a_row_a_scene_and_class_in_columns_of_the_users_own(predict, tmp_path):
    columns = {"EncodedPixels": "{runs}", "Image_Label": "{id}.jpg_{name}", "ClassId": "{value}"}
    path = write_submission("rle", tmp_path, replace(predict(LAND), columns=columns))
    table = pl.read_csv(path, infer_schema=False).fill_null("")
    assert table.columns == list(columns)
    expected = [
        (slow_runs(make_labels(LAND)[scene] == index), f"{scene}.jpg_{name}", str(value))
        for scene in ("b", "a")
        for index, (name, value) in enumerate(zip(LAND.names, LAND.ids, strict=True))
    ]
    assert table.rows() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "1 missing"),
        (lambda lines: [*lines, "c,"], "1 unknown"),
        (lambda lines: [*lines, "a,"], "1 twice"),
        (lambda lines: ["id,rle", *lines[1:]], "expected the columns ImageId, EncodedPixels, got id, rle"),
        (lambda lines: [*lines[:-1], "a,1 1"], "row a: expected the run lengths .* other pixels"),
        (lambda lines: [*lines[:-1], "a,40 9"], "row a: expected the run lengths .* outside of 42 pixels"),
        (lambda lines: [*lines[:-1], "a,x 9"], "row a: expected the run lengths"),
        (lambda lines: [*lines, "a,1 1,2"], "expected a table"),
    ],
)
def test_a_table_that_is_not_the_maps_is_refused(predict, tmp_path, change, message):
    predictions = predict(KELP)
    path = write_submission("rle", tmp_path, predictions)
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    refused("rle", path, predictions, message)


def test_columns_that_do_not_tell_rows_apart_are_refused(predict, tmp_path):
    with pytest.raises(SubmissionError, match="tell every scene and class apart"):
        write_submission("rle", tmp_path, replace(predict(LAND), columns={"a": "{id}", "b": "{runs}"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "kelp", "columns": {"a": "{id}"}}, "columns with format rle or tags alone"),
        ({"format": "rle", "columns": {"a": "{id}"}}, "expected one column that is {runs}"),
        ({"format": "rle", "columns": {"a": "{id}{runs}"}}, "expected {runs} alone, or a text with {id}"),
        ({"format": "rle", "columns": {"a": "{id.split}", "b": "{runs}"}}, r"got {id\.split}"),
        ({"format": "tags", "columns": {"a": "{runs}", "b": "{tags}"}}, "expected {tags} alone"),
        ({"format": "rle", "columns": {"a": "{id", "b": "{runs}"}}, "expected '}'"),
        ({"format": "nope"}, "Input should be"),
    ],
)
def test_columns_that_cannot_be_are_refused_before_anything_is_made(settings, message):
    with pytest.raises(ValidationError, match=message):
        SubmissionSettings.model_validate(settings)
    SubmissionSettings(format="rle", columns={"a": "{id}_{value}", "b": "{runs}"})


def test_tags_are_separated_by_spaces(tagged, tmp_path):
    path = write_submission("tags", tmp_path, tagged)
    assert path.read_text() == "image_name,tags\ntest_1,\ntest_0,haze water\n"
    other = replace(tagged, columns={"labels": "{tags}", "file": "{id}.jpg"})
    assert write_submission("tags", tmp_path, other).read_text() == "labels,file\n,test_1.jpg\nhaze water,test_0.jpg\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_name,tags\ntest_0,haze water\n", "1 missing"),
        ("image_name,tags\ntest_0,haze water\ntest_1,\ntest_2,\n", "1 unknown"),
        ("image_name,tags\ntest_0,haze\ntest_1,\n", "scene test_0: expected the tags that are predicted, got haze"),
        ("image_name,tags\ntest_0,haze water\ntest_1,fog\n", "scene test_1: .* got fog"),
    ],
)
def test_a_table_that_is_not_the_tags_is_refused(tagged, tmp_path, text, message):
    path = write_submission("tags", tmp_path, tagged)
    path.write_text(text)
    refused("tags", path, tagged, message)


def test_a_tag_with_a_space_and_a_scene_without_tags_are_refused(tagged, tmp_path):
    spaced = replace(tagged, classes=replace(TAGS, names=("haze", "blow down", "water")))
    with pytest.raises(SubmissionError, match=r"tags without spaces.* 'blow down'"):
        write_submission("tags", tmp_path, spaced)
    with pytest.raises(SubmissionError, match="1 missing"):
        write_submission("tags", tmp_path, replace(tagged, tags={"test_0": np.ones(3, bool)}))


@pytest.mark.parametrize("classes", [KELP, LAND], ids=["binary", "multiclass"])
def test_polygons_cover_the_pixels_of_their_class_and_open_elsewhere(predict, tmp_path, classes):
    geopandas = pytest.importorskip("geopandas")
    path = write_submission("polygons", tmp_path, predict(classes, placed=True))
    table = geopandas.read_file(path)
    assert table.crs.to_epsg() == 32633
    assert table.geometry.is_valid.all()
    np.testing.assert_allclose(table.area, table["pixels"] * 100)
    counts = Counter()
    for row in table.itertuples():
        counts[row.scene, row.value] += row.pixels
    expected = Counter()
    for scene, label in make_labels(classes).items():
        for name, value in zip(classes.names, classes.ids, strict=True):
            expected[scene, value] = int((label == classes.label_names.index(name)).sum())
    assert counts == +expected
    [left, bottom, right, top] = table[table["scene"] == "b"].total_bounds
    assert (left, right) == (500_000, 500_070) or classes.task == "binary"
    assert (top, bottom) == (5_000_000, 4_999_940) or classes.task == "binary"


def test_polygons_that_are_not_the_maps_are_refused(predict, tmp_path):
    predictions = predict(LAND, placed=True)
    path = write_submission("polygons", tmp_path, predictions)
    original = path.read_bytes()
    for change, message in (
        ("DELETE FROM classes_1 WHERE fid = 1", "expected polygons of"),
        ("UPDATE classes_1 SET scene = 'a' WHERE fid = 2", "scenes and classes differ"),
        ("UPDATE classes_1 SET pixels = pixels + 1 WHERE fid = 1", "got another area"),
        ("DROP TABLE classes_1", "expected a GeoPackage, got: no such table"),
    ):
        path.write_bytes(original)
        with sqlite3.connect(path) as database:
            database.execute(change)
        database.close()
        refused("polygons", path, predictions, message)


def test_polygons_need_coordinates(predict, tmp_path):
    with pytest.raises(SubmissionError, match="scenes with coordinates, got 2 of 2 without: b, a"):
        write_submission("polygons", tmp_path, predict(KELP))


def test_a_folder_of_maps_must_hold_every_scene_and_no_other(predict, tmp_path):
    predictions = predict(KELP)
    maps = predictions.maps
    assert write_submission("geotiff", tmp_path, predictions) == maps
    write_class_map(maps / "c.tif", make_labels(KELP)["a"], Grid(6, 7), KELP, {})
    with pytest.raises(SubmissionError, match="1 unknown"):
        write_submission("geotiff", tmp_path, predictions)
    (maps / "c.tif").rename(maps / ".writing-left-by-a-kill.tif")
    assert write_submission("geotiff", tmp_path, predictions) == maps


def test_probability_maps_must_be_of_the_scenes_and_classes(predict, tmp_path):
    predictions = predict(LAND)

    def write(name, shape=SHAPE, names=LAND.names):
        with map_writer(tmp_path / "proba" / f"{name}.tif", Grid(*shape), names, {}, cloud_optimized=True) as writer:
            writer.write(Grid(*shape).window, np.zeros((len(names), *shape), np.float32))

    write("a")
    with pytest.raises(SubmissionError, match="1 missing"):
        write_submission("probabilities", tmp_path, predictions)
    write("b")
    assert write_submission("probabilities", tmp_path, predictions) == tmp_path / "proba"
    write("b", shape=(6, 8))
    with pytest.raises(SubmissionError, match="expected 6 × 7 pixels like scene b"):
        write_submission("probabilities", tmp_path, predictions)
    write("b", names=("x", "y"))
    with pytest.raises(SubmissionError, match="expected bands water, rock, kelp, got x, y"):
        write_submission("probabilities", tmp_path, predictions)


@pytest.mark.parametrize("name", ["geotiff", "kelp", "png", "rle"])
def test_maps_of_another_size_or_value_and_missing_or_doubled_ones_are_refused(predict, tmp_path, name):
    predictions = predict(KELP)
    map_ = predictions.maps / "a.tif"
    write_class_map(map_, make_labels(KELP)["a"].T, Grid(7, 6), KELP, {})
    with pytest.raises(SubmissionError, match="expected 6 × 7 pixels like scene a"):
        write_submission(name, tmp_path, predictions)
    write_class_map(map_, np.full((6, 7), 2, np.uint8), Grid(6, 7), LAND, {})
    with pytest.raises(MapError, match=r"expected class ids 0, 1, got also \[5\]"):
        write_submission(name, tmp_path, predictions)
    map_.unlink()
    with pytest.raises(SubmissionError, match=r"each of 2 test scenes, 1 are missing: .*a\.tif"):
        write_submission(name, tmp_path, predictions)
    with pytest.raises(SubmissionError, match="distinct ids, got 1 twice"):
        write_submission(name, tmp_path, replace(predictions, scenes=(*predictions.scenes, predictions.scenes[0])))


@pytest.mark.parametrize(("name", "classes"), [("kelp", LAND), ("tags", LAND), ("rle", TAGS)])
def test_a_format_that_does_not_suit_the_task_names_those_that_do(tmp_path, name, classes):
    with pytest.raises(SubmissionError, match=f"got {classes.task}. Use one of"):
        write_submission(name, tmp_path, Predictions((), classes, tmp_path))
