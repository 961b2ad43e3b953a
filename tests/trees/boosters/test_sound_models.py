import re

import lightgbm
import numpy as np
import pytest
import xgboost

from data.errors import MemberError
from trees.boosters.lightgbm_booster import LightGBMBooster
from trees.boosters.lightgbm_text import sound_lightgbm_text
from trees.boosters.xgboost_booster import XGBoostBooster
from trees.boosters.xgboost_ubjson import check_xgboost_ubjson, read_ubjson
from trees.forest.forest import check_children

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(300, 5)).astype(np.float32)
FEATURES[:, 4] = RNG.integers(0, 9, 300)
NAMES = list("abcde")

LIGHTGBM = {
    "plain": {},
    "of classes": {"objective": "multiclass", "num_class": 3},
    "of kinds": {"min_data_per_group": 5},
    "with linear leaves": {"linear_tree": True},
    "of leaves alone": {"min_data_in_leaf": 200},
}
XGBOOST = {
    "plain": {},
    "of classes": {"objective": "multi:softprob", "num_class": 3},
    "of kinds": {"max_cat_to_onehot": 2},
    "that dropped trees": {"booster": "dart", "rate_drop": 0.3},
    "of leaves alone": {"gamma": 1e9},
    "of forests": {"num_parallel_tree": 3, "subsample": 0.5},
}


def labels(options):
    return RNG.integers(0, options.get("num_class", 2), 300)


def lightgbm_text(options):
    parameters = {"objective": "binary", "num_leaves": 6, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    kinds = [4] if "min_data_per_group" in options else []
    rows = lightgbm.Dataset(FEATURES, labels(options), feature_name=NAMES, categorical_feature=kinds)
    return lightgbm.train(parameters | options, rows, 4).model_to_string()


def xgboost_bytes(options):
    kinds = [*"qqqq", "c" if "max_cat_to_onehot" in options else "q"]
    rows = xgboost.DMatrix(
        FEATURES, labels(options), feature_names=NAMES, feature_types=kinds, enable_categorical=True, nthread=1
    )
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "tree_method": "hist", "verbosity": 0}
    return bytes(xgboost.train(parameters | options, rows, 4).save_raw("ubj"))


@pytest.mark.parametrize("options", LIGHTGBM.values(), ids=LIGHTGBM)
def test_what_lightgbm_grows_is_sound_and_predicts_the_same_without_its_parameters(options):
    text = lightgbm_text(options)
    sound = lightgbm.Booster(model_str=sound_lightgbm_text(text))
    np.testing.assert_array_equal(sound.predict(FEATURES), lightgbm.Booster(model_str=text).predict(FEATURES))


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"left_child=\S+", "left_child=0", "children that are not those of a tree"),
        (r"split_feature=\S+", "split_feature=77", "a split of a feature that is none"),
        (r"num_leaves=6", "num_leaves=5000000", "numbers of leaf_value"),
        (r"(threshold=)\S+ ", r"\1", "numbers of threshold"),
        (r"max_feature_idx=4", "max_feature_idx=400", "features of 5 names"),
        (r"end of trees", "end of trées", "no end of its trees"),
        (r"Tree=2", "Tree=7", "not numbered through"),
        (r"num_class=1", "num_class=0", "trees of 0 classes"),
        (r"tree_sizes=\d", "tree_sizes=9", "trees of other sizes"),
        (r"binary sigmoid:1", "binary sigmoid:1\0", "a text that is none"),
        (r"internal_count=\S+", "internal_count=0\rleft_child=0 0", "left_child twice"),
        (r"binary sigmoid:1", "multiclass num_class:900", "an objective of other classes"),
        (r"objective=.*", "", "objective"),
        (r"binary sigmoid:1", "none", "a head of another kind of model"),
        (r"binary sigmoid:1", "regression", "a head of another kind of model"),
        (r"left_child=\S+", "left_child=1_0", "numbers of left_child that are none"),
        (r"left_child=\S+", "left_child=1.0", "numbers of left_child that are none"),
        ("num_leaves=6", "num_leaves=\u0666", "numbers of num_leaves that are none"),
    ],
)
def test_a_text_that_lightgbm_would_not_survive_never_reaches_it(tmp_path, monkeypatch, pattern, replacement, message):
    text = re.sub(pattern, replacement, lightgbm_text({}), count=1)
    if not pattern.startswith(("tree_sizes", "Tree", "end")):
        sizes = [len(tree.encode()) for tree in re.findall(r"Tree=.*?(?=Tree=|end of trees)", text, re.DOTALL)]
        text = re.sub(r"tree_sizes=.*", "tree_sizes=" + " ".join(map(str, sizes)), text)
    (tmp_path / "fold0.txt").write_text(text)
    monkeypatch.setattr(lightgbm, "Booster", None)
    with pytest.raises(MemberError, match=rf"fold0\.txt: expected a LightGBM model, got: .*{message}"):
        LightGBMBooster.load(tmp_path / "fold0.txt")


@pytest.mark.parametrize("options", XGBOOST.values(), ids=XGBOOST)
def test_what_xgboost_grows_is_sound(options):
    data = xgboost_bytes(options)
    check_xgboost_ubjson(data)
    assert read_ubjson(data)["learner"]["feature_names"] == NAMES


@pytest.mark.parametrize("name", ["left_children", "right_children", "split_indices", "parents"])
def test_a_model_that_xgboost_would_not_survive_never_reaches_it(tmp_path, monkeypatch, name):
    data = bytearray(xgboost_bytes({}))
    place = data.index(name.encode()) + len(name) + len("[$l#L") + 8
    for wrong in (b"\x7f\xff\xff\xf0", b"\x00\x00\x00\x00\x00\x00\x00\x00"):
        copy = data.copy()
        copy[place : place + len(wrong)] = wrong
        if copy == data:
            continue
        (tmp_path / "fold0.ubj").write_bytes(copy)
        with monkeypatch.context() as patch:
            patch.setattr(xgboost.Booster, "load_model", None)
            with pytest.raises(MemberError, match=r"fold0\.ubj: expected an XGBoost model, got"):
                XGBoostBooster.load(tmp_path / "fold0.ubj")


def test_a_truncated_model_asks_for_no_memory(tmp_path):
    data = xgboost_bytes({})
    for end in range(0, len(data), 97):
        with pytest.raises((ValueError, KeyError)):
            check_xgboost_ubjson(data[:end])


@pytest.mark.parametrize(
    ("left", "right", "n_leaves"),
    [
        ([0, -1], [-3, -2], 3),
        ([1, 0], [-3, -2], 3),
        ([1, -1], [-1, -2], 3),
        ([1, -1], [-3, -9], 3),
        ([2, -1], [-3, -2], 3),
    ],
    ids=["own child", "cycle", "leaf twice", "no leaf", "no node"],
)
def test_children_make_a_tree(left, right, n_leaves):
    check_children(np.array([1, -1]), np.array([-3, -2]), 3)
    check_children(np.array([]), np.array([]), 1)
    with pytest.raises(ValueError, match="children that are not those of a tree"):
        check_children(np.array(left), np.array(right), n_leaves)
