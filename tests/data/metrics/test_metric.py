import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from data.metrics.confusion import confusion_counts
from data.metrics.metric import (
    CLASS_METRICS,
    METRICS,
    expected_cost,
    fbeta,
    labelled,
    nan_mean,
    precision_at,
    recall_at,
)

LABELS = st.integers(2, 5).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), min_size=n, max_size=60)
    )
)


@given(LABELS)
def test_scores_are_those_of_scikit_learn(case):
    n, pairs = case
    # Every class occurs, so that nobody has to say what a score without pixels is.
    pairs = [*pairs, *((value, value) for value in range(n))]
    label, prediction = np.array(pairs, np.uint8).T
    counts = confusion_counts(label, prediction, n)
    expected = {
        "macro_dice": oracle.f1_score(label, prediction, average="macro"),
        "macro_iou": oracle.jaccard_score(label, prediction, average="macro"),
        "accuracy": oracle.accuracy_score(label, prediction),
        "kappa": oracle.cohen_kappa_score(label, prediction),
    }
    if n == 2:
        expected |= {"dice": oracle.f1_score(label, prediction), "iou": oracle.jaccard_score(label, prediction)}
    for name, value in expected.items():
        assert float(METRICS[name].score(counts)) == pytest.approx(value, abs=1e-12), name
    precision, recall, dice, _ = oracle.precision_recall_fscore_support(label, prediction, zero_division=np.nan)
    np.testing.assert_allclose(CLASS_METRICS["precision"].score(counts), precision)
    np.testing.assert_allclose(CLASS_METRICS["recall"].score(counts), recall)
    np.testing.assert_allclose(CLASS_METRICS["dice"].score(counts), dice)


@given(st.integers(0, 99))
def test_many_counts_at_once_score_like_one_by_one(seed):
    counts = np.random.default_rng(seed).integers(0, 9, (4, 3, 3, 4))
    for metric in [METRICS["macro_iou"], METRICS["kappa"], *CLASS_METRICS.values()]:
        one_by_one = [[metric.score(single) for single in row] for row in counts]
        np.testing.assert_allclose(metric.score(counts), one_by_one)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 20])
@pytest.mark.parametrize("whole", [True, False])
def test_sums_over_labels_are_those_of_numpy_bit_for_bit(n, whole):
    rng = np.random.default_rng(n)
    counts = rng.integers(0, 2**50, (40, 3, n, n + 1)) if whole else rng.lognormal(0, 20, (40, 3, n, n + 1))
    found, predicted = labelled(counts), counts[..., :-1].sum(axis=-2)
    np.testing.assert_array_equal(found, counts.sum(axis=-1))
    dice = CLASS_METRICS["dice"].score(counts)
    np.testing.assert_array_equal(dice, 2 * np.diagonal(counts, axis1=-2, axis2=-1) / (found + predicted))
    np.testing.assert_array_equal(nan_mean(dice), dice.sum(axis=-1) / n)


def test_a_pixel_without_prediction_is_a_miss_and_an_ignored_one_is_nothing():
    label, prediction = np.uint8([1, 1, 0, 255, 255]), np.uint8([1, 255, 255, 1, 255])
    counts = confusion_counts(label, prediction, 2)
    assert counts.tolist() == [[0, 0, 1], [0, 1, 1]]
    assert float(METRICS["iou"].score(counts)) == 0.5
    assert float(METRICS["accuracy"].score(counts)) == pytest.approx(1 / 3)


def test_a_class_that_is_nowhere_is_left_out_of_the_mean():
    counts = confusion_counts(np.uint8([0, 0, 1, 1]), np.uint8([0, 0, 1, 0]), 3)
    assert float(METRICS["macro_iou"].score(counts)) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert np.isnan(CLASS_METRICS["iou"].score(counts)[2])
    assert np.isnan(METRICS["macro_iou"].score(np.zeros((3, 4), int)))


@given(LABELS, st.floats(0.1, 5))
def test_fbeta_is_that_of_scikit_learn(case, beta):
    n, pairs = case
    label, prediction = np.array([*pairs, *((value, value) for value in range(n))], np.uint8).T
    expected = oracle.fbeta_score(label, prediction, beta=beta, average=None)
    np.testing.assert_allclose(fbeta(beta).score(confusion_counts(label, prediction, n)), expected)


def test_kappa_is_the_agreement_on_what_was_predicted():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 400).astype(np.uint8)
    prediction = np.where(rng.random(400) < 0.7, label, rng.integers(0, 3, 400)).astype(np.uint8)
    nothing = rng.random(400) < 0.6
    expected = oracle.cohen_kappa_score(label[~nothing], prediction[~nothing])
    prediction[nothing] = 255
    assert float(METRICS["kappa"].score(confusion_counts(label, prediction, 3))) == pytest.approx(expected)


@given(st.integers(0, 200), st.floats(0.05, 1))
def test_precision_counts_once_recall_is_reached_and_before_that_only_what_recall_lacks(seed, least):
    rng = np.random.default_rng(seed)
    label, prediction = rng.integers(0, 2, (2, 12)).astype(np.uint8)
    label[:2], prediction[:2] = (0, 1), (1, 1)
    counts = confusion_counts(label, prediction, 2)
    precision, recall = oracle.precision_score(label, prediction), oracle.recall_score(label, prediction)
    expected = precision if recall >= least - 1e-12 else recall - least
    assert precision_at(least).score(counts)[1] == pytest.approx(expected)
    expected = recall if precision >= least - 1e-12 else precision - least
    assert recall_at(least).score(counts)[1] == pytest.approx(expected)


def test_nothing_predicted_has_no_recall_but_is_not_wrong_either():
    nothing = confusion_counts(np.uint8([0, 1, 1]), np.uint8([0, 0, 0]), 2)
    assert recall_at(0.9).score(nothing)[1] == 0
    assert precision_at(0.9).score(nothing)[1] == -0.9
    empty = confusion_counts(np.uint8([0, 0]), np.uint8([0, 1]), 2)
    assert np.isnan(recall_at(0.9).score(empty)[1])
    assert np.isnan(precision_at(0.9).score(empty)[1])


def test_the_expected_cost_is_the_mean_over_pixels_and_nothing_predicted_costs_the_most():
    rng = np.random.default_rng(0)
    costs = np.array([[0, 1, 2], [5, 0, 3], [7, 0.5, 0]])
    label = rng.integers(0, 3, 300).astype(np.uint8)
    prediction = rng.choice([0, 1, 2, 255], 300).astype(np.uint8)
    each = [costs[a].max() if b == 255 else costs[a, b] for a, b in zip(label, prediction, strict=True)]
    assert float(expected_cost(costs).score(confusion_counts(label, prediction, 3))) == pytest.approx(-np.mean(each))
