import numpy as np
import pytest
from pydantic import TypeAdapter

from data.metrics.metric import METRICS
from ensemble.decide.sample.choice import Choice, choose, jackknife, jackknife_mean, standard_error
from ensemble.objective import Objective, objective_of
from ensemble.settings import EnsembleSettings

from ..conftest import LAND

SCENE_MEAN = Objective("accuracy", "accuracy", "", METRICS["accuracy"], by_scene=True)


def replicates(*rows):
    """Return scores of candidates from their scores on each of some groups of equal size."""
    rows = np.array(rows, float)
    total, n = rows.sum(axis=1), rows.shape[1]
    return np.column_stack([total / n, (total[:, None] - rows) / (n - 1)])


def test_the_standard_error_is_that_of_a_mean_over_groups():
    values = np.random.default_rng(0).normal(size=12)
    expected = values.std(ddof=1) / np.sqrt(len(values))
    assert standard_error(replicates(values)[0]) == pytest.approx(expected)


def test_what_cannot_be_told_has_an_infinite_error():
    assert standard_error(np.array([0.5])) == standard_error(np.array([0.5, 0.5])) == float("inf")
    assert standard_error(np.array([0.5, 0.4, np.nan])) == float("inf")


def test_a_fitted_candidate_must_gain_more_than_noise_and_an_unfitted_one_must_just_be_better():
    simple, clear, noisy = [0.5] * 6, [0.52, 0.53, 0.52, 0.53, 0.52, 0.53], [0.9, 0.1, 0.9, 0.1, 0.9, 0.2]
    names = ("simple", "other")
    assert choose(names, replicates(simple, clear), [False, True]).name == "other"
    assert choose(names, replicates(simple, noisy), [False, True]).name == "simple"
    assert choose(names, replicates(simple, noisy), [False, False]).name == "other"


def test_of_equal_candidates_the_simplest_is_taken():
    row = [0.5, 0.6, 0.7]
    assert choose("abc", replicates(row, row, row), [False, False, True]).name == "a"


def test_a_gain_of_nothing_to_speak_of_is_not_worth_fitting_anything():
    choice = choose("ab", replicates([0.5] * 4, [0.50005] * 4), [False, True])
    assert choice.name == "a"


def test_a_score_without_meaning_never_wins_and_survives_json():
    choice = choose("abc", replicates([np.nan] * 3, [0.2] * 3, [np.nan] * 3), [False, False, True])
    assert choice.name == "b"
    assert choice.scores == (None, pytest.approx(0.2), None)
    adapter = TypeAdapter(Choice)
    assert adapter.validate_json(adapter.dump_json(choice)) == choice


@pytest.mark.parametrize("objective", [objective_of(EnsembleSettings(), LAND), SCENE_MEAN])
def test_each_block_is_left_out_in_turn(objective):
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 40, (9, 1, 3, 4)).astype(float)
    blocks = np.array([4, 4, 7, 1, 1, 1, 9, 7, 9])
    found = jackknife(counts, blocks, objective)
    expected = [objective.over(counts), *(objective.over(counts[blocks != block]) for block in (1, 4, 7, 9))]
    np.testing.assert_allclose(found, expected)


def test_a_weighted_mean_is_taken_without_each_block_in_turn():
    rng = np.random.default_rng(0)
    values, weight, blocks = rng.normal(size=30), rng.uniform(1, 2, 30), rng.integers(0, 4, 30)
    found = jackknife_mean(values, weight, blocks)
    chosen = [np.ones(30, bool), *(blocks != block for block in range(4))]
    np.testing.assert_allclose(found, [np.average(values[some], weights=weight[some]) for some in chosen])
