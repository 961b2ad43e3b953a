from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data.errors import FeatureError
from features.aggregates import AGGREGATES, Sample, find_aggregate, histogram_names, split_name

ORACLES = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max, "energy": lambda values: np.mean(values**2)}
PLANES = arrays.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(-1000, 1000, width=32) | st.sampled_from([np.nan, np.inf])
)


def known(values):
    return values[np.isfinite(values)].astype(np.float64)


@given(PLANES)
def test_named_aggregates_are_those_of_numpy_over_the_values_that_there_are(values):
    assert set(ORACLES) == set(AGGREGATES)
    for name, oracle in ORACLES.items():
        found = find_aggregate(name)(Sample(values))
        if len(known(values)):
            assert found == pytest.approx(oracle(known(values)), rel=1e-6, abs=1e-6)
        else:
            assert np.isnan(found)


@given(PLANES, st.integers(0, 99))
def test_quantiles_are_those_of_numpy(values, percent):
    found = find_aggregate(f"q{percent:02d}")(Sample(values))
    if len(known(values)):
        assert found == pytest.approx(np.quantile(known(values), percent / 100), rel=1e-6, abs=1e-6)
    else:
        assert np.isnan(found)


@given(PLANES, st.lists(st.integers(-900, 900).map(lambda number: number / 4), min_size=1, max_size=6, unique=True))
def test_the_bins_of_a_histogram_hold_every_value_once(values, edges):
    edges = sorted(edges)
    names = histogram_names(edges)
    shares = [find_aggregate(name)(Sample(values)) for name in names]
    if not len(known(values)):
        assert np.isnan(shares).all()
        return
    bounds = [-np.inf, *edges, np.inf]
    slow = [np.mean([low <= value < high for value in known(values)]) for low, high in pairwise(bounds)]
    np.testing.assert_allclose(shares, slow)
    assert sum(shares) == pytest.approx(1)


EDGES = st.floats(-1e7, 1e7, width=32, allow_subnormal=False).map(lambda edge: float(f"{edge:.4g}"))


@given(st.lists(EDGES, min_size=1, max_size=5, unique=True))
def test_the_name_of_a_bin_says_its_edges(edges):
    edges = sorted(edges)
    sample = Sample(np.float32(edges))
    for name in histogram_names(edges):
        assert split_name(f"NDVI_{name}") == ("NDVI", name)
    for low, name in zip(edges, histogram_names(edges)[1:], strict=True):
        assert find_aggregate(name)(sample) == pytest.approx((np.float32(edges) == np.float32(low)).mean())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("NDVI_mean", ("NDVI", "mean")),
        ("nir_above_water_q05", ("nir_above_water", "q05")),
        ("red_mean_r3_mean", ("red_mean_r3", "mean")),
        ("dark_red_from_-0.5_below_1e+06", ("dark_red", "from_-0.5_below_1e+06")),
        ("water_share", None),
        ("mean", None),
        ("red_q5", None),
        ("red_mean_r3", None),
    ],
)
def test_a_name_tells_what_is_aggregated_and_how(name, parts):
    assert split_name(name) == parts


@pytest.mark.parametrize("name", ["median", "q5", "", "from_3_below_3", "from_4_below_3", "from_x"])
def test_what_is_no_aggregate_is_refused(name):
    with pytest.raises(FeatureError, match=f"aggregate {name}: expected"):
        find_aggregate(name)


def test_what_an_aggregate_means_is_told():
    assert find_aggregate("q05").meaning.format(of="NDVI") == "value that 5% of NDVI lie below"
    assert find_aggregate("from_0.1_below_0.3").meaning.format(of="NDVI") == "share of NDVI from 0.1 to below 0.3"
    assert find_aggregate("below_0.1").meaning.format(of="NDVI") == "share of NDVI below 0.1"
