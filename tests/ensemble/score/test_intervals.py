import numpy as np
import pytest

from data.metrics.metric import CLASS_METRICS, METRICS
from ensemble import EnsembleSettings
from ensemble.objective import objective_of
from ensemble.score.evaluation import Evaluation
from ensemble.score.intervals import Resampled, resample_groups

from ..conftest import KELP

DICE = METRICS["dice"].score


def draw_counts(seed, n_scenes=24, hits=80):
    rng = np.random.default_rng(seed)
    scenes = rng.integers(0, 20, (n_scenes, 2, 3))
    scenes[:, 0, 0] += 500
    scenes[:, 1, 1] += rng.integers(0, hits, n_scenes)
    return scenes


def resample(scenes, n_resamples=40, n_groups=12):
    group = np.arange(len(scenes)) % n_groups
    return Resampled(scenes, group, resample_groups(n_groups, n_resamples, seed=0))


def repeat_scenes(counts, draw):
    """Return the scenes of one resample, each as often as its group was drawn."""
    return np.repeat(counts.scenes, draw[counts.group], axis=0)


def test_the_bootstrap_is_deterministic_and_draws_as_many_groups_as_there_are():
    draws = resample_groups(7, 50, seed=3)
    np.testing.assert_array_equal(draws, resample_groups(7, 50, seed=3))
    assert (draws.sum(axis=1) == 7).all()
    assert not np.array_equal(draws, resample_groups(7, 50, seed=4))


@pytest.mark.parametrize("metric", [METRICS["dice"], METRICS["kappa"], CLASS_METRICS["recall"]])
def test_resampled_scores_are_those_of_scenes_drawn_one_by_one(metric):
    counts = resample(draw_counts(0))
    pooled, mean = counts.pooled(metric.score), counts.scene_mean(metric.score)
    np.testing.assert_allclose(pooled.value, metric.score(counts.scenes.sum(axis=0)))
    np.testing.assert_allclose(mean.value, metric.score(counts.scenes).mean(axis=0))
    for draw, of_sum, of_scenes in zip(counts.draws, pooled.resampled, mean.resampled, strict=True):
        drawn = repeat_scenes(counts, draw)
        np.testing.assert_array_equal(of_sum, metric.score(drawn.sum(axis=0)))
        np.testing.assert_allclose(of_scenes, metric.score(drawn).mean(axis=0))


def test_the_interval_is_that_of_the_percentiles():
    estimate = resample(draw_counts(0)).pooled(DICE)
    interval = estimate.interval(0.9)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(estimate.resampled, (5, 95))))


def test_tags_are_scored_like_as_many_binary_maps():
    tags = np.stack([draw_counts(0), draw_counts(1)], axis=1)
    of_tags = resample(tags).pooled(lambda counts: CLASS_METRICS["dice"].score(counts)[..., 1])
    for tag in range(2):
        alone = resample(tags[:, tag]).pooled(DICE)
        assert of_tags.intervals(0.95)[tag] == alone.interval(0.95)


def test_a_scene_without_the_class_is_left_out_of_the_mean_and_of_its_resamples():
    scenes = draw_counts(0)
    scenes[::3, 1], scenes[::3, :, 1] = 0, 0
    counts = resample(scenes)
    mean = counts.scene_mean(DICE)
    assert mean.value == pytest.approx(DICE(scenes[scenes[:, 1].any(axis=1)]).mean())
    drawn = DICE(repeat_scenes(counts, counts.draws[5]))
    assert mean.resampled[5] == pytest.approx(np.nanmean(drawn))


@pytest.mark.parametrize("over", ["pixels", "scenes"])
def test_the_objective_adds_scenes_up_its_own_way(over):
    settings = EnsembleSettings(metric={"name": "dice", "over": over})
    objective = objective_of(settings, KELP)
    counts = resample(draw_counts(2)[:, None])
    estimate = counts.score(objective)
    assert estimate.value == pytest.approx(objective.over(counts.scenes))
    for draw, score in zip(counts.draws, estimate.resampled, strict=True):
        assert score == pytest.approx(objective.over(repeat_scenes(counts, draw)))


def test_a_paired_difference_is_zero_against_itself_and_narrower_than_the_scores_apart():
    scenes = draw_counts(0)
    better = scenes.copy()
    better[:, 1, 1] += 3
    first, second = (resample(one, 300).pooled(DICE) for one in (better, scenes))
    same = (first - first).interval(0.95)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    gain, alone = (first - second).interval(0.95), first.interval(0.95)
    assert 0 < gain.low < gain.value < gain.high
    assert gain.high - gain.low < (alone.high - alone.low) / 2


def test_one_group_alone_gives_a_score_without_an_interval():
    counts = resample(draw_counts(0)[:3], 20, n_groups=1)
    estimates = [counts.pooled(DICE), counts.scene_mean(DICE), counts.pooled(CLASS_METRICS["iou"].score)]
    for interval in (one for estimate in estimates for one in estimate.intervals(0.95)):
        assert np.isfinite(interval.value)
        assert np.isnan([interval.low, interval.high]).all()


def test_an_evaluation_draws_groups_and_not_scenes():
    scenes = dict(zip("abc", draw_counts(0)[:3], strict=True))
    evaluation = Evaluation("train", {"one": scenes, "two": scenes}, {"a": "y", "b": "x", "c": "y"}, "one")
    pooled = evaluation.pool(30, seed=1)
    np.testing.assert_array_equal(pooled["one"].draws, pooled["two"].draws)
    both = {
        tuple(total)
        for total in (
            (draw[0] * scenes["b"] + draw[1] * (scenes["a"] + scenes["c"])).ravel() for draw in pooled["one"].draws
        )
    }
    found = pooled["one"].pooled(lambda counts: counts.reshape(*counts.shape[:-2], -1)).resampled
    assert {tuple(total) for total in found} == both
