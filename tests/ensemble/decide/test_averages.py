"""Average first: what departs from equal weights, what does not, and what is said of a member."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.maps.geotiff import TOP, quantise
from data.scenes.classes import Classes
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.stacked import Stacked
from ensemble.decide.decision.thresholds import decide
from ensemble.decide.sample.pool import PixelPool
from ensemble.decide.sample.trial import Trial, halve, shrink
from ensemble.decide.thresholds.centre import centre_levels, logit_counts
from ensemble.decide.thresholds.multipliers import shrink_multipliers
from ensemble.decide.weights.averages import Averager
from ensemble.decide.weights.worth import Worth
from ensemble.objective import objective_of
from ensemble.settings import EnsembleSettings

from ..conftest import KELP, LAND

TAGS = Classes("multilabel", (1, 2, 3), ("cloud", "road", "water"), ((0, 0, 0), (9, 9, 9), (0, 0, 255)))
TASKS = [KELP, LAND, TAGS]


def make_trial(classes, strengths, seed=0, groups=12, pixels=150, metric=None):
    """Return members that know labels with some strength, one a member or one a member and class; as a trial."""
    rng = np.random.default_rng(seed)
    k, n = len(classes.names), groups * pixels
    label = (rng.random((classes.n_questions, n)) * classes.n_labels).astype(np.uint8)
    truth = label == np.arange(k)[:, None] if classes.exclusive else label == 1
    scene = np.repeat(np.arange(groups), pixels).astype(np.int32)
    planes = []
    for strength in strengths:
        size = np.broadcast_to(np.asarray(strength, float), k)[:, None]
        noise = rng.normal(size=(k, n))
        logits = np.where(size > 0, size * (size * (truth - 0.5) + noise), noise)
        logits += 0.3 * rng.normal(size=(k, groups))[:, scene]
        proba = np.exp(logits) / np.exp(logits).sum(axis=0) if classes.exclusive else 1 / (1 + np.exp(-logits))
        planes.append(quantise(proba.astype(np.float32)))
    pool = PixelPool(np.stack(planes), label, np.ones(n), (scene % 3).astype(np.int16), scene)
    return Trial.of(pool, np.arange(groups), classes, objective_of(EnsembleSettings(metric=metric), classes))


def find(trial, allowed="auto", order=None):
    order = list(range(len(trial.pool.stored))) if order is None else order
    everyone = tuple(range(len(order)))
    averager = Averager(trial, trial.pool.stored[order], tuple(f"m{place}" for place in order), allowed)
    return averager.find(everyone, everyone)


@pytest.mark.parametrize("classes", TASKS)
def test_members_that_are_equal_have_equal_weights(classes):
    blends = [find(make_trial(classes, (1.8, 1.8, 1.8), seed, pixels=60))[0] for seed in range(3)]
    assert sum(blend == Blend(((1 / 3,) * 3,), "logit", classes.exclusive) for blend in blends) >= 2
    assert all(max(blend.shares) < 0.45 for blend in blends)


@pytest.mark.parametrize("classes", TASKS)
def test_a_member_of_noise_costs_next_to_nothing(classes):
    fresh, lost = make_trial(classes, (1.8, 0.0), seed=99, groups=60), []
    for seed in range(4):
        blend, _, worths = find(make_trial(classes, (1.8, 0.0), seed, pixels=80))
        of_one, of_both = (
            decide(
                one.apply(fresh.pool.stored),
                (1.0 if classes.exclusive else 0.5,) * len(classes.names),
                classes.exclusive,
            )
            for one in (Blend(((1.0, 0.0),), "logit", classes.exclusive), blend)
        )
        lost.append(fresh.score(fresh.count(of_one))[0] - fresh.score(fresh.count(of_both))[0])
        assert all(worth.gain < 0 for worth in worths if worth.member == "m1")
    assert np.mean(lost) < 0.002


def test_a_member_that_knows_one_class_is_heard_there():
    blend, _, _ = find(make_trial(LAND, (1.8, (0.0, 0.0, 3.0)), groups=24))
    assert isinstance(blend, Stacked)
    first, second = np.array(blend.coefficients).T
    assert second[2] > 2 * max(second[:2])
    assert min(first[:2]) > max(second[:2])


@pytest.mark.parametrize("classes", TASKS)
def test_who_comes_first_does_not_matter(classes):
    for seed, strengths in enumerate([(2.0, 1.0, 1.5), (2.0, 2.0, 0.0)]):
        trial = make_trial(classes, strengths, seed, pixels=60)
        blend, choices, worths = find(trial)
        turned, others, again = find(trial, order=[2, 0, 1])
        np.testing.assert_allclose(blend.shares, np.array(turned.shares)[[1, 2, 0]], atol=2e-3)
        assert choices["weights"].name == others["weights"].name
        assert {worth.member: worth.stays for worth in worths} == {worth.member: worth.stays for worth in again}


@pytest.mark.parametrize("allowed", ["equal", "best", "greedy", "stacked"])
def test_what_may_depart_is_what_the_setting_says(allowed):
    blend, choices, _ = find(make_trial(LAND, (2.0, (0.0, 0.0, 3.0)), groups=20), allowed)
    kind, names = {
        "equal": (Blend, {"members", "weights"}),
        "best": (Blend, {"member"}),
        "greedy": (Blend, {"members", "weights"}),
        "stacked": (Stacked, {"members", "weights"}),
    }[allowed]
    assert isinstance(blend, kind)
    assert set(choices) == names
    if allowed == "best":
        assert blend.shares == (1.0, 0.0)
    if allowed == "equal":
        assert blend.shares in ((0.5, 0.5), (1.0, 0.0))


@given(st.lists(st.integers(0, 99), min_size=2, max_size=9, unique=True))
def test_each_group_is_learned_from_and_judged_as_often(groups):
    halves = halve(np.array(groups))
    for one, other in zip(halves[::2], halves[1::2], strict=True):
        assert sorted([*one, *other]) == sorted(groups)
        assert abs(len(one) - len(other)) <= 1
    assert [half.tolist() for half in halve(np.array(groups))] == [half.tolist() for half in halves]


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0, 3))
def test_what_is_kept_is_never_more_than_was_found_nor_beyond_what_is_simple(seed, size):
    rng = np.random.default_rng(seed)
    best, simple = rng.normal(size=5), np.zeros(5)
    kept = shrink(best, best + size * rng.normal(size=(16, 5)), simple)
    assert ((kept >= 0) & (kept <= 1)).all()
    assert (shrink(best, np.tile(best, (16, 1)), simple) == 1).all()


def test_detectors_of_different_things_are_united_and_equal_ones_are_not():
    trial = make_trial(KELP, (2.0, 2.0), groups=24, pixels=400)
    assert find(trial)[1]["weights"].name not in ("largest probability", "at least one is right")
    rng = np.random.default_rng(1)
    label, n = trial.pool.label[0], len(trial.place)
    # Each member finds one half of the positives; of all else it denies some strongly and some hardly.
    first, denied = rng.random(n) < 0.5, rng.choice([0.45, 1e-5], (2, n))
    found = [(label == 1) & (first == one) for one in (True, False)]
    stored = quantise(np.where(found, 0.9, denied)[:, None].astype(np.float32))
    blind = Trial(replace(trial.pool, stored=stored), trial.place, trial.groups, KELP, trial.objective)
    blend, choices, _ = find(blind)
    assert blend.space in ("largest", "noisy-or")
    assert choices["weights"].gains[0] < -0.02
    assert find(trial, "equal")[0].space == "logit"
    assert find(trial, "smallest")[0] == Blend(((0.5, 0.5),), "smallest")
    with pytest.raises(ValueError, match="expected blend: largest with policy cautious or average"):
        EnsembleSettings(policy="tuned", blend="largest")


def test_multipliers_depart_where_groups_agree_and_not_by_chance():
    trial = make_trial(LAND, (2.0,), groups=16)
    found, _ = shrink_multipliers(trial.pool.stored[0], trial)
    assert (found == 1).all()
    off = trial.pool.stored[0].astype(float)
    off[2] /= 3
    stored = quantise((off / off.sum(axis=0)).astype(np.float32))
    found, spread = shrink_multipliers(stored, trial)
    assert found[2] > 1.5 * max(found[:2])
    assert (spread > 0).all()
    alone = Trial.of(trial.pool, np.zeros(16, np.int64), LAND, trial.objective)
    assert (shrink_multipliers(stored, alone)[0] == 1).all()


def test_the_centre_of_f1_is_half_the_best_f1():
    rng = np.random.default_rng(0)
    proba = rng.beta(0.5, 2.5, 200_000)
    label = (rng.random(len(proba)) < proba).astype(np.uint8)
    stored = quantise(proba.astype(np.float32))
    counts = logit_counts(stored[None], label[None])
    [level], [half] = (
        centre_levels(counts, objective_of(EnsembleSettings(metric=metric), KELP)) for metric in ("dice", "accuracy")
    )
    found = stored >= level
    best = 2 * (found & (label == 1)).sum() / (found.sum() + label.sum())
    assert level / TOP == pytest.approx(best / 2, abs=0.02)
    assert half / TOP == pytest.approx(0.5, abs=0.02)
    # It is that of the probabilities: which pixels are labelled as what says nothing of it.
    shuffled = logit_counts(stored[None], rng.permutation(label)[None])
    assert centre_levels(shuffled, objective_of(EnsembleSettings(metric="dice"), KELP)) == [level]


def test_the_members_own_sharpness_is_that_of_the_blend_with_their_temperatures_undone():
    hot, cold = (Calibration("temperature", ((value,),)) for value in (4.0, 1.0))
    raw, platt = Calibration(), Calibration("platt", ((0.5, 1.0),))
    equal = Blend(((0.5, 0.5),), "logit")
    for calibrations, blend, wanted in (
        ((hot, hot), equal, 4.0),
        ((hot, cold), equal, 1.6),
        ((raw, platt), equal, 1.0),
        ((hot, cold), Stacked(((2.0, 0.0),), (0.3,)), 2.0),
    ):
        assert Decision(calibrations, blend, ()).sharpness == pytest.approx((wanted,))


@pytest.mark.parametrize("metric", ["dice", "macro_dice", {"name": "f2", "of": "road"}])
def test_a_tag_that_is_nowhere_has_a_half_for_its_centre(metric):
    trial = make_trial(TAGS, (1.5,), metric=metric)
    label = trial.pool.label.copy()
    label[0] = 0
    levels = centre_levels(logit_counts(trial.pool.stored[0], label), trial.objective)
    assert levels[0] == TOP // 2
    assert levels[1] != TOP // 2
    assert (levels[2] == TOP // 2) == (not isinstance(metric, str))


def test_what_is_said_of_a_member_is_what_its_interval_allows():
    said = {
        Worth("a", True, 0.01, 0.003, 12).words(0.95): "a is worth +0.010",
        Worth("a", True, 0.002, 0.003, 12).words(0.95): "no gain of a is shown",
        Worth("a", False, -0.02, 0.003, 12).words(0.95): "a harms and is left out",
        Worth("a", True, 0.01, float("nan"), 1).words(0.95): "the groups are too few",
        Worth("a", True, float("nan"), float("nan"), 1).words(0.95): "a has nothing to be compared with",
    }
    for words, start in said.items():
        assert words.startswith(start)
