import numpy as np
import pytest

from data.errors import EnsembleError
from data.maps.geotiff import NODATA, quantise
from data.scenes.classes import IGNORE, Classes
from ensemble.decide.decision.thresholds import decide
from ensemble.decide.sample.pool import PixelPool
from ensemble.decide.thresholds.promised_recall import promise_recall
from ensemble.decide.thresholds.risk_control import (
    count_groups,
    expected_bin,
    fewest_groups,
    losses_of,
    promised_bins,
    test_loss,
)
from ensemble.decide.thresholds.set_levels import find_levels
from ensemble.objective import objective_of
from ensemble.settings import EnsembleSettings

from ..conftest import KELP, LAND

TAGS = Classes("multilabel", (0, 1), ("haze", "river"), ((0, 0, 255), (90, 90, 90)))


def promising(recall, classes=KELP, **more):
    metric = {"name": "precision_at_recall", "at_least": recall, "confidence": 0.95, **more}
    return objective_of(EnsembleSettings.model_validate({"metric": metric}), classes)


def draw(rng, classes, n_groups, pixels=60, strength=2.0):
    """Return a pool of pixels of groups that differ, and what is said of them (n_classes, n)."""
    n, group = n_groups * pixels, np.repeat(np.arange(n_groups), pixels)
    n_labels = 2 if classes.task != "multiclass" else len(classes.names)
    label = rng.integers(0, n_labels, (classes.n_questions, n)).astype(np.uint8)
    hard = (strength * np.exp(0.5 * rng.normal(size=n_groups)))[group]
    if classes.exclusive:
        logits = rng.normal(size=(n_labels, n)) + hard * (label == np.arange(n_labels)[:, None])
        proba = np.exp(logits) / np.exp(logits).sum(axis=0)
    else:
        proba = 1 / (1 + np.exp(-(rng.normal(size=label.shape) + hard * (label - 0.5))))
    stored = quantise(proba.astype(np.float32))
    scene = group.astype(np.int32)
    return PixelPool(stored[None], label, np.ones(n), np.zeros(n, np.int16), scene), stored


def recalls(prediction, label, value, group):
    return np.array(
        [(prediction == value)[(label == value) & (group == one)].mean() for one in np.unique(group[label == value])]
    )


def test_losses_are_what_each_threshold_misses():
    rng = np.random.default_rng(0)
    bins, group, weight = rng.integers(0, 7, 50), rng.integers(0, 4, 50), rng.random(50)
    losses = losses_of(count_groups(bins, weight, group, 5, 6))
    assert losses.shape == (6, 4)
    for level in range(6):
        for one in range(4):
            inside = group == one
            missed = inside & ((bins < level) | (bins == 6))
            assert losses[level, one] == pytest.approx(weight[missed].sum() / weight[inside].sum())


@pytest.mark.parametrize("shape", [20, 1.5, 0.3], ids=["even", "uneven", "all or nothing"])
def test_a_loss_at_the_bound_is_seldom_taken_for_one_below_it(shape):
    rng = np.random.default_rng(1)
    losses = rng.beta(0.1 * shape, 0.9 * shape, (1000, 60))
    assert (test_loss(losses, 0.1, 0.95) <= 0.05).mean() <= 0.06
    assert (test_loss(losses / 4, 0.1, 0.95) <= 0.05).mean() > (0.9 if shape > 1 else 0.6)


def test_no_fewer_groups_can_promise_anything():
    for bound, confidence in ((0.1, 0.95), (0.2, 0.95), (0.05, 0.9)):
        # Were a share of 1 - bound of groups lost altogether, so many would all be kept by chance.
        assert fewest_groups(bound, confidence) >= np.log(1 - confidence) / np.log(1 - bound)
        assert fewest_groups(bound, confidence) <= 1.2 * np.log(1 - confidence) / np.log(1 - bound) + 1


def test_the_promised_recall_holds_in_nearly_all_worlds():
    pool, stored = draw(np.random.default_rng(2), KELP, 600)
    kept = []
    for seed in range(60):
        chosen = np.random.default_rng(seed).choice(600, 40, replace=False)
        inside = np.isin(pool.scene, chosen)
        _, scene = np.unique(pool.scene[inside], return_inverse=True)
        some = PixelPool(
            pool.stored[:, :, inside], pool.label[:, inside], pool.weight[inside], pool.fold[inside], scene
        )
        threshold = promise_recall(some, stored[:, inside], np.arange(40), KELP, promising(0.8)).thresholds
        [found] = decide(stored, threshold, exclusive=False)
        kept.append(recalls(found, pool.label[0], 1, pool.scene).mean() >= 0.8)
    assert np.mean(kept) >= 0.93


@pytest.mark.parametrize(
    ("classes", "more", "values"), [(KELP, {}, [1]), (TAGS, {}, [1, 1]), (LAND, {"of": "rock"}, [1])], ids=str
)
def test_the_threshold_is_the_most_precise_that_keeps_the_promise(classes, more, values):
    pool, stored = draw(np.random.default_rng(3), classes, 50)
    tuned = promise_recall(pool, stored, np.arange(50), classes, promising(0.8, classes, **more))
    found = decide(stored, tuned.thresholds, classes.exclusive)
    for question, value in enumerate(values):
        share = recalls(found[question], pool.label[question], value, pool.scene)
        assert test_loss(1 - share[None], 0.2, 0.95) <= 0.05
        # A little higher, and it is kept no more: what is more precise was not to be had.
        higher = [one * (0.93 if classes.exclusive and one != 1 else 1.07) for one in tuned.thresholds]
        other = decide(stored, higher, classes.exclusive)[question]
        assert test_loss(1 - recalls(other, pool.label[question], value, pool.scene)[None], 0.2, 0.95) > 0.05
        assert share.mean() > 0.8
    if classes is LAND:
        assert tuned.thresholds[0] == tuned.thresholds[2] == 1
        assert tuned.thresholds[1] != 1


def test_too_few_groups_are_refused_with_the_number_that_it_takes():
    pool, stored = draw(np.random.default_rng(4), KELP, 12)
    with pytest.raises(
        EnsembleError, match=r"kelp in at least 29 groups outside each fold.*got 12\. Label more groups"
    ):
        promise_recall(pool, stored, np.arange(12), KELP, promising(0.9))
    # Groups without the class tell nothing of it.
    label = np.where(pool.scene < 9, pool.label, 0)
    bare = PixelPool(pool.stored, label.astype(np.uint8), pool.weight, pool.fold, pool.scene)
    with pytest.raises(EnsembleError, match="got 9"):
        promise_recall(bare, stored, np.arange(12), KELP, promising(0.9))


def test_what_has_no_prediction_is_missed_at_every_threshold():
    pool, stored = draw(np.random.default_rng(5), KELP, 40)
    lacking = np.where(np.arange(stored.shape[1]) % 2, np.uint16(NODATA), stored)
    with pytest.raises(EnsembleError, match=r"got none: \d\d% of it has no prediction"):
        promise_recall(pool, lacking, np.arange(40), KELP, promising(0.8))


def test_expected_loss_of_another_group_is_within_the_bound_and_no_lower_than_need_be():
    rng = np.random.default_rng(6)
    losses = []
    for _ in range(400):
        level = rng.normal(size=21)
        bins = np.clip(np.rint(100 + 20 * level[:, None] + 10 * rng.normal(size=(21, 30))), 0, 199).astype(int)
        group = np.repeat(np.arange(20), 30)
        found = expected_bin(count_groups(bins[:20].ravel(), np.ones(600), group, 20, 200), 0.2)
        losses.append((bins[20] < found).mean())
    assert np.mean(losses) == pytest.approx(0.2 - 0.02, abs=0.03)


@pytest.mark.parametrize("classes", [KELP, LAND], ids=["binary", "multiclass"])
def test_sets_hold_the_true_class_of_another_group_as_often_as_they_say(classes):
    rng = np.random.default_rng(7)
    pool, stored = draw(rng, classes, 1500, pixels=30, strength=1.5)
    [mapped] = decide(stored, (1.0,) * 3 if classes.exclusive else (0.5,), classes.exclusive)
    held = np.full((80, classes.n_labels), np.nan)
    sizes = []
    for number in range(80):
        drawn = rng.choice(1500, 40, replace=False)
        train, test = (np.isin(pool.scene, some) for some in (drawn[:20], drawn[20:]))
        _, group = np.unique(pool.scene[train], return_inverse=True)
        sets = find_levels(
            stored[:, train], mapped[train], pool.label[0][train], pool.weight[train], group, coverage=0.85
        )
        assert all(sets.sure)
        found = sets.apply(stored[:, test], mapped[test])
        assert found.any(axis=0).all()
        sizes.append(found.sum(axis=0).mean())
        for value in range(classes.n_labels):
            held[number, value] = recalls(
                np.where(found[value] == 1, pool.label[0][test], 254), pool.label[0][test], value, pool.scene[test]
            ).mean()
    # 1 / (n + 1) of 20 groups is what is asked for beyond.
    assert (held.mean(axis=0) >= 0.84).all()
    assert (held.mean(axis=0) <= 0.93).all()
    assert 1 < np.mean(sizes) < classes.n_labels


def test_where_groups_are_too_few_a_class_is_in_every_set_and_that_is_said():
    rng = np.random.default_rng(8)
    pool, stored = draw(rng, KELP, 5)
    stored[:, :3] = NODATA
    [mapped] = decide(stored, (0.5,), exclusive=False)
    sets = find_levels(stored, mapped, pool.label[0], pool.weight, pool.scene.astype(int), coverage=0.9)
    assert sets.sure == (False, False)
    found = sets.apply(stored, mapped)
    assert (found[:, :3] == IGNORE).all()
    assert (found[:, 3:] == 1).all()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"metric": {"name": "dice", "confidence": 0.95}}, "confidence with precision_at_recall alone"),
        ({"metric": {"name": "precision_at_recall", "at_least": 1, "confidence": 0.95}}, "at_least below 1"),
        ({"thresholds": "fixed"}, "no thresholds beside metric.confidence"),
        ({"cleaning": {"min_size": [4]}}, "no cleaning beside"),
        ({"rules": [{"label": "kelp", "where": "dem > 0"}]}, "no rules beside"),
    ],
)
def test_what_would_break_a_promise_is_refused(settings, problem):
    metric = {"name": "precision_at_recall", "at_least": 0.9, "confidence": 0.95}
    with pytest.raises(ValueError, match=problem):
        EnsembleSettings.model_validate({"metric": metric, **settings})


def test_bins_that_keep_a_promise_come_before_those_that_do_not():
    rng = np.random.default_rng(9)
    counts = count_groups(rng.integers(0, 40, 4000), np.ones(4000), np.arange(4000) % 50, 50, 40)
    kept = promised_bins(counts, 0.2, 0.95)
    assert 0 < kept < 10
    assert (test_loss(losses_of(counts), 0.2, 0.95)[:kept] <= 0.05).all()
    assert test_loss(losses_of(counts), 0.2, 0.95)[kept] > 0.05
