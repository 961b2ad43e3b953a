from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import MemberError
from data.files import read_json
from data.maps.geotiff import quantise
from data.maps.parquet import read_parts
from data.maps.store import open_store, write_maps
from data.records import write_parquet
from data.workers import open_executor
from features.scene_features import SceneFeatureSet
from features.scene_table import build_scene_table, open_scene_table
from trees import TreeMember, TreeSettings, fit_member, load_member, open_training_rows
from trees.boosters.lightgbm_booster import LightGBMLearner
from trees.learning import LEARNERS
from trees.tag_boosters import TagBoosters
from trees.tag_learning import TagRows

from ..conftest import BANDS, TAGS, table_of

NAMES = ("red_mean", "red_std", "green_q25", "valid_share")
SETTINGS = TreeSettings(rounds=12, leaves=4, min_leaf_rows=2, learning_rate=0.3, colsample=1, subsample=1)
KINDS = pytest.mark.parametrize("booster", LEARNERS)


@pytest.fixture
def fitted(make_tagged, tmp_path):
    """Return a function that builds the table, trains a member and gives (catalogue, folder of the member)."""

    def fit(catalogue=None, directory=None, folds=None, **settings):
        catalogue = catalogue or make_tagged()
        feature_set = SceneFeatureSet(BANDS, NAMES)
        build_scene_table(catalogue, feature_set, tmp_path / "pixels", experiment="test")
        directory = directory or tmp_path / "member"
        changed = TreeSettings(**SETTINGS.model_dump() | settings)
        rows = open_training_rows("gbm", changed, catalogue, tmp_path / "pixels", feature_set)
        fit_member(rows, directory, seed=0, folds=folds)
        return catalogue, directory

    return fit


def told(predictions):
    return np.stack([proba[:, 0, 0] for _, _, proba in predictions])


class Echo:
    """Boosters that return features as they are: every error of order shows."""

    suffix, rounds, forest = "", 0, None

    def __init__(self, columns):
        self.columns = columns

    def predict_proba(self, features, threads=1):
        return features[:, self.columns]


def table_of_member(catalogue, tmp_path):
    return open_scene_table(tmp_path / "pixels", catalogue, NAMES)


@KINDS
def test_each_tag_is_learned_against_the_rest_as_by_hand(fitted, tmp_path, booster):
    catalogue, directory = fitted(booster=booster)
    table = table_of_member(catalogue, tmp_path)
    fold_of = {scene.id: scene.fold for scene in catalogue.scenes}
    outside = np.array([fold_of[table.scenes[place]] != 1 for place in table.scene])
    found = load_member(directory).boosters[1].predict_proba(table.read())
    for tag in range(2):
        rows = table_of(table.read(), table.label[:, tag], names=NAMES)
        settings = SETTINGS.model_copy(update={"booster": booster})
        alone = LEARNERS[booster](rows, 2, device="cpu").fit(settings, outside, seed=0)
        np.testing.assert_allclose(found[:, tag], alone.predict_proba(table.read())[:, 0], rtol=1e-5)
    assert ((found[:, 0] > 0.5) == table.label[:, 0]).mean() > 0.9


def test_a_tag_that_no_scene_has_gets_a_small_constant_and_a_warning_by_name(fitted, tmp_path, caplog):
    catalogue, directory = fitted()
    proba = told(load_member(directory).predict(catalogue.scenes, [0]))
    np.testing.assert_allclose(proba[:, 2], 1 / 14)
    assert "gbm, fold 0: no scene outside this fold has never" in caplog.text
    assert read_json(directory / "fold0.json")["tags"]["never"] == {
        "rows": 0,
        "rounds": 0,
        "chosen_by_groups_held_out": False,
    }


def test_a_tag_that_every_scene_has_gets_a_great_constant(fitted, make_tagged, caplog):
    catalogue = make_tagged()
    scenes = tuple(replace(scene, tags=(*scene.tags, 2)) for scene in catalogue.scenes)
    _, directory = fitted(replace(catalogue, scenes=scenes))
    proba = told(load_member(directory).predict(scenes, [0]))
    np.testing.assert_allclose(proba[:, 2], 13 / 14)
    assert "every scene outside this fold has never" in caplog.text


@KINDS
def test_the_model_of_a_fold_never_sees_the_tags_of_that_fold(fitted, tmp_path, booster):
    catalogue, directory = fitted(booster=booster)
    path = tmp_path / "pixels" / "fold=0" / "part-00000.parquet"
    rows = pq.read_table(path, partitioning=None)
    for name in ("label haze", "label rough"):
        label = pa.array(1 - rows[name].to_numpy())
        rows = rows.set_column(rows.schema.get_field_index(name), name, label)
    write_parquet(path, rows)
    fitted(catalogue, tmp_path / "again", booster=booster)
    for fold, same in ((0, True), (1, False)):
        before, after = (folder / f"fold{fold}.zip" for folder in (directory, tmp_path / "again"))
        assert (before.read_bytes() == after.read_bytes()) == same


def test_every_scene_is_told_by_the_model_that_never_saw_it_and_others_by_the_mean(fitted, make_tagged):
    catalogue = make_tagged()
    strange = tuple(replace(scene, split="test", fold=None, tags=None) for scene in catalogue.scenes[:5])
    catalogue, directory = fitted(replace(catalogue, scenes=(*catalogue.scenes, *strange)))
    member = load_member(directory)
    write_maps(member, catalogue, open_store(directory, catalogue.classes))
    features = np.stack([member.feature_set.compute(scene) for scene in catalogue.split("train")])
    each = [member.boosters[fold].predict_proba(features) for fold in (0, 1)]
    (_, oof), (_, test) = read_parts(directory / "oof"), read_parts(directory / "test")
    for number, scene in enumerate(catalogue.split("train")):
        np.testing.assert_array_equal(oof[scene.id], quantise(each[scene.fold][number]))
    for number, scene in enumerate(strange):
        np.testing.assert_array_equal(test[scene.id], quantise((each[0][number] + each[1][number]) / 2))


def test_scenes_keep_their_order_and_those_without_a_valid_pixel_have_no_probability(make_tagged, write_raster):
    catalogue = make_tagged(11)
    for number in (2, 4, 5, 6, 7):
        write_raster(f"t{number}.tif", np.full((3, 24, 20), np.nan, np.float32))
    feature_set = SceneFeatureSet(BANDS, NAMES)
    member = TreeMember("echo", {0: Echo([1, 0]), 1: Echo([3, 0])}, feature_set, 2, batch=4)
    found = told(member.predict(catalogue.scenes, [0, 1]))
    expected = np.stack([feature_set.compute(scene) for scene in catalogue.scenes])
    np.testing.assert_allclose(found, np.stack([(expected[:, 1] + expected[:, 3]) / 2, expected[:, 0]], axis=1))
    assert np.flatnonzero(np.isnan(found[:, 0])).tolist() == [2, 4, 5, 6, 7]


def test_any_number_of_workers_tells_the_same(fitted):
    catalogue, directory = fitted()
    alone = told(load_member(directory).predict(catalogue.scenes, [0, 1]))
    with open_executor(2) as executor:
        member = load_member(directory, threads=2, executor=executor)
        np.testing.assert_array_equal(told(member.predict(catalogue.scenes, [0, 1])), alone)


@KINDS
def test_saved_boosters_are_read_as_they_were_and_the_seed_makes_the_same_bytes(fitted, tmp_path, booster):
    catalogue, directory = fitted(booster=booster)
    fitted(catalogue, tmp_path / "again", booster=booster)
    assert (directory / "fold0.zip").read_bytes() == (tmp_path / "again" / "fold0.zip").read_bytes()
    loaded = load_member(directory).boosters[0]
    loaded.save(tmp_path / "copy.zip")
    features = table_of_member(catalogue, tmp_path).read()
    copied = TagBoosters.load(tmp_path / "copy.zip").predict_proba(features)
    np.testing.assert_array_equal(copied, loaded.predict_proba(features))
    assert list(loaded.importance()) == [*NAMES]
    assert sum(loaded.importance().values()) == pytest.approx(1)
    by_tag = read_json(directory / "fold0.json")["importance_by_tag"]
    assert by_tag["haze"]["red_mean"] + by_tag["haze"]["green_q25"] > 0.5
    assert by_tag["rough"]["red_std"] > 0.4
    assert set(by_tag["never"].values()) == {0}


def test_finished_folds_are_kept(fitted):
    catalogue, directory = fitted(folds=[1])
    assert load_member(directory).folds == (1,)
    with pytest.raises(MemberError, match=r"got none for 0\. Train them first"):
        write_maps(load_member(directory), catalogue, open_store(directory, catalogue.classes))
    time = (directory / "fold1.zip").stat().st_mtime_ns
    fitted(catalogue)
    assert load_member(directory).folds == (0, 1)
    assert (directory / "fold1.zip").stat().st_mtime_ns == time


@pytest.mark.parametrize(
    ("class_weights", "odds"), [("balanced", (1.0, 1.0)), ("none", (1 / 3, 2.0)), ({"haze": 6}, (2.0, 2.0))]
)
def test_weights_of_a_tag_are_those_of_the_scenes_that_have_it(
    fitted, make_tagged, tmp_path, monkeypatch, class_weights, odds
):
    catalogue = make_tagged()
    tags = [(0,) * (number % 8 < 2) + (1,) * (number % 12 < 8) for number in range(24)]
    scenes = tuple(replace(scene, tags=one) for scene, one in zip(catalogue.scenes, tags, strict=True))
    given = []

    def spy(self, label, weight):
        given.append((label, weight))
        self.label, self.weight = label, weight

    monkeypatch.setattr(LightGBMLearner, "relabel", spy)
    fitted(replace(catalogue, scenes=scenes), folds=[0], class_weights=class_weights)
    outside = np.arange(24) >= 12
    assert len(given) == 2
    for (label, weight), expected in zip(given, odds, strict=True):
        label, weight = label[outside], weight[outside]
        assert weight.mean() == pytest.approx(1)
        assert weight[label == 1].sum() / weight[label == 0].sum() == pytest.approx(expected)


@pytest.mark.parametrize(("given", "used"), [(None, "log_loss"), ("average_precision", "average_precision")])
def test_rounds_of_a_tag_are_chosen_by_log_loss_unless_told_otherwise(fitted, monkeypatch, given, used):
    names = []

    def spy(name, label, weight, proba, n_labels):
        names.append(name)
        return float(len(names))

    monkeypatch.setattr("trees.boosters.booster.score_held_out", spy)
    fitted(folds=[0], validation_fraction=0.4, monitor=given)
    assert set(names) == {used}


def test_the_number_of_rounds_is_chosen_for_each_tag_by_groups_held_out(fitted, make_tagged, monkeypatch, caplog):
    calls = []
    fit = LightGBMLearner.fit

    def spy(self, settings, chosen, held=None, seed=0):
        booster = fit(self, settings, chosen, held, seed)
        calls.append((self.label[chosen], chosen, held, settings.rounds, booster.rounds))
        return booster

    monkeypatch.setattr(LightGBMLearner, "fit", spy)
    catalogue = make_tagged()
    # A single scene of fold 1 has the third tag: it cannot be both learned from and held out.
    scenes = tuple(
        replace(scene, tags=(*scene.tags, 2) if scene.id == "s1" else scene.tags) for scene in catalogue.scenes
    )
    counts = {
        key: replace(one, label_counts=(*one.label_counts[:2], int(key[1] == "s1")))
        for key, one in catalogue.statistics.items()
    }
    fitted(replace(catalogue, scenes=scenes, statistics=counts), folds=[0], validation_fraction=0.4, patience=3)
    haze, whole_haze, rough, whole_rough, never = calls
    for part, whole in ((haze, whole_haze), (rough, whole_rough)):
        assert set(part[0].tolist()) == {0, 1}
        np.testing.assert_array_equal(part[1] ^ part[2], whole[1])
        assert whole[2] is None
        assert whole[3] == whole[4] == part[4] <= 12
    np.testing.assert_array_equal(haze[2], rough[2])
    assert never[2] is None
    assert never[4] == 12
    assert "fold 0: too few groups have never to hold some out, so all 12 rounds are used" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": {"fog": 2.0}}, "class_weights: expected names among haze, rough, never, got fog"),
        ({"monotone": {"red_mean": 1}}, "expected no monotone columns with tags, got red_mean"),
        ({"features": ["red_mean", "nir_mean"]}, "expected columns of the pixel table, got nir_mean"),
    ],
)
def test_settings_that_do_not_suit_tags_are_refused(fitted, settings, message):
    with pytest.raises(MemberError, match=message):
        fitted(**settings)


def test_a_fold_of_everything_is_refused(fitted, make_tagged, tmp_path):
    catalogue = make_tagged(4, folds=1)
    with pytest.raises(MemberError, match="expected scenes to learn from, got none outside the fold"):
        fitted(catalogue)


def test_files_that_hold_no_boosters_are_named(fitted, tmp_path):
    _, directory = fitted()
    (directory / "fold0.zip").write_bytes(b"PK nothing")
    with pytest.raises(MemberError, match=r"fold0\.zip: expected the booster of its record, got"):
        load_member(directory)
    (directory / "fold0.json").unlink()
    with pytest.raises(MemberError, match=r"fold0\.zip: expected a booster a tag, got"):
        load_member(directory)
    with pytest.raises(MemberError, match="expected a trained member, got no such file"):
        load_member(tmp_path / "elsewhere")


@pytest.mark.parametrize("booster", ["lightgbm", "xgboost", "catboost"])
def test_shap_values_of_each_tag_sum_to_its_log_odds(fitted, tmp_path, booster):
    catalogue, directory = fitted(booster=booster)
    boosters, features = load_member(directory).boosters[0], table_of_member(catalogue, tmp_path).read()
    sums = boosters.contributions(features).sum(axis=2)
    np.testing.assert_allclose(1 / (1 + np.exp(-sums)), boosters.predict_proba(features), rtol=1e-4)


def test_a_library_without_shap_values_gives_none(fitted, tmp_path):
    catalogue, directory = fitted(booster="random_forest", rounds=3)
    features = table_of_member(catalogue, tmp_path).read()
    assert load_member(directory).boosters[0].contributions(features) is None


def test_constants_alone_make_a_member(tmp_path):
    TagBoosters("lightgbm", TAGS.names, [0.5, 0.25, 0.125], NAMES).save(tmp_path / "fold0.zip")
    loaded = TagBoosters.load(tmp_path / "fold0.zip")
    np.testing.assert_array_equal(loaded.predict_proba(np.zeros((2, 4), np.float32)), [[0.5, 0.25, 0.125]] * 2)
    assert loaded.rounds == 0
    assert loaded.importance() == dict.fromkeys(NAMES, 0)


def test_the_rows_of_a_member_are_those_that_are_valid(fitted, make_tagged, write_raster, tmp_path):
    catalogue = make_tagged()
    write_raster("t1.tif", np.full((3, 24, 20), np.nan, np.float32))
    fitted(catalogue, folds=[0])
    rows = TagRows("gbm", SETTINGS, catalogue, tmp_path / "pixels", SceneFeatureSet(BANDS, NAMES))
    _, facts = rows.fit(SETTINGS, 0, 0)
    assert facts["rows"] == 11
