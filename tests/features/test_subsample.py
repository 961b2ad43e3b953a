import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.subsample import sample_by_weight, sample_rows


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 60), st.integers(0, 5))
def test_each_place_comes_as_often_as_its_weight_says_give_or_take_one(weight, count, seed):
    weight = np.array(weight, np.float32)
    places = sample_by_weight(weight, count, np.random.default_rng(seed))
    times = np.bincount(places, minlength=len(weight))
    assert times.sum() == count
    assert (np.diff(places) >= 0).all()
    assert np.abs(times - count * weight / weight.sum()).max() < 1 + 1e-6


def test_of_equal_weights_as_many_as_there_are_is_each_once():
    np.testing.assert_array_equal(sample_by_weight(np.full(500, 0.1), 500, np.random.default_rng(1)), np.arange(500))


@pytest.fixture
def rare():
    rng = np.random.default_rng(0)
    label = (rng.random(20_000) < 0.01).astype(np.uint8) * 2
    weight = np.where(label == 2, 1, rng.choice([5, 50], len(label))).astype(np.float32)
    return label, weight


def test_drawn_rows_stand_for_all_of_their_label_and_rare_labels_are_there(rare):
    label, weight = rare
    places, standing = sample_rows(label, weight, 400, 3, np.random.default_rng(0))
    assert (np.diff(places) > 0).all()
    assert len(places) <= 400
    assert 90 <= np.count_nonzero(label[places] == 2) <= 110
    for index in (0, 2):
        total = weight[label == index].sum(dtype=float)
        assert standing[label[places] == index].sum() == pytest.approx(total)


def test_on_average_drawn_rows_have_the_mean_of_all(rare):
    label, weight = rare
    values = np.random.default_rng(5).normal(size=len(label)) + (weight == 50) + 3 * label
    means = []
    for seed in range(200):
        places, standing = sample_rows(label, weight, 300, 3, np.random.default_rng(seed))
        means.append(np.average(values[places], weights=standing))
    assert np.mean(means) == pytest.approx(np.average(values, weights=weight), abs=4 * np.std(means) / 200**0.5)


def test_with_room_for_all_every_row_stands_for_itself(rare):
    label, weight = rare
    places, standing = sample_rows(label, weight, 80_000, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(places, np.arange(len(label)))
    np.testing.assert_array_equal(standing, weight)
