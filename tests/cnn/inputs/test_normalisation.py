import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cnn.crops.crops import SceneStore
from cnn.inputs.channels import measure_spread
from cnn.inputs.normalisation import Normalisation, Spread, fit_normalisation
from cnn.inputs.settings import NormaliseSettings
from cnn.settings import CnnSettings
from cnn.train.fold_plan import fit_normalisations
from data.errors import MemberError
from data.scenes.scene import Scene, read_scene
from data.scenes.statistics import Moments
from features.feature_set import FeatureSet

NAMES = ("nir", "red")


def spread(pixels: np.ndarray) -> Spread:
    return Spread.of([Moments.of(pixels[:, :30]), Moments.of(pixels[:, 30:])], pixels)


def scene_pixels(count: int = 3) -> list[np.ndarray]:
    """Scenes of unlike sizes and spreads, a tenth of them nodata."""
    rng = np.random.default_rng(0)
    scenes = []
    for number in range(count):
        pixels = rng.gamma(2, 5 + 20 * number, (2, 1000 + 3000 * number)).astype(np.float32)
        pixels[rng.random(pixels.shape) < 0.1] = np.nan
        scenes.append(pixels)
    return scenes


def normalise(by: str, scenes: list[np.ndarray], **options: Any) -> np.ndarray:
    how = NormaliseSettings(by=by, **options)  # type: ignore[arg-type]
    fitted = fit_normalisation(how, [spread(pixels) for pixels in scenes], NAMES)
    return fitted.rescale(np.concatenate(scenes, axis=1)[:, None])[:, 0]


def test_zscore_gives_mean_zero_and_deviation_one() -> None:
    normal = normalise("zscore", scene_pixels())
    np.testing.assert_allclose(np.nanmean(normal, axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(normal, axis=1), 1, rtol=1e-5)


def test_minmax_gives_the_extremes_minus_one_and_one() -> None:
    normal = normalise("minmax", scene_pixels())
    np.testing.assert_allclose(np.nanmin(normal, axis=1), -1, atol=1e-6)
    np.testing.assert_allclose(np.nanmax(normal, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.02, 0.98), (0.25, 0.5), (0.0, 1.0), (0.001, 0.999)])
def test_quantiles_are_those_of_the_pixels_of_all_scenes(low: float, high: float) -> None:
    normal = normalise("quantile", scene_pixels(), low=low, high=high)
    valid = np.isfinite(normal).sum(axis=1)
    np.testing.assert_allclose((normal < -1).sum(axis=1) / valid, low, atol=1 / 256)
    np.testing.assert_allclose((normal < 1).sum(axis=1) / valid, high, atol=1 / 256)


def test_quantiles_of_one_scene_are_those_of_numpy() -> None:
    (pixels,) = scene_pixels(1)
    fitted = fit_normalisation(NormaliseSettings(by="quantile", low=0.125, high=0.75), [spread(pixels)], NAMES)
    low, high = np.nanquantile(pixels, [0.125, 0.75], axis=1)
    np.testing.assert_allclose(np.array(fitted.offset) - fitted.scale, low, rtol=1e-5)
    np.testing.assert_allclose(np.array(fitted.offset) + fitted.scale, high, rtol=1e-5)


def test_a_fixed_scale_divides_each_channel_by_its_own() -> None:
    scenes = scene_pixels(1)
    np.testing.assert_allclose(normalise("fixed", scenes, scale=100.0), scenes[0] / 100, rtol=1e-6)
    np.testing.assert_allclose(normalise("fixed", scenes, scale={"red": 4.0}), scenes[0] / [[1], [4]], rtol=1e-6)
    with pytest.raises(MemberError, match=r"normalise\.scale: expected names among nir, red, got rod\. Nearest: red"):
        normalise("fixed", scenes, scale={"rod": 4.0})


def test_clip_cuts_off_what_is_far_from_zero_and_leaves_nodata() -> None:
    scenes = scene_pixels()
    free, cut = normalise("quantile", scenes), normalise("quantile", scenes, clip=1.5)
    np.testing.assert_array_equal(cut, np.clip(free, -1.5, 1.5))
    assert np.isnan(cut).any()


@pytest.mark.parametrize("by", ["zscore", "minmax", "quantile"])
def test_a_constant_channel_becomes_zero_and_an_empty_one_is_refused(by: str) -> None:
    pixels = np.full((2, 50), 7, np.float32)
    assert (normalise(by, [pixels]) == 0).all()
    pixels[1] = np.nan
    with pytest.raises(MemberError, match="got none in red"):
        normalise(by, [pixels])
    alone = normalise(by, [pixels], per_scene=True)
    assert (alone[0] == 0).all()
    assert np.isnan(alone[1]).all(), "a scene may lack a channel that others have"


def test_nodata_becomes_zero_after_scaling() -> None:
    normalisation = Normalisation((10.0,), (2.0,))
    channels = np.array([[[np.nan, 12.0]]], np.float32)
    assert normalisation.apply(channels).tolist() == [[[0.0, 1.0]]]
    np.testing.assert_array_equal(normalisation.rescale(channels), [[[np.nan, 1.0]]])
    assert np.isnan(channels[0, 0, 0]), "the channels themselves are as they were"


def test_a_normalisation_survives_json() -> None:
    for clip in (None, 3.0):
        normalisation = Normalisation((1.5, -2.0), (0.1, 3.0), clip)
        assert Normalisation.from_dict(json.loads(json.dumps(dataclasses.asdict(normalisation))), 2) == normalisation


@pytest.mark.parametrize("by", ["zscore", "minmax", "quantile"])
def test_each_scene_by_itself_is_what_it_is_in_prediction(make_scene: Callable[..., Scene], by: str) -> None:
    feature_set = FeatureSet(("red", "nir", "qa"), NAMES)
    scenes = [make_scene("one", 1030, 40), make_scene("two", shift=500.0)]
    store = SceneStore(feature_set, scenes, (1,), 1e9, 0, quantiles=by == "quantile")
    how = NormaliseSettings(by=by, per_scene=True)  # type: ignore[arg-type]
    own = fit_normalisations(CnnSettings(normalise=how), store, scenes[:1], scenes[1:])
    assert own["one"] != own["two"]
    for scene in scenes:
        assert own[scene.id] == fit_normalisation(how, [measure_spread(feature_set, scene)], NAMES)
    if by == "zscore":
        normal = own["two"].rescale(read_scene(scenes[1], bands=NAMES))
        np.testing.assert_allclose(np.nanmean(normal, axis=(1, 2)), 0, atol=1e-4)


def test_scenes_that_are_only_watched_have_no_say(make_scene: Callable[..., Scene]) -> None:
    scenes = [make_scene("one"), make_scene("two", shift=500.0)]
    store = SceneStore(FeatureSet(("red", "nir", "qa"), NAMES), scenes, (1,), 1e9, 0)
    fitted = fit_normalisations(CnnSettings(), store, scenes[:1], scenes[1:])
    assert fitted["one"] == fitted["two"]
    assert fitted["one"] == fit_normalisation(NormaliseSettings(), [store.spread(scenes[0])], NAMES)


def test_a_name_alone_says_how() -> None:
    assert CnnSettings(normalise="quantile").normalise == NormaliseSettings(by="quantile")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"low": 0.9, "high": 0.1}, {"by": "fixed", "scale": 0.0}, {"by": "fixed", "per_scene": True}, {"by": "z"}]
)
def test_what_is_no_scale_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NormaliseSettings(**wrong)


@pytest.mark.parametrize(
    "changes", [{"clip": 1e308}, {"offset": [float("nan"), 0]}, {"scale": [0, 1]}, {"scale": [1]}, {"offset": ["x", 0]}]
)
def test_a_normalisation_that_float32_does_not_hold_is_refused(changes: dict[str, object]) -> None:
    values = {"offset": [0.0, 1.0], "scale": [1.0, 2.0], "clip": None}
    assert Normalisation.from_dict(values, 2).scale == (1.0, 2.0)
    with pytest.raises(ValueError, match=r"expected an offset and a scale|could not convert"):
        Normalisation.from_dict(values | changes, 2)
