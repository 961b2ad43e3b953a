from dataclasses import replace

import numpy as np
import pytest

from data.scenes.catalogue import Catalogue
from data.scenes.image import ImageFile
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from features.feature_set import FeatureSet
from features.unlike import Unlike, find_unlike


@pytest.fixture
def catalogue(make_scenes, write_raster):
    """Training scenes and three to be mapped: like them, half unlike, and without data but for some unlike pixels."""
    train = make_scenes(n_scenes=6, folds=3)
    bands = train.scenes[0].bands
    scenes = []
    for number, name in enumerate(("alike", "half", "few")):
        pixels = np.random.default_rng(90 + number).normal(100, 10, (len(bands), 80, 50)).astype(np.float32)
        if name == "half":
            pixels[:, :40] += 80
        if name == "few":
            pixels[:] = np.nan
            pixels[:, :2] = 400
        path = write_raster(f"{name}.tif", pixels)
        scenes.append(Scene(name, "test", (ImageFile(str(path), bands),), Grid(80, 50)))
    return Catalogue(train.classes, bands, (*train.scenes, *scenes), train.statistics)


def test_the_share_of_a_scene_that_no_training_pixel_looks_like_is_found_before_training(catalogue):
    bands = catalogue.scenes[0].bands
    (found,) = find_unlike(catalogue, FeatureSet(bands, [*bands, f"{bands[0]}_mean_r3"]), seed=0)
    assert list(found.shares) == ["few", "half", "alike"]
    assert found.shares["alike"] < 0.1
    assert found.shares["half"] == pytest.approx(0.5, abs=0.1)
    assert found.shares["few"] == 1
    assert found.warns
    assert "scores out of fold do not hold there, least in few 100%, half" in found.sentence
    assert found.sentence.startswith(f"{100 * found.whole:.0f}% of the pixels of test scenes")


def test_nothing_is_said_without_scenes_to_map_or_columns_of_a_pixel(catalogue):
    bands = catalogue.scenes[0].bands
    train = replace(catalogue, scenes=catalogue.split("train"))
    assert find_unlike(train, FeatureSet(bands, bands), seed=0) == []
    assert find_unlike(catalogue, FeatureSet(bands, ["at_row", f"{bands[0]}_mean_r3"]), seed=0) == []


def test_little_that_is_unlike_is_no_warning():
    found = Unlike("val", {"a": 0.03, "b": 0.01}, 2)
    assert not found.warns
    assert found.sentence == (
        "2.0% of the pixels of val scenes are farther from all training pixels than folds are from each other: scores "
        "out of fold hold for nearly all of them."
    )
