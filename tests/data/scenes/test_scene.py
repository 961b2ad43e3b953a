import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import LabelError, SceneError
from data.scenes.classes import IGNORE
from data.scenes.formats import open_plain
from data.scenes.image import ImageFile
from data.scenes.rasters import keep_open, read_grid
from data.scenes.scene import LabelFile, Scene, read_label, read_scene, valid_mask
from data.scenes.windows import Grid, Window

PIXELS = np.arange(2 * 5 * 7, dtype=np.int16).reshape(2, 5, 7)


def scene_of(path, bands=("nir", "red"), shape=(5, 7), **options):
    return Scene("a", "train", (ImageFile(str(path), bands, options.pop("nodata", ())),), Grid(*shape), **options)


def test_bands_come_by_name_in_the_order_asked_for(write_raster):
    scene = scene_of(write_raster("a.tif", PIXELS))
    pixels = read_scene(scene, bands=["red", "nir"])
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, PIXELS[::-1])


def test_a_band_that_is_asked_for_three_times_is_there_three_times(write_raster):
    planes = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    scene = scene_of(write_raster("a.tif", planes), ("red", "qa"), (3, 4), invalid=(("qa", (13,)),))
    pixels = read_scene(scene, bands=("red", "red", "red"))
    expected = np.where(planes[1] == 13, np.nan, planes[0])
    np.testing.assert_array_equal(pixels, np.stack([expected] * 3))


def test_a_scene_spread_over_files_has_the_bands_of_each_in_turn(write_raster):
    one, two = write_raster("one.tif", PIXELS), write_raster("two.png", PIXELS[:1].astype(np.uint8) + 1)
    scene = Scene("a", "train", (ImageFile(str(one), ("nir", "red")), ImageFile(str(two), ("vv",))), Grid(5, 7))
    assert scene.bands == ("nir", "red", "vv")
    np.testing.assert_array_equal(read_scene(scene, bands=["vv", "red"]), [PIXELS[0] + 1, PIXELS[1]])


def test_declared_nodata_own_nodata_and_nan_become_nan(write_raster):
    values = np.array([[[-1.0, 2.0, np.nan, np.inf, -99999.0]]], np.float32)
    scene = scene_of(write_raster("a.tif", values, nodata=-99999.0), ("red",), (1, 5), nodata=(-1,))
    np.testing.assert_array_equal(read_scene(scene), [[[np.nan, 2, np.nan, np.nan, np.nan]]])


def test_nodata_that_the_type_cannot_hold_matches_nothing(write_raster):
    values = np.array([[0, 241, 255]], np.uint8)
    scene = scene_of(write_raster("a.tif", values), ("red",), (1, 3), nodata=(-9999,))
    np.testing.assert_array_equal(read_scene(scene), [values])


def test_a_mask_band_condemns_the_other_bands_and_stays_itself(write_raster):
    values = np.stack([PIXELS[0], np.zeros((5, 7), np.int16)])
    values[1, 2, 3], values[1, 4, 4] = 1, 2
    path = write_raster("a.tif", values)
    any_but_zero = scene_of(path, ("nir", "qa"), invalid=(("qa", ()),))
    only_two = scene_of(path, ("nir", "qa"), invalid=(("qa", (2,)),))
    assert np.argwhere(np.isnan(read_scene(any_but_zero)[0])).tolist() == [[2, 3], [4, 4]]
    assert np.argwhere(np.isnan(read_scene(only_two, bands=["nir"])[0])).tolist() == [[4, 4]]
    pixels = read_scene(any_but_zero)
    np.testing.assert_array_equal(pixels[1], values[1])
    assert not valid_mask(any_but_zero, pixels)[2, 3]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.integers(-4, 8), st.integers(-4, 8), st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
def test_a_window_is_what_the_whole_scene_holds_there_and_nan_outside(write_raster, row, col, height, width, halo):
    scene = scene_of(write_raster("a.tif", PIXELS))
    window = Window(row, col, height, width)
    room = np.pad(PIXELS.astype(np.float32), ((0, 0), (20, 20), (20, 20)), constant_values=np.nan)
    grown = window.grow(halo)
    expected = room[:, grown.row + 20 :, grown.col + 20 :][:, : grown.height, : grown.width]
    np.testing.assert_array_equal(read_scene(scene, window, halo), expected)


def test_a_missing_band_is_named_beside_those_there_are(write_raster):
    scene = scene_of(write_raster("a.tif", PIXELS))
    with pytest.raises(SceneError, match=r"expected bands swir16; the scene has nir, red"):
        read_scene(scene, bands=["swir16"])


def test_a_truncated_file_is_named(write_raster):
    path = write_raster("a.tif", np.random.default_rng(0).integers(0, 99, (2, 300, 300), np.int16))
    path.write_bytes(path.read_bytes()[:70_000])
    with pytest.raises(SceneError, match=r"a\.tif: expected a readable raster"):
        read_scene(scene_of(path, shape=(300, 300)))


def test_a_file_without_georeferencing_gets_none(write_raster):
    assert read_grid(str(write_raster("a.tif", PIXELS))) == (Grid(5, 7), 2)


def test_the_grid_is_that_of_the_file(write_raster):
    grid, _ = read_grid(str(write_raster("a.tif", PIXELS, transform=(30, 0, 500, 0, -30, 900), crs="EPSG:32610")))
    assert grid.transform == (30, 0, 500, 0, -30, 900)
    assert "32610" in str(grid.crs)


def test_label_values_become_indices(write_raster):
    values = np.array([[0, 255, 7], [0, 0, 255]], np.uint8)
    label = LabelFile(str(write_raster("m.png", values)), ((0, 0), (7, IGNORE), (255, 1)))
    scene = scene_of("none.tif", shape=(2, 3), label=label)
    np.testing.assert_array_equal(read_label(scene), [[0, 1, IGNORE], [0, 0, 1]])
    np.testing.assert_array_equal(
        read_label(scene, Window(-1, 1, 2, 3)), [[IGNORE, IGNORE, IGNORE], [1, IGNORE, IGNORE]]
    )


def test_a_label_value_that_nobody_declared_is_named(write_raster):
    label = LabelFile(str(write_raster("m.tif", np.array([[0, 9]], np.uint8))), ((0, 0), (1, 1)))
    with pytest.raises(LabelError, match=r"m\.tif: expected the values 0, 1, got also 9"):
        read_label(scene_of("none.tif", shape=(1, 2), label=label))


def test_a_label_of_another_size_is_refused(write_raster):
    label = LabelFile(str(write_raster("m.tif", np.zeros((4, 7), np.uint8))), ((0, 0),))
    with pytest.raises(LabelError, match=r"expected 5 × 7 pixels .* got 4 × 7"):
        read_label(scene_of("none.tif", label=label))


def test_a_scene_without_label_says_so():
    with pytest.raises(LabelError, match="expected a label"):
        read_label(scene_of("none.tif"))


def test_a_raster_is_opened_once_while_it_is_kept_open(write_raster, monkeypatch):
    scene, opened = scene_of(write_raster("a.tif", PIXELS)), []
    plain = open_plain
    monkeypatch.setattr("data.scenes.rasters.open_plain", lambda path: opened.append(plain(path)) or opened[-1])
    with keep_open():
        first, second = read_scene(scene), read_scene(scene)
        assert not opened[0].closed
    assert len(opened) == 1
    assert opened[0].closed
    np.testing.assert_array_equal(first, second)
    read_scene(scene)
    assert len(opened) == 2
    assert opened[1].closed


def test_a_file_that_fails_is_closed_and_named_though_files_are_kept_open(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"no raster")
    with keep_open(), pytest.raises(SceneError, match=r"a\.tif: expected a readable raster"):
        read_scene(scene_of(tmp_path / "a.tif"))
