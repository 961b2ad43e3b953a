import numpy as np
import pytest
from scipy.stats import entropy

from data.maps.geotiff import NODATA, TOP, dequantise, quantise
from ensemble.uncertainty import measure_uncertainty


def distributions(n_members, n_classes, n, seed=0):
    """Return members' probabilities of every label, (n_members, n_classes, n), and as they are stored."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.ones(max(n_classes, 2)), (n_members, n)).swapaxes(1, 2).astype(np.float32)
    return quantise(proba[:, 1:] if n_classes == 1 else proba)


def every_label(stored):
    """Return the distribution over every label, (n_labels, n), in double precision."""
    proba = dequantise(stored).astype(np.float64)
    return np.concatenate([1 - proba, proba]) if len(proba) == 1 else proba


@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_measures_are_those_of_their_definitions_pixel_by_pixel(n_classes):
    members = distributions(3, n_classes, 50)
    blended = quantise(dequantise(members).mean(axis=0))
    measured = measure_uncertainty(blended, members)
    proba = every_label(blended)
    for pixel in range(50):
        shares = proba[:, pixel]
        ordered = sorted(shares)
        each = [every_label(member)[:, pixel] for member in members]
        mean = sum(each) / 3
        apart = np.mean([np.abs(one - mean).sum() / 2 for one in each])
        expected = [entropy(shares) / np.log(len(shares)), ordered[-1] - ordered[-2], apart]
        np.testing.assert_allclose(measured[:, pixel], expected, atol=2e-4)
    assert measured.min() >= 0
    assert measured.max() <= 1


@pytest.mark.parametrize("n_classes", [1, 4])
def test_a_sure_pixel_has_no_entropy_and_an_even_one_all_of_it(n_classes):
    n_labels = max(n_classes, 2)
    sure = np.zeros((n_classes, 1), np.uint16)
    sure[0] = TOP
    np.testing.assert_allclose(measure_uncertainty(sure, sure[None])[:, 0], [0, 1, 0], atol=1e-6)
    even = np.full((n_classes, 1), round(TOP / n_labels), np.uint16)
    np.testing.assert_allclose(measure_uncertainty(even, even[None])[:, 0], [1, 0, 0], atol=1e-4)


def test_members_without_a_prediction_have_no_say_in_the_disagreement():
    blended = np.array([[30000, 30000, NODATA]], np.uint16)
    members = np.array([[[20000, NODATA, NODATA]], [[40000, 30000, NODATA]]], np.uint16)
    measured = measure_uncertainty(blended, members)
    np.testing.assert_allclose(measured[2, :2], [10000 / TOP, 0], atol=1e-6)
    assert np.isnan(measured[:, 2]).all()
    assert np.isfinite(measured[:, :2]).all()
