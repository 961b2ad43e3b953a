import inspect

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, PredefinedSplit, TimeSeriesSplit, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import terrablend as tb
from data.errors import EnsembleError

N, GROUPS = 400, 20
QUICK = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_parameters_default_constructible",
    "check_estimators_unfitted",
    "check_no_attributes_set_in_init",
    "check_classifiers_one_label",
    "check_estimators_empty_data_messages",
    "check_requires_y_none",
    "check_get_params_invariance",
    "check_set_params",
    "check_all_zero_sample_weights_error",
    "check_sample_weights_shape",
    "check_supervised_y_no_nan",
)
"""Checks that fit little; all of them take minutes."""


def makers():
    line, bayes = LogisticRegression(C=1), GaussianNB()
    return [tb.ThresholdTuner(line), tb.BlendClassifier([("line", line), ("bayes", bayes)])]


@pytest.fixture
def rows():
    """Return columns of which two tell kelp, which is rare, and the place of each row."""
    rng = np.random.default_rng(0)
    group = np.arange(N) // (N // GROUPS)
    y = np.where(rng.random(N) < 0.15, "kelp", "sea")
    x = (
        rng.normal(size=(N, 4))
        + 0.9 * (y == "kelp")[:, None] * (1, 1, 0, 0)
        + 0.3 * rng.normal(size=GROUPS)[group, None]
    )
    return x, y, group


@pytest.mark.slow
@pytest.mark.parametrize("estimator", makers(), ids=lambda made: type(made).__name__)
def test_scikit_learn_accepts_the_estimators(estimator):
    failed = [check for check in check_estimator(estimator, on_fail=None, on_skip=None) if check["status"] == "failed"]
    assert [(check["check_name"], str(check["exception"])) for check in failed] == []


@pytest.mark.parametrize("estimator", makers(), ids=lambda made: type(made).__name__)
def test_scikit_learn_accepts_how_the_estimators_are_made(estimator):
    done = set()
    for made, check in estimator_checks_generator(estimator):
        name = getattr(check, "func", check).__name__
        if name in QUICK:
            check(made)
            done.add(name)
    assert len(done) >= len(QUICK) - 2, "a check has another name"


def test_a_tuner_decides_as_tune_thresholds_does(rows):
    x, y, group = rows
    tuner = tb.ThresholdTuner(LogisticRegression(), metric="f2", cv=PredefinedSplit(group % 4)).fit(x, y, groups=group)
    proba = cross_val_predict(LogisticRegression(), x, y, cv=PredefinedSplit(group % 4), method="predict_proba")
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    tuned = tb.tune_thresholds(y, proba, metric="f2", groups=group, folds=group % 4, seed=seed)
    assert tuner.decision_.thresholds_ == tuned.thresholds_
    assert tuner.decision_.interval_ == tuned.interval_
    own = LogisticRegression().fit(x, y)
    assert (tuner.predict(x) == tuned.predict(own.predict_proba(x))).all()
    assert tuner.classes_.tolist() == ["kelp", "sea"]
    np.testing.assert_array_equal(tuner.estimator_.coef_, own.coef_)


def test_frames_of_pandas_and_polars_in_a_pipeline(rows):
    x, y, group = rows
    names = ["red", "nir", "NDVI", "dem"]
    made = make_pipeline(StandardScaler(), tb.ThresholdTuner(LogisticRegression(), metric="f2"))
    plain = made.fit(x, y, thresholdtuner__groups=group).predict(x)
    for frame in (pd.DataFrame(x, columns=names), pl.DataFrame(x, schema=names)):
        blend = makers()[1].fit(frame, pd.Series(y), groups=pl.Series(group))
        assert blend.feature_names_in_.tolist() == names
        assert set(blend.predict(frame)) == {"kelp", "sea"}
        found = made.fit(frame, pl.Series(y), thresholdtuner__groups=group).predict(frame)
        assert (found == plain).all()


def test_groups_are_routed_without_being_asked_for(rows):
    x, y, group = rows
    with sklearn.config_context(enable_metadata_routing=True):
        tuner = tb.ThresholdTuner(LogisticRegression().set_fit_request(sample_weight=True))
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, tuner.set_fit_request(sample_weight=True))
        weight = np.where(y == "kelp", 2.0, 1.0)
        found = routed.fit(x, y, groups=group, sample_weight=weight)[-1].decision_
        search = GridSearchCV(tb.ThresholdTuner(LogisticRegression()), {"estimator__C": [0.1, 1]}, cv=GroupKFold(2))
        assert search.fit(x, y, groups=group).best_estimator_.decision_.ensemble.members == ("model",)
    direct = make_pipeline(StandardScaler(), tb.ThresholdTuner(LogisticRegression()))
    direct.fit(x, y, thresholdtuner__groups=group, thresholdtuner__sample_weight=weight)
    assert found.score_ == direct[-1].decision_.score_
    assert found.interval_ == direct[-1].decision_.interval_
    alone = direct.fit(x, y)[-1].decision_
    assert alone.interval_ != found.interval_


@pytest.mark.slow
def test_a_blend_of_tags(rows):
    x, y, group = (part[:120] for part in rows)
    tags = np.column_stack([y == "kelp", x[:, 2] > 0.5]).astype(int)
    members = [("near", KNeighborsClassifier()), ("trees", RandomForestClassifier(10, random_state=0))]
    blend = tb.BlendClassifier(members, metric="macro_dice").fit(x, tags, groups=group)
    assert blend.predict(x).shape == blend.predict_proba(x).shape == tags.shape
    assert (blend.predict(x) == tags).mean() > 0.8
    assert blend.named_estimators_.near.n_neighbors == 5
    assert blend.set_params(near__n_neighbors=3).get_params()["near__n_neighbors"] == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cv": TimeSeriesSplit(3)}, ValueError, "hold each row out once"),
        ({"cv": PredefinedSplit(np.arange(N) % 3), "groups": np.arange(N) // 20}, EnsembleError, "each group in one"),
        ({"settings": {"colour": 1}}, EnsembleError, "colour"),
        (
            {"estimator": KNeighborsClassifier(), "sample_weight": np.ones(N)},
            TypeError,
            "model: expected one whose fit",
        ),
        ({"colour": 1}, TypeError, "expected groups and sample_weight, got colour"),
        ({"sample_weight": np.zeros(N)}, ValueError, "above zero somewhere"),
        ({"sample_weight": np.ones((N, 2))}, ValueError, "a number a row"),
    ],
)
def test_what_cannot_be_held_out_is_refused(rows, change, error, message):
    x, y, _ = rows
    given = {"estimator": LogisticRegression(), **change}
    made = {key: given.pop(key) for key in list(given) if key in inspect.signature(tb.ThresholdTuner).parameters}
    with pytest.raises(error, match=message):
        tb.ThresholdTuner(**made).fit(x, y, **given)
