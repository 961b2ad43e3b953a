import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import FeatureError
from data.scene import read_scene
from data.windows import Window
from features.context import STATISTICS, local_statistics
from features.feature_set import FeatureSet
from features.settings import ContextSettings, FeatureSettings, feature_names


def slow_statistics(plane, radius):
    """The oracle: a loop over pixels."""
    height, width = plane.shape
    out = {name: np.full(plane.shape, np.nan) for name in STATISTICS}
    for row in range(height):
        for col in range(width):
            around = plane[max(row - radius, 0) : row + radius + 1, max(col - radius, 0) : col + radius + 1]
            seen = around[np.isfinite(around)].astype(np.float64)
            if seen.size:
                out["mean"][row, col], out["std"][row, col] = seen.mean(), seen.std()
                out["min"][row, col], out["max"][row, col] = seen.min(), seen.max()
                out["range"][row, col] = seen.max() - seen.min()
                out["diff"][row, col] = plane[row, col] - seen.mean()
    mean = np.pad(out["mean"], 1, constant_values=np.nan)
    out["gradient"] = np.hypot(mean[2:, 1:-1] - mean[:-2, 1:-1], mean[1:-1, 2:] - mean[1:-1, :-2]) / 2
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.sampled_from([0, 0.2, 0.9, 1]), st.integers(0, 99)
)  # fmt: skip
def test_local_statistics_are_those_of_a_slow_loop(height, width, radius, holes, seed):
    rng = np.random.default_rng(seed)
    # Large values with a small spread, as in 16-bit imagery: what uncentred float32 sums get wrong.
    plane = rng.normal(1e4, 3, (height, width)).astype(np.float32)
    plane[rng.random(plane.shape) < holes] = np.nan
    found, expected = local_statistics(plane, radius, STATISTICS), slow_statistics(plane, radius)
    for name in STATISTICS:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=2e-3, err_msg=name)


def test_nodata_changes_nothing_but_the_count():
    plane = np.random.default_rng(0).normal(5, 1, (9, 9)).astype(np.float32)
    plane[4, 4] = np.nan
    values = plane[np.isfinite(plane)]
    found = local_statistics(plane, 4, ["mean", "max"])
    assert np.isfinite(found["mean"]).all()
    np.testing.assert_allclose(found["mean"][4, 4], values.mean(), rtol=1e-6)
    assert found["max"][4, 4] == values.max()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.integers(0, 39), st.integers(0, 36), st.integers(1, 40), st.integers(1, 37))
def test_a_window_computes_what_the_whole_scene_does(make_scenes, row, col, height, width):
    catalogue = make_scenes(n_scenes=1, holes=0.2)
    names = feature_names(
        catalogue.bands, FeatureSettings(context=ContextSettings(radii=[1, 6], statistics=[*STATISTICS]))
    )
    feature_set = FeatureSet(catalogue.bands, names)
    window = Window(row, col, min(height, 40 - row), min(width, 37 - col))
    scene = catalogue.scenes[0]
    whole = feature_set.compute(scene)
    part = feature_set.compute(scene, window)
    assert not np.isinf(whole).any()
    # Running sums start elsewhere, which may move the last digits of a deviation.
    np.testing.assert_allclose(part, whole[:, *window.slices], rtol=1e-5, atol=1e-5)


def test_a_column_is_the_plane_it_names(make_scenes):
    scene = make_scenes().scenes[0]
    red, nir, green = read_scene(scene)
    names = ["NDVI_mean_r2", "green", "NDVI", "nir", "red_max_r1"]
    features = dict(zip(names, FeatureSet(scene.bands, names).compute(scene), strict=True))
    ndvi = (nir - red) / (nir + red)
    np.testing.assert_array_equal(features["green"], green)
    np.testing.assert_array_equal(features["nir"], nir)
    np.testing.assert_allclose(features["NDVI"], ndvi, rtol=1e-6)
    np.testing.assert_array_equal(features["red_max_r1"], local_statistics(red, 1, ["max"])["max"])
    np.testing.assert_allclose(features["NDVI_mean_r2"], local_statistics(ndvi, 2, ["mean"])["mean"], rtol=1e-5)


def test_only_the_bands_that_are_needed_are_read(make_scenes):
    feature_set = FeatureSet(("red", "nir", "green"), ["NDVI_std_r3"])
    assert feature_set.bands == ("red", "nir")
    assert feature_set.halo == 3
    assert FeatureSet(("red", "nir"), ["nir_gradient_r3"]).halo == 4
    assert FeatureSet(("red",), ["red"]).halo == 0


def test_an_unknown_feature_is_answered_with_the_nearest():
    with pytest.raises(FeatureError, match="Did you mean NDVI"):
        FeatureSet(("red", "nir"), ["NDVJ"])
    with pytest.raises(FeatureError, match=r"expected the bands R, S1|expected the bands N, S1"):
        FeatureSet(("red", "nir"), ["NDMI"])
    with pytest.raises(FeatureError, match="feature red_median_r3"):
        FeatureSet(("red", "nir"), ["red_median_r3"])


def test_a_band_may_look_like_a_feature():
    assert FeatureSet(("NDVI", "nir_mean_r3"), ["NDVI", "nir_mean_r3"]).halo == 0


def test_every_feature_says_what_it_is():
    rows = FeatureSet(("red", "nir"), ["red", "NDVI", "NDVI_std_r2"]).describe()
    assert [row["kind"] for row in rows] == ["band", "vegetation index", "context"]
    assert rows[1]["reference"] == "Rouse et al. 1974"
    assert rows[2]["definition"] == "standard deviation in the window 5 × 5 of NDVI"


def test_a_feature_named_twice_is_refused():
    with pytest.raises(FeatureError, match="NDVI twice"):
        feature_names(["red", "nir"], FeatureSettings(indices=["NDVI", "NDVI"]))
