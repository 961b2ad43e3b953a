"""Intervals over groups: against scenes left out one by one, formulas by hand, and populations whose score is known."""

import math

import numpy as np
import pytest
from scipy import stats

from data.metrics.metric import CLASS_METRICS, METRICS
from ensemble import EnsembleSettings
from ensemble.objective import objective_of
from ensemble.score.evaluation import Evaluation
from ensemble.score.intervals import Estimate, GroupCounts

from ..conftest import KELP

DICE = METRICS["dice"].score


def draw_counts(seed, n_scenes=24, hits=80):
    rng = np.random.default_rng(seed)
    scenes = rng.integers(0, 20, (n_scenes, 1, 2, 3))
    scenes[:, 0, 0, 0] += 500
    scenes[:, 0, 1, 1] += rng.integers(0, hits, n_scenes)
    return scenes


def grouped(scenes, n_groups=12):
    return GroupCounts(scenes, np.arange(len(scenes)) % n_groups)


def of_question(score):
    return lambda counts: score(counts[..., 0, :, :])


def several(values, others, **more):
    return Estimate(np.asarray(values), np.asarray(others), np.full(np.shape(values), True), **more)


@pytest.mark.parametrize("metric", [METRICS["dice"], METRICS["kappa"], CLASS_METRICS["recall"]])
def test_scores_without_a_group_are_those_of_the_other_scenes(metric):
    counts, score = grouped(draw_counts(0)), of_question(metric.score)
    pooled, mean = counts.pooled(score), counts.scene_mean(score)
    np.testing.assert_allclose(pooled.value, score(counts.scenes.sum(axis=0)))
    np.testing.assert_allclose(mean.value, score(counts.scenes).mean(axis=0))
    for group, of_sum, of_scenes in zip(range(12), pooled.without, mean.without, strict=True):
        others = counts.scenes[counts.group != group]
        np.testing.assert_allclose(of_sum, score(others.sum(axis=0)))
        np.testing.assert_allclose(of_scenes, score(others).mean(axis=0))


def test_the_interval_of_a_mean_is_students_but_for_the_even_weight_of_each_group():
    values = np.random.default_rng(0).normal(3, 1, 30)
    n = len(values)
    without = (values.sum() - values) / (n - 1)
    interval = several(values.mean(), without).interval(0.9)
    usual = stats.t.interval(0.9, n - 1, values.mean(), values.std(ddof=1) / math.sqrt(n))
    # Squares are summed and not averaged, and somewhat uneven ones have fewer degrees of freedom.
    assert 1 <= (interval.high - interval.low) / (usual[1] - usual[0]) < 1.05
    assert interval.value - interval.low == pytest.approx(interval.high - interval.value)


def test_where_one_group_makes_all_the_difference_the_interval_is_wider():
    even, uneven = np.full(20, 0.01), np.zeros(20)
    uneven[0] = 0.01 * math.sqrt(20)
    widths = [
        (found.high - found.low)
        for found in (several(0.0, change, gain=True).interval(0.95) for change in (even, uneven))
    ]
    assert widths[1] / widths[0] == pytest.approx(stats.t.ppf(0.975, 2) / stats.t.ppf(0.975, 19))


def test_a_share_stays_a_share_and_a_gain_is_symmetric():
    low, high = (several(value, value + np.array([0.005, -0.005] * 5)) for value in (0.02, 0.98))
    assert low.interval(0.95).low > 0
    assert high.interval(0.95).high < 1
    gain = (high - low).interval(0.95)
    assert gain.high - gain.value == pytest.approx(gain.value - gain.low)


def test_a_tag_is_scored_like_a_binary_map():
    tags = np.concatenate([draw_counts(0), draw_counts(1)], axis=1)
    places = [(0, 1), (1, 1)]
    of_tags = grouped(tags).pooled(lambda counts: CLASS_METRICS["dice"].score(counts)[..., 1], places)
    for tag in range(2):
        alone = grouped(tags[:, [tag]]).pooled(of_question(DICE), [(0, 1)])
        assert of_tags.intervals(0.95)[tag] == alone.interval(0.95)


def test_a_scene_without_the_class_is_left_out_of_the_mean():
    scenes = draw_counts(0)
    scenes[::3, :, 1], scenes[::3, :, :, 1] = 0, 0
    counts, score = grouped(scenes), of_question(DICE)
    mean = counts.scene_mean(score)
    assert mean.value == pytest.approx(score(scenes[scenes[:, 0, 1].any(axis=1)]).mean())
    assert mean.without[5] == pytest.approx(np.nanmean(score(scenes[counts.group != 5])))


@pytest.mark.parametrize("over", ["pixels", "scenes"])
def test_the_objective_adds_scenes_up_its_own_way(over):
    objective = objective_of(EnsembleSettings(metric={"name": "dice", "over": over}), KELP)
    counts = grouped(draw_counts(2))
    estimate = counts.score(objective)
    assert estimate.value == pytest.approx(objective.over(counts.scenes))
    for group, score in enumerate(estimate.without):
        assert score == pytest.approx(objective.over(counts.scenes[counts.group != group]))


def test_a_paired_difference_is_zero_against_itself_and_narrower_than_the_scores_apart():
    scenes = draw_counts(0)
    better = scenes.copy()
    better[:, 0, 1, 1] += 3
    first, second = (grouped(one).pooled(of_question(DICE)) for one in (better, scenes))
    same = (first - first).interval(0.95)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    gain, alone = (first - second).interval(0.95), first.interval(0.95)
    assert 0 < gain.low < gain.value < gain.high
    assert gain.high - gain.low < (alone.high - alone.low) / 2


@pytest.mark.parametrize("n_groups", [1, 3])
def test_few_groups_give_a_score_without_an_interval(n_groups):
    counts = grouped(draw_counts(0)[:3], n_groups)
    score = of_question(DICE)
    for estimate in (counts.pooled(score), counts.scene_mean(score), counts.pooled(score, [(0, 1)])):
        interval = estimate.interval(0.95)
        assert np.isfinite(interval.value)
        assert np.isnan([interval.low, interval.high]).all()


def test_a_class_that_lies_in_three_groups_has_no_interval_and_neither_has_a_mean_over_it():
    rng = np.random.default_rng(0)
    scenes = rng.integers(5, 50, (12, 1, 3, 4))
    for n_groups, known in ((3, False), (4, True)):
        some = scenes.copy()
        some[n_groups:, :, 2] = 0
        counts, places = grouped(some), [(0, 0), (0, 1), (0, 2)]
        ends = [one.low for one in counts.pooled(of_question(CLASS_METRICS["iou"].score), places).intervals(0.95)]
        assert np.isfinite(ends).tolist() == [True, True, known]
        whole = counts.pooled(of_question(METRICS["macro_iou"].score), places).interval(0.95)
        assert np.isfinite(whole.low) == known
        assert np.isfinite(counts.pooled(of_question(METRICS["accuracy"].score)).interval(0.95).low)


def test_a_class_that_is_nowhere_takes_no_interval_from_the_mean_of_the_others():
    scenes = np.random.default_rng(0).integers(5, 50, (12, 1, 3, 4))
    scenes[:, :, 2], scenes[..., 2] = 0, 0
    whole = grouped(scenes).pooled(of_question(METRICS["macro_iou"].score), [(0, 0), (0, 1), (0, 2)])
    assert np.isfinite(whole.interval(0.95).low)


def test_an_evaluation_leaves_out_groups_and_not_scenes():
    scenes = dict(zip("abc", draw_counts(0)[:3], strict=True))
    evaluation = Evaluation("train", {"one": scenes, "two": scenes}, {"a": "y", "b": "x", "c": "y"}, "one")
    by_group = evaluation.by_group()
    np.testing.assert_array_equal(by_group["one"].group, by_group["two"].group)
    without = by_group["one"].pooled(lambda counts: counts.reshape(*counts.shape[:-3], -1)).without
    assert without.tolist() == [(scenes["a"] + scenes["c"]).ravel().tolist(), scenes["b"].ravel().tolist()]


def test_one_group_with_all_errors_does_not_say_that_nothing_is_known():
    near_one = Estimate(np.array(0.9995), np.array([1.0] + [0.9994] * 11), np.array(True))
    interval = near_one.interval(0.95)
    assert 0.98 < interval.low < 0.9985
    assert 0.9995 < interval.high <= 1
    near_zero = Estimate(1 - near_one.value, 1 - near_one.without, near_one.enough).interval(0.95)
    np.testing.assert_allclose((near_zero.low, near_zero.high), (1 - interval.high, 1 - interval.low), atol=1e-12)


@pytest.mark.parametrize("value", [1e-8, 0.3, 1 - 1e-8])
def test_an_interval_holds_its_score(value):
    others = value * (1 - value) * np.linspace(-0.3, 0.3, 12)
    interval = Estimate(np.array(value), value + others, np.array(True)).interval(0.95)
    assert 0 < interval.low < value < interval.high < 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_score_that_no_group_changes_from_its_bound_has_no_interval(value):
    interval = Estimate(np.array(value), np.full(12, value), np.array(True)).interval(0.95)
    assert interval.words() == f"{value:.3f}"
