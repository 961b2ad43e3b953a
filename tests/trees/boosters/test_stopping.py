import numpy as np
import pytest
from sklearn import metrics as oracle

from trees.boosters.booster import predict_proba
from trees.boosters.catboost_booster import CatBoostLearner
from trees.boosters.stopping import score_held_out, stop_name
from trees.learning import LEARNERS
from trees.settings import TreeSettings

from ...conftest import join, table_of

KINDS = {name: kind for name, kind in LEARNERS.items() if kind.stops and kind is not CatBoostLearner}
NAMES = ["signal", "noise"]


def rows_of(labels=2, size=400, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, labels, size).astype(np.uint8)
    features = rng.normal(size=(size, 2)).astype(np.float32)
    features[:, 0] += 0.8 * label
    return table_of(features, label, rng.uniform(0.2, 3, size).astype(np.float32))


def test_scores_are_those_of_scikit_learn():
    rows = rows_of(size=300)
    proba = np.random.default_rng(1).random(300)
    weight = {"sample_weight": rows.weight}
    expected = {
        "iou": oracle.jaccard_score(rows.label, proba >= 0.5, **weight),
        "macro_iou": oracle.jaccard_score(rows.label, proba >= 0.5, average="macro", **weight),
        "accuracy": oracle.accuracy_score(rows.label, proba >= 0.5, **weight),
        "average_precision": oracle.average_precision_score(rows.label, proba, **weight),
        "log_loss": -oracle.log_loss(rows.label, proba, **weight),
    }
    for name, score in expected.items():
        assert score_held_out(name, rows.label, rows.weight, proba[:, None], 2) == pytest.approx(score)


def test_scores_of_several_classes_are_of_the_likeliest():
    rows = rows_of(3)
    proba = np.random.default_rng(1).dirichlet([1, 1, 1], len(rows))
    expected = oracle.jaccard_score(rows.label, proba.argmax(axis=1), average="macro", sample_weight=rows.weight)
    assert score_held_out("macro_iou", rows.label, rows.weight, proba, 3) == pytest.approx(expected)


def test_nothing_to_find_and_nothing_found_is_no_score():
    rows = rows_of()
    assert score_held_out("iou", rows.label * 0, rows.weight, np.zeros(len(rows)), 2) == 0


def test_the_score_is_by_default_that_of_the_map():
    assert stop_name(TreeSettings(), 2) == "iou"
    assert stop_name(TreeSettings(), 5) == "macro_iou"
    assert stop_name(TreeSettings(monitor="log_loss"), 5) == "log_loss"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    ("labels", "monitor"),
    [(2, "iou"), (2, "average_precision"), (2, "log_loss"), (3, "macro_iou"), (3, "accuracy"), (3, "log_loss")],
)
def test_the_round_that_scores_best_on_the_rows_held_out_is_kept(kind, labels, monitor):
    settings = TreeSettings(
        rounds=40, patience=8, leaves=6, min_leaf_rows=5, learning_rate=0.2, colsample=1, monitor=monitor
    )
    held = rows_of(labels, seed=1)
    rows, shown = join(rows_of(labels), held)
    learner = kind(rows, labels)
    chosen = learner.fit(settings, shown, ~shown)
    scores = [
        score_held_out(
            monitor,
            held.label,
            held.weight,
            predict_proba(learner.fit(settings.model_copy(update={"rounds": rounds}), shown), held.read()),
            labels,
        )
        for rounds in range(1, min(chosen.rounds + 8, 40) + 1)
    ]
    assert scores[chosen.rounds - 1] == pytest.approx(max(scores))
    assert max(scores[: chosen.rounds - 1], default=-np.inf) < max(scores)
