import zipfile

import numpy as np
import pytest

import trees.boosters.sklearn_boosters
from data.errors import MemberError
from trees.boosters.sklearn_boosters import HistGradientBoostingLearner, RandomForestLearner
from trees.settings import TreeSettings

from ...conftest import learn, pick, table_of

BOTH = pytest.mark.parametrize(
    ("kind", "values"),
    [
        (RandomForestLearner, {"extra_trees": False}),
        (RandomForestLearner, {"extra_trees": True}),
        (HistGradientBoostingLearner, {}),
    ],
    ids=["random_forest", "extra_trees", "hist_gradient_boosting"],
)
NAMES = ["full", "holed", "stepped"]


def rows_of(labels=2, size=500, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, labels, size).astype(np.uint8)
    features = rng.normal(size=(size, 3)).astype(np.float32) + label[:, None]
    features[rng.random(size) < 0.4, 1] = np.nan
    features[:, 2] = np.round(features[:, 2])
    return table_of(features, label, rng.uniform(0.5, 2, size).astype(np.float32), NAMES)


def settings_of(**values):
    return TreeSettings(**{"rounds": 15, "leaves": 12, "min_leaf_rows": 3, "learning_rate": 0.3} | values)


@pytest.fixture
def fit_both(monkeypatch):
    """Fit a booster and catch the model of scikit-learn that it was read from."""
    caught = []
    fit = trees.boosters.sklearn_boosters._fit
    monkeypatch.setattr(
        trees.boosters.sklearn_boosters, "_fit", lambda model, *rest: (caught.append(model), fit(model, *rest))
    )

    def fitted(kind, rows, labels, settings, **options):
        booster = learn(kind, rows, labels, settings, **options)
        return booster, caught[-1]

    return fitted


@BOTH
@pytest.mark.parametrize("labels", [2, 3])
def test_the_arrays_predict_what_scikit_learn_predicts(kind, values, labels, fit_both):
    booster, model = fit_both(kind, rows_of(labels), labels, settings_of(**values))
    rows = rows_of(labels, seed=1).read()
    # Missing where nothing was in training; and values that trees split at.
    rows[::7, 0] = np.nan
    rows[: len(booster.forest.splits.values[2]), 2] = np.nan_to_num(booster.forest.splits.values[2], posinf=9)
    expected = model.predict_proba(rows)[:, 1:] if labels == 2 else model.predict_proba(rows)
    np.testing.assert_allclose(booster.predict_proba(rows), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(booster.forest.predict_proba(rows), expected, rtol=0, atol=1e-6)


@BOTH
@pytest.mark.parametrize("absent", [0, 1, 2, 3])
def test_classes_that_were_never_seen_have_no_probability(kind, values, absent, fit_both):
    rows = rows_of(4)
    rows = pick(rows, ~np.isin(rows.label, [absent, 3]))
    booster, model = fit_both(kind, rows, 4, settings_of(**values))
    proba = booster.predict_proba(rows.read())
    np.testing.assert_allclose(proba[:, model.classes_], model.predict_proba(rows.read()), rtol=0, atol=1e-6)
    assert (proba[:, np.setdiff1d(range(4), model.classes_)] == 0).all()


def test_held_out_rows_may_be_of_a_class_never_learned():
    rows = rows_of(3)
    rows = pick(rows, rows.label < 2)
    booster = learn(HistGradientBoostingLearner, rows, 3, settings_of(), stop=rows_of(3, seed=1))
    assert booster.predict_proba(rows.read())[:, 2].max() == 0


@BOTH
def test_the_probability_rises_with_a_monotone_column(kind, values):
    rows = rows_of()
    settings = settings_of(**values, monotone={"full": -1, "stepped": 1})
    booster = learn(kind, rows, 2, settings)
    line = np.zeros((200, 3), np.float32)
    for column, sign in ((0, -1), (2, 1)):
        moved = line.copy()
        moved[:, column] = np.linspace(-5, 5, 200)
        assert (sign * np.diff(booster.predict_proba(moved)[:, 0]) >= -1e-7).all()


@BOTH
def test_what_it_cannot_do_is_said(kind, values):
    with pytest.raises(MemberError, match=r"categorical: expected none with .*got stepped\. Use lightgbm"):
        learn(kind, rows_of(), 2, settings_of(**values, booster="random_forest", categorical=["stepped"]))
    with pytest.raises(MemberError, match=r"scikit-learn was built without CUDA|there is no CUDA device"):
        learn(kind, rows_of(), 2, settings_of(**values), device="cuda")


@BOTH
def test_the_file_holds_arrays_and_text_alone(kind, values, tmp_path):
    learn(kind, rows_of(), 2, settings_of(**values)).save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
        assert arrays["split"].dtype == np.float32
        assert arrays["feature"].shape == arrays["left"].shape == arrays["missing"].shape
    with zipfile.ZipFile(tmp_path / "model.npz") as archive:
        assert {name.rpartition(".")[2] for name in archive.namelist()} == {"npy", "json"}


def test_a_forest_grows_to_all_its_trees_and_has_defaults_of_its_own():
    assert TreeSettings(booster="random_forest").rounds == 300
    assert not TreeSettings(booster="random_forest").extra_trees
    assert TreeSettings(booster="random_forest", rounds=7).rounds == 7
    assert TreeSettings().rounds == 600
    assert learn(RandomForestLearner, rows_of(), 2, settings_of(), stop=rows_of(seed=1)).rounds == 15
