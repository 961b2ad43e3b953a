"""What errors look like is learned from injected ones, and tells how many there should be."""

import numpy as np
import pytest
from scipy import ndimage

from data.scenes.classes import IGNORE
from ensemble.audit.injection import ERRORS, inject_errors
from ensemble.audit.parts import FACTS
from ensemble.audit.ranking import Ranking


def beds(seed=0, n_labels=2):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(80, 90)), 4)
    label = np.zeros(field.shape, np.uint8)
    for kind, level in enumerate(np.linspace(0.75, 0.9, n_labels - 1), 1):
        label[field > np.quantile(field, level)] = kind
    label[:5, :5] = IGNORE
    return label


@pytest.mark.parametrize("n_labels", [2, 4])
@pytest.mark.parametrize("kind", ERRORS)
def test_every_kind_of_error_changes_labels_to_other_labels(kind, n_labels):
    label = beds(n_labels=n_labels)
    changed = 0
    for seed in range(8):
        spoiled = ERRORS[kind](label.copy(), n_labels, np.random.default_rng(seed))
        changed += (spoiled != label).any()
        assert set(np.unique(spoiled)) <= {*range(n_labels), IGNORE}
    assert changed >= 6


def test_what_is_ignored_stays_so_and_the_same_seed_spoils_the_same():
    label = beds(1, 3)
    for seed in range(20):
        spoiled, kind = inject_errors(label, 3, np.random.default_rng(seed))
        assert (spoiled != label).any() <= (kind >= 0)
        assert ((spoiled == IGNORE) == (label == IGNORE)).all()
        np.testing.assert_array_equal(spoiled, inject_errors(label, 3, np.random.default_rng(seed))[0])


def test_a_missed_object_is_missed_whole_and_becomes_what_surrounds_it():
    label = np.full((30, 30), 2, np.uint8)
    label[5:10, 5:10], label[20:26, 18:25], label[0] = 1, 1, 0
    seen = set()
    for seed in range(20):
        spoiled = ERRORS["missing"](label.copy(), 3, np.random.default_rng(seed))
        left = tuple(
            bool((spoiled[rows, cols] == 1).all())
            for rows, cols in ((slice(5, 10),) * 2, (slice(20, 26), slice(18, 25)))
        )
        if (spoiled == 2).sum() > 500:  # else the ground was the object
            assert (spoiled == 1).sum() == 25 * left[0] + 42 * left[1]
        seen.add(left)
    assert len(seen) > 2


def draw_facts(n, error, rng):
    facts = rng.normal(size=(n, len(FACTS)))
    facts[:, FACTS.index("score")] = np.exp(rng.normal(size=n) / 2)
    facts[:, FACTS.index("gap")] += 3 * error
    facts[:, FACTS.index("thickness")] += 2 * error
    return facts


def test_injected_errors_teach_what_the_plain_score_does_not_know():
    rng = np.random.default_rng(0)
    error = rng.random(2000) < 0.2
    ranking = Ranking.learn(draw_facts(2000, error, rng), np.where(error, 0, -1), np.zeros(2000, bool))
    truth = rng.random(500) < 0.1
    facts = draw_facts(500, truth, rng)
    first = np.argsort(-ranking.score(facts))[: truth.sum()]
    plain = np.argsort(-Ranking().score(facts))[: truth.sum()]
    assert truth[first].mean() > 0.5 > 0.3 > truth[plain].mean()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.6])
def test_the_list_says_about_how_many_errors_it_holds(share):
    rng = np.random.default_rng(1)
    error = rng.random(6000) < 0.3
    ranking = Ranking.learn(draw_facts(6000, error, rng), np.where(error, 0, -1), np.zeros(6000, bool))
    truth = rng.random(2000) < share
    scores = ranking.score(draw_facts(2000, truth, rng))
    estimate = ranking.estimate(scores)
    order = np.argsort(-scores)
    assert truth.sum() / 2 < estimate.total < 2 * truth.sum()
    for first in (50, 200, 1000):
        errors, part = estimate.among(first)
        found = truth[order[:first]].sum()
        assert found / 2 <= errors <= 2 * found
        assert part == pytest.approx(found / truth.sum(), abs=0.1)


def test_few_injected_errors_teach_nothing_and_nothing_is_estimated():
    rng = np.random.default_rng(0)
    facts = rng.normal(size=(100, len(FACTS)))
    ranking = Ranking.learn(facts, np.where(np.arange(100) < 10, 1, -1), np.zeros(100, bool))
    np.testing.assert_array_equal(ranking.score(facts), facts[:, FACTS.index("score")])
    assert ranking.estimate(ranking.score(facts)) is None
