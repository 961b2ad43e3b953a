import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, jaccard_score, roc_auc_score

from data.scenes.classes import Classes
from ensemble.score.row_scores import RowScores, score_rows

CROP = Classes("binary", (1,), ("crop",), ((0, 0, 0),))
SOIL = Classes("multiclass", (1, 2, 5), ("red", "cotton", "grey"), ((0, 0, 0),) * 3)


def random_rows(classes, seed, n=400, folds=3):
    """Rows that are predicted better than by chance; the weights are far from equal."""
    rng = np.random.default_rng(seed)
    n_labels = len(classes.label_names)
    label = rng.integers(0, n_labels, n).astype(np.uint8)
    logits = rng.normal(size=(n, n_labels)) + np.eye(n_labels)[label]
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    proba = proba[:, 1:] if classes.task == "binary" else proba
    weight = rng.choice([1.0, 2.5, 40.0], n).astype(np.float32)
    return label, proba.astype(np.float32), weight, rng.integers(0, folds, n).astype(np.int16)


def expected_scores(label, proba, weight, classes):
    """Score by scikit-learn."""
    binary = classes.task == "binary"
    prediction = (proba[:, 0] >= 0.5).astype(int) if binary else proba.argmax(axis=1)
    how = {"sample_weight": weight}
    labels = range(len(classes.label_names))
    f1 = f1_score(label, prediction, labels=labels, average=None, **how)
    iou = jaccard_score(label, prediction, labels=labels, average=None, **how)
    scores = {
        "accuracy": accuracy_score(label, prediction, **how),
        "kappa": cohen_kappa_score(label, prediction, **how),
        "macro Dice": f1.mean(),
        "macro IoU": iou.mean(),
        **{f"F1 of {name}": value for name, value in zip(classes.label_names, f1, strict=True)},
    }
    return scores | ({"Dice": f1[1], "IoU": iou[1], "AUC": roc_auc_score(label, proba[:, 0], **how)} if binary else {})


@given(st.integers(0, 999), st.sampled_from([CROP, SOIL]))
def test_scores_are_those_of_scikit_learn(seed, classes):
    label, proba, weight, fold = random_rows(classes, seed)
    scores = score_rows(label, proba, weight, fold, classes)
    assert dict(scores.pooled) == pytest.approx(expected_scores(label, proba, weight, classes))
    assert list(scores.by_fold) == [0, 1, 2]
    for one, found in scores.by_fold.items():
        here = fold == one
        assert dict(found) == pytest.approx(expected_scores(label[here], proba[here], weight[here], classes))


def test_a_weight_counts_as_that_many_rows():
    label, proba, weight, fold = random_rows(CROP, 5, n=60)
    times = np.round(weight).astype(int)
    often = [np.repeat(values, times, axis=0) for values in (label, proba, np.ones_like(weight), fold)]
    weighted = score_rows(label, proba, times.astype(np.float32), fold, CROP)
    assert dict(weighted.pooled) == pytest.approx(dict(score_rows(*often, CROP).pooled))


def test_a_probability_of_one_half_is_positive():
    half = np.full((2, 1), 0.5, np.float32)
    scores = score_rows(np.uint8([0, 1]), half, np.ones(2, np.float32), np.zeros(2, np.int16), CROP)
    assert scores.pooled["F1 of crop"] == pytest.approx(2 / 3)
    assert scores.pooled["F1 of background"] == 0


def test_a_fold_of_one_class_has_no_auc_and_the_others_keep_theirs():
    label, proba, weight, fold = random_rows(CROP, 1)
    label[fold == 1] = 1
    scores = score_rows(label, proba, weight, fold, CROP)
    assert np.isnan(scores.by_fold[1]["AUC"])
    aucs = [scores.by_fold[one]["AUC"] for one in (0, 2)]
    assert np.isfinite([scores.pooled["AUC"], *aucs]).all()
    (line,) = (line for line in scores.lines() if line.startswith("AUC"))
    assert line == f"AUC {scores.pooled['AUC']:.4f} (folds {min(aucs):.4f} to {max(aucs):.4f})"


def test_lines_say_the_pooled_score_and_the_range_of_the_folds():
    by_fold = {0: {"accuracy": 0.5, "F1 of crop": 0.25}, 1: {"accuracy": 1.0, "F1 of crop": float("nan")}}
    assert RowScores({"accuracy": 0.81236, "F1 of crop": 0.3}, by_fold).lines() == [
        "accuracy 0.8124 (folds 0.5000 to 1.0000)",
        "F1 of crop 0.3000 (folds 0.2500 to 0.2500)",
    ]
