from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, fbeta_score

from data.maps.geotiff import NODATA, TOP
from data.metrics.confusion import weighted_counts
from data.scenes.classes import Classes
from ensemble.decide.decision.thresholds import decide, score_histogram
from ensemble.decide.sample.pool import PixelPool
from ensemble.decide.thresholds import one_standard_error
from ensemble.decide.thresholds.threshold_curves import SceneCurves, block_histograms, coarsen
from ensemble.decide.thresholds.threshold_tuning import tune_binary, tune_pool
from ensemble.decide.thresholds.tune_thresholds import _count_cells
from ensemble.objective import objective_of
from ensemble.settings import EnsembleSettings

from ..conftest import KELP

TAGS = Classes("multilabel", (0, 1, 2), ("haze", "river", "road"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
STEPS = np.arange(0, 65534, 8191, np.uint16)
"""Probabilities that few maps hold, so that all thresholds can be tried."""


def objective(metric, classes=KELP):
    return objective_of(EnsembleSettings(metric=metric), classes)


def draw(seed, n, n_tags=3):
    """Return a label (K, n) and maps that know something of it."""
    rng = np.random.default_rng(seed)
    label = (rng.random((n_tags, n)) < rng.uniform(0.1, 0.6, (n_tags, 1))).astype(np.uint8)
    rank = np.clip(2 + 3 * label + rng.integers(-2, 3, label.shape), 0, len(STEPS) - 1)
    return STEPS[rank], label


@pytest.mark.parametrize("n", [0, 1, 5000])
@pytest.mark.parametrize("weighted", [False, True])
def test_cells_of_few_pixels_are_those_of_the_whole_histogram_bit_for_bit(n, weighted):
    rng = np.random.default_rng(n)
    stored, label = rng.choice([0, 7, 32767, TOP, NODATA, *range(900, 999)], n).astype(np.uint16), rng.integers(0, 2, n)
    weight = rng.lognormal(0, 9, n) if weighted else None
    cells, counts = _count_cells(stored, label.astype(np.uint8), weight)
    whole = np.zeros(2 * (NODATA + 1))
    whole[cells] += counts
    np.testing.assert_array_equal(whole.reshape(2, -1), score_histogram(stored, label.astype(np.uint8), weight))


def histograms(stored, label, n_folds=3):
    fold = np.arange(stored.shape[1]) % n_folds
    return np.stack(
        [
            [score_histogram(a[fold == one], b[fold == one]) for a, b in zip(stored, label, strict=True)]
            for one in range(n_folds)
        ]
    )


def every_prediction(stored):
    """Yield the labels of every combination of thresholds."""
    for cuts in product([*STEPS, TOP + 1], repeat=len(stored)):
        yield (stored >= np.array(cuts)[:, None]).astype(np.uint8)


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("macro_dice", lambda label, found: f1_score(label.T, found.T, average="macro", zero_division=0)),
        ("dice", lambda label, found: f1_score(label.T, found.T, average="micro", zero_division=0)),
        ("f2", lambda label, found: fbeta_score(label.T, found.T, beta=2, average="micro", zero_division=0)),
        ("accuracy", lambda label, found: (label == found).mean()),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_thresholds_of_tags_are_the_best_of_all_combinations(metric, score, seed):
    stored, label = draw(seed, 60, 2)
    classes = Classes("multilabel", (0, 1), ("haze", "river"), TAGS.colors[:2])
    found = tune_binary(histograms(stored, label), objective(metric, classes), caution=0)
    best = max(score(label, prediction) for prediction in every_prediction(stored))
    assert score(label, decide(stored, found.thresholds, exclusive=False)) == pytest.approx(best)


def test_a_score_of_one_tag_leaves_the_others_plain():
    stored, label = draw(0, 200)
    river = objective({"name": "f2", "of": "river"}, TAGS)
    found = tune_binary(histograms(stored, label), river, caution=0, centred=False)
    assert found.thresholds[0] == found.thresholds[2] == 0.5 != found.thresholds[1]
    assert not found.kept_default


def test_a_tag_that_is_nowhere_keeps_a_half():
    stored, label = draw(0, 200)
    label[1] = 0
    for metric in ("macro_dice", "dice"):
        assert tune_binary(histograms(stored, label), objective(metric, TAGS)).thresholds[1] == 0.5


def make_pool(seed, n=600, n_scenes=12, weighted=True, noise=2):
    """Return a binary pool whose scenes differ in how far their probabilities are off."""
    rng = np.random.default_rng(seed)
    scene = np.sort(rng.integers(0, n_scenes, n)).astype(np.int32)
    label = (rng.random(n) < rng.uniform(0, 0.5, n_scenes)[scene]).astype(np.uint8)
    rank = 2 + 3 * label + rng.integers(-noise, noise + 1, n) + rng.integers(-1, 2, n_scenes)[scene]
    stored = STEPS[np.clip(rank, 0, len(STEPS) - 1)]
    stored[rng.random(n) < 0.05] = NODATA
    label[rng.random(n) < 0.05] = 255
    weight = rng.uniform(0.5, 3, n) if weighted else np.ones(n)
    return PixelPool(stored[None, None], label[None], weight, (scene % 3).astype(np.int16), scene)


def scene_counts(pool, prediction):
    return np.stack(
        [
            weighted_counts(pool.label[0, here], prediction[0, here], pool.weight[here], 2)[None]
            for here in (pool.scene == scene for scene in np.unique(pool.scene))
        ]
    )


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(["dice", "f2", "macro_iou", "accuracy"]), st.sampled_from(["skip", 0, 1]))
@example(272, "macro_iou", 1)
def test_the_mean_over_scenes_is_known_for_every_threshold(seed, name, empty):
    pool = make_pool(seed, n=120)
    wanted = objective({"name": name, "over": "scenes", "empty": empty})
    scenes, scene = np.unique(pool.scene, return_inverse=True)
    block = np.arange(len(scenes)) % 4
    cuts = SceneCurves(pool.stored[0], pool.label, pool.weight, scene, block, wanted)
    scores, resampled = cuts.scores(0, 0.0), cuts.resampled(0, 0.0)
    draws = one_standard_error.resample(4)
    for cut in (0, 1, 64 * 300, NODATA):
        counts = scene_counts(pool, decide(pool.stored[0], [cut / TOP], exclusive=False))
        assert scores[cut] == pytest.approx(float(wanted.over(counts)))
        if cut % 64 == 0:
            drawn = np.repeat(counts, draws[7].astype(int)[block], axis=0)
            assert resampled[7, cut // 64] == pytest.approx(float(wanted.over(drawn)))


def test_the_best_threshold_by_scene_is_that_of_a_search_through_all():
    for seed in range(5):
        pool, wanted = make_pool(seed), objective({"name": "f2", "over": "scenes"})
        found = tune_pool(pool, pool.stored[0], wanted, KELP, caution=0)
        tried = [
            float(wanted.over(scene_counts(pool, decide(pool.stored[0], [cut / TOP], exclusive=False))))
            for cut in [*STEPS, NODATA]
        ]
        score = float(wanted.over(scene_counts(pool, decide(pool.stored[0], found.thresholds, exclusive=False))))
        assert score == pytest.approx(max(tried))


def test_f2_of_each_scenes_tags_is_raised_until_no_tag_alone_can_raise_it():
    stored, label = draw(1, 80)
    n = label.shape[1]
    pool = PixelPool(stored[None], label, np.ones(n), (np.arange(n) % 3).astype(np.int16), np.arange(n, dtype=np.int32))
    found = tune_pool(pool, stored, objective({"name": "f2", "over": "scenes"}, TAGS), TAGS, caution=0)

    def score(prediction):
        scored = label.any(axis=0)
        return fbeta_score(label[:, scored].T, prediction[:, scored].T, beta=2, average="samples", zero_division=0)

    reached = score(decide(stored, found.thresholds, exclusive=False))
    for place, cut in product(range(3), [*STEPS, TOP + 1]):
        moved = [cut / TOP if place == other else value for other, value in enumerate(found.thresholds)]
        assert score(decide(stored, moved, exclusive=False)) <= reached + 1e-9
    assert reached > score(decide(stored, [0.5] * 3, exclusive=False))
    best = max(score(prediction) for prediction in every_prediction(stored))
    assert reached >= best - 0.02


def test_a_pool_and_its_histograms_have_the_same_thresholds():
    pool = make_pool(0, weighted=False)
    exact = score_histogram(pool.stored[0, 0], pool.label[0])
    assert (
        tune_pool(pool, pool.stored[0], objective("f2"), KELP, caution=0).thresholds
        == tune_binary(exact[None, None], objective("f2"), caution=0).thresholds
    )


def test_histograms_of_blocks_are_those_of_pixels_in_wide_bins():
    pool = make_pool(3)
    blocks = block_histograms(pool.stored[0], pool.label, pool.weight, pool.scene)
    exact = np.stack(
        [
            score_histogram(pool.stored[0, 0, here], pool.label[0, here], pool.weight[here])[None]
            for here in (pool.scene == one for one in range(pool.scene.max() + 1))
        ]
    )
    np.testing.assert_allclose(blocks, coarsen(exact))
    assert coarsen(exact)[..., -1].sum() == pytest.approx(
        pool.weight[(pool.stored[0, 0] == NODATA) & (pool.label[0] < 2)].sum()
    )


def test_the_choice_nearest_to_the_plain_one_is_taken_that_is_not_clearly_worse():
    scores = np.array([0.0, 0.5, 0.60, 0.61, 0.615, 0.62, 0.3])
    sure, unsure = np.tile(scores, (50, 1)), np.tile(scores, (50, 1))
    unsure[:, :5] += np.random.default_rng(0).normal(0, 0.015, (50, 1))
    assert one_standard_error.shrink_to_plain(scores, sure, best=5, plain=1) == 5
    assert one_standard_error.shrink_to_plain(scores, unsure, best=5, plain=1) == 3
    assert one_standard_error.shrink_to_plain(scores, unsure, best=5, plain=4) == 4
    assert one_standard_error.shrink_to_plain(scores, unsure, best=5, plain=6) == 5
    assert one_standard_error.shrink_to_plain(scores * np.nan, unsure * np.nan, best=1, plain=1) == 1


def smear(pool, seed):
    """Return the pool with probabilities that hardly any two pixels share."""
    moved = pool.stored + np.random.default_rng(seed).integers(0, 8000, pool.stored.shape).astype(np.uint16)
    return replace(pool, stored=np.where(pool.stored == NODATA, NODATA, moved).astype(np.uint16))


def test_the_more_scenes_there_are_the_less_the_best_threshold_moves():
    pools = [smear(make_pool(3, n=50 * n_scenes, n_scenes=n_scenes), 0) for n_scenes in (6, 60, 600)]
    spreads = [tune_pool(pool, pool.stored[0], objective("f2"), KELP).spread[0] for pool in pools]
    assert spreads[0] > 2 * spreads[2] > 0


def test_caution_goes_towards_a_half_and_the_further_the_less_is_known():
    moved = {n_scenes: [] for n_scenes in (6, 600)}
    for n_scenes, distances in moved.items():
        for seed in range(8):
            pool = smear(make_pool(seed, n=30 * n_scenes, n_scenes=n_scenes), seed)
            cautious, best = (
                tune_pool(pool, pool.stored[0], objective("f2"), KELP, caution=caution, centred=False).thresholds[0]
                for caution in (one_standard_error.CAUTION, 0)
            )
            assert abs(cautious - 0.5) <= abs(best - 0.5)
            distances.append(abs(cautious - best))
    assert np.mean(moved[6]) > 2 * np.mean(moved[600])


def test_tuning_keeps_the_default_where_a_half_is_as_good_as_the_best():
    pool = smear(make_pool(2, n=2000, n_scenes=20, noise=0), 2)
    sure = np.where(pool.label == 1, 60_000, 5_000).astype(np.uint16)[None]
    found = tune_pool(replace(pool, stored=sure), sure[0], objective("dice"), KELP)
    assert found.kept_default
    assert found.thresholds == (0.5,)


def test_a_pool_without_positives_keeps_a_half():
    pool = make_pool(0)
    empty = PixelPool(pool.stored, np.zeros_like(pool.label), pool.weight, pool.fold, pool.scene)
    for metric in ("dice", {"name": "dice", "over": "scenes", "empty": 1}):
        found = tune_pool(empty, empty.stored[0], objective(metric), KELP)
        assert found.thresholds == (0.5,)
        assert found.kept_default
