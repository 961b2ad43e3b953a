import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.maps.geotiff import NODATA, quantise
from data.metrics.confusion import weighted_counts
from ensemble.decide.decision.thresholds import decide
from ensemble.decide.sample.pool import PixelPool
from ensemble.decide.thresholds.multipliers import best_multipliers
from ensemble.decide.thresholds.threshold_tuning import tune_pool
from ensemble.objective import objective_of
from ensemble.settings import EnsembleSettings

from ..conftest import LAND

PLAIN = (1.0, 1.0, 1.0)
BY_SCENE = {"name": "macro_iou", "over": "scenes"}


def objective(metric):
    return objective_of(EnsembleSettings(metric=metric), LAND)


def noisy_pool(seed, n=400, classes=3, folds=2, n_scenes=10):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n).astype(np.uint8)
    logits = rng.normal(size=(classes, n)) + 1.5 * np.eye(classes)[:, label] + rng.normal(size=(classes, 1))
    proba = np.exp(logits) / np.exp(logits).sum(axis=0)
    stored = quantise(proba[None].astype(np.float32))
    stored[..., rng.random(n) < 0.05] = NODATA
    label[rng.random(n) < 0.05] = 255
    scene = np.sort(rng.integers(0, n_scenes, n)).astype(np.int32)
    return PixelPool(stored, label[None], rng.uniform(0.5, 3, n), (scene % folds).astype(np.int16), scene)


def score(pool, multipliers, wanted):
    [prediction], [label] = decide(pool.stored[0], list(multipliers), exclusive=True), pool.label
    scenes = np.unique(pool.scene)
    counts = [
        weighted_counts(label[here], prediction[here], pool.weight[here], 3)[None]
        for here in (pool.scene == scene for scene in scenes)
    ]
    return float(wanted.over(np.stack(counts)))


def search(pool, wanted):
    return best_multipliers(pool.stored[0], pool.label[0], pool.weight, wanted, pool.scene)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(["macro_iou", "macro_dice", "accuracy", "kappa", "macro_f2", BY_SCENE]))
def test_the_best_multipliers_are_never_worse_than_the_plain_argmax(seed, metric):
    pool, wanted = noisy_pool(seed), objective(metric)
    multipliers = search(pool, wanted)
    assert score(pool, multipliers, wanted) >= score(pool, PLAIN, wanted)
    assert np.prod(multipliers) == pytest.approx(1)


@pytest.mark.parametrize("metric", ["macro_iou", BY_SCENE, {"name": "cost", "costs": {"kelp": {"rock": 4}}}], ids=str)
def test_the_best_multipliers_come_near_a_search_through_a_grid(metric):
    pool, wanted = noisy_pool(3, n=1500), objective(metric)
    grid = np.exp(np.linspace(-2, 2, 21))
    best = max(score(pool, (1, first, second), wanted) for first in grid for second in grid)
    assert score(pool, search(pool, wanted), wanted) >= best - 0.004


def test_the_order_of_pixels_does_not_matter():
    pool, wanted = noisy_pool(5), objective(BY_SCENE)
    mixed = pool.take(np.random.default_rng(0).permutation(400))
    np.testing.assert_allclose(search(mixed, wanted), search(pool, wanted))


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from(["macro_iou", BY_SCENE]))
def test_tuned_multipliers_are_never_worse_than_the_plain_argmax(seed, metric):
    pool, wanted = noisy_pool(seed, folds=3), objective(metric)
    found = tune_pool(pool, pool.stored[0], wanted, LAND)
    assert found.kept_default == (found.thresholds == PLAIN)
    assert score(pool, found.thresholds, wanted) >= score(pool, PLAIN, wanted)


def test_tuning_keeps_the_default_where_it_gains_by_luck_alone():
    rng = np.random.default_rng(0)
    kept = gained = 0
    for seed in range(10):
        pool = noisy_pool(seed, n=120, folds=3)
        # Classes as frequent as they are predicted: there is nothing to gain from raising one.
        label = rng.permutation(decide(pool.stored[0], PLAIN, exclusive=True)[0])[None]
        noise = PixelPool(pool.stored, label, pool.weight, pool.fold, pool.scene)
        kept += tune_pool(noise, noise.stored[0], objective("accuracy"), LAND).kept_default
        found = search(noise, objective("accuracy"))
        gained += found.tolist() != [1, 1, 1]
    assert gained == 10
    assert kept >= 3


def test_tuning_acts_where_a_class_is_held_back_everywhere():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 3000).astype(np.uint8)
    proba = np.full((1, 3, 3000), 0.2) + 0.25 * np.eye(3)[:, label]
    proba[:, 2] *= 0.3
    proba /= proba.sum(axis=1, keepdims=True)
    scene = (np.arange(3000) // 100).astype(np.int32)
    pool = PixelPool(
        quantise(proba.astype(np.float32)), label[None], np.ones(3000), (scene % 3).astype(np.int16), scene
    )
    found = tune_pool(pool, pool.stored[0], objective("macro_iou"), LAND)
    assert found.thresholds[2] > max(found.thresholds[:2])
    assert score(pool, found.thresholds, objective("macro_iou")) == 1


def test_with_one_fold_nothing_can_be_left_out_and_the_argmax_stays_plain():
    pool = noisy_pool(0, folds=1)
    assert tune_pool(pool, pool.stored[0], objective("macro_iou"), LAND, centred=False).kept_default
