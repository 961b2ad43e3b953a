import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.confusion import confusion_counts, weighted_counts
from data.errors import EnsembleError
from data.maps import NODATA, TOP, quantise
from data.metrics import METRICS
from ensemble.blend import blend_stored, candidate_weights, select_greedily
from ensemble.decision import find_thresholds, find_weights
from ensemble.maps import PixelPool
from ensemble.settings import EnsembleSettings
from ensemble.thresholds import best_threshold, decide, histogram_counts, score_histogram, tune_multipliers

from .conftest import KELP, LAND

BINARY = pytest.mark.parametrize("name", ["dice", "iou", "macro_iou", "accuracy", "kappa"])


@BINARY
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=1, max_size=40))
def test_the_best_threshold_is_that_of_a_search_through_all(name, pairs):
    label, step = np.array(pairs, np.uint8).T
    stored = (step.astype(np.uint16) * 5000).astype(np.uint16)
    metric = METRICS[name]
    threshold, score = best_threshold(score_histogram(stored, label), metric)
    every = [confusion_counts(label, (stored >= cut).astype(np.uint8), 2) for cut in [*np.unique(stored), TOP + 1]]
    scores = [float(metric.of(counts)) for counts in every]
    if not np.isfinite(scores).any():
        assert threshold == 0.5
        return
    assert score == pytest.approx(np.nanmax(scores))
    assert float(metric.of(confusion_counts(label, decide(stored[None], [threshold]), 2))) == pytest.approx(score)


def test_of_equal_thresholds_the_nearest_to_a_half_is_taken():
    stored, label = quantise(np.float32([0.1, 0.9])), np.uint8([0, 1])
    assert best_threshold(score_histogram(stored, label), METRICS["dice"])[0] == pytest.approx(0.5, abs=1e-4)


@given(st.integers(0, 99))
def test_histograms_of_scenes_add_up_and_weights_count(seed):
    rng = np.random.default_rng(seed)
    stored, label = rng.integers(0, 65536, 60).astype(np.uint16), rng.choice([0, 1, 255], 60).astype(np.uint8)
    parts = [score_histogram(stored[part], label[part]) for part in (slice(0, 20), slice(20, 60))]
    np.testing.assert_array_equal(sum(parts), score_histogram(stored, label))
    np.testing.assert_allclose(score_histogram(stored, label, np.full(60, 2.0)), 2 * sum(parts))


def test_a_histogram_knows_the_counts_of_every_threshold():
    rng = np.random.default_rng(0)
    stored, label = rng.integers(0, 65536, 4000).astype(np.uint16), rng.choice([0, 1, 255], 4000).astype(np.uint8)
    counts = histogram_counts(score_histogram(stored, label))
    for cut in (0, 1, 1234, TOP, NODATA):
        np.testing.assert_array_equal(counts[cut], confusion_counts(label, decide(stored[None], [cut / TOP]), 2))


def test_a_threshold_takes_what_is_at_and_above_it_and_nothing_where_nothing_was_predicted():
    stored = np.arange(0, TOP, 101, dtype=np.uint16)
    for threshold in (0.0, 0.25, 0.4999, 0.5, 0.9):
        np.testing.assert_array_equal(decide(stored[None], [threshold]), stored / TOP >= threshold - 1e-7)
    assert (decide(np.full((1, 2, 2), NODATA, np.uint16), [0.0]) == 255).all()
    assert (decide(np.full((3, 2, 2), NODATA, np.uint16), [1.0, 2.0, 1.0]) == 255).all()


def noisy_pool(seed, n=400, classes=3, folds=2):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n).astype(np.uint8)
    logits = rng.normal(size=(classes, n)) + 1.5 * np.eye(classes)[:, label] + rng.normal(size=(classes, 1))
    proba = np.exp(logits) / np.exp(logits).sum(axis=0)
    stored = quantise(proba[None].astype(np.float32))
    stored[..., rng.random(n) < 0.05] = NODATA
    return PixelPool(stored, label, rng.uniform(0.5, 3, n), (np.arange(n) % folds).astype(np.int16))


def score_pool(pool, multipliers, metric):
    prediction = decide(pool.stored[0], list(multipliers))
    return float(metric.of(weighted_counts(pool.label, prediction, pool.weight, len(multipliers))))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(["macro_iou", "macro_dice", "accuracy", "kappa"]))
def test_tuned_multipliers_are_never_worse_than_the_plain_argmax(seed, name):
    pool, metric = noisy_pool(seed), METRICS[name]
    multipliers = tune_multipliers(pool.stored[0], pool.label, pool.weight, metric)
    assert score_pool(pool, multipliers, metric) >= score_pool(pool, (1, 1, 1), metric)
    assert np.prod(multipliers) == pytest.approx(1)


def test_tuned_multipliers_come_near_a_search_through_a_grid():
    pool, metric = noisy_pool(3, n=3000), METRICS["macro_iou"]
    grid = np.exp(np.linspace(-2, 2, 41))
    best = max(score_pool(pool, (1, first, second), metric) for first in grid for second in grid)
    found = tune_multipliers(pool.stored[0], pool.label, pool.weight, metric)
    assert score_pool(pool, found, metric) >= best - 0.004


def test_tuning_stays_its_hand_where_it_gains_by_luck_alone():
    rng = np.random.default_rng(0)
    stayed = 0
    for seed in range(10):
        pool = noisy_pool(seed, n=120, folds=3)
        pool = PixelPool(pool.stored, rng.integers(0, 3, 120).astype(np.uint8), pool.weight, pool.fold)
        stayed += find_thresholds(pool, (1.0,), LAND, METRICS["macro_iou"]) == (1.0, 1.0, 1.0)
    assert stayed >= 3


def test_tuning_acts_where_a_class_is_held_back_everywhere():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 3000).astype(np.uint8)
    proba = np.full((1, 3, 3000), 0.2) + 0.25 * np.eye(3)[:, label]
    proba[:, 2] *= 0.3
    proba /= proba.sum(axis=1, keepdims=True)
    pool = PixelPool(quantise(proba.astype(np.float32)), label, np.ones(3000), (np.arange(3000) % 3).astype(np.int16))
    found = find_thresholds(pool, (1.0,), LAND, METRICS["macro_iou"])
    assert found[2] > max(found[:2])
    assert score_pool(pool, found, METRICS["macro_iou"]) == 1


def test_a_blend_of_one_member_is_that_member():
    stored = np.random.default_rng(0).integers(0, 65536, (2, 3, 9, 8)).astype(np.uint16)
    np.testing.assert_array_equal(blend_stored(stored, (0.0, 1.0)), stored[1])


def test_a_blend_is_the_weighted_mean_of_those_who_predicted():
    stored = np.uint16([[[100, NODATA, 100, NODATA]], [[200, 200, NODATA, NODATA]]])
    assert blend_stored(stored, (0.25, 0.75)).tolist() == [[175, 200, 100, NODATA]]


def test_the_grid_of_weights_holds_members_the_mean_and_sums_to_one():
    weights = list(candidate_weights(3, "convex"))
    assert weights[:4] == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1 / 3,) * 3]
    assert len(weights) == 4 + 231
    assert all(sum(some) == pytest.approx(1) for some in weights)
    assert list(candidate_weights(2, "best")) == [(1.0, 0.0), (0.0, 1.0)]


def test_a_grid_over_many_members_is_refused():
    with pytest.raises(EnsembleError, match=r"at most 3 members, got 4\. Use greedy"):
        list(candidate_weights(4, "convex"))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_greedy_selection_is_never_worse_than_the_best_member(values):
    def score(weights):
        return sum(weight * value for weight, value in zip(weights, values, strict=True)) - max(weights) ** 2 * 0.1

    chosen = score(select_greedily(len(values), score))
    assert chosen >= max(score(weights) for weights in candidate_weights(len(values), "best")) - 1e-9


def test_of_equal_blends_the_simplest_is_taken():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 65535, (1, 1, 500)).astype(np.uint16)
    label = (one[0, 0] > 30000).astype(np.uint8)
    pool = PixelPool(np.concatenate([one, one]), label, np.ones(500), np.zeros(500, np.int16))
    assert find_weights(pool, KELP, METRICS["dice"], EnsembleSettings()) == (1.0, 0.0)
