from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from data.errors import FoldError
from data.folds.distances import Distances, compare_distances, scene_looks, scene_places
from data.folds.plan import plan_folds
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from data.settings import ClassSettings, FoldSettings

NORTH = np.array([0, 4_500_000])
KELP = Classes.from_settings("binary", {1: ClassSettings(name="kelp")})


def scene_at(name, split, place, crs="EPSG:32610", fold=None):
    transform = None if place is None else (10.0, 0.0, float(place[0]), 0.0, -10.0, float(place[1]))
    return Scene(name, split, (), Grid(10, 10, crs if transform else None, transform), fold=fold)


def look(mean):
    bands = ({"band": "nir", "count": 100, "mean": mean, "deviation": 2.0, "minimum": 0.0, "maximum": 9.0},)
    return SceneStatistics(100, (90, 10), bands)


def catalogue_of(train, test, means=None, folds=3):
    scenes = [scene_at(f"a{k}", "train", place, fold=k % folds) for k, place in enumerate(train)]
    scenes += [scene_at(f"b{k}", "test", place) for k, place in enumerate(test)]
    means = range(len(scenes)) if means is None else means
    statistics = {(s.split, s.id): look(float(mean)) for s, mean in zip(scenes, means, strict=True)}
    return Catalogue(KELP, ("nir",), tuple(scenes), statistics)


def test_distances_on_the_ground_are_kilometres_to_the_nearest_scene_of_another_fold_or_of_training():
    rng = np.random.default_rng(0)
    train, test = rng.uniform(500_000, 560_000, (30, 2)), rng.uniform(540_000, 700_000, (12, 2))
    catalogue = catalogue_of(train + NORTH, test + NORTH)
    ground, _looks = compare_distances(catalogue)
    apart = cdist(train, train)
    fold = np.arange(30) % 3
    apart[fold[:, None] == fold] = np.inf
    # The projection stretches distances by parts in a thousand.
    np.testing.assert_allclose(ground.folds, np.sort(apart.min(axis=1)) / 1000, rtol=3e-3)
    np.testing.assert_allclose(ground.mapped, np.sort(cdist(test, train).min(axis=1)) / 1000, rtol=3e-3)
    assert ground.kind == "ground"


def test_places_in_different_systems_are_compared_and_one_unknown_leaves_all_out():
    # The same spot in two zones, on either side of their border.
    west, east = (
        scene_at("w", "train", (769_000, 4_500_000)),
        scene_at("e", "train", (263_500, 4_500_000), "EPSG:32611"),
    )
    places = scene_places([west, east])
    assert 6371 * np.linalg.norm(places[0] - places[1]) < 60
    assert scene_places([west, scene_at("x", "train", None)]) is None


def test_looks_are_in_deviations_of_the_training_scenes_and_constant_bands_say_nothing():
    catalogue = catalogue_of([None] * 4, [None], means=[1, 2, 3, 4, 10])
    looks = scene_looks(catalogue, catalogue.scenes)
    np.testing.assert_allclose(looks[:, 0], (np.array([1, 2, 3, 4, 10]) - 2.5) / np.std([1, 2, 3, 4]))
    assert (looks[:, 1] == 0).all()
    [found] = compare_distances(catalogue)
    assert found.kind == "looks"
    bare = replace(catalogue, statistics={})
    assert scene_looks(bare, bare.scenes) is None
    assert list(compare_distances(bare)) == []


@pytest.mark.parametrize(
    ("folds", "mapped", "says"),
    [
        ([1, 2, 3], [1, 2, 3], "about as hard as the maps"),
        (range(1, 9), [10, 20, 21, 22], "scores out of fold will be too good"),
        ([10, 20, 21, 22], range(1, 9), "scores out of fold will be too low"),
        ([1, 2, 3], [10, 20], "too few to tell"),
    ],
)
def test_one_sentence_says_what_it_means(folds, mapped, says):
    found = Distances("ground", "test", np.array(folds, float), np.array(mapped, float))
    assert says in found.sentence
    assert found.sentence.count(".") <= 3
    assert (found.gap == 0) == (folds == mapped)


def clusters(rng, count, spread):
    """Training scenes in ten clusters, which are far from each other."""
    middles = rng.uniform(400_000, 600_000, (10, 2)) + NORTH
    return np.concatenate([middle + spread * rng.normal(size=(count, 2)) for middle in middles])


@pytest.mark.parametrize("far", [True, False])
def test_folds_are_made_as_far_apart_as_the_maps_are_from_training(far, tmp_path):
    rng = np.random.default_rng(3)
    train = clusters(rng, 12, 1500)
    # Test scenes lie in other places, or among the training scenes.
    test = rng.uniform(400_000, 600_000, (40, 2)) + NORTH if far else train[::3] + 400
    catalogue = catalogue_of(train, test)
    gaps, folds = {}, {}
    for match in ("none", "test"):
        planned, _ = plan_folds(catalogue, FoldSettings(count=3, match=match), tmp_path, seed=0)
        gaps[match] = next(compare_distances(planned)).gap
        folds[match] = {scene.id: scene.fold for scene in planned.split("train")}
        assert set(folds[match].values()) == {0, 1, 2}
    if far:
        assert gaps["test"] < 0.5 * gaps["none"]
        whole = [len({folds["test"][f"a{12 * place + k}"] for k in range(12)}) for place in range(10)]
        assert np.mean(whole) < 1.5, "clusters stay together"
    else:
        assert gaps["test"] <= gaps["none"]
    again, _ = plan_folds(catalogue, FoldSettings(count=3, match="test"), tmp_path, seed=0)
    assert {scene.id: scene.fold for scene in again.split("train")} == folds["test"]


def test_matching_needs_test_scenes_and_something_to_compare(tmp_path):
    settings = FoldSettings(count=2, match="test")
    with pytest.raises(FoldError, match=r"folds\.match: expected test scenes"):
        plan_folds(catalogue_of([(0, 0), (1, 1)], []), settings, tmp_path, seed=0)
    catalogue = catalogue_of([None] * 4, [None])
    statistics = {key: replace(found, bands=()) for key, found in catalogue.statistics.items()}
    with pytest.raises(FoldError, match=r"folds\.match: expected scenes with pixels"):
        plan_folds(replace(catalogue, statistics=statistics), settings, tmp_path, seed=0)
