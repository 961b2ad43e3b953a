import numpy as np

from data.folds.hold_out import DEALS, hold_out_groups, hold_out_scenes
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid


def test_held_out_groups_are_whole_and_hold_every_class():
    rng = np.random.default_rng(0)
    groups = rng.choice(list("abcdefghij"), 2000)
    label = ((groups == "a") | (groups == "b")).astype(np.uint8)
    held = hold_out_groups(groups, label, np.ones(2000, np.float32), 0.2, np.random.default_rng(1))
    assert not set(groups[held]) & set(groups[~held])
    assert len({*groups[held]} & {"a", "b"}) == 1
    assert 0.1 < held.mean() < 0.5
    again = hold_out_groups(groups, label, np.ones(2000, np.float32), 0.2, np.random.default_rng(1))
    np.testing.assert_array_equal(held, again)


def test_a_label_that_no_row_has_leaves_the_share_of_the_others_as_it_is():
    groups, label = np.repeat(np.arange(40), 3), np.tile(np.arange(3, dtype=np.uint8), 40)
    weight = (np.random.default_rng(0).random(120) < 0.5).astype(np.float32)
    weight[label == 1] = 0
    held = hold_out_groups(groups, label, weight, 0.25, np.random.default_rng(0))
    for present in (0, 2):
        assert 0.15 < weight[held & (label == present)].sum() / weight[label == present].sum() < 0.35
    assert not hold_out_groups(groups, label, 0 * weight, 0.25, np.random.default_rng(0)).any()


def test_a_single_group_cannot_be_held_out():
    held = hold_out_groups(
        np.array(["a"] * 5), np.zeros(5, np.uint8), np.ones(5, np.float32), 0.2, np.random.default_rng(0)
    )
    assert not held.any()


def test_held_out_scenes_are_whole_groups_outside_the_fold_with_labels_like_all() -> None:
    scenes = tuple(
        Scene(f"s{number:02}", "train", (), Grid(9, 9), group=f"g{number // 2}", fold=number // 2 % 3)
        for number in range(24)
    )
    rare = {"s02", "s08", "s14", "s20"}
    statistics = {
        ("train", scene.id): SceneStatistics(81, (71, 10) if scene.id in rare else (81, 0)) for scene in scenes
    }
    classes = Classes("binary", (1,), ("kelp",), ((1, 2, 3),))
    catalogue = Catalogue(classes, (), scenes, statistics)  # type: ignore[arg-type]
    held = hold_out_scenes(catalogue, 0, 0.3, np.random.default_rng(0))
    assert {scene.fold for scene in held} <= {1, 2}
    kept = [scene for scene in catalogue.outside_fold(0) if scene not in held]
    assert not {scene.group for scene in held} & {scene.group for scene in kept}
    assert {scene.id for scene in held} & rare
    assert {scene.id for scene in kept} & rare
    assert held == hold_out_scenes(catalogue, 0, 0.3, np.random.default_rng(0))


def test_groups_are_held_out_as_by_a_loop_over_them() -> None:
    def loop(groups, label, weight, share, rng):
        names, group = np.unique(groups, return_inverse=True)
        mass = np.zeros((len(names), label.max() + 1))
        np.add.at(mass, (group, label), weight)
        per_label = mass / mass.sum(axis=0)
        best, best_miss = None, np.inf
        for _ in range(DEALS):
            held = np.zeros(len(names), bool)
            for candidate in rng.permutation(len(names)):
                if not held.any() or per_label[held].sum(axis=0).mean() < share:
                    held[candidate] = True
            shares = per_label[held].sum(axis=0)
            miss = np.abs(shares - share).sum() + 10.0 * ((shares <= 0) | (shares >= 1)).sum()
            if miss < best_miss:
                best, best_miss = held, miss
        return best[group]

    for seed in range(5):
        rng = np.random.default_rng(seed)
        groups, label = rng.integers(0, 20, 300), rng.integers(0, 3, 300).astype(np.uint8)
        weight = rng.random(300).astype(np.float32)
        held = hold_out_groups(groups, label, weight, 0.3, np.random.default_rng(seed))
        np.testing.assert_array_equal(held, loop(groups, label, weight, 0.3, np.random.default_rng(seed)))
