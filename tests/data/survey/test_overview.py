from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import median_abs_deviation

from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import Grid
from data.settings import ClassSettings, SceneSettings
from data.survey.discovery import find_scenes
from data.survey.inspection import build_catalogue
from data.survey.overview import FAR, robust_scores, summarise

KELP = Classes.from_settings("binary", {1: ClassSettings(name="kelp")})
LAND = Classes.from_settings("multiclass", {0: ClassSettings(name="sea"), 4: ClassSettings(name="rock")})
TAGS = Classes.from_settings("multilabel", {0: ClassSettings(name="haze"), 1: ClassSettings(name="road")})

SETTINGS = SceneSettings.model_validate(
    {
        "bands": ["red", "nir"],
        "nodata": -9,
        "train": {"image": "train/{id}.tif", "label": "mask/{id}.tif"},
        "test": {"image": "test/{id}.tif"},
    }
)


def hand_made(classes, counts, folds=2, **changes):
    scenes = tuple(
        Scene(f"s{number}", "train", (), Grid(10, 10), group=f"g{number // 2}", fold=number // 2 % folds)
        for number in range(len(counts))
    )
    statistics = {("train", f"s{number}"): SceneStatistics(100, tuple(row)) for number, row in enumerate(counts)}
    return replace(Catalogue(classes, (), scenes, statistics), **changes)


@pytest.fixture
def coast(tmp_path, write_raster):
    """Twelve training scenes and three test scenes, one of them ten times as bright; some pixels without data."""
    for number in range(15):
        rng = np.random.default_rng(number)
        pixels = rng.integers(80, 120, (2, 16, 20)).astype(np.int16)
        pixels[1] += 100
        pixels[:, rng.random((16, 20)) < 0.05] = -9
        pixels[0, 0, 0] = -9
        if number == 13:
            pixels[1, 1:] *= 10
        write_raster(f"{'train' if number < 12 else 'test'}/t{number:02}.tif", pixels)
        if number < 12:
            write_raster(f"mask/t{number:02}.tif", (rng.random((16, 20)) < 0.1 * (number % 3)).astype(np.uint8))
    catalogue, _ = build_catalogue(*find_scenes(SETTINGS, KELP, tmp_path), SETTINGS, KELP)
    train = catalogue.split("train")
    groups = {(scene.split, scene.id): scene.id for scene in catalogue.scenes} | {("train", "t01"): "t00"}
    return catalogue.with_folds(groups, {scene.id: number // 2 % 3 for number, scene in enumerate(train)})


def test_parts_are_the_splits_and_then_the_folds(coast):
    overview = summarise(coast)
    assert [part.name for part in overview.parts] == ["train", "test", "fold 0", "fold 1", "fold 2"]
    assert [part.scenes for part in overview.parts] == [12, 3, 4, 4, 4]
    assert [part.groups for part in overview.parts] == [11, 3, 3, 4, 4]
    train, test, *folds = overview.parts
    assert test.labels == ()
    np.testing.assert_array_equal(np.sum([fold.labels for fold in folds], axis=0), train.labels)
    assert sum(train.labels) == train.whole == 12 * 16 * 20
    assert train.blank == ("t00", "t03", "t06", "t09")
    assert sorted(name for fold in folds for name in fold.blank) == [*train.blank]


def test_the_facts_of_a_band_are_those_of_all_its_pixels(coast):
    for facts in summarise(coast).bands:
        pixels = np.concatenate([read_scene(s, bands=[facts.band]).ravel() for s in coast.split(facts.split)])
        finite = pixels[np.isfinite(pixels)].astype(np.float64)
        assert facts.minimum == finite.min()
        assert facts.maximum == finite.max()
        assert facts.mean == pytest.approx(finite.mean())
        assert facts.deviation == pytest.approx(finite.std())
        assert facts.invalid == pytest.approx(1 - len(finite) / len(pixels))


def test_the_histograms_of_a_catalogue_are_those_of_all_pixels(coast):
    for histogram in coast.histograms:
        for split, shares in histogram.shares.items():
            pixels = np.concatenate([read_scene(s, bands=[histogram.band]).ravel() for s in coast.split(split)])
            finite = pixels[np.isfinite(pixels)]
            assert shares[0] + sum(shares[1:5]) == pytest.approx((finite < histogram.edges[4]).mean(), abs=0.02)
            assert sum(shares) == pytest.approx(1)


def test_a_scene_unlike_the_training_scenes_is_an_outlier_and_the_others_are_not(coast):
    [outlier] = summarise(coast).outliers
    assert (outlier.scene.split, outlier.scene.id) == ("test", "t13")
    assert outlier.measure.band == "nir"
    assert outlier.score >= FAR


def test_only_groups_of_several_scenes_are_named_and_a_split_s_own(coast):
    assert [[scene.id for scene in group] for group in summarise(coast).groups] == [["t00", "t01"]]


def test_tags_are_counted_by_scenes():
    overview = summarise(hand_made(TAGS, [(1, 0), (1, 1), (0, 0), (1, 0)]))
    train, first, second = overview.parts
    assert (train.labels, train.shown_by, train.whole) == ((3, 1), (3, 1), 4)
    assert train.share(0) == 0.75
    assert train.blank == second.blank == ("s2",)
    assert first.share(1) == 0.5
    assert overview.bands == overview.measures == overview.outliers == ()


def test_when_multiclass_a_scene_is_blank_only_without_any_label():
    [train, *_] = summarise(hand_made(LAND, [(50, 0), (0, 0), (3, 7), (9, 9)])).parts
    assert train.blank == ("s1",)
    assert train.share(1) == 16 / 78


def test_no_labelled_pixel_at_all_has_no_share():
    [train, *_] = summarise(hand_made(LAND, [(0, 0)] * 4)).parts
    assert np.isnan(train.share(0))


@given(arrays(np.float64, st.integers(3, 30), elements=st.floats(-1e6, 1e6)))
def test_robust_scores_are_distances_in_scaled_median_deviations(values):
    spread = median_abs_deviation(values, scale="normal")
    scores, usual = robust_scores(values, values)
    assert usual == np.median(values)
    if spread > 1e-6 * max(abs(usual), 1):
        np.testing.assert_allclose(scores, (values - np.median(values)) / spread, rtol=1e-3, atol=1e-9)


def test_where_most_are_the_same_the_mean_distance_tells_what_is_far():
    values = np.array([1.0] * 30 + [0.4])
    scores, _ = robust_scores(values, values)
    assert scores[-1] == pytest.approx(-0.6 / (np.sqrt(np.pi / 2) * 0.6 / 31))
    assert not scores[:-1].any()
    assert abs(robust_scores(values, values, least=0.2)[0][-1]) == pytest.approx(3)


def test_what_does_not_differ_or_is_not_known_has_no_score():
    assert not robust_scores(np.array([5.0, 5.0, 9.0]), np.full(4, 5.0))[0].any()
    scores, usual = robust_scores(np.array([np.nan, 2.0]), np.array([1.0, 2.0, 3.0, np.nan]))
    assert scores.tolist() == [0, 0]
    assert usual == 2
    assert np.isnan(robust_scores(np.array([1.0]), np.array([np.nan]))[1])
