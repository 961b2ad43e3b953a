import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import FoldError
from data.folds.leakage import leakage_report, leakage_warning
from data.folds.plan import assign_folds, plan_folds
from data.folds.similarity import BLOCKS, Thumbnails
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from data.settings import ClassSettings, FoldSettings, GroupSettings

KELP = Classes.from_settings("binary", {1: ClassSettings(name="kelp")})


def classes_of(n_labels, task="multiclass"):
    if n_labels == 2 and task == "multiclass":
        return KELP
    return Classes.from_settings(task, {k: ClassSettings(name=f"label {k}") for k in range(n_labels)})


def scenes_of(count):
    return [Scene(f"s{k:04d}", "train", (), Grid(1, 1)) for k in range(count)]


def deal(group_of, counts, count, seed=0, **rest):
    scenes = scenes_of(len(group_of))
    groups = {scene.id: f"g{group}" for scene, group in zip(scenes, group_of, strict=True)}
    counts = np.array(counts, np.int64)
    folds = assign_folds(scenes, groups, counts, FoldSettings(count=count, **rest), seed, classes_of(counts.shape[1]))
    return np.array([folds[scene.id] for scene in scenes])


def catalogue_of(places, positives, split="train", crs="EPSG:32610"):
    """Scenes of 10 by 10 metres at ``places`` (x, y)."""
    scenes = tuple(
        Scene(f"{split}{k}", split, (), Grid(10, 10, crs, (1.0, 0.0, float(x), 0.0, -1.0, float(y))))
        for k, (x, y) in enumerate(places)
    )
    statistics = {(split, s.id): SceneStatistics(100, (100 - n, n)) for s, n in zip(scenes, positives, strict=True)}
    return Catalogue(KELP, ("dem",), scenes, statistics)


@st.composite
def grouped_scenes(draw):
    """Groups and label counts that can be dealt out to ``count`` folds."""
    group_of = draw(st.lists(st.integers(0, 12), min_size=4, max_size=40))
    present = draw(st.lists(st.integers(0, 5000) | st.just(0), min_size=len(group_of), max_size=len(group_of)))
    positive = {group for group, pixels in zip(group_of, present, strict=True) if pixels}
    count = draw(st.integers(2, 5))
    if len(positive) < count:
        present = [pixels or 1 for pixels in present]
        count = max(2, min(count, len(set(group_of))))
    if len(set(group_of)) < 2:
        group_of = [*group_of[:-1], group_of[-1] + 1]
    return group_of, [(10_000 - pixels, pixels) for pixels in present], count


@given(grouped_scenes(), st.integers(0, 5))
def test_folds_never_split_a_group_and_each_has_positives(case, seed):
    group_of, counts, count = case
    folds = deal(group_of, counts, count, seed)
    for group in set(group_of):
        assert len({fold for fold, g in zip(folds, group_of, strict=True) if g == group}) == 1
    assert set(folds) == set(range(count))
    positives = np.bincount(folds, weights=np.array(counts)[:, 1], minlength=count)
    assert (positives > 0).all()


@given(grouped_scenes(), st.randoms())
def test_folds_do_not_depend_on_the_order_of_scenes(case, random):
    group_of, counts, count = case
    scenes = scenes_of(len(group_of))
    groups = {scene.id: f"g{group}" for scene, group in zip(scenes, group_of, strict=True)}
    order = list(range(len(scenes)))
    random.shuffle(order)
    once = assign_folds(scenes, groups, np.array(counts), FoldSettings(count=count), 3, KELP)
    again = assign_folds(
        [scenes[k] for k in order], groups, np.array([counts[k] for k in order]), FoldSettings(count=count), 3, KELP
    )
    assert once == again


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_every_fold_gets_a_class_that_lies_in_enough_groups(seed, count):
    rng = np.random.default_rng(seed)
    group_of = rng.integers(0, 20, 60)
    counts = rng.integers(1, 1000, (60, 4)) * (rng.random((60, 4)) < (0.9, 0.5, 0.2, 0.15))
    folds = deal(group_of, counts, count)
    enough = [len(set(group_of[counts[:, label] > 0])) >= 3 * count for label in range(4)]
    for label in np.flatnonzero(enough):
        assert (np.bincount(folds, weights=counts[:, label], minlength=count) > 0).all()


def test_folds_are_even_in_scenes_in_presence_and_in_pixels():
    rng = np.random.default_rng(0)
    group_of = np.repeat(np.arange(40), 3)
    kelp = np.where((group_of % 2 == 0) & (rng.random(120) < 0.9), rng.lognormal(6, 1, 120), 0).astype(int)
    folds = deal(group_of, np.column_stack([100_000 - kelp, kelp]), 5)
    assert (np.bincount(folds) == 24).all()
    shown = np.bincount(folds, weights=kelp > 0)
    assert np.ptp(shown) <= 2
    pixels = np.bincount(folds, weights=kelp)
    assert np.ptp(pixels) / pixels.mean() < 0.1


def test_even_groups_are_dealt_out_evenly_and_the_seed_breaks_the_tie():
    counts = [(90, 10)] * 12
    one, other = deal(range(12), counts, 3, seed=1), deal(range(12), counts, 3, seed=2)
    assert np.bincount(one).tolist() == np.bincount(other).tolist() == [4, 4, 4]
    assert (one != other).any()
    assert (one == deal(range(12), counts, 3, seed=1)).all()


def test_many_groups_are_dealt_out_as_evenly_as_few():
    rng = np.random.default_rng(0)
    counts = rng.lognormal(3, 1, (6000, 3)).astype(np.int64) * (rng.random((6000, 3)) < 0.6)
    counts[:, 2] = 0
    counts[:4, 2] = 1
    folds = deal(range(6000), counts, 4)
    assert np.bincount(folds).tolist() == [1500] * 4
    assert sorted(folds[:4].tolist()) == [0, 1, 2, 3]
    shares = np.array([counts[folds == fold].sum(axis=0) for fold in range(4)]) / counts.sum(axis=0)
    assert np.abs(shares - 0.25).max() < 1e-3


def test_more_folds_than_groups_is_an_error():
    with pytest.raises(FoldError, match=r"expected at least 4 groups.*got 3 \(6 scenes\).*Lower folds.count to 3"):
        deal([0, 0, 1, 1, 2, 2], [(9, 1)] * 6, 4)
    with pytest.raises(FoldError, match=r"got 1 \(2 scenes\).*Group less strictly"):
        deal([0, 0], [(9, 1)] * 2, 2)


@pytest.mark.parametrize("stratify", ["presence", "none"])
def test_positives_in_fewer_groups_than_folds_are_an_error(stratify):
    counts = [(9, 1)] * 3 + [(10, 0)] * 5
    with pytest.raises(FoldError, match=r"they lie in 3 of 8 groups. Lower folds.count to 3"):
        deal(range(8), counts, 4, stratify=stratify)
    assert len(set(deal(range(8), counts, 3, stratify=stratify))) == 3
    with pytest.raises(FoldError, match=r"they lie in 1 of 8 groups. Add labelled scenes"):
        deal(range(8), [(9, 1)] + [(10, 0)] * 7, 2)


def test_a_rare_class_among_many_is_only_a_warning(caplog):
    counts = [(9, 1, 0, 0), (9, 0, 1, 0), (9, 1, 0, 0), (9, 0, 1, 0), (9, 0, 1, 1)]
    with caplog.at_level(logging.WARNING):
        deal(range(5), counts, 3)
    assert "label 1 lies in 2 groups: not all 3 folds" in caplog.text
    assert "label 3 lies in 1 group: a model that is scored on it cannot have learned it" in caplog.text
    assert "label 2" not in caplog.text


SHARES = [
    0.93,
    0.31,
    0.2,
    0.18,
    0.11,
    0.09,
    0.07,
    0.05,
    0.02,
    0.02,
    0.0085,
    0.0084,
    0.0083,
    0.0082,
    0.005,
    0.0025,
    0.0024,
]
"""Of the scenes, that have each of 17 tags: nearly as Planet's of the Amazon."""


def stratify_iteratively(tags, count):
    """Deal out scenes by the rarest tag first (Sechidis, Tsoumakas and Vlahavas 2011)."""
    room, wanted = np.full(count, len(tags) / count), np.tile(tags.sum(axis=0) / count, (count, 1))
    folds, left = np.full(len(tags), -1), np.ones(len(tags), bool)
    while left.any():
        total = tags[left].sum(axis=0)
        rarest = np.argmin(np.where(total > 0, total, len(tags) + 1))
        chosen = np.flatnonzero(left & (tags[:, rarest] > 0)) if total.any() else np.flatnonzero(left)
        for scene in chosen:
            fold = np.lexsort((-room, -wanted[:, rarest] if total.any() else -room))[0]
            folds[scene], left[scene] = fold, False
            room[fold] -= 1
            wanted[fold] -= tags[scene]
    return folds


def tag_unevenness(tags, folds):
    """Return their measure: how far the odds of each tag in each fold are from those in all, on average."""
    odds = tags.sum(axis=0) / (len(tags) - tags.sum(axis=0))
    held = [tags[folds == fold] for fold in np.unique(folds)]
    return np.mean([np.abs(part.sum(axis=0) / (len(part) - part.sum(axis=0)) - odds) for part in held])


def deal_tags(tags, group_of, count=5, seed=0):
    scenes = scenes_of(len(tags))
    groups = {scene.id: f"g{group}" for scene, group in zip(scenes, group_of, strict=True)}
    classes = classes_of(tags.shape[1], "multilabel")
    folds = assign_folds(scenes, groups, tags, FoldSettings(count=count), seed, classes)
    return np.array([folds[scene.id] for scene in scenes])


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_folds_of_tagged_scenes_are_as_even_as_iterative_stratification_makes_them(seed):
    tags = (np.random.default_rng(seed).random((1000, 17)) < SHARES).astype(np.int64)
    folds = deal_tags(tags, range(1000))
    assert np.ptp(np.bincount(folds)) <= 1
    assert tag_unevenness(tags, folds) <= 1.05 * tag_unevenness(tags, stratify_iteratively(tags, 5))


@pytest.mark.parametrize("scenes_a_group", [1, 5])
def test_forty_thousand_scenes_of_seventeen_tags_are_dealt_out_evenly(scenes_a_group):
    rng = np.random.default_rng(0)
    tags = (rng.random((40_000, 17)) < SHARES).astype(np.int64)
    group_of = np.arange(40_000) if scenes_a_group == 1 else rng.integers(0, 40_000 // scenes_a_group, 40_000)
    folds = deal_tags(tags, group_of)
    for fold in range(1, 5):
        assert not set(group_of[folds == fold]) & set(group_of[folds < fold])
    assert np.ptp(np.bincount(folds)) <= 2
    spread = np.ptp([tags[folds == fold].sum(axis=0) for fold in range(5)], axis=0)
    assert (spread <= np.maximum(2, tags.sum(axis=0) / 5 / 1000)).all()


def test_a_rare_tag_is_only_a_warning_though_there_are_two(caplog):
    tags = np.array([(1, 0)] * 8 + [(1, 1)] * 2)
    with caplog.at_level(logging.WARNING):
        folds = deal_tags(tags, range(10))
    assert caplog.messages == ["the tag label 1 lies in 2 groups: not all 5 folds can have it"]
    assert len(set(folds[8:])) == 2


def test_a_plan_holds_groups_and_folds_and_reports_no_leak(tmp_path):
    catalogue = catalogue_of([(0, 0), (5, 0), (40, 0), (45, 0), (80, 0), (120, 0)], [5, 5, 5, 5, 5, 0])
    rules = FoldSettings(count=3, group=GroupSettings(overlap=True))
    planned, report = plan_folds(catalogue, rules, tmp_path, 0)
    fold = {scene.id: scene.fold for scene in planned.scenes}
    assert fold["train0"] == fold["train1"]
    assert fold["train2"] == fold["train3"]
    assert planned.folds == (0, 1, 2)
    assert not report.leaks
    assert report.neighbours == ()
    assert sum(report.scenes) == 6
    assert sum(report.labelled["kelp"]) == 25
    assert "none of the 4 groups is split" in report.lines()[0]
    assert f"scenes without kelp: 1 of 6 (1 in fold {fold['train5']})" in report.lines()
    assert plan_folds(catalogue, rules, tmp_path, 0) == (planned, report)


def test_a_group_in_two_folds_is_reported():
    catalogue = catalogue_of([(0, 0), (100, 0), (200, 0)], [5, 5, 5])
    scenes = tuple(replace(scene, group="bay" if k < 2 else "cape", fold=k) for k, scene in enumerate(catalogue.scenes))
    report = leakage_report(replace(catalogue, scenes=scenes))
    assert report.leaks
    assert report.split_groups == ("bay",)
    assert "1 group SPLIT (bay)" in report.lines()[0]


def test_neighbours_in_different_folds_are_reported():
    catalogue = catalogue_of([(0, 0), (10, 0), (20, 10), (50, 0)], [5, 5, 5, 5])
    scenes = tuple(replace(s, group=s.id, fold=fold) for s, fold in zip(catalogue.scenes, (0, 0, 1, 1), strict=True))
    report = leakage_report(replace(catalogue, scenes=scenes))
    assert report.neighbours == (("train1", "train2"),)
    assert "touch or overlap on the ground: 1 (train1–train2)" in "\n".join(report.lines())
    assert not report.leaks
    assert report.warnings == leakage_warning(replace(catalogue, scenes=scenes)) == []


def test_ground_in_two_folds_leaks_and_is_warned_of():
    catalogue = catalogue_of([(0, 0), (5, 0), (20, 0), (50, 0)], [5, 5, 5, 5])
    scenes = tuple(replace(s, group=s.id, fold=fold) for s, fold in zip(catalogue.scenes, (0, 1, 1, 0), strict=True))
    report = leakage_report(replace(catalogue, scenes=scenes))
    assert report.leaks
    assert report.overlapping == (("train0", "train1"),)
    assert report.warnings == leakage_warning(replace(catalogue, scenes=scenes))
    assert report.warnings == [
        "1 pair of training scenes in different folds overlap on the ground (train0–train1), so scores are too good: "
        "set folds.group.overlap."
    ]


def test_near_duplicates_in_different_folds_are_reported():
    catalogue = catalogue_of([(0, 0), (100, 0), (200, 0)], [5, 5, 5], crs=None)
    scenes = tuple(replace(scene, group=scene.id, fold=k) for k, scene in enumerate(catalogue.scenes))
    values = np.random.default_rng(0).standard_normal((3, BLOCKS * BLOCKS)).astype(np.float32)
    values[2] = values[0]
    report = leakage_report(replace(catalogue, scenes=scenes), Thumbnails(values, np.ones_like(values)), 0.98)
    assert report.leaks
    assert report.duplicates == (("train0", "train2"),)
    assert report.lines()[-2:] == [
        "no scene is georeferenced: which are neighbours on the ground cannot be told",
        "scene pairs across folds that are near-duplicates: 1 (train0–train2)",
    ]


def test_scenes_of_other_splits_beside_training_scenes_are_counted(tmp_path):
    train = catalogue_of([(0, 0), (100, 0)], [5, 5])
    val = catalogue_of([(10, 0), (60, 0)], [5, 5], "val")
    test = catalogue_of([(5, 5), (200, 0), (110, 10)], [0, 0, 0], "test")
    scenes = train.scenes + val.scenes + test.scenes
    catalogue = Catalogue(KELP, ("dem",), scenes, train.statistics | val.statistics)
    planned, report = plan_folds(catalogue, FoldSettings(count=2), tmp_path, 0)
    assert report.outside == {"val": 2, "test": 3}
    assert report.outside_neighbours == {"val": ("val0",), "test": ("test0", "test2")}
    assert report.lines()[-1] == (
        "2 of 3 test scenes touch or overlap a training scene (test0, test2): "
        "scores there flatter a model on new places"
    )
    assert all(scene.fold is None for scene in planned.split("val") + planned.split("test"))
    assert [scene.group for scene in planned.split("test")] == ["test0", "test1", "test2"]
