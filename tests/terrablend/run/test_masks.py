import numpy as np
import pytest

from data.errors import FeatureError
from data.scenes.scene import read_scene
from terrablend.run import masks as masks_module
from terrablend.run.masks import rule_masks


def test_a_condition_holds_where_its_value_is_not_zero_and_not_where_there_is_no_data(make_scenes):
    scene = make_scenes(holes=0.2).scenes[0]
    red, nir, _ = read_scene(scene)
    found = rule_masks(["nir > 110", "bright and not NDVI > 0", "nir - nir"], {"bright": "red > 100"})(scene)
    ndvi = (nir - red) / (nir + red)
    np.testing.assert_array_equal(found["nir > 110"], nir > 110)
    np.testing.assert_array_equal(found["bright and not NDVI > 0"], (red > 100) & (ndvi <= 0))
    assert not found["nir - nir"].any()
    assert 0 < found["nir > 110"].sum() < nir.size


def test_windows_give_the_same_masks(make_scenes):
    scene = make_scenes().scenes[0]
    whole, pieces = (rule_masks(["NDVI > 0.1"], {}, side)(scene)["NDVI > 0.1"] for side in (2048, 16))
    np.testing.assert_array_equal(pieces, whole)


def test_without_rules_there_are_no_masks_and_nothing_is_read(make_scenes, monkeypatch):
    monkeypatch.setattr(masks_module, "read_scene", None)
    assert rule_masks([], {})(make_scenes().scenes[0]) == {}


def test_a_band_that_there_is_not_is_named_with_what_there_is(make_scenes):
    with pytest.raises(FeatureError, match=r"dem > 0: expected a band \(red, nir, green\).*got dem"):
        rule_masks(["dem > 0"], {})(make_scenes().scenes[0])
