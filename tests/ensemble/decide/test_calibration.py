import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss

from data.maps.geotiff import NODATA, TOP, quantise
from ensemble.decide.calibration.curve_fitting import (
    BIN_OF,
    MIDDLES,
    best_temperature,
    fit_curve,
    logit_histogram,
    temperature_losses,
)
from ensemble.decide.decision.calibration import METHODS, STORED, Calibration, log_loss

CURVES = {
    "temperature": (1.7,),
    "platt": (0.8, -0.4),
    "beta": (0.7, 1.3, 0.2),
    "isotonic": (0.0, 0.3, 0.31, 1.0, 0.0, 0.1, 0.6, 0.9),
}


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def overconfident(n=20_000, seed=0, slope=0.5, offset=-0.7):
    """Return stored probabilities, labels whose log odds are a line in those stated, and weights."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, n)
    label = (rng.random(n) < sigmoid(slope * logit + offset)).astype(np.uint8)
    return quantise(sigmoid(logit).astype(np.float32)), label, rng.uniform(0.5, 3, n)


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=0))
    return shares / shares.sum(axis=0)


def three_classes(n=4000, seed=0, sharpness=2.0):
    """Return stored shares of three classes that are too sure by a factor, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (3, n))
    label = (rng.random(n) > np.cumsum(softmax(logits), axis=0)).sum(axis=0).astype(np.uint8)
    return quantise(softmax(sharpness * logits).astype(np.float32)), label


def histogram_of(stored, label, weight):
    return logit_histogram(stored, label == 1, weight)


def test_platt_is_a_logistic_regression_on_logits():
    stored, label, weight = overconfident()
    found = fit_curve("platt", histogram_of(stored, label, weight))
    logit = np.log(STORED[stored]) - np.log1p(-STORED[stored])
    model = LogisticRegression(C=np.inf, tol=1e-8).fit(logit[:, None], label, sample_weight=weight)
    assert found == pytest.approx((model.coef_[0, 0], model.intercept_[0]), abs=0.01)
    assert found == pytest.approx((0.5, -0.7), abs=0.05)


def test_beta_is_a_logistic_regression_on_both_logarithms():
    stored, label, weight = overconfident(seed=1)
    found = fit_curve("beta", histogram_of(stored, label, weight))
    design = np.stack([np.log(STORED[stored]), -np.log1p(-STORED[stored])], axis=1)
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(design, label, sample_weight=weight)
    assert found == pytest.approx((*model.coef_[0], model.intercept_[0]), abs=0.02)


def test_isotonic_is_that_of_scikit_learn_on_the_same_bins():
    stored, label, weight = overconfident(seed=2)
    curve = Calibration("isotonic", (fit_curve("isotonic", histogram_of(stored, label, weight)),))
    binned = sigmoid(MIDDLES[BIN_OF[stored]])
    model = IsotonicRegression(out_of_bounds="clip").fit(binned, label, sample_weight=weight)
    np.testing.assert_allclose(curve.curve(0, binned), np.clip(model.predict(binned), 0.5 / TOP, 1 - 0.5 / TOP))


def test_counting_in_bins_costs_isotonic_next_to_nothing_of_what_it_minimises():
    stored, label, weight = overconfident(seed=2)
    curve = Calibration("isotonic", (fit_curve("isotonic", histogram_of(stored, label, weight)),))
    model = IsotonicRegression(out_of_bounds="clip").fit(STORED[stored], label, sample_weight=weight)
    ours, least = (
        float(weight @ (found - label) ** 2)
        for found in (curve.curve(0, STORED[stored]), model.predict(STORED[stored]))
    )
    # Nothing that rises has a lower squared error on these pixels than scikit-learn's.
    assert least <= ours <= 1.005 * least


def test_the_temperature_of_one_class_is_the_likeliest():
    stored, label, weight = overconfident(slope=0.4, offset=0)
    logit = np.log(STORED[stored]) - np.log1p(-STORED[stored])

    def loss(temperature):
        return float((weight * (np.logaddexp(0, logit / temperature) - label * logit / temperature)).sum())

    expected = minimize_scalar(loss, bounds=(0.2, 8), method="bounded").x
    assert fit_curve("temperature", histogram_of(stored, label, weight))[0] == pytest.approx(expected, rel=0.01)


def test_the_temperature_of_exclusive_classes_is_the_likeliest():
    stored, label = three_classes()
    weight = np.ones(len(label))
    found = best_temperature(temperature_losses(stored, label, weight))

    def loss(temperature):
        shares = softmax(np.log(STORED[stored]) / temperature)
        return sklearn_log_loss(label, shares.T, labels=[0, 1, 2])

    assert found == pytest.approx(minimize_scalar(loss, bounds=(0.3, 5), method="bounded").x, rel=0.01)
    assert found == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("method", METHODS[1:])
@given(st.integers(0, 2**32 - 1))
def test_curves_never_fall_whatever_they_are_fitted_to(method, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 40))
    stored, label = rng.integers(0, TOP + 1, n).astype(np.uint16), rng.integers(0, 2, n).astype(np.uint8)
    calibration = Calibration(method, (fit_curve(method, histogram_of(stored, label, np.ones(n))),))
    table = calibration.apply(np.arange(NODATA + 1, dtype=np.uint16)[None])[0]
    assert (np.diff(table[:NODATA].astype(int)) >= 0).all()
    assert table[NODATA] == NODATA
    assert table[:NODATA].max() <= TOP


@pytest.mark.parametrize(("method", "values"), CURVES.items())
def test_a_table_is_the_curve_at_every_stored_value(method, values):
    calibration = Calibration(method, (values,))
    stored = np.arange(NODATA + 1, dtype=np.uint16)
    p = STORED
    logit = np.log(p / (1 - p))
    expected = {
        "temperature": lambda t: sigmoid(logit / t),
        "platt": lambda a, b: sigmoid(a * logit + b),
        "beta": lambda a, b, c: sigmoid(a * np.log(p) - b * np.log(1 - p) + c),
        "isotonic": lambda *knots: np.interp(p, knots[:4], knots[4:]),
    }[method](*values)
    np.testing.assert_allclose(calibration.apply(stored[None])[0, :NODATA] / TOP, expected, atol=1e-5)


@pytest.mark.parametrize(("method", "values"), CURVES.items())
def test_exclusive_classes_sum_to_one_and_nodata_stays(method, values):
    stored, _ = three_classes()
    stored[:, ::7] = NODATA
    found = Calibration(method, (values,) * 3, exclusive=True).apply(stored.reshape(3, 40, 100))
    assert found.shape == (3, 40, 100)
    flat = found.reshape(3, -1)
    assert (flat[:, ::7] == NODATA).all()
    there = np.arange(flat.shape[1]) % 7 > 0
    assert np.abs(flat[:, there].astype(int).sum(axis=0) - TOP).max() <= 2


def test_a_temperature_is_what_the_softmax_is_divided_by():
    stored, _ = three_classes()
    found = Calibration("temperature", ((2.0,),) * 3, exclusive=True).apply(stored)
    np.testing.assert_allclose(found / TOP, softmax(np.log(STORED[stored]) / 2), atol=2e-5)


def test_none_changes_nothing():
    stored, _ = three_classes()
    assert Calibration().apply(stored) is stored


@pytest.mark.parametrize(("method", "values"), [("none", ()), *CURVES.items()])
def test_a_calibration_comes_back_from_json(method, values):
    calibration = Calibration(method, (values, values) if values else (), exclusive=True)
    adapter = TypeAdapter(Calibration)
    assert adapter.validate_json(adapter.dump_json(calibration)) == calibration


def test_the_log_loss_is_that_of_scikit_learn():
    stored, label = three_classes()
    expected = sklearn_log_loss(label, (stored / stored.astype(float).sum(axis=0)).T, labels=[0, 1, 2])
    assert log_loss(stored, label[None], exclusive=True).mean() == pytest.approx(expected, abs=1e-4)
    one, truth, _ = overconfident()
    expected = sklearn_log_loss(truth, one / TOP)
    assert log_loss(one[None], truth[None], exclusive=False).mean() == pytest.approx(expected, abs=1e-4)


def test_the_log_loss_of_tags_is_the_mean_over_them_and_leaves_out_what_is_not_known():
    rng = np.random.default_rng(0)
    stored, label = rng.integers(1, TOP, (3, 50)).astype(np.uint16), rng.integers(0, 2, (3, 50)).astype(np.uint8)
    single = [log_loss(plane[None], truth[None], exclusive=False) for plane, truth in zip(stored, label, strict=True)]
    np.testing.assert_allclose(log_loss(stored, label, exclusive=False), np.mean(single, axis=0))
    stored[:, :5], label[:, 5:9] = NODATA, 255
    assert (log_loss(stored, label, exclusive=False)[:9] == 0).all()
    assert (log_loss(stored, label[:1], exclusive=True)[:9] == 0).all()


def calibration_error(stored, label, weight):
    """Return the mean distance of what is said from what is observed, in fifteen bins."""
    proba, error = stored / TOP, 0.0
    cell = np.minimum((proba * 15).astype(int), 14)
    for number in np.unique(cell):
        here = cell == number
        said, seen = (np.average(one[here], weights=weight[here]) for one in (proba, label == 1))
        error += abs(said - seen) * weight[here].sum() / weight.sum()
    return error


def test_calibration_brings_what_is_observed_to_what_is_said():
    stored, label, weight = overconfident()
    curve = fit_curve("platt", histogram_of(stored, label, weight))
    after = Calibration("platt", (curve,)).apply(stored[None])[0]
    before_error, after_error = (calibration_error(one, label, weight) for one in (stored, after))
    assert after_error < 0.02 < 0.1 < before_error
