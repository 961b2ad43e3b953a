"""The table of scores: against scikit-learn for tags, and against itself in its differences."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, fbeta_score, jaccard_score

from data.scenes.classes import Classes
from ensemble import BLEND, EnsembleSettings, score_table
from ensemble.score.evaluation import Evaluation
from ensemble.score.scores import label_metrics, suitable_metrics

from ..conftest import KELP, LAND

TAGS = Classes("multilabel", (0, 1, 2), ("clear", "river", "road"), ((0, 0, 0),) * 3)
SETTINGS = EnsembleSettings()


def tag_counts(label, prediction):
    """Return the counts (n_scenes, K, 2, 3) of scenes' tags (n_scenes, K)."""
    counts = np.zeros((*label.shape, 2, 3), np.int64)
    scene, tag = np.indices(label.shape)
    counts[scene, tag, label, prediction] = 1
    return counts


def make_evaluation(candidates, final=BLEND, folds=2):
    """Return an evaluation of counts of scenes, candidate → (n_scenes, …)."""
    n_scenes = len(next(iter(candidates.values())))
    scenes = [f"s{number}" for number in range(n_scenes)]
    return Evaluation(
        "train",
        {name: dict(zip(scenes, counts, strict=True)) for name, counts in candidates.items()},
        {scene: f"g{number // 2}" for number, scene in enumerate(scenes)},
        final,
        {scene: number % folds for number, scene in enumerate(scenes)},
    )


def random_counts(classes, seed, n_scenes=8):
    n = len(classes.label_names)
    rng = np.random.default_rng(seed)
    if classes.task == "multilabel":
        return tag_counts(rng.integers(0, 2, (n_scenes, n)), rng.integers(0, 2, (n_scenes, n)))
    return rng.integers(1, 50, (n_scenes, 1, n, n + 1)) + 40 * np.eye(n, n + 1, dtype=np.int64)


@given(st.integers(0, 99))
def test_scores_of_tags_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    label, prediction = rng.integers(0, 2, (2, 40, 3))
    pooled = tag_counts(label, prediction).sum(axis=0)
    how = {"zero_division": np.nan}
    expected = {
        "dice": lambda average: f1_score(label, prediction, average=average, **how),
        "f2": lambda average: fbeta_score(label, prediction, beta=2, average=average, **how),
        "iou": lambda average: jaccard_score(label, prediction, average=average, zero_division=0),
    }
    metrics = suitable_metrics(TAGS)
    assert set(metrics) == {f"{average}_{name}" for name in expected for average in ("micro", "macro")}
    for name, score in expected.items():
        for average in ("micro", "macro"):
            assert metrics[f"{average}_{name}"].score(pooled) == pytest.approx(score(average))
    np.testing.assert_allclose(label_metrics(TAGS)["dice"].score(pooled), expected["dice"](None))


def test_micro_and_macro_differ_where_a_rare_tag_is_missed():
    label = np.array([[1, 0, 0]] * 9 + [[1, 1, 1]])
    prediction = label.copy()
    prediction[-1, 1:] = 0
    pooled = tag_counts(label, prediction).sum(axis=0)
    assert suitable_metrics(TAGS)["micro_dice"].score(pooled) == pytest.approx(20 / 22)
    assert suitable_metrics(TAGS)["macro_dice"].score(pooled) == pytest.approx(1 / 3)


@pytest.mark.parametrize("classes", [KELP, LAND, TAGS])
def test_every_candidate_has_every_score_in_every_scope(classes):
    names = ("one", "two", BLEND)
    evaluation = make_evaluation({name: random_counts(classes, seed) for seed, name in enumerate(names)})
    table = score_table([evaluation], classes, SETTINGS)
    whole = {*suitable_metrics(classes), "objective"}
    for candidate in names:
        rows = table.filter(pl.col("candidate") == candidate)
        gains = {"gain", "scene gain"} if candidate != BLEND else set()
        scopes = {"pooled", "scene mean", "fold 0", "fold 1", "folds"} | gains
        assert set(rows["scope"]) == scopes
        for scope in scopes:
            here = rows.filter((pl.col("scope") == scope) & (pl.col("label") == ""))
            # What is optimised adds scenes up one way alone, here by pixels.
            assert set(here["metric"]) == whole - ({"objective"} if scope.startswith("scene") else set())
            assert here["metric"].is_unique().all()
        of_labels = rows.filter((pl.col("scope") == "pooled") & (pl.col("label") != ""))
        assert of_labels.select("label", "metric").rows() == [
            (label, metric) for metric in ("iou", "dice", "precision", "recall") for label in classes.label_names
        ]


@pytest.mark.parametrize("classes", [KELP, LAND, TAGS])
def test_a_gain_is_what_is_used_minus_the_candidate_without_the_same_groups(classes):
    candidates = {"one": random_counts(classes, 0), "two": random_counts(classes, 1)}
    table = score_table([make_evaluation(candidates, final="two")], classes, SETTINGS)
    by_group = make_evaluation(candidates).by_group()
    assert set(table.filter(pl.col("scope") == "gain")["candidate"]) == {"one"}
    for name, metric in suitable_metrics(classes).items():
        row = table.filter((pl.col("scope") == "gain") & (pl.col("metric") == name) & (pl.col("label") == ""))
        gain = (by_group["two"].score(metric) - by_group["one"].score(metric)).interval(0.95)
        assert row.select("value", "low", "high").row(0) == pytest.approx(
            (gain.value, gain.low, gain.high), nan_ok=True
        )
    iou = {
        (row["candidate"], row["scope"]): row["value"]
        for row in table.filter((pl.col("metric") == "iou") & (pl.col("label") == classes.names[-1])).rows(named=True)
    }
    assert iou["one", "gain"] == pytest.approx(iou["two", "pooled"] - iou["one", "pooled"])


def test_folds_are_told_one_by_one_and_by_their_mean_least_and_most():
    evaluation = make_evaluation({BLEND: random_counts(LAND, 3, n_scenes=9)}, folds=3)
    table = score_table([evaluation], LAND, SETTINGS)
    own = table.filter(pl.col("metric") == "macro_iou")
    single = [own.filter(pl.col("scope") == f"fold {fold}")["value"].item() for fold in range(3)]
    expected = [float(suitable_metrics(LAND)["macro_iou"].score(evaluation.total(BLEND, fold))) for fold in range(3)]
    assert single == expected
    folds = own.filter(pl.col("scope") == "folds").select("value", "low", "high").row(0)
    assert folds == pytest.approx((np.mean(expected), min(expected), max(expected)))


def test_what_is_optimised_over_scenes_stands_in_the_table_as_their_mean():
    settings = EnsembleSettings(metric={"name": "f2", "over": "scenes"})
    counts = random_counts(TAGS, 5)
    table = score_table([make_evaluation({BLEND: counts})], TAGS, settings)
    row = table.filter((pl.col("metric") == "objective") & (pl.col("scope") == "scene mean")).row(0, named=True)
    label, prediction = counts[..., 1, :].any(axis=-1), counts[..., 1].any(axis=-1)
    scores = [fbeta_score(a, b, beta=2) for a, b in zip(label, prediction, strict=True) if a.any()]
    assert row["value"] == pytest.approx(np.mean(scores))
    assert row["low"] <= row["value"] <= row["high"]


def test_users_and_producers_accuracy_are_named_in_the_meanings():
    meanings = {name: metric.meaning for name, metric in label_metrics(KELP).items()}
    assert "user's accuracy" in meanings["precision"]
    assert "producer's accuracy" in meanings["recall"]
    assert "share of what is mapped as a tag" in label_metrics(TAGS)["precision"].meaning
