from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import rasterio

from data.maps.geotiff import dequantise, map_names, map_writer, quantise, read_class_map, read_map, read_proba
from data.scenes.classes import Classes
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from ensemble import Ensemble, fit_ensemble, score_table
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.cleaning import Cleaning
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.prediction_sets import PredictionSets
from ensemble.maps import open_maps
from ensemble.predict import model_id, predict_tags, write_prediction
from ensemble.submit.submission_log import describe_submission, hash_files
from ensemble.uncertainty import UNCERTAINTIES, measure_uncertainty

from .conftest import KELP, LAND, SETTINGS


@pytest.fixture
def fitted(make_catalogue, make_members, tmp_path):
    """Return a function that fits two members, and gives the ensemble, a scene and the maps of both."""

    def fit(classes):
        catalogue = make_catalogue(classes)
        members = make_members(catalogue, first=(1.5, 1), second=(1.5, 2))
        ensemble, evaluations = fit_ensemble(members, catalogue, SETTINGS, seed=0)
        assert len(ensemble.used) == 2
        scene = catalogue.split("train")[0]
        return ensemble, evaluations, scene, open_maps({name: members[name] for name in ensemble.used}, classes)

    return fit


@pytest.mark.parametrize("classes", [KELP, LAND], ids=["binary", "multiclass"])
def test_maps_are_what_the_ensemble_makes_of_the_members_maps(fitted, tmp_path, classes):
    ensemble, _, scene, maps = fitted(classes)
    paths = [tmp_path / "out" / f"{name}.tif" for name in ("classes", "proba", "uncertainty")]
    write_prediction(ensemble, replace(maps, most_bytes=100), scene, *paths)
    stored = maps.read(scene)
    blended = ensemble.proba(stored)
    shown = ensemble.show(blended)
    np.testing.assert_array_equal(read_map(paths[1]), shown)
    np.testing.assert_array_equal(read_class_map(paths[0], classes)[None], ensemble.clean(ensemble.decide(blended)))
    expected = measure_uncertainty(shown, stored)
    np.testing.assert_allclose(read_proba(paths[2]), expected, atol=1e-5)
    assert map_names(paths[2]) == UNCERTAINTIES
    for path in paths:
        with maybe_ungeoreferenced(), rasterio.open(path) as raster:
            tags = raster.tags()
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert tags["scene"] == scene.id
        assert tags["model"] == model_id(ensemble)
        assert tags["members"] == ",".join(ensemble.used)
        assert tags["classes"].split(",")[-1] == f"{classes.ids[-1]}:kelp"
        assert [float(value) for value in tags["thresholds"].split(",")] == list(ensemble.thresholds_)


def test_a_model_keeps_its_id_when_it_is_saved_and_no_other_has_it(fitted, tmp_path):
    ensemble, *_ = fitted(KELP)
    ensemble.save(tmp_path / "ensemble.json")
    assert model_id(Ensemble.load(tmp_path / "ensemble.json")) == model_id(ensemble)
    other, *_ = fitted(LAND)
    assert model_id(other) != model_id(ensemble)


def test_nothing_is_sure_where_no_member_predicted(fitted, tmp_path):
    ensemble, _, scene, maps = fitted(KELP)
    for store in maps.stores.values():
        [path] = store.files([scene])
        proba = dequantise(read_map(path))
        proba[:, :5] = np.nan
        with map_writer(path, scene.grid, KELP.names, {}) as writer:
            writer.write(scene.grid.window, proba)
    write_prediction(ensemble, maps, scene, tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.tif")
    assert (read_class_map(tmp_path / "a.tif", KELP)[:5] == 255).all()
    assert np.isnan(read_proba(tmp_path / "c.tif")[:, :5]).all()
    assert np.isfinite(read_proba(tmp_path / "c.tif")[:, 5:]).all()


@pytest.mark.parametrize("classes", [KELP, LAND], ids=["binary", "multiclass"])
def test_sets_hold_what_is_mapped_and_all_that_is_probable_enough(fitted, tmp_path, classes):
    ensemble, _, scene, maps = fitted(classes)
    cleaning = Cleaning(min_size=30, background=not classes.exclusive)
    sets = PredictionSets(0.9, (40000, 30000, 50000)[: classes.n_labels], (True,) * classes.n_labels)
    ensemble = replace(ensemble, decision=replace(ensemble.decision, cleaning=cleaning), sets_=sets)
    paths = [tmp_path / f"{name}.tif" for name in ("classes", "proba", "sets")]
    write_prediction(ensemble, replace(maps, most_bytes=100), scene, *paths[:2], sets_map=paths[2])
    with maybe_ungeoreferenced(), rasterio.open(paths[2]) as raster:
        sets, tags = raster.read(), raster.tags()
        assert raster.descriptions == classes.label_names
        assert set(raster.dtypes) == {"uint8"}
        assert raster.nodata == 255
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert tags["coverage"] == "0.9"
    assert tags["model"] == model_id(ensemble)
    cleaned, shown = read_class_map(paths[0], classes), read_map(paths[1])
    [decided] = ensemble.decide(ensemble.proba(maps.read(scene)))
    planes = shown if classes.exclusive else np.stack([65534 - shown[0], shown[0]])
    for place, level in enumerate(ensemble.prediction_sets.levels):
        expected = (planes[place] >= level) | (cleaned == place) | (decided == place)
        np.testing.assert_array_equal(sets[place], expected)
    assert (cleaned != decided).any()


def test_a_submission_is_remembered_by_the_score_and_interval_of_what_is_used(fitted, tmp_path):
    ensemble, evaluations, *_ = fitted(KELP)
    scores = score_table(evaluations, KELP, SETTINGS)
    (tmp_path / "a.tar").write_bytes(b"1")
    found = describe_submission("kelp", tmp_path / "a.tar", ensemble, scores, "made")
    rows = scores.filter(pl.col("value") == ensemble.score_, pl.col("scope") == "pooled", pl.col("split") == "train")
    assert (found.score, found.low, found.high) == (ensemble.score_, rows["low"][0], rows["high"][0])
    assert found.low < found.score < found.high
    assert (found.format, found.path, found.settings) == ("kelp", "a.tar", "made")
    assert found.sha256 == hash_files(tmp_path / "a.tar")


def test_tags_are_decided_by_a_threshold_each(write_tag_maps):
    tags = Classes("multilabel", (0, 1, 2), ("haze", "primary", "water"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
    decision = Decision((Calibration(), Calibration()), Blend(((0.5, 0.5),)), (0.5, 0.2, 0.8))
    ensemble = Ensemble(tags, ("trees", "net"), "macro F2", decision, 0.9, "")
    said = {
        "trees": {"b": [0.6, 0.1, 0.7], "a": [0.2, 0.9, 1.0], "c": [np.nan] * 3},
        "net": {"a": [0.9, 0.1, 0.9], "b": [0.6, 0.2, 0.7], "c": [np.nan] * 3},
    }
    directories = {
        name: write_tag_maps(name, tags, {scene: quantise(np.float32(proba)) for scene, proba in of.items()})
        for name, of in said.items()
    }
    scenes = [Scene(name, "train", (), Grid(5, 5)) for name in "bac"]
    found = predict_tags(ensemble, open_maps(directories, tags), scenes)
    assert {scene: has.tolist() for scene, has in found.items()} == {
        "b": [True, False, False],
        "a": [True, True, True],
        "c": [False, False, False],
    }
