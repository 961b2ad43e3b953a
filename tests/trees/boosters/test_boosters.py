from dataclasses import replace

import numpy as np
import pytest
import xgboost
from scipy.special import softmax

from data.errors import MemberError
from data.gpus import count_gpus
from trees.boosters.booster import predict_proba
from trees.boosters.device import choose_device
from trees.boosters.lightgbm_booster import LightGBMLearner
from trees.boosters.xgboost_booster import XGBoostLearner
from trees.learning import LEARNERS
from trees.settings import TreeSettings

from ...conftest import learn, pick, table_of

KINDS = pytest.mark.parametrize("kind", LEARNERS.values(), ids=LEARNERS)
SETTINGS = TreeSettings(rounds=20, leaves=7, min_leaf_rows=5, learning_rate=0.3, patience=3, colsample=1)
NAMES = ["signal", "noise", "hole"]


def rows_of(labels=2, size=600, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, labels, size).astype(np.uint8)
    features = rng.normal(size=(size, 3)).astype(np.float32)
    features[:, 0] += 4 * label
    features[rng.random(size) < 0.5, 2] = np.nan
    return table_of(features, label, names=NAMES)


@KINDS
@pytest.mark.parametrize("labels", [2, 3])
def test_an_easy_problem_is_learned(kind, labels):
    booster = learn(kind, rows_of(labels), labels, SETTINGS)
    test = rows_of(labels, seed=1)
    proba = booster.predict_proba(test.read())
    assert proba.dtype == np.float32
    assert proba.shape == (len(test), 1 if labels == 2 else labels)
    right = (proba[:, 0] > 0.5) == test.label if labels == 2 else proba.argmax(axis=1) == test.label
    assert right.mean() > 0.9
    assert list(booster.importance()) == NAMES
    assert booster.importance()["signal"] > 0.8
    assert sum(booster.importance().values()) == pytest.approx(1)


@KINDS
def test_other_labels_of_the_same_rows_are_learned_as_if_they_were_the_only_ones(kind, tmp_path):
    rows, chosen = rows_of(2), np.arange(600) % 3 > 0
    other = (rows.read()[:, 1] > 0.5).astype(np.uint8)
    learner = kind(rows, 2, device="cpu")
    learner.fit(SETTINGS, chosen)
    for label, held in ((other, None), (rows.label, None), (other, ~chosen)):
        learner.relabel(label, np.ones(600, np.float32))
        alone = kind(replace(rows, label=label), 2, device="cpu")
        for name, one in (("again", learner), ("alone", alone)):
            one.fit(SETTINGS, chosen, held).save(tmp_path / name)
        assert (tmp_path / "again").read_bytes() == (tmp_path / "alone").read_bytes()


@KINDS
def test_other_weights_of_the_same_rows_are_learned_by(kind):
    rows, everything = rows_of(2), np.ones(600, bool)
    learner = kind(rows, 2, device="cpu")
    noise = rows.read()[:, 1]
    contested = (noise > 0).astype(np.uint8)
    # Each half of the rows says the opposite of the other; the one that weighs more is believed.
    contested[300:] = 1 - contested[300:]
    for half, sign in ((slice(300), 1), (slice(300, None), -1)):
        weight = np.ones(600, np.float32)
        weight[half] = 100
        learner.relabel(contested, weight)
        proba = learner.fit(SETTINGS, everything).predict_proba(rows.read())[:, 0]
        assert sign * np.corrcoef(proba, noise)[0, 1] > 0.5


@KINDS
def test_a_class_without_rows_keeps_its_place(kind):
    rows = rows_of(2)
    rows.label[rows.label == 1] = 2
    proba = learn(kind, rows, 3, SETTINGS).predict_proba(rows.read())
    assert proba.shape == (len(rows), 3)
    assert proba[:, 1].max() < 0.1
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)


@KINDS
@pytest.mark.parametrize("labels", [2, 3])
def test_a_saved_booster_predicts_the_same_to_the_bit(kind, labels, tmp_path):
    rows = rows_of(labels)
    booster = learn(kind, pick(rows, np.arange(600) < 400), labels, SETTINGS, stop=pick(rows, np.arange(600) >= 400))
    path = tmp_path / f"fold0{kind.booster.suffix}"
    booster.save(path)
    loaded = kind.booster.load(path)
    assert loaded.rounds == booster.rounds
    np.testing.assert_array_equal(loaded.predict_proba(rows.read()), booster.predict_proba(rows.read()))
    assert list(loaded.importance()) == NAMES


@KINDS
def test_the_same_seed_makes_the_same_file(kind, tmp_path):
    for name in ("a", "b"):
        learn(kind, rows_of(), 2, SETTINGS, seed=5).save(tmp_path / name)
    learn(kind, rows_of(), 2, SETTINGS.model_copy(update={"subsample": 0.5, "colsample": 0.4}), seed=6).save(
        tmp_path / "c"
    )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


@KINDS
def test_it_stops_when_held_out_rows_gain_no_more(kind):
    rows = rows_of()
    noise = table_of(rows.read(), np.random.default_rng(3).integers(0, 2, len(rows)), names=NAMES)
    assert learn(kind, rows, 2, SETTINGS).rounds == 20
    assert (learn(kind, rows, 2, SETTINGS, stop=noise).rounds < 20) == kind.stops
    assert learn(kind, rows, 2, SETTINGS.model_copy(update={"rounds": 4})).rounds == 4


@KINDS
def test_weights_count(kind):
    rows = rows_of()
    rare = table_of(rows.read()[:, 1:2], rows.label, np.where(rows.label == 1, 0.1, 1).astype(np.float32))
    weighted = learn(kind, rare, 2, SETTINGS).predict_proba(rare.read()).mean()
    assert weighted == pytest.approx(np.average(rows.label, weights=rare.weight), abs=0.03)


@KINDS
def test_an_unknown_parameter_is_answered_with_the_nearest(kind):
    settings = SETTINGS.model_copy(update={"parameters": {"max_dephth": 3}})
    with pytest.raises(MemberError, match=r"got max_dephth\. Did you mean .*max_depth"):
        learn(kind, rows_of(), 2, settings)


def test_xgboost_names_an_unknown_parameter_after_another_model_was_told_to_be_quiet():
    xgboost.train({"verbosity": 0, "nthread": 1}, xgboost.DMatrix(np.eye(4), [0, 1, 0, 1], nthread=1), 1)
    settings = SETTINGS.model_copy(update={"parameters": {"max_dephth": 3}})
    with pytest.raises(MemberError, match="got max_dephth"):
        learn(XGBoostLearner, rows_of(), 2, settings)


@KINDS
def test_a_known_parameter_reaches_the_library(kind, tmp_path):
    deep, flat = SETTINGS, SETTINGS.model_copy(update={"parameters": {"max_depth": 1}})
    for name, settings in (("deep", deep), ("flat", flat)):
        learn(kind, rows_of(), 2, settings).save(tmp_path / name)
    assert (tmp_path / "flat").stat().st_size < (tmp_path / "deep").stat().st_size


@KINDS
def test_a_damaged_file_is_named(kind, tmp_path):
    path = tmp_path / f"fold0{kind.booster.suffix}"
    path.write_bytes(b"\x80 not a model")
    with pytest.raises(MemberError, match=r"fold0.*(Train the member|Make it) again"):
        kind.booster.load(path)


@pytest.mark.parametrize("kind", [LightGBMLearner, XGBoostLearner])
def test_kinds_without_an_order_are_told_apart(kind):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 40, (4000, 1))
    label = np.isin(codes[:, 0], rng.permutation(40)[:20]).astype(np.uint8)
    rows = table_of(codes, label, names=["soil"])
    settings = SETTINGS.model_copy(update={"leaves": 4, "rounds": 3, "extra_trees": False})
    right = {}
    for categorical in ([], ["soil"]):
        booster = learn(kind, rows, 2, settings.model_copy(update={"categorical": categorical}))
        right[len(categorical)] = ((predict_proba(booster, rows.read())[:, 0] > 0.5) == label).mean()
    assert right[0] < 0.9
    assert right[1] > 0.97


@pytest.mark.parametrize("kind", [LightGBMLearner, XGBoostLearner])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_probability_only_rises_or_falls_with_a_monotone_column(kind, sign):
    rows = rows_of()
    booster = learn(kind, rows, 2, SETTINGS.model_copy(update={"monotone": {"noise": sign}}))
    line = np.zeros((200, 3), np.float32)
    line[:, 1] = np.linspace(-4, 4, 200)
    steps = sign * np.diff(predict_proba(booster, line)[:, 0])
    assert (steps >= 0).all()
    free = np.diff(predict_proba(learn(kind, rows, 2, SETTINGS), line)[:, 0])
    assert (sign * free < 0).any()


@KINDS
def test_rows_read_in_blocks_make_the_same_trees(kind, tmp_path):
    rows = rows_of()
    for n_blocks in (1, 7):
        blocks = table_of(rows.read(), rows.label, rows.weight, NAMES, n_blocks)
        learn(kind, blocks, 2, SETTINGS).save(tmp_path / str(n_blocks))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "7").read_bytes()


@KINDS
def test_a_learner_learns_the_same_whatever_it_has_learned_before(kind, tmp_path):
    rows, other = rows_of(), SETTINGS.model_copy(update={"leaves": 3, "min_leaf_rows": 40, "bins": 9})
    chosen = np.arange(len(rows)) % 3 > 0
    used = kind(rows, 2, device="cpu")
    used.fit(other, ~chosen, seed=4)
    for name, learner in (("used", used), ("fresh", kind(rows, 2, device="cpu"))):
        learner.fit(SETTINGS, chosen, seed=2).save(tmp_path / name)
    assert (tmp_path / "used").read_bytes() == (tmp_path / "fresh").read_bytes()


def test_lightgbm_reads_the_rows_once_for_all_folds_and_trials_and_again_for_other_bins():
    rows = rows_of()
    read = []
    for block in rows.blocks:
        block.read = lambda block=block: (read.append(block), block.features)[1]
    learner = LightGBMLearner(rows, 2)
    # Once to find bins, once to fill them.
    for part, values, times in [
        (0, {}, 2),
        (1, {}, 2),
        (2, {"leaves": 3, "min_leaf_rows": 1}, 2),
        (0, {"bins": 15}, 4),
    ]:
        learner.fit(SETTINGS.model_copy(update=values), np.arange(len(rows)) % 3 != part, seed=part)
        assert len(read) == times * len(rows.blocks)


def test_xgboost_keeps_what_it_has_binned_for_the_next_trial():
    rows, read = rows_of(), []
    for block in rows.blocks:
        block.read = lambda block=block: (read.append(block), block.features)[1]
    learner = XGBoostLearner(rows, 2)
    parts = [np.arange(len(rows)) % 3 != part for part in range(3)]
    before = [predict_proba(learner.fit(SETTINGS, part), rows.read()) for part in parts]
    read.clear()
    learner.fit(SETTINGS.model_copy(update={"leaves": 3}), parts[1])
    assert not read
    for part, proba in zip(parts, before, strict=True):
        np.testing.assert_array_equal(predict_proba(learner.fit(SETTINGS, part), rows.read()), proba)
    learner.most_kept = 0
    read.clear()
    learner.fit(SETTINGS, ~parts[0])
    assert read
    assert len(learner._kept) == 1


@pytest.mark.parametrize(
    ("kind", "name"), [("lightgbm", "max_bin"), ("xgboost", "max_bin"), ("catboost", "border_count")]
)
def test_the_number_of_bins_may_be_named_as_the_library_does(kind, name, tmp_path):
    kind = LEARNERS[kind]
    settings = SETTINGS.model_copy(update={"extra_trees": False})
    for file, values in (("setting", {"bins": 8}), ("parameter", {"parameters": {name: 8}}), ("neither", {})):
        learn(kind, rows_of(), 2, settings.model_copy(update=values)).save(tmp_path / file)
    proba = [kind.booster.load(tmp_path / file).predict_proba(rows_of().read()) for file in ("setting", "parameter")]
    np.testing.assert_array_equal(*proba)
    assert (tmp_path / "neither").read_bytes() != (tmp_path / "setting").read_bytes()


def test_a_gpu_that_is_not_there_is_said_at_once(monkeypatch, caplog):
    monkeypatch.setattr("trees.boosters.device.count_gpus", lambda: 0)
    with pytest.raises(MemberError, match="there is no CUDA device"):
        choose_device("cuda", "XGBoost", lambda: True)
    assert choose_device("auto", "XGBoost", lambda: True) == "cpu"
    monkeypatch.setattr("trees.boosters.device.count_gpus", lambda: 1)
    assert choose_device("auto", "XGBoost", lambda: True) == "cuda"
    with caplog.at_level("INFO", "trees"):
        assert [choose_device("auto", "Lightning trees", lambda: False) for _ in range(3)] == ["cpu"] * 3
    assert [one.message for one in caplog.records] == ["Lightning trees was built without CUDA: it runs on the CPU"]
    with pytest.raises(MemberError, match="LightGBM was built without CUDA"):
        choose_device("cuda", "LightGBM", lambda: False)


def margins(contributions):
    """Return the probabilities that sums of contributions make."""
    total = contributions.sum(axis=2, dtype=np.float64)
    return 1 / (1 + np.exp(-total)) if total.shape[1] == 1 else softmax(total, axis=1)


@KINDS
@pytest.mark.parametrize("labels", [2, 3])
def test_contributions_add_up_to_what_is_predicted(kind, labels):
    rows = rows_of(labels)
    booster = learn(kind, rows, labels, SETTINGS)
    features = rows.read()[:50]
    contributions = booster.contributions(features)
    if kind.library == "scikit-learn":
        assert contributions is None
        return
    assert contributions.dtype == np.float32
    assert contributions.shape == (50, 1 if labels == 2 else labels, 4)
    np.testing.assert_allclose(margins(contributions), booster.predict_proba(features), atol=2e-6)
    sizes = np.abs(contributions[:, :, :3]).mean(axis=0)
    assert (sizes.argmax(axis=1) == 0).all()
    np.testing.assert_array_equal(booster.contributions(features, threads=2), contributions)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "catboost"])
def test_contributions_of_kinds_without_an_order_add_up_too(name):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 9, (800, 2))
    label = np.isin(codes[:, 0], [1, 4, 7]).astype(np.uint8)
    rows = table_of(codes, label, names=["soil", "noise"])
    booster = learn(LEARNERS[name], rows, 2, SETTINGS.model_copy(update={"categorical": ["soil"]}))
    features = rows.read()[:40]
    np.testing.assert_allclose(margins(booster.contributions(features)), booster.predict_proba(features), atol=2e-6)


def test_linear_leaves_have_no_contributions():
    booster = learn(LightGBMLearner, rows_of(), 2, SETTINGS.model_copy(update={"parameters": {"linear_tree": True}}))
    assert booster.contributions(rows_of().read()[:5]) is None


@pytest.mark.gpu
def test_xgboost_learns_and_predicts_on_a_gpu(tmp_path):
    if count_gpus() == 0:
        pytest.skip("no CUDA device")
    kind, rows = LEARNERS["xgboost"], rows_of()
    proba = {}
    for device in ("cpu", "cuda"):
        learn(kind, rows, 2, SETTINGS, device=device).save(tmp_path / device)
        boosters = [kind.booster.load(tmp_path / device, where) for where in ("cpu", "cuda")]
        assert boosters[1].forest is None
        proba[device], there = (predict_proba(booster, rows.read()) for booster in boosters)
        np.testing.assert_allclose(there, proba[device], atol=1e-5)
    np.testing.assert_allclose(proba["cuda"], proba["cpu"], atol=0.05)


@KINDS
def test_names_with_signs_are_kept(kind, tmp_path):
    rows, names = rows_of(2), ("red, <665>", "NIR [842 nm]", 'a "b": {100%}')
    rows = table_of(rows.read(), rows.label, names=names)
    booster = learn(kind, rows, 2, SETTINGS.model_copy(update={"monotone": {}}))
    booster.save(tmp_path / "model")
    again = kind.booster.load(tmp_path / "model")
    assert tuple(again.importance()) == names
    np.testing.assert_array_equal(again.predict_proba(rows.read()), booster.predict_proba(rows.read()))


@KINDS
def test_a_class_without_rows_contributes_nothing(kind):
    rows = rows_of(2)
    rows.label[rows.label == 1] = 2
    contributions = learn(kind, rows, 3, SETTINGS).contributions(rows.read()[:20])
    if contributions is not None:
        assert contributions.shape == (20, 3, 4)
        assert np.abs(contributions[:, 2]).max() > 0.1
