from dataclasses import replace

import lightgbm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import data.compiled
from data.errors import MemberError
from trees.boosters.booster import predict_proba
from trees.boosters.catboost_booster import CatBoostLearner
from trees.boosters.lightgbm_booster import LightGBMBooster, LightGBMLearner, _last_to_go_left
from trees.boosters.sklearn_boosters import SklearnBooster
from trees.boosters.xgboost_booster import XGBoostLearner
from trees.forest.forest import Tree, Trees, build_forest
from trees.learning import LEARNERS
from trees.settings import TreeSettings

from ...conftest import learn, table_of

READ = {name: kind for name, kind in LEARNERS.items() if kind is not CatBoostLearner}
KINDS = pytest.mark.parametrize("kind", READ.values(), ids=READ)
LABELS = pytest.mark.parametrize("labels", [2, 3])
SETTINGS = TreeSettings(rounds=12, leaves=15, min_leaf_rows=2, learning_rate=0.3, colsample=1)
FULL, HOLED, STEPPED, CONSTANT = range(4)
NAMES = ("full", "holed", "stepped", "constant")


def fitted(kind, labels=2, size=800, seed=0, **values):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, labels, size).astype(np.uint8)
    features = rng.normal(size=(size, len(NAMES))).astype(np.float32) + label[:, None]
    features[rng.random(size) < 0.4, HOLED] = np.nan
    features[:, STEPPED] = np.round(features[:, STEPPED] * 2)
    features[:, CONSTANT] = 7
    return learn(kind, table_of(features, label, names=NAMES), labels, SETTINGS.model_copy(update=values), seed=seed)


def odd_rows(forest, size, seed):
    """Rows whose values are split values, their neighbours, nothing, infinite, huge, and in between."""
    rng = np.random.default_rng(seed)
    columns = []
    for values in forest.splits.values:
        own = values[np.isfinite(values)]
        with np.errstate(over="ignore"):
            near = np.concatenate([own, np.nextafter(own, np.float32(np.inf)), np.nextafter(own, np.float32(-np.inf))])
        fixed = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e-40, 1e-35, -1e-35, 3e38, -3e38], np.float32)
        columns.append(rng.choice(np.concatenate([near, fixed, rng.normal(size=20).astype(np.float32)]), size))
    return np.stack(columns, axis=1).astype(np.float32)


@KINDS
@LABELS
@pytest.mark.parametrize("extra_trees", [True, False])
def test_a_forest_predicts_what_the_library_predicts(kind, labels, extra_trees):
    booster = fitted(kind, labels, extra_trees=extra_trees)

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(st.integers(1, 300), st.integers(0, 10**6))
    def check(size, seed):
        rows = odd_rows(booster.forest, size, seed)
        proba = booster.forest.predict_proba(rows)
        assert proba.dtype == np.float32
        np.testing.assert_allclose(proba, booster.predict_proba(rows), rtol=0, atol=1e-6)

    check()


@KINDS
@LABELS
def test_many_trees_agree_with_the_library(kind, labels):
    booster = fitted(kind, labels, size=5000, rounds=120, leaves=63, learning_rate=0.1)
    rows = odd_rows(booster.forest, 5000, 1)
    np.testing.assert_allclose(booster.forest.predict_proba(rows), booster.predict_proba(rows), rtol=0, atol=1e-5)


@KINDS
def test_trees_without_a_turn_agree(kind):
    booster = fitted(kind, min_leaf_rows=10**6, parameters={"gamma": 1e9} if kind is XGBoostLearner else {})
    rows = odd_rows(booster.forest, 70, 0)
    assert len(booster.forest.nodes) == 0
    np.testing.assert_allclose(booster.forest.predict_proba(rows), booster.predict_proba(rows), rtol=0, atol=1e-6)


@KINDS
def test_a_loaded_booster_has_the_same_forest(kind, tmp_path):
    booster = fitted(kind, 3)
    booster.save(tmp_path / "model")
    rows = odd_rows(booster.forest, 100, 0)
    loaded = kind.booster.load(tmp_path / "model").forest
    np.testing.assert_array_equal(loaded.predict_proba(rows), booster.forest.predict_proba(rows))


def test_threads_order_and_layout_change_no_bit():
    forest = replace(fitted(LightGBMLearner, 3).forest, batch_rows=128)
    rows = odd_rows(forest, 1000, 2)
    expected = forest.predict_proba(rows)
    np.testing.assert_array_equal(forest.predict_proba(rows, threads=3), expected)
    np.testing.assert_array_equal(forest.predict_proba(np.asfortranarray(rows)), expected)
    shuffled = np.random.default_rng(0).permutation(1000)
    np.testing.assert_array_equal(forest.predict_proba(rows[shuffled]), expected[shuffled])
    assert forest.predict_proba(rows[:0]).shape == (0, 3)


def chain(splits):
    """A tree in which values up to its k-th split value, and no earlier one, end in leaf k, worth k / 1000."""
    turns = np.arange(len(splits))
    tree = Tree(
        np.zeros(len(splits), int),
        splits,
        np.ones(len(splits), bool),
        ~turns,
        np.append(turns[1:], ~len(splits)),
        np.arange(len(splits) + 1)[:, None] / 1e3,
    )
    return Trees.of([tree], np.zeros(1), 1, "identity")


@pytest.mark.parametrize("count", [1, 254, 255, 2000])
def test_any_number_of_split_values_is_told_apart(count):
    splits = np.sort(np.random.default_rng(0).normal(size=count).astype(np.float32) ** 5)
    trees = chain(splits)
    forest = build_forest(trees)
    assert forest.bin_kind == (np.uint8 if count < 255 else np.uint16)
    rows = np.concatenate([splits, np.nextafter(splits, np.float32(np.inf)), [np.nan, -np.inf, np.inf]])[:, None]
    expected = np.concatenate([np.searchsorted(splits, rows[:-3, 0]), [0, 0, count]]) / 1e3
    for way in (forest, trees):
        np.testing.assert_allclose(way.predict_proba(rows.astype(np.float32))[:, 0], expected, rtol=1e-6)


def test_more_split_values_than_can_be_told_apart_make_no_forest():
    assert build_forest(chain(np.arange(2**16, dtype=np.float32))) is None


def test_leaves_add_to_several_outputs_and_trees_to_their_own():
    split = np.array([0.5], np.float32)
    one = Tree(np.array([1]), split, np.array([False]), np.array([~0]), np.array([~1]), np.array([[1, 2], [3, 4]]), 1)
    bare = Tree(*np.empty((5, 0), int), np.array([[10, 20]]), 0)
    trees = Trees.of([one, bare, one], np.array([0.5, 0, 0]), 2, "identity")
    rows = np.array([[9, 0], [9, 1], [9, np.nan]], np.float32)
    expected = [[10.5, 22, 4], [10.5, 26, 8], [10.5, 26, 8]]
    for way in (build_forest(trees), trees):
        np.testing.assert_array_equal(way.predict_proba(rows), expected)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (LightGBMLearner, {"categorical_feature": "2"}),
        (LightGBMLearner, {"zero_as_missing": True}),
        (LightGBMLearner, {"linear_tree": True}),
        (LightGBMLearner, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
        (LightGBMLearner, {"sigmoid": 2.0}),
        (XGBoostLearner, {"booster": "dart"}),
        (XGBoostLearner, {"objective": "binary:hinge", "eval_metric": "error"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
def test_what_goes_beyond_is_left_to_the_library(kind, parameters):
    if "categorical_feature" in parameters:
        label = np.random.default_rng(0).integers(0, 2, 800)
        kinds = np.random.default_rng(1).integers(0, 5, (800, 1)) * (1 + label[:, None] * 2.0)
        data = lightgbm.Dataset(kinds, label, categorical_feature=[0])
        booster = LightGBMBooster(lightgbm.train({"objective": "binary", "verbosity": -1}, data, 3))
        rows = kinds.astype(np.float32)
    else:
        booster = fitted(kind, parameters=parameters)
        rows = np.random.default_rng(0).normal(size=(50, len(NAMES))).astype(np.float32)
    assert booster.forest is None
    np.testing.assert_array_equal(predict_proba(booster, rows), booster.predict_proba(rows))


def test_a_cut_of_float64_is_rounded_down():
    values = np.array([0.1, -0.1, 1e300, -1e300, 2.0**-100, np.pi, 5])
    last = _last_to_go_left(values)
    assert last.dtype == np.float32
    assert (last <= values).all()
    with np.errstate(over="ignore"):
        assert (np.nextafter(last, np.float32(np.inf)).astype(float) > values).all()


def test_what_is_next_to_nothing_goes_with_zero():
    nothing = np.float32(1e-35)
    assert _last_to_go_left(np.array([0.0, 1e-36, 1e-40])).tolist() == [nothing] * 3
    assert (_last_to_go_left(np.array([-1e-36, float(-nothing)])) < -nothing).all()


def test_what_cannot_be_kept_on_disk_is_compiled_all_the_same(monkeypatch):
    def njit(nogil, cache=False):
        def refuse(function):
            raise RuntimeError("cannot cache function: no locator available")

        return refuse if cache else (lambda function: function)

    monkeypatch.setattr(data.compiled, "njit", njit)
    assert data.compiled.compiled(len) is len


def three_trees():
    tree = Tree(
        np.array([1, 0]), np.float32([0.5, 0.1]), np.array([True, False]), np.array([1, -1]), np.array([-3, -2]),
        np.array([[-0.1], [0.2], [0.3]]),
    )  # fmt: skip
    return Trees.of([tree] * 3, np.zeros(1), 2, "sigmoid")


def as_file(trees, path, **changes):
    SklearnBooster(replace(trees, **changes), {"a": 0.5, "b": 0.5}, 3).save(path)
    return path


WRONG = {
    "an output that overflows": ("outputs", [2**31 - 1, 0, 0]),
    "an output before the first": ("outputs", [-1, 0, 0]),
    "a feature too many": ("feature", [1, 2, 1, 0, 1, 0]),
    "a root that is no node": ("roots", [0, 2, 9]),
    "a leaf that is none": ("left", [1, -9, 3, -4, 5, -7]),
    "a cycle": ("left", [1, 0, 3, -4, 5, -7]),
    "a split value that is none": ("split", [np.nan, 0.1, 0.5, 0.1, 0.5, 0.1]),
}


@pytest.mark.parametrize(("name", "values"), WRONG.values(), ids=WRONG)
def test_trees_that_compiled_code_would_not_survive_never_reach_it(tmp_path, name, values):
    trees = three_trees()
    assert SklearnBooster.load(as_file(trees, tmp_path / "sound.npz")).forest is not None
    wrong = {name: np.array(values, getattr(trees, name).dtype)}
    with pytest.raises(MemberError, match=r"fold0\.npz: expected trees as arrays, got a damaged file"):
        SklearnBooster.load(as_file(trees, tmp_path / "fold0.npz", **wrong))
    with pytest.raises(ValueError, match="that are"):
        build_forest(replace(trees, **wrong))


@pytest.mark.parametrize("changes", [{"n_features": 3}, {"left": np.zeros(6, np.int64)}, {"leaves": np.zeros(9)}])
def test_trees_of_other_kinds_and_sizes_are_refused(tmp_path, changes):
    with pytest.raises(MemberError, match=r"fold0\.npz: expected trees as arrays, got a damaged file"):
        SklearnBooster.load(as_file(three_trees(), tmp_path / "fold0.npz", **changes))


def test_rows_of_other_features_never_reach_compiled_code():
    forest = build_forest(three_trees())
    with pytest.raises(ValueError, match="expected 2 features, got 1"):
        forest.predict_proba(np.zeros((4, 1), np.float32))
