import pickle

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import features.feature_set
from data.errors import FeatureError
from data.scenes.image import ImageFile
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import Grid, Window, tile_windows
from features.context import STATISTICS, Surroundings, local_statistics
from features.feature_set import FeatureSet
from features.settings import ContextSettings, DistanceSettings, FeatureSettings, RelativeSettings, feature_names

EVERYTHING = FeatureSettings(
    formulas={"wet": "NDWI > -0.1", "bright": "nir > 105 and not wet"},
    context=ContextSettings(of=["nir", "NDVI", "wet"], radii=[1, 6], statistics=[*STATISTICS]),
    relative=RelativeSettings(of=["nir", "NDVI"], to=["scene", "wet"], rank=True),
    distance=DistanceSettings(to=["bright"], within=9),
    shares=["valid", "wet"],
    coordinates=["row", "col", "x", "y"],
)


def everything(bands, **options):
    return FeatureSet(bands, feature_names(bands, EVERYTHING), EVERYTHING.formulas, **options)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.data())
def test_a_window_has_the_bits_of_the_whole_scene(write_raster, data):
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(row, col, data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    pixels = rng.normal(100, 10, (3, height, width)).astype(np.float32)
    pixels[:, rng.random((height, width)) < data.draw(st.sampled_from([0, 0.1, 0.95]))] = np.nan
    path = write_raster("window.tif", pixels, transform=(30, 0, 500_000, 0, -30, 4e6), crs="EPSG:32611")
    bands = ("red", "nir", "green")
    scene = Scene(
        "s", "train", (ImageFile(str(path), bands),), Grid(height, width, "EPSG:32611", (30, 0, 5e5, 0, -30, 4e6))
    )
    feature_set = everything(bands, block=16)
    whole, opened = feature_set.compute(scene), feature_set.open(scene)
    np.testing.assert_array_equal(opened.compute(window), whole[:, *window.slices])
    some = rng.random((height, width)) < 0.3
    rows, cols = (position + start for position, start in zip(np.nonzero(some[window.slices]), (row, col), strict=True))
    np.testing.assert_array_equal(opened.gather(window, rows, cols), whole[:, rows, cols])
    assert not np.isinf(whole).any()


def test_large_scenes_are_worked_on_in_bands_of_rows_with_the_same_bits(make_scenes):
    scene = make_scenes(n_scenes=1, shape=(150, 90)).scenes[0]
    whole = everything(scene.bands).compute(scene)
    feature_set = everything(scene.bands, block=128, window_pixels=128 * 90)
    windows = list(feature_set.windows(scene.grid))
    assert [(window.row, window.height, window.width) for window in windows] == [(0, 128, 90), (128, 22, 90)]
    opened = feature_set.open(scene)
    parts = [opened.compute(window) for window in windows]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize(("height", "width"), [(350, 350), (10_980, 10_980), (3, 40_000), (5_000, 100)])
def test_windows_cover_a_scene_once_and_are_bounded(height, width):
    windows = list(FeatureSet(("red",), ["red"]).windows(Grid(height, width)))
    assert sum(window.height * window.width for window in windows) == height * width
    assert all(window.height * window.width <= 128 * 2**15 for window in windows)
    assert all(window.row % 128 == window.col % 128 == 0 for window in windows)


def test_a_column_is_the_plane_it_names(make_scenes):
    scene = make_scenes().scenes[0]
    red, nir, green = read_scene(scene)
    names = ["NDVI_mean_r2", "green", "NDVI", "nir", "red_max_r1", "nir_above_scene", "nir_above_high", "nir_rank"]
    computed = FeatureSet(scene.bands, names, {"high": "red > 100"}).compute(scene)
    found = dict(zip(names, computed, strict=True))
    ndvi = (nir - red) / (nir + red)
    np.testing.assert_array_equal(found["green"], green)
    np.testing.assert_array_equal(found["nir"], nir)
    np.testing.assert_allclose(found["NDVI"], ndvi, rtol=1e-6)
    padded = [Surroundings(np.pad(plane, 4, constant_values=np.nan), 4) for plane in (red, ndvi)]
    np.testing.assert_array_equal(found["red_max_r1"], local_statistics(padded[0], 1, ["max"])["max"])
    np.testing.assert_allclose(found["NDVI_mean_r2"], local_statistics(padded[1], 2, ["mean"])["mean"], rtol=1e-5)
    np.testing.assert_allclose(found["nir_above_scene"], nir - np.nanmedian(nir), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["nir_above_high"], nir - np.nanmedian(nir[red > 100]), rtol=1e-5, atol=1e-5)
    below = (nir[None] < nir[np.isfinite(nir)][:, None, None]).mean(axis=0)
    np.testing.assert_allclose(found["nir_rank"][np.isfinite(nir)], 1 - below[np.isfinite(nir)], atol=0.01)


def test_a_scene_without_water_has_no_value_relative_to_it(make_scenes):
    scene = make_scenes().scenes[0]
    found = FeatureSet(scene.bands, ["nir_above_water", "water_share"], {"water": "nir < 0"}).compute(scene)
    assert np.isnan(found[0]).all()
    assert (found[1] == 0).all()


def test_places_are_rows_columns_and_coordinates(write_raster):
    transform = (10.0, 0.0, 400_000.0, 0.0, -10.0, 5_000_000.0)
    path = write_raster("g.tif", np.ones((1, 6, 8), np.float32), transform=transform, crs="EPSG:32633")
    scene = Scene("g", "train", (ImageFile(str(path), ("red",)),), Grid(6, 8, "EPSG:32633", transform))
    row, col, x, y = FeatureSet(("red",), ["at_row", "at_col", "at_x", "at_y"]).compute(scene, Window(2, 3, 2, 2))
    assert (row[:, 0] == [2, 3]).all()
    assert (col[0] == [3, 4]).all()
    with rasterio.open(path) as raster:
        assert (x[0, 1], y[0, 1]) == raster.xy(2, 4)


def test_two_dates_and_their_change(write_raster):
    pixels = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    bands = ("red_before", "nir_before", "red_after", "nir_after")
    scene = Scene("d", "train", (ImageFile(str(write_raster("d.tif", pixels)), bands),), Grid(5, 6))
    names = ["NDVI_before", "NDVI_after", "NDVI_after_minus_before", "nir_after_over_before"]
    before, after, change, ratio = FeatureSet(bands, names).compute(scene)
    np.testing.assert_allclose(change, after - before, atol=1e-6)
    np.testing.assert_allclose(ratio, pixels[3] / pixels[1], rtol=1e-6)


def test_the_scene_is_read_once_for_all_of_its_features(make_scenes, monkeypatch):
    scene = make_scenes().scenes[0]
    reads = []
    monkeypatch.setattr(
        features.feature_set, "read_scene", lambda *arguments: reads.append(arguments) or read_scene(*arguments)
    )
    opened = everything(scene.bands).open(scene)
    opened.valid()
    opened.compute()
    opened.gather(scene.grid.window, np.arange(3), np.arange(3))
    assert len(reads) == 1


def test_a_feature_set_can_be_sent_to_a_worker(make_scenes):
    scene = make_scenes().scenes[0]
    feature_set = everything(scene.bands)
    sent = pickle.loads(pickle.dumps(feature_set))
    assert sent.names == feature_set.names
    np.testing.assert_array_equal(sent.compute(scene), feature_set.compute(scene))


def test_only_the_bands_that_are_needed_are_named():
    feature_set = FeatureSet(("red", "nir", "green"), ["NDVI_std_r3"])
    assert feature_set.bands == ("red", "nir")
    assert feature_set.halo == 4
    assert FeatureSet(("red", "nir"), ["nir_laplacian_r3"]).halo == 10
    assert FeatureSet(("red",), ["red"]).halo == 0


def test_an_unknown_feature_is_answered_with_the_nearest():
    with pytest.raises(FeatureError, match="Did you mean NDVI"):
        FeatureSet(("red", "nir"), ["NDVJ"])
    with pytest.raises(FeatureError, match=r"expected the bands swir16 for NDMI"):
        FeatureSet(("red", "nir"), ["NDMI"])
    with pytest.raises(FeatureError, match="feature red_mode_r3"):
        FeatureSet(("red", "nir"), ["red_mode_r3"])


def test_a_band_may_look_like_a_feature():
    assert FeatureSet(("NDVI", "nir_mean_r3"), ["NDVI", "nir_mean_r3"]).halo == 0


def test_windows_over_the_edge_are_nodata_beyond_it(make_scenes):
    scene = make_scenes(shape=(20, 20)).scenes[0]
    found = FeatureSet(scene.bands, ["nir", "nir_mean_r2"]).compute(scene, Window(10, 10, 16, 16))
    assert np.isnan(found[0, 10:]).all()
    assert found.shape == (2, 16, 16)


def test_every_block_is_computed_once(make_scenes, monkeypatch):
    scene = make_scenes(n_scenes=1, shape=(64, 64)).scenes[0]
    seen = []
    monkeypatch.setattr(
        features.feature_set,
        "local_statistics",
        lambda around, *rest: seen.append(around.plane.shape) or local_statistics(around, *rest),
    )
    opened = FeatureSet(scene.bands, ["nir_mean_r2"], block=16).open(scene)
    opened.gather(scene.grid.window, np.array([1, 2, 40]), np.array([1, 1, 50]))
    assert len(seen) == 2, "blocks without a pixel asked for are left out"
    opened.compute()
    assert len(seen) == 2 + len(list(tile_windows(64, 64, 16)))


def test_a_scene_that_lacks_a_band_is_named(make_scenes):
    [scene, *_] = make_scenes().scenes
    with pytest.raises(FeatureError, match=rf"scene {scene.id}: expected the bands swir16, .* got red, nir, green"):
        FeatureSet(("red", "swir16"), ("red", "swir16")).open(scene)
