import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sklearn.linear_model import LogisticRegression

from data.errors import EnsembleError
from data.maps.geotiff import NODATA, TOP, quantise
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.stacked import Stacked
from ensemble.decide.weights.blenders import blend_names
from ensemble.decide.weights.regression import fit_stacked
from ensemble.decide.weights.weights import grid_weights, likeliest_weights, select_greedily, take_best

SPACES = pytest.mark.parametrize("space", ["probability", "logit"])


def shares(seed, members=2, classes=3, n=50, sharpness=1.5):
    """Return stored probabilities of members, of one class or of several that sum to one."""
    logits = np.random.default_rng(seed).normal(0, sharpness, (members, max(classes, 2), n))
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return quantise((proba if classes > 1 else proba[:, 1:]).astype(np.float32))


def proba(stored):
    return np.clip(stored, 0.5, TOP - 0.5) / TOP


@SPACES
def test_a_blend_of_one_member_is_that_member(space):
    stored = np.random.default_rng(0).integers(0, 65536, (2, 3, 9, 8)).astype(np.uint16)
    found = Blend(((0.0, 1.0),), space, exclusive=True).apply(stored)
    np.testing.assert_array_equal(found, stored[1])


def test_a_blend_is_the_weighted_mean_of_those_who_predicted():
    stored = np.uint16([[[100, NODATA, 100, NODATA]], [[200, 200, NODATA, NODATA]]])
    assert Blend(((0.25, 0.75),)).apply(stored).tolist() == [[175, 200, 100, NODATA]]


def test_in_logits_a_binary_blend_is_the_mean_of_log_odds():
    stored = shares(0, classes=1)
    logits = np.log(proba(stored) / (1 - proba(stored)))
    expected = 1 / (1 + np.exp(-(0.3 * logits[0] + 0.7 * logits[1])))
    np.testing.assert_allclose(Blend(((0.3, 0.7),), "logit").apply(stored) / TOP, expected, atol=2e-5)


def test_in_logits_exclusive_classes_have_the_geometric_mean():
    stored = shares(1)
    expected = proba(stored)[0] ** 0.3 * proba(stored)[1] ** 0.7
    expected /= expected.sum(axis=0)
    np.testing.assert_allclose(Blend(((0.3, 0.7),), "logit", True).apply(stored) / TOP, expected, atol=2e-5)


def test_unions_are_what_one_or_all_of_those_who_predicted_say():
    stored = quantise(np.array([[[0.2, 0.9, np.nan, np.nan]], [[0.6, 0.5, 0.3, np.nan]]], np.float32))
    half = ((0.5, 0.5),)
    expected = {"largest": [0.6, 0.9, 0.3], "smallest": [0.2, 0.5, 0.3], "noisy-or": [0.68, 0.95, 0.3]}
    for space, values in expected.items():
        blended = Blend(half, space).apply(stored)
        assert proba(blended)[0, :3] == pytest.approx(values, abs=2e-5)
        assert blended[0, 3] == NODATA
        exclusive = Blend(half, space, exclusive=True).apply(shares(0))
        assert proba(exclusive).sum(axis=0) == pytest.approx(1, abs=1e-4)
        # Who has no weight says nothing.
        assert (Blend(((1.0, 0.0),), space).apply(stored) == stored[0]).all()


def test_each_class_can_have_weights_of_its_own_and_exclusive_ones_sum_to_one():
    stored, rows = shares(2), ((1.0, 0.0), (0.5, 0.5), (0.2, 0.8))
    mean = np.stack([np.average(stored[:, place], axis=0, weights=row) for place, row in enumerate(rows)])
    np.testing.assert_allclose(Blend(rows).apply(stored), mean, atol=1)
    np.testing.assert_allclose(Blend(rows, exclusive=True).apply(stored), TOP * mean / mean.sum(axis=0), atol=1)


def test_a_class_whose_own_member_predicted_nothing_falls_to_the_others():
    stored = shares(3)
    stored[0, :, :10] = NODATA
    found = Blend(((1.0, 0.0), (0.5, 0.5), (0.5, 0.5)), exclusive=True).apply(stored)
    np.testing.assert_allclose(found[:, :10], stored[1][:, :10], atol=1)
    stored[1, :, :10] = NODATA
    assert (Blend(((1.0, 0.0), (0.5, 0.5), (0.5, 0.5)), exclusive=True).apply(stored)[:, :10] == NODATA).all()


@SPACES
@pytest.mark.parametrize("classes", [1, 3])
def test_a_window_of_a_blend_is_the_blend_of_the_window(space, classes):
    stored = shares(4, classes=classes, n=60).reshape(2, classes, 6, 10)
    blend = Blend(((0.4, 0.6),), space, classes > 1)
    np.testing.assert_array_equal(blend.apply(stored)[:, 2:5, 3:], blend.apply(stored[:, :, 2:5, 3:]))


def test_blends_come_back_from_json_and_do_without_members_of_no_weight():
    stored = shares(5, members=3)
    blends = [
        Blend(((0.0, 0.4, 0.6), (0.0, 0.1, 0.9), (0.0, 0.5, 0.5)), "logit", True),
        Stacked(((0.0, 0.4, 0.6), (0.0, 1.1, -0.1), (0.0, 0.5, 0.5)), (0.1, 0.0, -0.3), True),
    ]
    for blend in blends:
        adapter = TypeAdapter(type(blend))
        assert adapter.validate_json(adapter.dump_json(blend)) == blend
        assert blend.shares[0] == 0
        assert sum(blend.shares) == pytest.approx(1)
        np.testing.assert_array_equal(blend.take([1, 2]).apply(stored[1:]), blend.apply(stored))


def test_a_logistic_regression_on_two_members_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 6000))
    label = (rng.random(6000) < 1 / (1 + np.exp(-(0.9 * logits[0] + 0.3 * logits[1] - 0.5)))).astype(np.uint8)
    weight = rng.uniform(0.5, 2, 6000)
    stored = quantise((1 / (1 + np.exp(-logits))).astype(np.float32))[:, None]
    found = fit_stacked(stored, label[None], weight, exclusive=False)
    model = LogisticRegression(C=np.inf, tol=1e-8).fit(logits.T, label, sample_weight=weight)
    assert (*found.coefficients[0], *found.intercepts) == pytest.approx(
        (*model.coef_[0], model.intercept_[0]), abs=0.01
    )
    np.testing.assert_allclose(found.apply(stored)[0] / TOP, model.predict_proba(logits.T)[:, 1], atol=0.003)


def test_of_exclusive_classes_it_finds_the_coefficients_that_made_the_labels():
    rng = np.random.default_rng(1)
    stored = shares(6, n=30_000)
    logits = 0.8 * np.log(proba(stored[0])) + 0.1 * np.log(proba(stored[1])) + np.array([[0.6], [0.0], [-0.6]])
    odds = np.exp(logits) / np.exp(logits).sum(axis=0)
    label = (rng.random(30_000) > np.cumsum(odds, axis=0)).sum(axis=0).astype(np.uint8)
    found = fit_stacked(stored, label[None], np.ones(30_000), exclusive=True)
    np.testing.assert_allclose(found.apply(stored) / TOP, odds, atol=0.03)


def test_where_a_member_predicted_nothing_it_says_what_the_others_say():
    stored = shares(7, members=3)
    stored[0, :, :5] = NODATA
    regression = Stacked(((0.5, 0.3, 0.2),) * 3, (0.1, 0.2, 0.3), True)
    filled = stored.copy()
    middle = np.exp(np.log(proba(stored[1:, :, :5])).mean(axis=0))
    filled[0, :, :5] = np.rint(middle * TOP)
    np.testing.assert_allclose(regression.apply(stored), regression.apply(filled), atol=20)
    stored[:, :, 0] = NODATA
    assert (regression.apply(stored)[:, 0] == NODATA).all()


def test_likeliest_weights_are_those_of_a_search():
    rng = np.random.default_rng(0)
    likelihood, weight = rng.uniform(0.05, 1, (2, 400)), rng.uniform(0.5, 2, 400)
    likelihood[0] **= 0.7
    grid = np.linspace(0, 1, 1001)
    worth = [float(weight @ np.log(share * likelihood[0] + (1 - share) * likelihood[1])) for share in grid]
    found = likeliest_weights(likelihood, weight)
    assert found[0] == pytest.approx(grid[int(np.argmax(worth))], abs=0.01)
    assert sum(found) == pytest.approx(1)


def test_who_never_says_what_is_there_has_a_likeliest_weight_of_nothing():
    rng = np.random.default_rng(0)
    likelihood = np.stack([rng.uniform(0.5, 1, 300), rng.uniform(0.01, 0.1, 300)])
    assert likeliest_weights(likelihood, np.ones(300)) == (1.0, 0.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_greedy_selection_is_never_worse_than_the_best_member(values):
    def score(weights):
        return sum(weight * value for weight, value in zip(weights, values, strict=True)) - max(weights) ** 2 * 0.1

    alone = [tuple(float(place == member) for place in range(len(values))) for member in range(len(values))]
    assert score(select_greedily(len(values), score)) >= max(map(score, alone)) - 1e-9


def test_the_grid_of_weights_sums_to_one_and_of_equals_the_most_even_are_taken():
    tried = list(grid_weights(3))
    assert len(tried) == len(set(tried)) == 231
    assert all(sum(some) == pytest.approx(1) for some in tried)
    assert max(take_best(tried, np.ones(231))) == pytest.approx(0.35)
    assert take_best(tried, np.array([weights[1] for weights in tried])) == (0, 1, 0)


def test_a_grid_over_many_members_is_refused():
    with pytest.raises(EnsembleError, match=r"at most 3 members, got 4\. Use greedy"):
        blend_names("convex", 4, 1)


def test_the_best_member_and_equal_weights_are_always_among_the_candidates():
    for allowed in ("auto", "stacked", "greedy", "convex", "equal"):
        assert blend_names(allowed, 3, 2)[:2] == ("best member alone", "equal weights")
    assert blend_names("best", 3, 2) == blend_names("auto", 1, 2) == ("best member alone",)


def test_a_decision_blends_many_pixels_in_parts_as_it_does_all_at_once():
    stored = shares(3, members=4, classes=3, n=1000).reshape(4, 3, 20, 50)
    stored[1, :, 4] = NODATA
    decision = Decision(
        (Calibration("temperature", ((1.7,),) * 3, True),) * 4, Blend(((0.5, 0.2, 0.0, 0.3),), "logit", True), ()
    )
    whole = decision.proba(stored)
    np.testing.assert_array_equal(decision.proba(stored, at_once=12 * 7), whole)
    np.testing.assert_array_equal(decision.proba(stored[..., 3, 4]), whole[..., 3, 4])
