import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import jaccard_score, log_loss

import trees.explain
from data.scenes.classes import Classes
from features import FeatureSet, build_table
from features.explanation import load_explanation
from features.scene_features import SceneFeatureSet
from features.scene_table import build_scene_table, open_scene_table
from features.settings import SampleSettings
from features.table import open_table
from trees import TreeMember, TreeSettings, fit_member, load_member, open_training_rows
from trees.boosters.booster import predict_proba
from trees.explain import SHAP, SHUFFLING, Budget, explain_member

from ..conftest import BANDS, LAND

NAMES = ("nir", "red", "NDVI", "green")
SETTINGS = TreeSettings(rounds=8, leaves=7, min_leaf_rows=5, learning_rate=0.3, colsample=1)


@pytest.fixture
def explained(make_scenes, tmp_path):
    """Return a function that trains a member and gives (member, catalogue, folder of the table)."""

    def fit(catalogue=None, n_folds=2, **settings):
        catalogue = catalogue or make_scenes(folds=n_folds)
        feature_set, pixels = FeatureSet(BANDS, NAMES), tmp_path / "pixels"
        sample = SampleSettings(buffer=0, negatives=100, quota=60)
        build_table(catalogue, feature_set, sample, pixels, experiment="test", seed=0)
        rows = open_training_rows("small", SETTINGS.model_copy(update=settings), catalogue, pixels, feature_set)
        fit_member(rows, tmp_path / "m", seed=0)
        return load_member(tmp_path / "m"), catalogue, pixels

    return fit


class Spy:
    """A booster whose probability rises with one column alone, and which keeps the rows that it is given."""

    forest = None

    def __init__(self, column, rounds=4):
        self.column, self.rounds, self.explained, self.predicted = column, rounds, [], []

    def predict_proba(self, features, threads=1):
        self.predicted.append(features.copy())
        return 1 / (1 + np.exp(100 - features[:, [self.column]]))

    def contributions(self, features, threads=1):
        self.explained.append(features.copy())
        values = np.zeros((len(features), 1, features.shape[1] + 1), np.float32)
        values[:, 0, self.column] = features[:, self.column] - 100
        return values

    def importance(self):
        return {name: float(place == self.column) for place, name in enumerate(NAMES)}


@pytest.fixture
def spied(make_scenes, tmp_path):
    catalogue = make_scenes(n_scenes=6, folds=3, positive_share=0.1)
    feature_set = FeatureSet(BANDS, NAMES)
    build_table(catalogue, feature_set, SampleSettings(buffer=0, negatives=150), tmp_path, experiment="test", seed=0)
    return TreeMember("spy", {fold: Spy(0) for fold in (0, 1, 2)}, feature_set, 1), catalogue, tmp_path


def use_of(explanation, name, place=0):
    return next(column for column in explanation.classes[place].columns if column.name == name)


def test_each_booster_is_asked_about_rows_of_its_own_fold_alone(spied):
    member, catalogue, pixels = spied
    explain_member(member, catalogue, pixels, seed=0)
    for fold, booster in member.boosters.items():
        own = {row.tobytes() for row in open_table(pixels, catalogue.in_fold(fold), NAMES).read()}
        assert {row.tobytes() for given in booster.explained for row in given} <= own
        # The first prediction is of rows as they are; in later ones at most one column is changed.
        rows, *others = booster.predicted
        assert {row.tobytes() for row in rows} <= own
        assert len(rows) > 50
        for other in others[: len(NAMES)]:
            assert (other != np.tile(rows, (len(other) // len(rows), 1))).any(axis=0).sum() == 1


def test_only_the_column_that_is_used_matters(spied):
    explanation = explain_member(*spied, seed=0)
    (use,) = explanation.classes
    assert use.label == "kelp"
    assert [column.name for column in use.columns] == ["nir", "red", "NDVI", "green"]
    first, *others = use.columns
    assert first.gain.mean == 1
    assert first.log_loss.mean > 5 * first.log_loss.deviation > 0
    assert first.iou.mean > 0.05
    assert first.shap > 5
    for column in others:
        assert column.gain.mean == column.log_loss.mean == column.iou.mean == column.shap == 0
        assert np.ptp(column.dependence.mean) < 1e-6
    assert (np.diff(first.dependence.mean) >= 0).all()
    assert first.dependence.mean[-1] > 0.99


def test_scores_are_those_of_scikit_learn_on_all_rows_by_weight(spied):
    member, catalogue, pixels = spied
    use = explain_member(member, catalogue, pixels, seed=0).classes[0]
    table = open_table(pixels, catalogue.split("train"), NAMES)
    proba = Spy(0).predict_proba(table.read())[:, 0].astype(float)
    assert use.log_loss == pytest.approx(
        log_loss(table.label, proba.clip(1e-7, 1 - 1e-7), sample_weight=table.weight), rel=1e-4
    )
    assert use.iou == pytest.approx(jaccard_score(table.label, proba >= 0.5, sample_weight=table.weight))


def test_shuffling_loses_what_independent_values_would(spied):
    # Pixels know nothing of each other here, so every row may as well get the value of every other.
    member, catalogue, pixels = spied
    use = use_of(explain_member(member, catalogue, pixels, seed=0), "nir")
    losses = []
    for fold in member.folds:
        table = open_table(pixels, catalogue.in_fold(fold), NAMES)
        proba = Spy(0).predict_proba(table.read())[:, 0].astype(float).clip(1e-7, 1 - 1e-7)
        positive, negative = (np.average(-np.log(one), weights=table.weight) for one in (proba, 1 - proba))
        losses.append((np.where(table.label == 1, positive, negative), table.weight))
    values, weights = map(np.concatenate, zip(*losses, strict=True))
    before = explain_member(member, catalogue, pixels, seed=0).classes[0].log_loss
    assert use.log_loss.mean == pytest.approx(np.average(values, weights=weights) - before, rel=0.1)


def test_dependence_is_the_mean_by_weight_with_the_column_set(explained):
    member, catalogue, pixels = explained()
    many = Budget(np.inf, 10_000, 10_000)
    explanation = explain_member(member, catalogue, pixels, seed=0, shuffle_budget=many, shap_budget=many)
    found = use_of(explanation, "NDVI").dependence
    assert len(found.values) == 20
    curves, totals = [], []
    for fold in member.folds:
        table = open_table(pixels, catalogue.in_fold(fold), NAMES)
        rows, curve = table.read(), []
        for value in found.values:
            rows[:, 2] = value
            curve.append(np.average(predict_proba(member.boosters[fold], rows)[:, 0], weights=table.weight))
        curves.append(curve)
        totals.append(table.weight.sum())
    np.testing.assert_allclose(found.folds, curves, rtol=2e-2, atol=1e-4)
    np.testing.assert_allclose(found.mean, np.average(curves, axis=0, weights=totals), rtol=2e-2, atol=1e-4)


def test_every_class_has_its_own_order_and_plots(explained, make_scenes):
    explanation = explain_member(*explained(make_scenes(LAND)), seed=0)
    assert [use.label for use in explanation.classes] == ["water", "rock", "kelp"]
    for use in explanation.classes:
        assert sorted(column.name for column in use.columns) == sorted(NAMES)
        losses = [(column.iou.mean, column.log_loss.mean) for column in use.columns]
        assert losses == sorted(losses, reverse=True)
        assert use.columns[0].name in ("nir", "NDVI")
        for column in use.columns:
            assert len(column.swarm.shap) == len(column.swarm.rank) == explanation.few
            assert all(0 < rank < 1 for rank in column.swarm.rank)
            assert len(column.dependence.folds) == 2
    assert len({use.log_loss for use in explanation.classes}) == 3


def test_two_classes_are_explained_each(explained, make_scenes):
    bare = Classes("multiclass", (0, 1), ("water", "kelp"), ((0, 0, 255), (230, 159, 0)))
    water, kelp = explain_member(*explained(make_scenes(bare)), seed=0).classes
    assert (water.label, kelp.label) == ("water", "kelp")
    assert water.iou > kelp.iou > 0.3  # the classes' own, and water is common
    assert [use.swarm.shap for use in water.columns] == [tuple(-v for v in use.swarm.shap) for use in kelp.columns]


def test_what_the_library_does_not_give_is_left_out(explained):
    explanation = explain_member(*explained(booster="hist_gradient_boosting"), seed=0)
    assert not explanation.has_shap
    (use,) = explanation.classes
    assert all(column.swarm is None and np.isnan(column.shap) for column in use.columns)
    assert use.columns[0].dependence is not None


def test_rows_without_a_value_have_no_rank_and_a_column_without_any_no_dependence(spied, monkeypatch):
    read = trees.explain.open_channel_rows

    class Holed:
        def __init__(self, block):
            self.block = block

        def __len__(self):
            return len(self.block)

        def read(self):
            features = self.block.read()
            features[::2, 1] = np.nan
            features[:, 3] = np.nan
            return features

    def open_holed(*arguments):
        table = read(*arguments)
        return replace(table, blocks=[Holed(block) for block in table.blocks])

    monkeypatch.setattr(trees.explain, "open_channel_rows", open_holed)
    explanation = explain_member(*spied, seed=0)
    half, none = (use_of(explanation, name) for name in ("red", "green"))
    empty = np.isnan(half.swarm.rank)
    assert 0.3 < empty.mean() < 0.7
    assert np.nanmax(half.swarm.rank) < 1
    assert np.isnan(none.swarm.rank).all()
    assert none.dependence is None
    assert np.isfinite(half.dependence.values).all()


@pytest.mark.parametrize("booster", ["lightgbm", "random_forest"])
def test_a_saved_explanation_is_read_as_it_was_and_the_seed_makes_the_same_bytes(explained, tmp_path, booster):
    member, catalogue, pixels = explained(booster=booster, extra_trees=False)
    for name, threads in (("a", 1), ("b", 3)):
        explain_member(replace(member, threads=threads), catalogue, pixels, seed=3).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    load_explanation(tmp_path / "a").save(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()
    explain_member(member, catalogue, pixels, seed=4).save(tmp_path / "d")
    assert json.loads((tmp_path / "d").read_text()) != json.loads((tmp_path / "a").read_text())


def test_the_more_trees_the_fewer_rows(spied):
    member, catalogue, pixels = spied
    budgets = {"shuffle_budget": replace(SHUFFLING, fewest=20), "shap_budget": replace(SHAP, fewest=10)}
    rows = []
    for rounds in (4, 2_000_000, 10**9):
        busy = replace(member, boosters={fold: Spy(0, rounds) for fold in member.folds})
        explanation = explain_member(busy, catalogue, pixels, seed=0, **budgets)
        rows.append((explanation.rows, explanation.few))
    assert rows[0] > rows[1]
    assert rows[1] == rows[2]
    assert rows[2][0] <= 20
    assert rows[2][1] <= 10


COLUMNS = ("red_mean", "red_std", "valid_share")


@pytest.fixture
def tagged(make_tagged, tmp_path):
    catalogue, feature_set = make_tagged(), SceneFeatureSet(BANDS, COLUMNS)
    build_scene_table(catalogue, feature_set, tmp_path / "pixels", experiment="test")
    return catalogue, feature_set, tmp_path / "pixels"


class TagSpy:
    """Boosters of which each tells its tag by one column alone, and which keep the rows that they are given."""

    forest, rounds = None, 4

    def __init__(self):
        self.seen = []

    def predict_proba(self, features, threads=1):
        self.seen.append(features.copy())
        return 1 / (1 + np.exp(np.stack([115 - features[:, 0], 12 - features[:, 1], 9 + 0 * features[:, 0]], axis=1)))

    def contributions(self, features, threads=1):
        return None

    def importance(self):
        return dict.fromkeys(COLUMNS, 1 / 3)


def test_each_tag_needs_its_own_column(tagged):
    catalogue, feature_set, pixels = tagged
    explanation = explain_member(
        TreeMember("spy", {0: TagSpy(), 1: TagSpy()}, feature_set, 3), catalogue, pixels, seed=0
    )
    haze, rough, never = explanation.classes
    assert (haze.label, rough.label, never.label) == ("haze", "rough", "never")
    assert haze.iou == rough.iou == 1
    assert np.isnan(never.iou)
    for use, best in ((haze, "red_mean"), (rough, "red_std")):
        first, *rest = use.columns
        assert first.name == best
        assert first.iou.mean > 0.1
        assert all(other.iou.mean == other.log_loss.mean == 0 for other in rest)


def test_the_log_loss_and_iou_of_tags_are_those_of_their_scenes(tagged, tmp_path):
    catalogue, feature_set, pixels = tagged
    settings = TreeSettings(rounds=2, leaves=3, min_leaf_rows=4, learning_rate=0.5)
    fit_member(open_training_rows("small", settings, catalogue, pixels, feature_set), tmp_path / "m", seed=0)
    member = load_member(tmp_path / "m")
    explanation = explain_member(member, catalogue, pixels, seed=0)
    table = open_scene_table(pixels, catalogue, COLUMNS)
    fold_of = {scene.id: scene.fold for scene in catalogue.scenes}
    proba = np.stack(
        [
            member.boosters[fold_of[table.scenes[place]]].predict_proba(row[None])[0]
            for place, row in zip(table.scene, table.read(), strict=True)
        ]
    )
    assert explanation.rows == len(table)
    for use, label, own in zip(explanation.classes, table.label.T, proba.T, strict=True):
        assert use.log_loss == pytest.approx(log_loss(label, own.astype(np.float64), labels=[0, 1]), rel=1e-5)
        expected = jaccard_score(label, own >= 0.5) if label.any() else np.nan
        assert use.iou == pytest.approx(expected, nan_ok=True)


def test_scenes_of_rare_tags_are_among_those_that_are_looked_at():
    rng = np.random.default_rng(0)
    label = np.zeros((5000, 3), np.uint8)
    label[:4000, 0], label[:, 1], label[7, 2] = 1, rng.random(5000) < 0.2, 1
    places, weight = trees.explain._draw(label, np.ones(5000, np.float32), 200, 3, rng)
    assert 7 in places
    assert weight.sum() == pytest.approx(5000)
    assert 150 < len(places) <= 201
