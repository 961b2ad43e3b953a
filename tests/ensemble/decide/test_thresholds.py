import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from data.maps.geotiff import NODATA, TOP, quantise
from data.metrics.confusion import confusion_counts, question_counts
from ensemble.decide.decision.thresholds import (
    best_threshold,
    decide,
    histogram_counts,
    plain_thresholds,
    score_histogram,
)
from ensemble.objective import objective_of
from ensemble.settings import EnsembleSettings

from ..conftest import KELP, LAND

METRICS = [
    "dice", "iou", "f2", {"name": "fbeta", "beta": 0.5}, "macro_iou", "macro_f2", "accuracy", "kappa",
    {"name": "precision_at_recall", "at_least": 0.6}, {"name": "recall_at_precision", "at_least": 0.6},
    {"name": "cost", "costs": {"kelp": {"background": 3}}},
]  # fmt: skip


def objective(metric):
    return objective_of(EnsembleSettings(metric=metric), KELP)


@pytest.mark.parametrize("metric", METRICS, ids=str)
@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=1, max_size=40))
def test_the_best_threshold_is_that_of_a_search_through_all(metric, pairs):
    label, step = np.array(pairs, np.uint8).T
    stored = (step.astype(np.uint16) * 5000).astype(np.uint16)
    wanted = objective(metric)
    threshold, score = best_threshold(score_histogram(stored, label), wanted)
    every = [confusion_counts(label, (stored >= cut).astype(np.uint8), 2) for cut in [*np.unique(stored), TOP + 1]]
    scores = [float(wanted.score(counts[None])) for counts in every]
    if not np.isfinite(scores).any():
        assert threshold == 0.5
        return
    assert score == pytest.approx(np.nanmax(scores))
    prediction = decide(stored[None], [threshold], exclusive=False)
    assert float(wanted.score(question_counts(label[None], prediction, 2))) == pytest.approx(score)


@settings(max_examples=30)
@given(st.integers(0, 200), st.floats(0.05, 1))
def test_precision_at_a_recall_is_read_off_the_curve_of_scikit_learn(seed, least):
    rng = np.random.default_rng(seed)
    label = np.append(rng.integers(0, 2, 30), [0, 1]).astype(np.uint8)
    stored = rng.integers(0, 12, 32).astype(np.uint16) * 5000
    precision, recall, _ = precision_recall_curve(label, stored)
    histogram = score_histogram(stored, label)
    found = best_threshold(histogram, objective({"name": "precision_at_recall", "at_least": least}))[1]
    # The last point of the curve is no threshold's.
    assert found == pytest.approx(precision[:-1][recall[:-1] >= least - 1e-12].max())
    found = best_threshold(histogram, objective({"name": "recall_at_precision", "at_least": least}))[1]
    assert found == pytest.approx(recall[precision >= least - 1e-12].max())


def test_of_equal_thresholds_the_nearest_to_a_half_is_taken():
    stored, label = quantise(np.float32([0.1, 0.9])), np.uint8([0, 1])
    assert best_threshold(score_histogram(stored, label), objective("dice"))[0] == 0.5


@settings(max_examples=30)
@given(st.integers(0, 99))
def test_histograms_of_scenes_add_up_and_weights_count(seed):
    rng = np.random.default_rng(seed)
    stored, label = rng.integers(0, 65536, 60).astype(np.uint16), rng.choice([0, 1, 255], 60).astype(np.uint8)
    parts = [score_histogram(stored[part], label[part]) for part in (slice(0, 20), slice(20, 60))]
    np.testing.assert_array_equal(sum(parts), score_histogram(stored, label))
    np.testing.assert_allclose(score_histogram(stored, label, np.full(60, 2.0)), 2 * sum(parts))
    slow = np.zeros((2, 65536))
    for value, known in zip(stored, label, strict=True):
        if known != 255:
            slow[known, value] += 1
    np.testing.assert_array_equal(score_histogram(stored.reshape(6, 10), label.reshape(6, 10)), slow)


def test_a_histogram_knows_the_counts_of_every_threshold():
    rng = np.random.default_rng(0)
    stored, label = rng.integers(0, 65536, (2, 4000)).astype(np.uint16), rng.choice([0, 1, 255], (2, 4000))
    histograms = np.stack([score_histogram(*pair) for pair in zip(stored, label.astype(np.uint8), strict=True)])
    counts = histogram_counts(histograms)
    for cut in (0, 1, 1234, TOP, NODATA):
        for k in range(2):
            [prediction] = decide(stored[k : k + 1], [cut / TOP], exclusive=False)
            expected = confusion_counts(label[k].astype(np.uint8), prediction, 2)
            np.testing.assert_array_equal(counts[k, cut], expected)


def test_a_threshold_takes_what_is_at_and_above_it_and_nothing_where_nothing_was_predicted():
    stored = np.arange(0, TOP, 101, dtype=np.uint16)
    for threshold in (0.0, 0.25, 0.4999, 0.5, 0.9):
        np.testing.assert_array_equal(decide(stored[None], [threshold], False)[0], stored / TOP >= threshold - 1e-7)
    assert (decide(np.full((1, 2, 2), NODATA, np.uint16), [0.0], exclusive=False) == 255).all()
    assert (decide(np.full((3, 2, 2), NODATA, np.uint16), [1.0, 2.0, 1.0], exclusive=True) == 255).all()


def test_tags_are_decided_each_by_its_own_threshold():
    stored = quantise(np.float32([[0.2, 0.8, np.nan], [0.2, 0.8, 0.8]]))
    assert decide(stored, [0.1, 0.5], exclusive=False).tolist() == [[1, 1, 255], [0, 1, 1]]
    assert decide(stored[:1], [0.1], exclusive=False).shape == (1, 3)


def test_without_tuning_thresholds_are_a_half_and_the_plain_argmax():
    assert plain_thresholds(KELP) == (0.5,)
    assert plain_thresholds(LAND) == (1.0, 1.0, 1.0)
