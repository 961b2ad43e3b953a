import numpy as np
import pytest

from data.maps.geotiff import NODATA, TOP
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.thresholds import best_threshold, score_histogram
from ensemble.decide.weights.joint import bin_values, joint_histogram, score_weights
from ensemble.objective import objective_of
from ensemble.settings import EnsembleSettings

from ..conftest import KELP

WEIGHTS = [number / 10 for number in range(11)]


def members(seed, n=300_000, rare=0.05):
    """Return two members that know different things, crowded near 0 and 1 as networks are, and the label."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < rare).astype(np.uint8)
    logits = 3 * (2 * label - 1.0) + rng.normal(size=(2, n)) * [[2.5], [4.0]] - 1
    stored = np.rint(TOP / (1 + np.exp(-logits))).astype(np.uint16)
    stored[0, rng.random(n) < 0.02], stored[1, rng.random(n) < 0.02] = NODATA, NODATA
    label[rng.random(n) < 0.02] = 255
    return stored, label


def exhaustive(stored, label, weight, objective, space):
    blended = Blend(((weight, 1 - weight),), space).apply(stored[:, None])[0]
    return best_threshold(score_histogram(blended, label), objective)[1]


@pytest.mark.parametrize("space", ["probability", "logit"])
@pytest.mark.parametrize("metric", ["dice", "f2", "kappa"])
def test_every_weight_scores_what_a_search_through_its_blend_finds(metric, space):
    stored, label = members(0)
    objective = objective_of(EnsembleSettings(metric=metric), KELP)
    found = score_weights(joint_histogram(*stored, label)[None], WEIGHTS, objective, space)
    expected = [exhaustive(stored, label, weight, objective, space) for weight in WEIGHTS]
    np.testing.assert_allclose(found, expected, atol=4e-4)
    # The weight that is chosen loses next to nothing against the best.
    assert max(expected) - expected[int(np.argmax(found))] <= 1e-4


def test_joint_histograms_of_scenes_add_up_and_count_every_labelled_pixel():
    stored, label = members(1, n=5000)
    parts = [joint_histogram(*stored[:, part], label[part], bins=32) for part in (slice(0, 999), slice(999, None))]
    whole = joint_histogram(*stored, label, bins=32)
    np.testing.assert_array_equal(sum(parts), whole)
    assert whole.sum(axis=(1, 2)).tolist() == [(label == 0).sum(), (label == 1).sum()]
    assert whole[:, -1].sum() == ((stored[0] == NODATA) & (label != 255)).sum()
    objective = objective_of(EnsembleSettings(), KELP)
    np.testing.assert_array_equal(
        score_weights(np.stack(parts), WEIGHTS, objective), score_weights(whole[None], WEIGHTS, objective)
    )


def test_bins_stand_for_rising_probabilities_and_other_values_can_be_given():
    values = bin_values(512)
    assert (np.diff(values[values > 0]) > 0).all()
    stored, label = members(2, n=5000)
    joint = joint_histogram(*stored, label)
    objective = objective_of(EnsembleSettings(), KELP)
    given = score_weights(joint[None], WEIGHTS, objective, values=(values, values))
    np.testing.assert_array_equal(given, score_weights(joint[None], WEIGHTS, objective))
    # A member whose probabilities are all alike is worth nothing, alone.
    flat = score_weights(joint[None], [0.0, 1.0], objective, values=(values, np.full(512, 0.5)))
    assert flat[0] < flat[1] == pytest.approx(given[-1])


def test_without_a_labelled_pixel_there_is_no_score():
    stored, label = members(3, n=100)
    joint = joint_histogram(*stored, np.full_like(label, 255))
    assert np.isnan(score_weights(joint[None], WEIGHTS, objective_of(EnsembleSettings(), KELP))).all()
