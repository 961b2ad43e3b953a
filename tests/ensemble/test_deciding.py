"""What is decided on which pixels: parts, candidates, left-out scores, tags, and nothing that leaks."""

from dataclasses import replace

import numpy as np
import pytest

from data.errors import EnsembleError
from data.maps.geotiff import NODATA, quantise
from data.metrics.confusion import weighted_counts
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from ensemble import BLEND, EnsembleSettings, fit_ensemble
from ensemble.decide.calibration.calibrators import Calibrator
from ensemble.decide.cleaning.cleaners import choose_cleanings
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.cleaning import Cleaning, no_masks
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.thresholds import decide, score_histogram
from ensemble.decide.sample.inner_folds import InnerFolds
from ensemble.decide.sample.pool import PixelPool, sample_pool
from ensemble.decide.thresholds.one_standard_error import CAUTION
from ensemble.decide.thresholds.threshold_curves import block_histograms
from ensemble.decide.thresholds.threshold_tuning import tune_binary
from ensemble.decide.thresholds.tune_thresholds import tune_each
from ensemble.decide.weights.blenders import BEST, CONVEX, STACKED, Blender, count_jointly
from ensemble.maps import open_maps
from ensemble.objective import objective_of
from ensemble.score.evaluation import PLAIN, UNCALIBRATED, UNCLEANED, alone
from ensemble.settings import CleaningSettings

from .conftest import KELP, LAND

SETTINGS = EnsembleSettings(sample=4000, cleaning="none")
TAGS = Classes("multilabel", (1, 2, 3), ("cloud", "road", "water"), ((0, 0, 0), (9, 9, 9), (0, 0, 255)))


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def random_pool(classes, seed=0, n=3000, strengths=(2.0, 1.0), folds=3, scenes=12):
    """Return a pool of members that know the labels with some strength; scene s lies in fold s % folds."""
    rng = np.random.default_rng(seed)
    k = len(classes.names)
    label = rng.integers(0, classes.n_labels, (classes.n_questions, n))
    planes = []
    for strength in strengths:
        if classes.task == "multiclass":
            logits = rng.normal(size=(k, n)) + strength * (np.arange(k)[:, None] == label)
            proba = np.exp(logits) / np.exp(logits).sum(axis=0)
        else:
            proba = sigmoid(rng.normal(size=(k, n)) + strength * (label - 0.5) * 2)
        planes.append(quantise(proba.astype(np.float32)))
    scene = np.sort(np.arange(n) % scenes).astype(np.int32)
    return PixelPool(np.stack(planes), label.astype(np.uint8), np.ones(n), (scene % folds).astype(np.int16), scene)


def inner_of(pool, classes, settings=SETTINGS, fixed=False):
    """Return inner folds whose parts are the pool's folds, and each of whose scenes is a group."""
    parts = {int(fold): (int(fold),) for fold in np.unique(pool.fold)}
    n_scenes = int(pool.scene.max()) + 1
    part_of = {f"s{scene}": int(pool.fold[pool.scene == scene][0]) for scene in range(n_scenes)}
    return InnerFolds(pool, pool, classes, objective_of(settings, classes), np.arange(n_scenes), part_of, parts, fixed)


def blender_of(inner, allowed="auto", members=None, joint=None):
    count = len(inner.pool.stored)
    calibrators = [Calibrator(inner, member) for member in range(count)]
    return Blender(inner, calibrators, members or tuple(range(count)), allowed, joint or {})


def of_noise(classes, seed, strengths):
    """Return a pool whose labels have nothing to do with its maps."""
    pool = random_pool(classes, seed, strengths=strengths)
    label = np.random.default_rng([seed, 1]).permutation(pool.label.T).T
    return replace(pool, label=np.ascontiguousarray(label))


@pytest.mark.parametrize("classes", [KELP, LAND, TAGS])
def test_a_useless_member_mostly_gets_no_weight_and_never_one_that_harms(classes):
    weights = []
    for seed in range(8):
        inner = inner_of(random_pool(classes, seed, n=1500, strengths=(2.0, 0.0)), classes)
        blender = blender_of(inner)
        name, _, _ = blender.choose([("none", "none")], (0, 1, 2))
        found = blender.fit(name, ("none", "none"), (0, 1, 2))
        weights.append(found.weights[1])
        fresh = inner_of(random_pool(classes, seed + 100, n=20_000, strengths=(2.0, 0.0)), classes)
        every = np.ones(20_000, bool)
        used, alone_ = (
            fresh.scored(one.apply(fresh.pool.stored), every)[0]
            for one in (found, blender.fit(BEST, ("none", "none"), (0, 1, 2)))
        )
        assert used > alone_ - 0.015
    # One standard error lets luck through in about one of six draws.
    assert sum(weight > 0.02 for weight in weights) <= 4
    assert max(weights) < 0.3


@pytest.mark.parametrize("classes", [KELP, LAND, TAGS])
def test_two_members_that_know_as_much_are_blended(classes):
    inner = inner_of(random_pool(classes, strengths=(1.5, 1.5)), classes)
    name, _, choice = blender_of(inner).choose([("none", "none")], (0, 1, 2))
    assert name != BEST
    assert choice.scores[choice.chosen] > choice.scores[0]
    assert min(blender_of(inner).fit(name, ("none", "none"), (0, 1, 2)).weights) > 0.2


@pytest.mark.parametrize("classes", [KELP, LAND, TAGS])
def test_a_logistic_regression_gains_nothing_by_leakage_where_there_is_nothing_to_learn(classes):
    members = 8
    chosen = []
    for seed in range(4):
        inner = inner_of(of_noise(classes, seed, (0.5,) * members), classes)
        name, _, choice = blender_of(inner, "stacked").choose([("none",) * members], (0, 1, 2))
        gain = choice.scores[choice.names.index(STACKED)] - choice.scores[0]
        assert gain < 0.03
        chosen.append(name)
    assert chosen.count(STACKED) <= 1


def test_left_out_scores_are_those_of_a_loop_over_parts():
    pool = random_pool(LAND)
    inner, blender = inner_of(pool, LAND), blender_of(inner_of(pool, LAND))
    prediction = np.empty(pool.label.shape, np.uint8)
    for part in (0, 1, 2):
        rest = tuple(other for other in (0, 1, 2) if other != part)
        decision = blender.fit(STACKED, ("platt", "none"), rest)
        assert decision == blender_of(inner).fit(STACKED, ("platt", "none"), rest)
        here = pool.fold == part
        prediction[:, here] = decision.apply(pool.stored[:, :, here])
    score = inner.objective.score(weighted_counts(pool.label[0], prediction[0], pool.weight, 3)[None])
    choice = blender.choose([("platt", "none")], (0, 1, 2))[2]
    assert choice.scores[choice.names.index(STACKED)] == pytest.approx(float(score))


@pytest.mark.parametrize("classes", [KELP, LAND, TAGS])
@pytest.mark.parametrize("method", ["temperature", "platt", "beta", "isotonic"])
def test_what_is_fitted_to_parts_knows_nothing_of_the_others(classes, method):
    pool = random_pool(classes)
    label = pool.label.copy()
    label[:, pool.fold == 2] = 1 - np.minimum(label[:, pool.fold == 2], 1)
    found = []
    for one in (pool, replace(pool, label=label)):
        blender = blender_of(inner_of(one, classes))
        found.append([blender.fit(name, (method, "none"), (0, 1)) for name in blender.names])
        found[-1].append(blender.fit(STACKED, (method, "none"), (0, 1, 2)))
    assert found[0][:-1] == found[1][:-1]
    assert found[0][-1] != found[1][-1]


def test_a_calibration_is_only_chosen_where_probabilities_are_off():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, 6000)
    label = (rng.random(6000) < sigmoid(logit)).astype(np.uint8)
    stored = np.stack([quantise(sigmoid(slope * logit).astype(np.float32))[None] for slope in (1.0, 3.0)])
    scene = np.sort(np.arange(6000) % 12).astype(np.int32)
    pool = PixelPool(stored, label[None], np.ones(6000), (scene % 3).astype(np.int16), scene)
    calibrators = [Calibrator(inner_of(pool, KELP), member) for member in (0, 1)]
    assert [calibrator.choose("auto", (0, 1, 2))[0] for calibrator in calibrators] == ["none", "temperature"]
    assert calibrators[1].fit("temperature", (0, 1, 2)).values[0] == pytest.approx((3.0,), rel=0.1)
    assert calibrators[1].choose("beta", (0, 1, 2)) == ("beta", None)


def test_convex_weights_of_two_members_are_found_on_every_pixel(make_catalogue, make_members):
    catalogue = make_catalogue(rare=0.3)
    maps = open_maps(make_members(catalogue, a=(2, 0), b=(1.6, 1)), catalogue.classes)
    objective = objective_of(SETTINGS, KELP)
    inner = InnerFolds.of(sample_pool(maps, catalogue, 10**6, seed=0), catalogue, objective)
    joint = count_jointly(inner, maps, catalogue.split("train"), "auto")
    assert sum(int(counts.sum()) for counts in joint.values()) == len(inner.pool.weight)
    methods, parts = ("temperature", "platt"), inner.outside(None)
    exact, sampled = (blender_of(inner, joint=counts).fit(CONVEX, methods, parts) for counts in (joint, {}))
    pixels = inner.where(parts)
    scores = [inner.tune(one.proba(inner.pool.stored), pixels)[1] for one in (exact, sampled)]
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)
    assert count_jointly(inner, maps, catalogue.split("train"), "greedy") == {}


@pytest.mark.parametrize("classes", [KELP, TAGS])
def test_thresholds_for_a_comparison_are_the_best_in_coarse_steps(classes):
    pool = random_pool(classes, n=400)
    inner = inner_of(pool, classes)
    everything = np.ones(400, bool)
    thresholds, score = inner.tune(pool.stored[0], everything)
    assert score == pytest.approx(
        float(inner.scored(decide(pool.stored[0], thresholds, exclusive=False), everything)[0])
    )
    for place in range(len(classes.names)):
        for other in np.linspace(0.02, 0.98, 49):
            tried = [*thresholds[:place], other, *thresholds[place + 1 :]]
            label = decide(pool.stored[0], tried, exclusive=False)
            # A step of 64 stored values moves a few pixels at most.
            assert inner.scored(label, everything)[0] <= score + 0.01


def test_tags_go_through_every_step():
    pool = random_pool(TAGS, strengths=(2.0, 1.2))
    pool.stored[0, :, :50] = NODATA
    inner = inner_of(pool, TAGS)
    blender = blender_of(inner)
    methods = tuple(one.choose("auto", (0, 1, 2))[0] for one in blender.calibrators)
    name, _, _ = blender.choose([methods], (0, 1, 2))
    decision = replace(blender.fit(name, methods, (0, 1, 2)), thresholds=())
    tuned = tune_each([((0, 1, 2), decision)], inner, open_maps({}, TAGS), ())[(0, 1, 2), decision]
    assert len(tuned.thresholds) == 3
    label = replace(decision, thresholds=tuned.thresholds).apply(pool.stored)
    assert label.shape == (3, 3000)
    assert set(np.unique(label)) <= {0, 1, 255}
    right = (label == pool.label).mean(axis=1)
    assert (right > 0.9).all()
    scene = replace(decision, thresholds=tuned.thresholds).apply(pool.stored[:, :, 70].reshape(2, 3, 1, 1))
    np.testing.assert_array_equal(scene[:, 0, 0], label[:, 70])


def test_a_calibrated_member_is_counted_as_if_its_calibrated_map_had_been(make_catalogue, make_members):
    catalogue = make_catalogue(rare=0.3)
    maps = open_maps(make_members(catalogue, a=(2, 0), b=(1, 1)), catalogue.classes)
    inner = InnerFolds.of(sample_pool(maps, catalogue, 10**6, seed=0), catalogue, objective_of(SETTINGS, KELP))
    parts, blend = inner.outside(1), Blend(((0.0, 1.0),))
    calibrations = (Calibration(), Calibration("platt", ((0.6, -0.8),)))
    decision = Decision(calibrations, blend, ())
    train = catalogue.split("train")
    found = tune_each([(parts, decision)], inner, maps, train)[parts, decision]
    histograms = np.zeros((len(parts), 1, 2, NODATA + 1))
    for scene in train:
        if scene.fold != 1:
            counts = score_histogram(decision.proba(maps.read(scene))[0], maps.label(scene)[0])
            histograms[parts.index(inner.part_of[scene.id]), 0] += counts
    chosen = inner.where(parts)
    _, block = np.unique(inner.blocks[inner.pool.scene[chosen]], return_inverse=True)
    blended = decision.proba(inner.pool.stored[:, :, chosen])
    groups = block_histograms(blended, inner.pool.label[:, chosen], inner.pool.weight[chosen], block)
    assert found == tune_binary(histograms, inner.objective, groups)
    former = tune_each([(parts, decision)], inner, maps, train, centred=False)[parts, decision]
    assert former == tune_binary(histograms, inner.objective, groups, CAUTION / 2, centred=False)


def test_few_folds_are_cut_in_pieces_by_groups(make_catalogue, make_members):
    catalogue = make_catalogue(n_scenes=12, folds=2)
    members = make_members(catalogue, a=(2, 0))
    maps = open_maps(members, catalogue.classes)
    inner = InnerFolds.of(sample_pool(maps, catalogue, 4000, seed=0), catalogue, objective_of(SETTINGS, KELP))
    assert inner.parts == {0: (0, 1, 2), 1: (3, 4, 5)}
    assert inner.outside(0) == (3, 4, 5)
    assert inner.outside(None) == (0, 1, 2, 3, 4, 5)
    for scene in catalogue.scenes:
        assert inner.part_of[scene.id] in inner.parts[scene.fold]
    assert set(np.unique(inner.pool.fold)) == {0, 1, 2, 3, 4, 5}
    ensemble, (evaluation,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    assert np.isfinite(ensemble.score_)
    assert set(evaluation.decisions) == {0, 1}


def test_the_ablation_has_the_blend_without_each_step(make_catalogue, make_members):
    catalogue = make_catalogue()
    members = make_members(catalogue, a=(2, 0), b=(1.6, 1), c=(1.6, 2))
    settings = EnsembleSettings(sample=4000, calibration="platt")
    branches = {"a": "trees", "b": "cnn", "c": "cnn"}
    _, (evaluation,) = fit_ensemble(members, catalogue, settings, seed=0, branches=branches)
    expected = {"a", "b", "c", BLEND, UNCALIBRATED, PLAIN, UNCLEANED, alone("cnn")}
    assert set(evaluation.counts) == expected
    for found in evaluation.decisions.values():
        # What is shown of the blend is another matter than what is decided.
        blend = replace(found[BLEND], shown=Calibration())
        assert found[UNCLEANED] == replace(blend, cleaning=Cleaning())
        assert found[PLAIN] == replace(blend, thresholds=(0.5,))
        assert {one.method for one in found[UNCALIBRATED].calibrations} == {"none"}
        assert {one.method for one in blend.calibrations} == {"platt"}
        assert type(found[UNCALIBRATED].blend) is type(blend.blend)
        assert found[alone("cnn")].weights[0] == 0


def test_cleaning_is_chosen_on_the_scenes_outside_the_fold(make_catalogue, make_members):
    catalogue = make_catalogue(rare=0.3)
    maps = open_maps(make_members(catalogue, a=(2, 0)), catalogue.classes)
    inner = InnerFolds.of(sample_pool(maps, catalogue, 4000, seed=0), catalogue, objective_of(SETTINGS, KELP))
    decision = Decision((Calibrator(inner, 0).fit("none", ()),), Blend(((1.0,),)), (0.5,))
    candidates = [Cleaning(), Cleaning(min_size=500), Cleaning(min_size=3)]
    train, outside, every = catalogue.split("train"), inner.outside(2), inner.outside(None)
    wanted = dict.fromkeys((outside, every), decision)
    found = choose_cleanings(wanted, candidates, inner, maps, train, no_masks, 0)
    # Without any object there is no positive left: that candidate can never win here.
    assert {cleaning.min_size for cleaning, _ in found.values()} <= {0, 3}
    scenes = [
        replace(s, label=replace(s.label, values=((0, 1), (1, 0), (255, 255)))) if s.fold == 2 else s for s in train
    ]
    turned = choose_cleanings(wanted, candidates, inner, maps, scenes, no_masks, 0)
    assert turned[outside] == found[outside]
    assert turned[every] != found[every]


@pytest.mark.parametrize("classes", [KELP, pytest.param(LAND, marks=pytest.mark.slow)])
def test_no_step_of_a_folds_decision_changes_with_its_labels(make_catalogue, make_members, classes):
    n = len(classes.label_names)
    catalogue = make_catalogue(classes, folds=4, n_scenes=12)
    members = make_members(catalogue, a=(2, 0), b=(1.5, 1), c=(1.2, 2))
    settings = EnsembleSettings(sample=4000, cleaning=CleaningSettings(min_size=[0, 4], smooth=[0, 1]))
    _, (before,) = fit_ensemble(members, catalogue, settings, seed=0, branches={"a": "trees", "b": "cnn", "c": "cnn"})
    values = (*((value, (value + 1) % n) for value in range(n)), (255, 255))
    scenes = [replace(s, label=replace(s.label, values=values)) if s.fold == 3 else s for s in catalogue.scenes]
    # What is known of a scene's labels beforehand changes with them.
    statistics = {
        key: replace(found, label_counts=tuple(np.roll(found.label_counts, 1).tolist()))
        if catalogue_fold(catalogue, key) == 3
        else found
        for key, found in catalogue.statistics.items()
    }
    turned = Catalogue(classes, (), tuple(scenes), statistics)
    _, (after,) = fit_ensemble(members, turned, settings, seed=0, branches={"a": "trees", "b": "cnn", "c": "cnn"})

    def decided(evaluation, fold):
        # Probabilities are calibrated to be shown of the candidate that is used, which all folds choose.
        return {name: replace(one, shown=Calibration()) for name, one in evaluation.decisions[fold].items()}

    assert repr(decided(after, 3)) == repr(decided(before, 3))
    assert all(decided(after, fold) != decided(before, fold) for fold in (0, 1, 2))


def catalogue_fold(catalogue, key):
    return next(scene.fold for scene in catalogue.scenes if (scene.split, scene.id) == key)


def test_tags_are_decided_and_scored_scene_by_scene(write_tag_maps):
    n = 240
    pool = random_pool(TAGS, n=n, scenes=n, strengths=(2.0, 0.0))
    scenes = tuple(
        Scene(
            f"s{number:03d}",
            "train",
            (),
            Grid(8, 9),
            None,
            group=f"g{number // 4}",
            fold=number // 4 % 3,
            tags=tuple(np.flatnonzero(pool.label[:, number])),
        )
        for number in range(n)
    )
    members = {
        name: write_tag_maps(
            name, TAGS, {scene.id: pool.stored[place, :, number] for number, scene in enumerate(scenes)}
        )
        for place, name in enumerate(("good", "noise"))
    }
    settings = EnsembleSettings()
    ensemble, (evaluation,) = fit_ensemble(members, Catalogue(TAGS, (), scenes), settings, seed=0)
    assert ensemble.used == ("good",)
    assert len(ensemble.thresholds_) == 3
    for number, scene in enumerate(scenes[:20]):
        counts = evaluation.counts[BLEND][scene.id]
        assert counts.shape == (3, 2, 3)
        found = evaluation.decisions[scene.fold][BLEND].apply(pool.stored[:, :, number])
        for place in range(3):
            assert counts[place, pool.label[place, number], found[place]] == counts[place].sum() == 1
    with pytest.raises(EnsembleError, match=r"member noise: .* each of 241 scenes, 1 are missing: s999"):
        open_maps({"noise": members["noise"]}, TAGS).require((*scenes, replace(scenes[0], id="s999")))
