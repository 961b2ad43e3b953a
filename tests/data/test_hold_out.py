import numpy as np

from data.catalogue import Catalogue, SceneStatistics
from data.classes import Classes
from data.hold_out import hold_out_groups, hold_out_scenes
from data.scene import Scene
from data.windows import Grid


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
