import pickle
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import trees.learning
import trees.member
from data.errors import MemberError
from data.files import hash_file, read_json
from data.maps.geotiff import read_proba
from data.maps.store import open_store, write_maps
from data.records import read_record, write_parquet, write_record
from data.scenes.classes import Classes
from data.scenes.scene import read_label, read_scene, valid_mask
from data.worker_pool import Workers
from features import FeatureSet, build_table
from features.settings import SampleSettings
from features.table import table_path
from trees import TreeMember, TreeSettings, fit_member, load_member, open_training_rows
from trees.boosters.lightgbm_booster import LightGBMBooster, LightGBMLearner
from trees.learning import LEARNERS
from trees.record import MEMBER, MemberRecord

from ..conftest import BANDS, LAND

NAMES = ("nir", "red", "NDVI", "nir_mean_r2")
SETTINGS = TreeSettings(rounds=12, leaves=7, min_leaf_rows=5, validation_fraction=0.2, patience=4, learning_rate=0.3)


@pytest.fixture
def fitted(make_scenes, tmp_path):
    """Return a function that builds the table, trains a member and gives (catalogue, folder of the member)."""

    def fit(catalogue=None, settings=SETTINGS, directory=None, **options):
        catalogue = catalogue or make_scenes()
        feature_set = FeatureSet(BANDS, NAMES)
        sample = SampleSettings(buffer=0, negatives=100, quota=100)
        build_table(catalogue, feature_set, sample, tmp_path / "pixels", experiment="test", seed=0)
        directory = directory or tmp_path / "member"
        rows = open_training_rows("lgbm", settings, catalogue, tmp_path / "pixels", feature_set)
        fit_member(rows, directory, seed=0, **options)
        return catalogue, directory

    return fit


class Echo:
    """A booster that returns feature k: every error of reshaping shows."""

    suffix, rounds, forest = "", 0, None

    def __init__(self, columns):
        self.columns = columns

    def predict_proba(self, features, threads=1):
        return features[:, self.columns]


def test_a_booster_that_returns_a_feature_draws_that_plane(make_scenes):
    scene = make_scenes(holes=0.3).scenes[0]
    member = TreeMember("echo", {0: Echo([1]), 1: Echo([0])}, FeatureSet(BANDS, NAMES), 1, side=16)
    seen, drawn = np.zeros((40, 37), int), np.zeros((40, 37), np.float32)
    for _, window, proba in member.predict([scene], [0, 1]):
        assert proba.shape == (1, window.height, window.width)
        seen[window.slices] += 1
        drawn[window.slices] = proba[0]
    assert (seen == 1).all()
    red, nir, _ = pixels = read_scene(scene)
    np.testing.assert_allclose(drawn, (red + nir) / 2, rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(drawn), ~valid_mask(scene, pixels))


@pytest.mark.parametrize("booster", ["lightgbm", "xgboost", "random_forest"])
def test_only_features_that_a_booster_splits_on_are_computed(fitted, make_scenes, monkeypatch, booster):
    settings = TreeSettings(booster=booster, rounds=1, leaves=2, min_leaf_rows=5, validation_fraction=0.0)
    catalogue, directory = fitted(settings=settings)
    member, scene = load_member(directory), catalogue.scenes[0]
    features = member.feature_set.compute(scene)
    expected = member.mean_proba(features.reshape(len(NAMES), -1).T, [0, 1]).T.reshape(1, *features.shape[1:])
    opened, computed = FeatureSet.open, []
    monkeypatch.setattr(
        FeatureSet, "open", lambda chosen, scene: computed.append(chosen.names) or opened(chosen, scene)
    )
    [(_, _, proba)] = member.predict([scene], [0, 1])
    seen = ~np.isnan(proba)
    np.testing.assert_array_equal(proba[seen], expected[seen])
    [names] = computed
    assert set(names) < set(NAMES) or booster == "random_forest"


class Pickling(Workers):
    """Workers that do at once what is pickled for them."""

    lost, worth_pixels, slots = (), 0, 2

    def submit(self, work, /, *args):
        future = Future()
        work, args = pickle.loads(pickle.dumps((work, args)))
        future.set_result(work(*args))
        return future

    def recover(self, error, times):
        raise error


def test_processes_share_the_windows_of_a_scene(fitted):
    catalogue, directory = fitted()
    scene, alone = catalogue.scenes[0], replace(load_member(directory), side=16)
    shared = replace(load_member(directory, 2, executor=Pickling()), side=16)
    parts, expected = (list(member.predict([scene], [0, 1])) for member in (shared, alone))
    assert [window for _, window, _ in parts] == [window for _, window, _ in expected]
    for (_, _, proba), (_, _, one) in zip(parts, expected, strict=True):
        np.testing.assert_array_equal(proba, one)


def test_a_member_writes_a_map_of_every_scene_by_the_model_that_never_saw_it(fitted):
    catalogue, directory = fitted()
    member = load_member(directory)
    write_maps(member, catalogue, open_store(directory, catalogue.classes))
    for scene in catalogue.scenes:
        windows = list(member.predict([scene], [scene.fold]))
        np.testing.assert_allclose(read_proba(directory / "oof" / f"{scene.id}.tif"), windows[0][2], atol=1e-5)


def test_multiclass_members_sum_to_one(fitted, make_scenes):
    catalogue, directory = fitted(make_scenes(LAND))
    for _, _, proba in load_member(directory).predict([catalogue.scenes[0]], [1]):
        assert proba.shape[0] == 3
        np.testing.assert_allclose(proba.sum(axis=0)[~np.isnan(proba[0])], 1, rtol=1e-5)


@pytest.mark.parametrize("booster", LEARNERS)
def test_a_map_of_two_classes_has_a_plane_each(fitted, make_scenes, booster):
    bare = Classes("multiclass", (0, 1), ("water", "kelp"), ((0, 0, 255), (230, 159, 0)))
    settings = SETTINGS.model_copy(update={"booster": booster, "validation_fraction": 0.0})
    catalogue, directory = fitted(make_scenes(bare), settings)
    scene = catalogue.scenes[0]
    [(_, _, proba)] = load_member(directory).predict([scene], [1])
    label, seen = read_label(scene), ~np.isnan(proba[0])
    np.testing.assert_allclose(proba.sum(axis=0)[seen], 1, rtol=1e-5)
    means = [proba[:, seen & (label == place)].mean(axis=1) for place in (0, 1)]
    assert (means[0] - means[1])[0] > 0.2


@pytest.mark.parametrize("booster", LEARNERS)
def test_the_model_of_a_fold_never_sees_the_labels_of_that_fold(fitted, tmp_path, booster):
    settings = SETTINGS.model_copy(update={"booster": booster})
    catalogue, directory = fitted(settings=settings)
    for scene in catalogue.in_fold(0):
        path = table_path(tmp_path / "pixels", scene)
        rows = pq.read_table(path, partitioning=None)
        label = pa.array(1 - rows["label"].to_numpy())
        write_parquet(path, rows.set_column(rows.schema.get_field_index("label"), "label", label))
    fitted(catalogue, settings, tmp_path / "again")
    suffix = LEARNERS[booster].booster.suffix
    for fold, same in ((0, True), (1, False)):
        before, after = (path / f"fold{fold}{suffix}" for path in (directory, tmp_path / "again"))
        assert (before.read_bytes() == after.read_bytes()) == same


def test_finished_folds_are_kept_and_one_can_be_trained_alone(fitted):
    catalogue, directory = fitted(folds=[1])
    assert load_member(directory).folds == (1,)
    with pytest.raises(MemberError, match=r"got none for 0\. Train them first"):
        write_maps(load_member(directory), catalogue, open_store(directory, catalogue.classes))
    time = (directory / "fold1.txt").stat().st_mtime_ns
    fitted(catalogue)
    assert load_member(directory).folds == (0, 1)
    assert (directory / "fold1.txt").stat().st_mtime_ns == time


def test_the_number_of_rounds_is_chosen_on_held_out_groups_then_all_are_learned_from(fitted, make_scenes, monkeypatch):
    calls = []
    fit = LightGBMLearner.fit

    def spy(self, settings, chosen, held=None, seed=0):
        booster = fit(self, settings, chosen, held, seed)
        calls.append((chosen, held, settings.rounds, booster.rounds))
        return booster

    monkeypatch.setattr(LightGBMLearner, "fit", spy)
    fitted(make_scenes(n_scenes=8), folds=[0])
    (part, held, _, chosen), (whole, none_held, rounds, used) = calls
    assert held.any()
    assert none_held is None
    np.testing.assert_array_equal(part ^ held, whole)
    assert rounds == used == chosen <= 12


def test_a_single_group_is_learned_from_whole(fitted, make_scenes, caplog):
    _, directory = fitted(make_scenes(n_scenes=2))
    assert not read_json(directory / "fold0.json")["chosen_by_groups_held_out"]
    assert "a single group" in caplog.text


def test_without_a_holdout_all_rounds_are_used(fitted, make_scenes, caplog):
    _, directory = fitted(
        make_scenes(n_scenes=6), SETTINGS.model_copy(update={"validation_fraction": 0, "extra_trees": False})
    )
    assert read_json(directory / "fold0.json")["rounds"] == 12
    assert "a single group" not in caplog.text


def test_design_weights_give_the_prior_of_full_scenes(fitted, make_scenes, tmp_path):
    catalogue = make_scenes(n_scenes=6)
    truth = np.mean([catalogue.label_counts(scene.id)[1] / (40 * 37) for scene in catalogue.scenes])
    means = {}
    for sample_weight in ("design", "none"):
        settings = SETTINGS.model_copy(update={"sample_weight": sample_weight, "features": ["red"]})
        _, directory = fitted(catalogue, settings, tmp_path / sample_weight)
        maps = [proba for _, _, proba in load_member(directory).predict([catalogue.scenes[0]], [0])]
        means[sample_weight] = np.nanmean(maps[0])
    assert means["design"] == pytest.approx(truth, rel=0.25)
    assert means["none"] > 1.5 * truth


@pytest.mark.parametrize(
    ("class_weights", "mean"), [("balanced", 0.5), ({"kelp": 0.02}, 0.001), ({"background": 2.0, "kelp": 2.0}, 0.05)]
)
def test_class_weights_raise_and_lower_what_a_class_counts(fitted, make_scenes, class_weights, mean):
    catalogue = make_scenes(n_scenes=6)
    settings = SETTINGS.model_copy(update={"class_weights": class_weights, "features": ["red"]})
    _, directory = fitted(catalogue, settings)
    ((_, _, proba),) = load_member(directory).predict([catalogue.scenes[0]], [0])
    assert np.nanmean(proba) == pytest.approx(mean, rel=0.3)


def test_balanced_weights_do_not_know_the_labels_of_the_fold_held_out(fitted, make_scenes, tmp_path):
    settings = SETTINGS.model_copy(update={"class_weights": "balanced"})
    catalogue, _ = fitted(make_scenes(n_scenes=6), settings)
    texts = []
    for changed in (False, True):
        rows = open_training_rows("lgbm", settings, catalogue, tmp_path / "pixels", FeatureSet(BANDS, NAMES))
        if changed:
            rows.learner.table.label[rows._fold == 0] = 1
        booster, _ = rows.fit(settings, 0, 0)
        booster.save(tmp_path / "booster.txt")
        texts.append((tmp_path / "booster.txt").read_bytes())
    assert texts[0] == texts[1]


def test_weights_of_classes_that_there_are_not_are_refused(fitted):
    with pytest.raises(MemberError, match=r"expected names among background, kelp, got kelpp\. Nearest: kelp"):
        fitted(settings=SETTINGS.model_copy(update={"class_weights": {"kelpp": 2.0}}))


def test_a_column_that_the_table_lacks_is_refused(fitted):
    with pytest.raises(MemberError, match="member lgbm: expected columns of the pixel table, got EVI"):
        fitted(settings=SETTINGS.model_copy(update={"features": ["nir", "EVI"]}))


def test_training_rows_of_one_class_are_refused(fitted, make_scenes):
    with pytest.raises(
        MemberError, match=r"fold 0: expected rows of at least two classes to learn from, got \d+ background, 0 kelp"
    ):
        fitted(make_scenes(positive_share=0))


def test_a_booster_other_than_on_record_is_refused_before_its_library_reads_it(fitted, monkeypatch):
    _, directory = fitted()
    path = directory / "fold1.txt"
    assert read_json(directory / "fold1.json")["sha256"] == hash_file(path)
    path.write_text(path.read_text().replace("left_child=", "left_child=0 ", 1))
    load = LightGBMBooster.load

    def refuse_fold_1(file, *options):
        assert file != path
        return load(file, *options)

    monkeypatch.setattr(LightGBMBooster, "load", refuse_fold_1)
    with pytest.raises(MemberError, match=r"fold1\.txt: expected the booster of its record, got a damaged file"):
        load_member(directory)


def test_a_booster_of_other_features_is_refused(fitted):
    _, directory = fitted()
    record = read_record(directory / "member.json", MemberRecord, MEMBER)
    features = tuple("EVI2" if name == "NDVI" else name for name in record.features)
    write_record(directory / "member.json", replace(record, features=features))
    with pytest.raises(MemberError, match=r"fold0\.txt: expected a booster of the features in member\.json"):
        load_member(directory)


def test_a_folder_without_a_member_says_what_to_do(tmp_path):
    with pytest.raises(MemberError, match="Run `terrablend trees` first"):
        load_member(tmp_path)


@pytest.mark.parametrize("values", [{"categorical": ["soil"]}, {"monotone": {"soil": 1}}])
def test_columns_it_does_not_learn_from_are_refused_under_categorical_and_monotone(fitted, values):
    with pytest.raises(MemberError, match="under categorical and monotone, got soil"):
        fitted(settings=TreeSettings(**values))


def test_monotone_columns_are_of_two_classes_only(fitted, make_scenes):
    with pytest.raises(MemberError, match="expected no monotone columns with more than two classes, got nir"):
        fitted(make_scenes(LAND), TreeSettings(monotone={"nir": 1}))


def test_a_random_forest_is_a_member_like_any_other(fitted):
    catalogue, directory = fitted(settings=TreeSettings(booster="random_forest", rounds=9))
    member = load_member(directory)
    assert read_json(directory / "fold0.json")["rounds"] == 9
    assert set(read_json(directory / "member.json")["made_with"]) == {"terrablend", "scikit-learn"}
    for _, _, proba in member.predict([catalogue.scenes[0]], [0]):
        assert 0 <= np.nanmin(proba) < np.nanmax(proba) <= 1


def test_a_library_that_is_not_installed_is_named_before_anything_is_learned(fitted, monkeypatch):
    monkeypatch.setattr(trees.learning.CatBoostLearner, "library", "catbird")
    with pytest.raises(MemberError, match=r"expected catbird, it is not installed\. Install `terrablend\[catbird\]`"):
        fitted(settings=TreeSettings(booster="catboost"))


def test_a_score_of_two_classes_stops_no_more_than_two(fitted, make_scenes):
    with pytest.raises(MemberError, match="with more than two classes, got average_precision"):
        fitted(make_scenes(LAND), TreeSettings(monitor="average_precision"))
