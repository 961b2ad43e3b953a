import numpy as np
import pytest

from data.errors import MemberError
from trees.booster import Rows, predict_proba
from trees.device import choose_device, count_gpus
from trees.lightgbm_booster import LightGBMBooster
from trees.member import BOOSTERS
from trees.settings import TreeSettings
from trees.xgboost_booster import XGBoostBooster

KINDS = pytest.mark.parametrize("kind", BOOSTERS.values(), ids=BOOSTERS)
SETTINGS = TreeSettings(rounds=20, leaves=7, min_leaf_rows=5, learning_rate=0.3, patience=3, feature_share=1)
NAMES = ["signal", "noise", "hole"]


def rows_of(labels=2, size=600, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, labels, size).astype(np.uint8)
    features = rng.normal(size=(size, 3)).astype(np.float32)
    features[:, 0] += 4 * label
    features[rng.random(size) < 0.5, 2] = np.nan
    return Rows(features, label, np.ones(size, np.float32))


@KINDS
@pytest.mark.parametrize("labels", [2, 3])
def test_an_easy_problem_is_learned(kind, labels):
    booster = kind.fit(rows_of(labels), NAMES, labels, SETTINGS)
    test = rows_of(labels, seed=1)
    proba = booster.predict_proba(test.features)
    assert proba.dtype == np.float32
    assert proba.shape == (len(test), 1 if labels == 2 else labels)
    right = (proba[:, 0] > 0.5) == test.label if labels == 2 else proba.argmax(axis=1) == test.label
    assert right.mean() > 0.9
    assert list(booster.importance()) == NAMES
    assert booster.importance()["signal"] > 0.8
    assert sum(booster.importance().values()) == pytest.approx(1)


@KINDS
def test_a_class_without_rows_keeps_its_place(kind):
    rows = rows_of(2)
    rows.label[rows.label == 1] = 2
    proba = kind.fit(rows, NAMES, 3, SETTINGS).predict_proba(rows.features)
    assert proba.shape == (len(rows), 3)
    assert proba[:, 1].max() < 0.1
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)


@KINDS
@pytest.mark.parametrize("labels", [2, 3])
def test_a_saved_booster_predicts_the_same_to_the_bit(kind, labels, tmp_path):
    rows = rows_of(labels)
    booster = kind.fit(rows.take(np.arange(600) < 400), NAMES, labels, SETTINGS, stop=rows.take(np.arange(600) >= 400))
    path = tmp_path / f"fold0{kind.suffix}"
    booster.save(path)
    loaded = kind.load(path)
    assert loaded.rounds == booster.rounds
    np.testing.assert_array_equal(loaded.predict_proba(rows.features), booster.predict_proba(rows.features))
    assert list(loaded.importance()) == NAMES


@KINDS
def test_the_same_seed_makes_the_same_file(kind, tmp_path):
    for name in ("a", "b"):
        kind.fit(rows_of(), NAMES, 2, SETTINGS, seed=5).save(tmp_path / name)
    kind.fit(rows_of(), NAMES, 2, SETTINGS.model_copy(update={"row_share": 0.5, "feature_share": 0.4}), seed=6).save(
        tmp_path / "c"
    )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


@KINDS
def test_it_stops_when_held_out_rows_gain_no_more(kind):
    rows = rows_of()
    noise = Rows(rows.features, np.random.default_rng(3).integers(0, 2, len(rows)).astype(np.uint8), rows.weight)
    assert kind.fit(rows, NAMES, 2, SETTINGS).rounds == 20
    assert (kind.fit(rows, NAMES, 2, SETTINGS, stop=noise).rounds < 20) == kind.stops
    assert kind.fit(rows, NAMES, 2, SETTINGS, rounds=4).rounds == 4


@KINDS
def test_weights_count(kind):
    rows = rows_of()
    rare = Rows(rows.features[:, 1:2], rows.label, np.where(rows.label == 1, 0.1, 1).astype(np.float32))
    weighted = kind.fit(rare, ["noise"], 2, SETTINGS).predict_proba(rare.features).mean()
    assert weighted == pytest.approx(np.average(rows.label, weights=rare.weight), abs=0.03)


@KINDS
def test_an_unknown_parameter_is_answered_with_the_nearest(kind):
    settings = SETTINGS.model_copy(update={"parameters": {"max_dephth": 3}})
    with pytest.raises(MemberError, match=r"got max_dephth\. Did you mean .*max_depth"):
        kind.fit(rows_of(), NAMES, 2, settings)


@KINDS
def test_a_known_parameter_reaches_the_library(kind, tmp_path):
    deep, flat = SETTINGS, SETTINGS.model_copy(update={"parameters": {"max_depth": 1}})
    for name, settings in (("deep", deep), ("flat", flat)):
        kind.fit(rows_of(), NAMES, 2, settings).save(tmp_path / name)
    assert (tmp_path / "flat").stat().st_size < (tmp_path / "deep").stat().st_size


@KINDS
def test_a_damaged_file_is_named(kind, tmp_path):
    path = tmp_path / f"fold0{kind.suffix}"
    path.write_bytes(b"\x80 not a model")
    with pytest.raises(MemberError, match=r"fold0.*Train the member again"):
        kind.load(path)


@pytest.mark.parametrize("kind", [LightGBMBooster, XGBoostBooster])
def test_kinds_without_an_order_are_told_apart(kind):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 40, (4000, 1))
    label = np.isin(codes[:, 0], rng.permutation(40)[:20]).astype(np.uint8)
    rows = Rows(codes.astype(np.float32), label, np.ones(4000, np.float32))
    settings = SETTINGS.model_copy(update={"leaves": 4, "rounds": 3, "random_cuts": False})
    right = {}
    for categorical in ([], ["soil"]):
        booster = kind.fit(rows, ["soil"], 2, settings.model_copy(update={"categorical": categorical}))
        right[len(categorical)] = ((predict_proba(booster, rows.features)[:, 0] > 0.5) == label).mean()
    assert right[0] < 0.9
    assert right[1] > 0.97


@pytest.mark.parametrize("kind", [LightGBMBooster, XGBoostBooster])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_probability_only_rises_or_falls_with_a_monotone_column(kind, sign):
    rows = rows_of()
    booster = kind.fit(rows, NAMES, 2, SETTINGS.model_copy(update={"monotone": {"noise": sign}}))
    line = np.zeros((200, 3), np.float32)
    line[:, 1] = np.linspace(-4, 4, 200)
    steps = sign * np.diff(predict_proba(booster, line)[:, 0])
    assert (steps >= 0).all()
    free = np.diff(predict_proba(kind.fit(rows, NAMES, 2, SETTINGS), line)[:, 0])
    assert (sign * free < 0).any()


def test_a_gpu_that_is_not_there_is_said_at_once(monkeypatch):
    monkeypatch.setattr("trees.device.count_gpus", lambda: 0)
    with pytest.raises(MemberError, match="there is no CUDA device"):
        choose_device("cuda", "XGBoost", lambda: True)
    assert choose_device("auto", "XGBoost", lambda: True) == "cpu"
    monkeypatch.setattr("trees.device.count_gpus", lambda: 1)
    assert choose_device("auto", "XGBoost", lambda: True) == "cuda"
    assert choose_device("auto", "LightGBM", lambda: False) == "cpu"
    with pytest.raises(MemberError, match="LightGBM was built without CUDA"):
        choose_device("cuda", "LightGBM", lambda: False)


@pytest.mark.gpu
def test_xgboost_learns_on_a_gpu():
    if count_gpus() == 0:
        pytest.skip("no CUDA device")
    kind, rows = BOOSTERS["xgboost"], rows_of()
    proba = {
        device: kind.fit(rows, NAMES, 2, SETTINGS, device=device).predict_proba(rows.features)
        for device in ("cpu", "cuda")
    }
    np.testing.assert_allclose(proba["cuda"], proba["cpu"], atol=0.05)
