import json
import logging
import sys
from dataclasses import replace

import numpy as np
import pytest

from data.errors import MemberError
from data.gpus import count_gpus
from trees.settings import TreeSettings

from ...conftest import learn, table_of

catboost = pytest.importorskip("catboost")

from trees.boosters.catboost_booster import CatBoostBooster, CatBoostLearner  # noqa: E402

SETTINGS = TreeSettings(booster="catboost", rounds=15, leaves=15, min_leaf_rows=5, learning_rate=0.3, colsample=1)
NAMES = ("kind", "full", "holed", "constant")
KIND, FULL, HOLED, CONSTANT = range(4)


def rows_of(labels=2, size=800, seed=0):
    """Rows with a kind from 0 to 5, of which even ones mean the first label, and numbers of which one has holes."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, labels, size).astype(np.uint8)
    features = rng.normal(size=(size, len(NAMES))).astype(np.float32) + label[:, None]
    features[:, KIND] = 2 * rng.integers(0, 3, size) + (label > 0)
    features[rng.random(size) < 0.4, HOLED] = np.nan
    features[:, CONSTANT] = 7
    return table_of(features, label, rng.uniform(0.5, 2, size).astype(np.float32), NAMES)


def fitted(labels=2, rows=None, stop=None, **values):
    return learn(
        CatBoostLearner, rows or rows_of(labels), labels, SETTINGS.model_copy(update=values), stop=stop, device="cpu"
    )


def as_json(booster, tmp_path):
    booster._model.save_model(str(tmp_path / "model.json"), format="json")
    return json.loads((tmp_path / "model.json").read_text())


@pytest.mark.parametrize("way", ["fit", "load"])
def test_a_library_that_is_not_installed_is_named_with_the_way_to_get_it(way, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(MemberError, match=r"expected CatBoost, it is not installed\. Install `terrablend\[catboost\]`"):
        fitted() if way == "fit" else CatBoostBooster.load(tmp_path / "fold0.cbm")


def test_nothing_is_printed_or_left_on_disk(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # What the library warns of goes to the log, which an earlier test may have turned to the screen.
    monkeypatch.setattr(logging.getLogger("trees.boosters.catboost_booster"), "disabled", True)
    rows = rows_of()
    rows.label[rows.label == 1] = 2
    assert fitted(3, rows, stop=rows_of(3, seed=1)).rounds > 0
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("leaves", "depth"), [(2, 1), (3, 2), (15, 4), (63, 6), (64, 6)])
def test_a_level_asks_all_rows_the_same(leaves, depth, tmp_path):
    trees = as_json(fitted(leaves=leaves), tmp_path)["oblivious_trees"]
    assert max(len(tree["splits"]) for tree in trees) == depth
    assert all(len(tree["leaf_values"]) == 2 ** len(tree["splits"]) for tree in trees)


def test_another_shape_heeds_the_leaves_and_rows_in_the_settings():
    shape = {"grow_policy": "Lossguide"}
    assert len(fitted(rounds=1, leaves=5, parameters=shape)._model.get_leaf_values()) == 5
    assert len(fitted(rounds=1, leaves=5, min_leaf_rows=1000, parameters=shape)._model.get_leaf_values()) == 1


@pytest.mark.parametrize(
    "parameters",
    [{"eta": 0.1}, {"max_bin": 20}, {"n_estimators": 4}, {"reg_lambda": 3}, {"bootstrap_type": "MVS"}],
    ids=lambda parameters: next(iter(parameters)),
)
def test_a_parameter_by_another_name_takes_the_place_of_the_setting(parameters):
    assert fitted(parameters=parameters).rounds == parameters.get("n_estimators", 15)


def test_a_wrong_value_is_refused_in_the_words_of_the_library():
    with pytest.raises(MemberError, match=r"could not learn from 800 rows.*Sideways"):
        fitted(parameters={"grow_policy": "Sideways"})


def test_kinds_are_told_apart_not_ordered():
    test = rows_of(seed=1)
    as_kinds = fitted(categorical=["kind"], leaves=4, rounds=30)
    right = (as_kinds.predict_proba(test.read())[:, 0] > 0.5) == test.label
    assert right.mean() > 0.97
    assert as_kinds.importance()["kind"] > 0.8
    assert list(as_kinds.importance()) == list(NAMES)


def test_no_value_is_a_kind_of_its_own_and_an_unseen_kind_is_none(tmp_path):
    rows = rows_of()
    features = rows_of().read()
    features[rows.label == 1, KIND] = np.nan
    rows = table_of(features, rows.label, rows.weight, NAMES)
    booster = fitted(rows=rows, categorical=["kind"], parameters={"one_hot_max_size": 10})
    path = tmp_path / "fold0.cbm"
    booster.save(path)
    odd = np.repeat(rows.read()[:1], 5, axis=0)
    odd[:, KIND] = np.nan, 0, 99, np.inf, 3e38
    proba = CatBoostBooster.load(path).predict_proba(odd)
    np.testing.assert_array_equal(proba, booster.predict_proba(odd))
    assert proba[0, 0] > 0.5 > proba[1, 0]
    assert np.isfinite(proba).all()
    assert list(CatBoostBooster.load(path).importance()) == list(NAMES)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_monotone_column_pushes_one_way_only(sign):
    rng = np.random.default_rng(0)
    value = rng.uniform(-3, 3, 2000).astype(np.float32)
    label = (rng.random(2000) < 0.5 + 0.4 * np.sin(2 * value)).astype(np.uint8)
    rows = table_of(np.stack([value, rng.normal(size=2000)], axis=1), label, names=("value", "noise"))
    line = np.stack([np.linspace(-3, 3, 500), np.zeros(500)], axis=1).astype(np.float32)

    def steps(**values):
        booster = learn(CatBoostLearner, rows, 2, SETTINGS.model_copy(update=values))
        return sign * np.diff(booster.predict_proba(line)[:, 0])

    assert steps().min() < -0.01
    assert steps(monotone={"value": sign}).min() >= 0


def test_monotone_columns_keep_it_off_a_gpu_that_need_not_be_used(monkeypatch):
    monkeypatch.setattr("trees.boosters.device.count_gpus", lambda: 1)
    monkeypatch.setattr("trees.boosters.catboost_booster._uses_cuda", lambda: True)
    settings = SETTINGS.model_copy(update={"monotone": {"full": 1}})
    assert learn(CatBoostLearner, rows_of(), 2, settings, device="auto").rounds == 15
    with pytest.raises(MemberError, match="monotone_constraints is unimplemented for task type GPU"):
        learn(CatBoostLearner, rows_of(), 2, settings, device="cuda")


@pytest.mark.gpu
def test_it_learns_the_same_on_a_gpu():
    if count_gpus() == 0:
        pytest.skip("no CUDA device")
    rows, stop = rows_of(), rows_of(seed=1)
    proba = {
        device: learn(CatBoostLearner, rows, 2, SETTINGS, stop=stop, device=device).predict_proba(rows.read())
        for device in ("cpu", "cuda")
    }
    assert np.corrcoef(proba["cpu"][:, 0], proba["cuda"][:, 0])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("labels", "monitor", "metric"),
    [
        (2, None, "F1:use_weights=true"),
        (3, None, "TotalF1:average=Macro;use_weights=true"),
        (2, "average_precision", "PRAUC:use_weights=true"),
        (3, "accuracy", "Accuracy:use_weights=true"),
    ],
)
def test_it_stops_by_a_weighted_metric_of_its_own(labels, monitor, metric):
    model = fitted(labels, stop=rows_of(labels, seed=1), monitor=monitor)._model
    assert metric in model.get_evals_result()["validation"]


def test_it_stops_by_log_loss_where_average_precision_is_of_one_label():
    stop = rows_of(seed=1)
    alone = replace(stop, label=np.zeros_like(stop.label))
    model = fitted(stop=alone, monitor="average_precision")._model
    assert list(model.get_evals_result()["validation"]) == ["Logloss"]


def test_trees_without_a_turn_give_no_feature_a_share():
    assert fitted(parameters={"depth": 0}).importance() == dict.fromkeys(NAMES, 0)
