import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

import terrablend as tb
from data.errors import EnsembleError

N, GROUPS = 1200, 24


def made_up(kind, seed=0):
    """Return two members' probabilities, and labels; in 24 groups."""
    rng = np.random.default_rng(seed)
    group = np.arange(N) // (N // GROUPS)
    if kind == "tags":
        y = (rng.random((N, 3)) < (0.4, 0.2, 0.1)).astype(int)
        logits = 2.5 * (y - 0.5) - 0.8
        probas = [1 / (1 + np.exp(-(logits + rng.normal(size=y.shape)))) for _ in range(2)]
    elif kind == "classes":
        names = np.array(["forest", "sand", "water"])
        place = rng.choice(3, N, p=[0.6, 0.3, 0.1])
        y = names[place]
        logits = [2 * np.eye(3)[place] + rng.normal(size=(N, 3)) for _ in range(2)]
        probas = [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in logits]
    else:
        y = rng.random(N) < 0.2
        probas = [1 / (1 + np.exp(-(3 * y - 2.5 + rng.normal(size=N)))) for _ in range(2)]
    return dict(zip("ab", probas, strict=True)), y, group


@pytest.mark.parametrize(("kind", "metric"), [("binary", "dice"), ("classes", "macro_iou"), ("tags", "macro_dice")])
def test_a_blend_is_scored_by_what_it_predicts_out_of_fold(kind, metric, tmp_path):
    probas, y, group = made_up(kind)
    decision = tb.blend(probas, y, groups=group, metric=metric)
    average = "binary" if kind == "binary" else "macro"
    if metric != "macro_iou":
        assert decision.score_ == pytest.approx(f1_score(y, decision.oof_, average=average), abs=1e-9)
    else:
        ious = [((y == c) & (decision.oof_ == c)).sum() / ((y == c) | (decision.oof_ == c)).sum() for c in np.unique(y)]
        assert decision.score_ == pytest.approx(np.mean(ious))
    low, high = decision.interval_
    assert low < decision.score_ < high
    assert sum(decision.weights_.values()) == pytest.approx(1)
    assert len(decision.worths_) == 2
    assert decision.predict_proba(probas).shape == probas["a"].shape
    prediction = decision.predict(probas)
    assert prediction.shape == y.shape
    assert accuracy_score(y, prediction) > 0.55
    assert {"pooled", "gain"} <= set(decision.scores_["scope"])
    decision.save(tmp_path / "decision.json")
    again = tb.load_decision(tmp_path / "decision.json")
    assert again == decision
    assert (again.predict(probas) == prediction).all()


def test_labels_and_probabilities_may_have_any_form():
    probas, y, group = made_up("binary")
    plain = tb.blend(probas, y, groups=group, metric="dice")
    both = {name: np.column_stack([1 - proba, proba]) for name, proba in probas.items()}
    words = np.where(y, "kelp", "background")
    slashed = [f"./{one}" for one in group]
    other = tb.blend(
        {name: pd.DataFrame(proba) for name, proba in both.items()},
        pd.Series(words[::1]),
        groups=pl.Series(slashed),
        metric="dice",
    )
    # Classes are in sorted order, as scikit-learn has them.
    assert other.thresholds_.keys() == {"kelp"}
    assert other.score_ == plain.score_
    assert set(other.predict(both)) == {"kelp", "background"}
    assert other.predict_proba(both).shape == (N, 2)
    assert other.predict_proba(both).sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_rows_without_a_label_or_a_prediction():
    probas, y, group = made_up("binary")
    unknown = y.astype(float)
    unknown[:200] = np.nan
    kept = slice(200, None)
    decision = tb.blend(probas, unknown, groups=group, folds=group % 4, metric="dice")
    fewer = tb.blend(
        {name: proba[kept] for name, proba in probas.items()},
        y[kept],
        groups=group[kept],
        folds=group[kept] % 4,
        metric="dice",
    )
    assert decision.score_ == fewer.score_
    probas["a"][300] = probas["b"][300] = np.nan
    assert tb.blend(probas, y, groups=group, metric="dice").predict(probas)[300] is None


def test_thresholds_are_those_of_the_metric():
    probas, y, group = made_up("binary")
    tuned = tb.tune_thresholds(y, probas["a"], groups=group, metric="f2")
    careful = tb.tune_thresholds(y, probas["a"], groups=group, metric={"name": "recall_at_precision", "at_least": 0.9})
    [low], [high] = tuned.thresholds_.values(), careful.thresholds_.values()
    assert low < high
    assert (tuned.predict(probas["a"]) == (probas["a"] >= low - 1e-4)).mean() > 0.99


def test_calibrated_probabilities_have_less_log_loss():
    probas, y, group = made_up("binary")
    sharp = 1 / (1 + np.exp(-4 * np.log(probas["a"] / (1 - probas["a"]))))
    calibrated = tb.calibrate(y, sharp, groups=group)
    assert log_loss(y, calibrated.predict_proba(sharp)) < log_loss(y, np.clip(sharp, 1e-6, 1 - 1e-6)) - 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(7)}, "expected a label for each of the rows"),
        ({"y": np.zeros(N)}, "expected labels of 2 classes, as there are probabilities, got 1: 0"),
        ({"probas": {}}, "expected probabilities of members by name, got none"),
        ({"metric": "mcc"}, "expected one of dice"),
        ({"groups": np.zeros(N)}, "expected at least two groups"),
        ({"flavour": 3}, "flavour: Extra inputs|flavour"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    probas, y, group = made_up("binary")
    values = {"probas": probas, "y": y, "groups": group} | change
    with pytest.raises(EnsembleError, match=message):
        tb.blend(values.pop("probas"), values.pop("y"), **values)


def test_new_rows_need_the_members_that_have_weight():
    probas, y, group = made_up("binary")
    decision = tb.blend(probas, y, groups=group)
    with pytest.raises(EnsembleError, match="expected probabilities of a, b by name, got a"):
        decision.predict({"a": probas["a"]})
    with pytest.raises(EnsembleError, match="expected probabilities"):
        decision.predict(probas["a"])
