from dataclasses import replace

import numpy as np
import pytest

from data.errors import MapError
from data.maps.geotiff import map_writer, read_map
from data.scenes.catalogue import Catalogue
from data.scenes.scene import read_label
from data.scenes.windows import Grid
from ensemble.decide.sample.pool import sample_pool, share_out
from ensemble.maps import open_maps


def test_the_pool_stands_for_every_labelled_pixel_and_keeps_the_rare_ones(make_catalogue, make_members):
    catalogue = make_catalogue(rare=0.02)
    pool = sample_pool(
        open_maps(make_members(catalogue, a=(2, 0), b=(2, 1)), catalogue.classes), catalogue, size=2000, seed=0
    )
    counts = np.sum([catalogue.label_counts(scene.id) for scene in catalogue.scenes], axis=0)
    for label in (0, 1):
        assert pool.weight[pool.label[0] == label].sum() == pytest.approx(counts[label])
    assert (pool.weight[pool.label[0] == 1] == 1).all()
    shuffled = np.random.default_rng(0).permutation(pool.weight)
    assert np.cumsum(shuffled)[-1] == pool.weight.sum(), "sums do not depend on their order"
    assert len(pool.weight) <= 2000
    assert pool.stored.shape == (2, 1, len(pool.weight))
    assert pool.label.shape == (1, len(pool.weight))


def test_a_pool_as_large_as_the_scenes_holds_each_pixel_once(make_catalogue, make_members):
    catalogue = make_catalogue(n_scenes=4, folds=2)
    members = make_members(catalogue, a=(2, 0))
    pool = sample_pool(open_maps(members, catalogue.classes), catalogue, size=10**6, seed=0)
    expected = []
    for scene in catalogue.scenes:
        label, stored = read_label(scene), read_map(members["a"] / "oof" / f"{scene.id}.tif")[0]
        expected += [(one, q) for one, q in zip(label.ravel(), stored.ravel(), strict=True) if one != 255]
    assert (pool.weight == 1).all()
    assert sorted(zip(pool.label[0], pool.stored[0, 0], strict=True)) == sorted(expected)


def test_a_scene_larger_than_a_window_is_sampled_like_one_that_is_not(make_catalogue, make_members):
    catalogue = make_catalogue(n_scenes=4, folds=2)
    maps = open_maps(make_members(catalogue, a=(2, 0)), catalogue.classes)
    for size in (300, 10**6):
        whole = sample_pool(maps, catalogue, size, seed=0)
        tiled = sample_pool(replace(maps, most_bytes=100), catalogue, size, seed=0, strip_pixels=70)
        for name in ("stored", "label", "weight", "fold", "scene"):
            np.testing.assert_array_equal(getattr(tiled, name), getattr(whole, name))


def test_what_one_fold_holds_does_not_change_what_is_drawn_of_another(make_catalogue, make_members):
    catalogue = make_catalogue()
    maps = open_maps(make_members(catalogue, a=(2, 0)), catalogue.classes)
    emptied = {key: replace(found, label_counts=(700, 0)) for key, found in catalogue.statistics.items()}
    other = catalogue.statistics | {("train", s.id): emptied["train", s.id] for s in catalogue.in_fold(1)}
    pools = [
        sample_pool(maps, Catalogue(catalogue.classes, (), catalogue.scenes, statistics), 900, seed=5)
        for statistics in (catalogue.statistics, other)
    ]
    parts = [pool.take(pool.fold != 1) for pool in pools]
    np.testing.assert_array_equal(parts[0].stored, parts[1].stored)
    np.testing.assert_array_equal(parts[0].weight, parts[1].weight)


def test_what_rare_labels_leave_of_their_share_goes_to_the_others():
    there = np.array([1000, 1000, 10])
    quotas = share_out(np.stack([there, [4, 0, 7]], axis=1), 200)
    assert quotas[1] == 7
    assert np.minimum(there, quotas[0]).sum() <= 200 - 11 < np.minimum(there, quotas[0] + 1).sum()


def test_a_map_of_another_size_is_refused(make_catalogue, make_members):
    catalogue = make_catalogue()
    scene = catalogue.scenes[0]
    members = make_members(catalogue, a=(2, 0))
    larger = replace(scene, grid=Grid(3000, 31))
    with pytest.raises(MapError, match=r"s0\.tif: expected 2048 × 31 pixels like scene s0, got 24 × 31"):
        list(open_maps(members, catalogue.classes).windows(larger))
    with map_writer(members["a"] / "oof" / "s0.tif", Grid(5, 6), ("kelp",), {}) as writer:
        writer.write(Grid(5, 6).window, np.zeros((1, 5, 6), np.float32))
    with pytest.raises(MapError, match="expected 24 × 31 pixels like scene s0, got 5 × 6"):
        open_maps(members, catalogue.classes).read(scene)


def test_thinning_a_fold_does_not_look_at_the_others(make_catalogue, make_members):
    pool = sample_pool(
        open_maps(make_members(catalogue := make_catalogue(), a=(2, 0)), catalogue.classes), catalogue, 10**6, seed=0
    )
    whole, smaller = pool.thin(300), pool.take((pool.fold != 1) | (np.arange(len(pool.fold)) % 3 == 0)).thin(300)
    for fold in (0, 2):
        np.testing.assert_array_equal(whole.take(whole.fold == fold).stored, smaller.take(smaller.fold == fold).stored)
    for fold in (0, 1, 2):
        assert (whole.fold == fold).sum() <= 300
        kept, all_of_it = whole.weight[whole.fold == fold].sum(), pool.weight[pool.fold == fold].sum()
        assert kept == pytest.approx(all_of_it, rel=0.01)
