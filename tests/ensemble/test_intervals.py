import numpy as np
import pytest

from data.metrics import CLASS_METRICS, METRICS
from ensemble.intervals import pool_groups, resample_groups, score_interval, sum_by_group


def draw_counts(seed, n_groups=12, hits=80):
    rng = np.random.default_rng(seed)
    sums = rng.integers(0, 20, (n_groups, 2, 3))
    sums[:, 0, 0] += 500
    sums[:, 1, 1] += rng.integers(0, hits, n_groups)
    return sums


def test_scenes_are_summed_by_group():
    counts = {name: np.full((2, 3), value) for name, value in (("a", 1), ("b", 10), ("c", 100))}
    sums = sum_by_group(counts, {"a": "y", "b": "x", "c": "y"})
    np.testing.assert_array_equal(sums[:, 0, 0], [10, 101])


def test_the_bootstrap_is_deterministic_and_draws_as_many_groups_as_there_are():
    draws = resample_groups(7, 50, seed=3)
    np.testing.assert_array_equal(draws, resample_groups(7, 50, seed=3))
    assert (draws.sum(axis=1) == 7).all()
    assert not np.array_equal(draws, resample_groups(7, 50, seed=4))


def test_resampled_scores_equal_those_of_groups_drawn_one_by_one():
    sums, draws = draw_counts(0), resample_groups(12, 40, seed=0)
    pooled = pool_groups(sums, draws)
    for draw, total in zip(draws, pooled.resampled, strict=True):
        np.testing.assert_array_equal(total, np.repeat(sums, draw, axis=0).sum(axis=0))
    scores = METRICS["dice"].of(pooled.resampled)
    interval = score_interval(pooled, METRICS["dice"], 0.9)[0]
    assert interval.value == METRICS["dice"].of(sums.sum(axis=0))
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(scores, (5, 95))))


def test_a_paired_difference_is_zero_against_itself_and_narrower_than_the_scores_apart():
    sums, draws = draw_counts(0), resample_groups(12, 300, seed=0)
    better = sums.copy()
    better[:, 1, 1] += 3
    first, second = pool_groups(better, draws), pool_groups(sums, draws)
    same = score_interval(first, METRICS["dice"], 0.95, against=first)[0]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    gain = score_interval(first, METRICS["dice"], 0.95, against=second)[0]
    alone = score_interval(first, METRICS["dice"], 0.95)[0]
    assert 0 < gain.low < gain.value < gain.high
    assert gain.high - gain.low < (alone.high - alone.low) / 2


def test_one_group_alone_gives_a_score_without_an_interval():
    pooled = pool_groups(draw_counts(0)[:1], resample_groups(1, 20, seed=0))
    for interval in (
        *score_interval(pooled, METRICS["dice"], 0.95),
        *score_interval(pooled, CLASS_METRICS["iou"], 0.95),
    ):
        assert np.isfinite(interval.value)
        assert np.isnan([interval.low, interval.high]).all()
