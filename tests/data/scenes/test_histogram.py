import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter

from data.scenes.histogram import KEYS, Histogram, ValueCounts, bin_histogram

PIXELS = arrays(np.float32, (2, 30), elements=st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 255.0, -3.5]))


def key_of(value):
    return int.from_bytes(np.float32(value).tobytes(), "little") >> 16


def total(*values):
    counts = np.zeros((1, KEYS), np.int64)
    ValueCounts.of(np.concatenate([np.ravel(part) for part in values]).astype(np.float32)[None]).add_to(counts)
    return counts[0]


@given(PIXELS)
def test_every_finite_value_is_counted_by_the_upper_half_of_its_bits(pixels):
    counted = ValueCounts.of(pixels)
    for plane, keys, counts in zip(pixels, counted.keys, counted.counts, strict=True):
        expected = {}
        for value in plane[np.isfinite(plane)]:
            expected[key_of(value)] = expected.get(key_of(value), 0) + 1
        assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == expected


@given(PIXELS, st.integers(0, 30))
def test_counts_of_parts_are_together_those_of_the_whole(pixels, cut):
    merged = ValueCounts.empty(2).merge(ValueCounts.of(pixels[:, :cut])).merge(ValueCounts.of(pixels[:, cut:]))
    for ours, whole in zip(
        (*merged.keys, *merged.counts), (*(t := ValueCounts.of(pixels)).keys, *t.counts), strict=True
    ):
        np.testing.assert_array_equal(ours, whole)


def test_whole_numbers_fall_into_bins_that_hold_equally_many_of_them():
    rng = np.random.default_rng(0)
    values = {"train": rng.integers(0, 256, 20_000), "test": rng.integers(60, 201, 5_000)}
    histogram = bin_histogram("red", {split: total(some) for split, some in values.items()})
    steps = np.unique(np.diff(histogram.edges))
    assert len(steps) == 1
    assert steps[0] == int(steps[0])
    for split, some in values.items():
        counts = np.histogram(some, histogram.edges)[0]
        np.testing.assert_allclose(histogram.shares[split][1:-1], counts / len(some), atol=1e-12)
        assert histogram.shares[split][0] == pytest.approx((some < histogram.edges[0]).mean())
        assert histogram.shares[split][-1] == pytest.approx((some > histogram.edges[-1]).mean(), abs=1e-12)


@pytest.mark.parametrize(("middle", "spread"), [(1500, 400), (-12, 3), (0, 1), (0.002, 0.001)])
def test_up_to_any_edge_lies_what_lies_there_but_for_the_values_of_one_key(middle, spread):
    values = np.random.default_rng(1).normal(middle, spread, 30_000).astype(np.float32)
    histogram = bin_histogram("vv", {"train": total(values)})
    below = np.cumsum(histogram.shares["train"])[:-1]
    for edge, share in zip(histogram.edges, below, strict=True):
        width = max(abs(edge) / 128, np.float32(1e-38))
        low, high = (values <= edge - width).mean(), (values < edge + width).mean()
        assert low - 1e-9 <= share <= high + 1e-9


def test_all_shares_are_one_together_and_few_lie_outside_the_bins():
    rng = np.random.default_rng(2)
    values = {"train": rng.gamma(2, 300, 9_000), "val": rng.gamma(2, 350, 9_000)}
    histogram = bin_histogram("nir", {split: total(some) for split, some in values.items()})
    for shares in histogram.shares.values():
        assert sum(shares) == pytest.approx(1)
        assert shares[0] + shares[-1] <= 0.011


def test_a_few_odd_values_do_not_hide_the_shape_of_the_others():
    values = np.random.default_rng(3).normal(100.3, 10, 10_000)
    odd = np.array([3e38, -1e30, 65535.5])
    assert bin_histogram("red", {"train": total(values, odd)}).edges[-1] < 160


@pytest.mark.parametrize("value", [0.0, 7.0, 0.3, -4000.0])
def test_a_constant_band_has_one_full_place(value):
    histogram = bin_histogram("qa", {"train": total(np.full(50, value))})
    low, high = histogram.edges[0], histogram.edges[-1]
    assert low <= value <= high
    assert sum(histogram.shares["train"][1:-1]) == pytest.approx(1)


def test_a_band_that_is_nearly_always_zero_shows_the_rest():
    histogram = bin_histogram("slope", {"train": total(np.zeros(9_990), np.full(10, 0.37))})
    assert histogram.edges[0] <= 0
    assert histogram.edges[-1] >= 0.37


def test_without_a_finite_pixel_there_is_no_histogram():
    assert bin_histogram("red", {"train": total(np.full(5, np.nan))}) is None
    found = bin_histogram("red", {"train": total(np.ones(5)), "test": total([np.inf])})
    assert set(found.shares) == {"train"}


def test_overlap_is_one_of_the_same_and_none_of_the_apart():
    rng = np.random.default_rng(4)
    low, high = rng.integers(0, 50, 4_000), rng.integers(150, 200, 4_000)
    histogram = bin_histogram("red", {"train": total(low), "val": total(low), "test": total(high)})
    assert histogram.overlap("train", "val") == pytest.approx(1)
    assert histogram.overlap("train", "test") == pytest.approx(0, abs=1e-12)
    mixed = bin_histogram("red", {"train": total(low), "test": total(low, high)})
    assert mixed.overlap("train", "test") == pytest.approx(0.5)


def test_a_histogram_comes_back_from_json_as_it_was():
    histogram = bin_histogram("red", {"train": total(np.random.default_rng(5).normal(size=500))})
    adapter = TypeAdapter(Histogram)
    assert adapter.validate_json(adapter.dump_json(histogram)) == histogram
