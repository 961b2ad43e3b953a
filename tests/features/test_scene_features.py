import pickle

import numpy as np
import pytest

import features.scene_facts
import features.scene_features
from data.errors import FeatureError
from data.scenes.scene import read_scene, valid_mask
from features.feature_set import FeatureSet
from features.histograms import measure_edges
from features.scene_features import SceneFeatureSet
from features.settings import (
    AggregateSettings,
    ContextSettings,
    FeatureSettings,
    RelativeSettings,
    feature_names,
    scene_feature_names,
)

from ..conftest import BANDS

FORMULAS = {"dark": "red < 100", "sum": "red + nir"}


def slow(scene, name):
    """Compute some features pixel by pixel, as one would say them."""
    red, nir, green = read_scene(scene).astype(np.float64)
    ndvi = (nir - red) / (nir + red)
    seen = np.isfinite(red)
    local = [
        np.nanstd(red[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2])
        for row in range(red.shape[0])
        for col in range(red.shape[1])
        if seen[row, col]
    ]
    return {
        "red_mean": red[seen].mean(),
        "NDVI_std": ndvi[seen].std(),
        "sum_q25": np.quantile((red + nir)[seen], 0.25),
        "green_from_95_below_105.5": np.mean((green[seen] >= 95) & (green[seen] < 105.5)),
        "red_std_r1_mean": np.mean(local),
        "red_std_r1_energy": np.mean(np.square(local)),
        "nir_above_dark_max": (nir - np.median(nir[seen & (red < 100)]))[seen].max(),
        "dark_share": np.mean(red[seen] < 100),
        "valid_share": seen.mean(),
        "dark_mean": np.mean(red[seen] < 100),
    }[name]


NAMES = (
    "red_mean",
    "NDVI_std",
    "sum_q25",
    "green_from_95_below_105.5",
    "red_std_r1_mean",
    "red_std_r1_energy",
    "nir_above_dark_max",
    "dark_share",
    "valid_share",
    "dark_mean",
)


@pytest.mark.parametrize("holes", [0, 0.05, 0.6])
def test_features_of_a_scene_are_those_of_a_slow_loop_over_its_valid_pixels(make_tagged, holes):
    for scene in make_tagged(2, holes=holes).scenes:
        found = SceneFeatureSet(BANDS, NAMES, FORMULAS).compute(scene)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, [slow(scene, name) for name in NAMES], rtol=2e-5)


def test_nodata_never_leaks(make_tagged, write_raster):
    scene = make_tagged(1, holes=0).scenes[0]
    whole = SceneFeatureSet(BANDS, NAMES, FORMULAS).compute(scene)
    pixels = np.full((3, 40, 40), np.nan, np.float32)
    pixels[:, :24, :20] = read_scene(scene)
    write_raster("t0.tif", pixels)
    wide = features.scene_features.Scene(scene.id, "train", scene.images, features.scene_facts.Grid(40, 40))
    found = dict(zip(NAMES, SceneFeatureSet(BANDS, NAMES, FORMULAS).compute(wide), strict=True))
    assert found.pop("valid_share") == np.float32(24 * 20 / 1600)
    for name, value in zip(NAMES, whole, strict=True):
        if name in found:
            assert found[name] == pytest.approx(value, rel=1e-6)


def test_the_windows_and_the_other_features_do_not_change_a_bit(make_tagged):
    scene = make_tagged(1).scenes[0]
    whole = SceneFeatureSet(BANDS, NAMES, FORMULAS).compute(scene)
    alone = [SceneFeatureSet(BANDS, [name], FORMULAS).compute(scene)[0] for name in NAMES]
    np.testing.assert_array_equal(alone, whole)
    in_parts = SceneFeatureSet(BANDS, NAMES, FORMULAS, window=8).compute(scene)
    # Sums of the same numbers in another order.
    np.testing.assert_allclose(in_parts, whole, rtol=1e-6)


def test_a_large_scene_is_seen_on_a_lattice(make_tagged):
    scene = make_tagged(1, holes=0).scenes[0]
    found = SceneFeatureSet(BANDS, ["red_mean", "red_q00"], most_pixels=24 * 20 // 4).compute(scene)
    red = read_scene(scene)[0, ::2, ::2]
    np.testing.assert_allclose(found, [red.mean(), red.min()], rtol=1e-6)


def test_a_scene_without_a_valid_pixel_has_no_features_at_all(make_tagged, write_raster):
    scene = make_tagged(1).scenes[0]
    write_raster("t0.tif", np.full((3, 24, 20), np.nan, np.float32))
    assert not valid_mask(scene, read_scene(scene)).any()
    assert np.isnan(SceneFeatureSet(BANDS, NAMES, FORMULAS).compute(scene)).all()


def test_a_set_of_features_can_be_sent_to_a_worker(make_tagged):
    scene, feature_set = make_tagged(1).scenes[0], SceneFeatureSet(BANDS, NAMES, FORMULAS)
    sent = pickle.loads(pickle.dumps(feature_set))
    np.testing.assert_array_equal(sent.compute(scene), feature_set.compute(scene))


def test_features_say_what_they_are():
    told = {row["name"]: row for row in SceneFeatureSet(BANDS, NAMES, FORMULAS).describe()}
    assert list(told) == list(NAMES)
    assert told["red_mean"]["definition"] == "mean of red"
    assert told["red_mean"]["unit"] == "as in the file"
    assert told["NDVI_std"]["definition"] == "standard deviation of NDVI; NDVI: (N - R) / (N + R)"
    assert told["NDVI_std"]["reference"]
    assert told["green_from_95_below_105.5"]["unit"] == ""
    assert told["red_std_r1_mean"]["definition"].startswith("mean of red_std_r1; red_std_r1: standard deviation in")
    assert told["dark_share"]["definition"] == "share of the scene's pixels that have dark: red < 100"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NDVI", "feature NDVI: expected a feature of the scene as a whole, .* Aggregate it: NDVI_mean"),
        ("rad_mean", "feature rad: .* Did you mean red"),
        ("at_row", "at_row_mean"),
    ],
)
def test_a_name_that_is_no_feature_of_a_scene_is_refused(name, message):
    with pytest.raises(FeatureError, match=message):
        SceneFeatureSet(BANDS, [name])


def test_by_default_there_is_a_column_of_each_statistic_bin_and_texture_of_each_band_and_index():
    settings = FeatureSettings(formulas=FORMULAS)
    names = scene_feature_names(BANDS, settings, {"red": [50, 90.5]})
    feature_set = SceneFeatureSet(BANDS, names, FORMULAS)
    bases = {feature.pixel.base.name for feature in feature_set.features if feature.pixel.base is not None}
    assert bases == {"red", "nir", "green", "NDVI", "GNDVI", "NGRDI", "sum", "dark"}
    assert [name for name in names if "from" in name or "below" in name] == [
        "red_below_50",
        "red_from_50_below_90.5",
        "red_from_90.5",
    ]
    assert len(names) == 7 * (7 + 2 * 3) + 3 + 2
    assert names[-2:] == ("dark_share", "valid_share")
    assert "dark_mean" not in names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": ContextSettings(radii=[2])}, "context not with the task multilabel"),
        ({"relative": RelativeSettings(of=["red"])}, "relative not with the task multilabel"),
        ({"coordinates": ["row"]}, "coordinates not with the task multilabel"),
        ({"aggregate": AggregateSettings(edges={"blue": [1]})}, "edges: expected features that are aggregated.* blue"),
        ({"extra": ["red_mean"]}, "red_mean twice"),
    ],
)
def test_settings_that_would_be_passed_over_are_refused(change, message):
    with pytest.raises(FeatureError, match=message):
        scene_feature_names(BANDS, FeatureSettings(**change), {})


def test_aggregates_are_refused_where_pixels_are_learned_from():
    with pytest.raises(FeatureError, match="aggregate only with the task multilabel"):
        feature_names(BANDS, FeatureSettings(aggregate=AggregateSettings(bins=4)))


@pytest.mark.parametrize(
    "values",
    [
        {"statistics": ["median"]},
        {"texture": {"spread": "mean"}},
        {"texture": {"std": "q5"}},
        {"edges": {"red": [2, 1]}},
    ],
)
def test_what_is_no_statistic_is_refused_with_those_there_are(values):
    with pytest.raises(ValueError, match="expected"):
        AggregateSettings(**values)


def test_bins_are_alike_in_pixels_over_the_training_scenes(make_tagged):
    scenes = make_tagged(6, holes=0.3).scenes
    edges = measure_edges(scenes, FeatureSet(BANDS, ["red", "NDVI"]), 4, seed=0)
    red = np.concatenate([read_scene(scene)[0].ravel() for scene in scenes])
    red = red[np.isfinite(red)]
    assert edges["red"] == tuple(float(f"{edge:.4g}") for edge in np.quantile(red, [0.25, 0.5, 0.75]))
    assert len(edges["NDVI"]) == 3
    assert edges == measure_edges(scenes, FeatureSet(BANDS, ["red", "NDVI"]), 4, seed=0)


def test_few_values_make_few_bins(make_tagged, write_raster):
    scenes = make_tagged(2, shape=(8, 8)).scenes
    flat = np.full((3, 8, 8), 7, np.float32)
    flat[1], flat[1, :4], flat[2] = 1, 0, np.nan
    for number in range(2):
        write_raster(f"t{number}.tif", flat)
    edges = measure_edges(scenes, FeatureSet(BANDS, BANDS), 8, seed=0)
    assert edges["red"] == edges["green"] == ()
    assert all(0 < edge <= 1 for edge in edges["nir"])
