import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import features.scene_table
from data.errors import TableError
from data.records import read_record
from data.scenes.tags import read_tags
from data.workers import open_executor
from features.feature_set import FeatureSet
from features.histograms import measure_edges
from features.scene_features import SceneFeatureSet
from features.scene_table import EDGES, build_scene_table, open_rows, open_scene_table, scene_features
from features.settings import AggregateSettings, FeatureSettings
from features.table import build_table, open_table

from ..conftest import BANDS, TAGS

NAMES = ("red_mean", "NDVI_q25", "red_std_r1_mean")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(features.scene_table, "PART_SCENES", 5)


def build(catalogue, directory, executor=None, **options):
    feature_set = SceneFeatureSet(BANDS, NAMES)
    build_scene_table(catalogue, feature_set, directory, experiment="test", executor=executor, **options)


def all_bytes(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*.parquet")}


def blinded(catalogue, write_raster, *numbers):
    for number in numbers:
        write_raster(f"t{number}.tif", np.full((3, 24, 20), np.nan, np.float32))
    return catalogue


def test_each_scene_has_a_row_of_its_features_and_tags(make_tagged, tmp_path):
    catalogue = make_tagged(13)
    build(catalogue, tmp_path)
    table = open_scene_table(tmp_path, catalogue, NAMES[::-1])
    assert len(table) == 13
    assert sorted(table.scenes[place] for place in table.scene) == sorted(scene.id for scene in catalogue.scenes)
    assert (table.weight == 1).all()
    rows = table.read()
    by_id = {scene.id: scene for scene in catalogue.scenes}
    for place, row, label in zip(table.scene, rows, table.label, strict=True):
        scene = by_id[table.scenes[place]]
        np.testing.assert_array_equal(row, SceneFeatureSet(BANDS, NAMES[::-1]).compute(scene))
        np.testing.assert_array_equal(label, read_tags(scene, 3))


def test_rows_lie_in_parts_in_a_folder_a_fold(make_tagged, tmp_path):
    build(make_tagged(13), tmp_path)
    counts = {path: pq.read_metadata(tmp_path / path).num_rows for path in all_bytes(tmp_path)}
    assert counts == {
        "fold=0/part-00000.parquet": 5,
        "fold=0/part-00001.parquet": 2,
        "fold=1/part-00000.parquet": 5,
        "fold=1/part-00001.parquet": 1,
    }


def test_the_rows_of_a_fold_can_be_opened_alone(make_tagged, tmp_path):
    catalogue = make_tagged(13)
    build(catalogue, tmp_path)
    table = open_rows(tmp_path, catalogue, NAMES, [1])
    assert [table.scenes[place] for place in table.scene] == [scene.id for scene in catalogue.in_fold(1)]
    assert table.label.shape == (6, 3)


def test_the_pixel_table_is_opened_by_the_same_name(make_scenes, tmp_path):
    catalogue = make_scenes()
    settings = FeatureSettings().sample.model_copy(update={"negatives": 30})
    build_table(catalogue, FeatureSet(BANDS, BANDS), settings, tmp_path, experiment="test", seed=0)
    for folds, scenes in ((None, catalogue.scenes), ([1], catalogue.in_fold(1))):
        expected, found = open_table(tmp_path, scenes, BANDS), open_rows(tmp_path, catalogue, BANDS, folds)
        assert found.scenes == expected.scenes
        np.testing.assert_array_equal(found.read(), expected.read())


def test_any_number_of_workers_writes_the_same_bytes(make_tagged, tmp_path):
    catalogue = make_tagged(8)
    build(catalogue, tmp_path / "one")
    with open_executor(2) as executor:
        build(catalogue, tmp_path / "two", executor)
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two")


def test_a_table_that_was_interrupted_is_finished_with_the_same_bytes(make_tagged, tmp_path):
    catalogue = make_tagged(13)
    build(catalogue, tmp_path / "whole")

    def interrupt(items, what, total):
        for number, item in enumerate(items):
            if number == 6:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        build(catalogue, tmp_path / "parts", track=interrupt)
    assert len(all_bytes(tmp_path / "parts")) == 1
    path = tmp_path / "parts" / "fold=0" / "part-00000.parquet"
    time = path.stat().st_mtime_ns
    build(catalogue, tmp_path / "parts")
    assert all_bytes(tmp_path / "parts") == all_bytes(tmp_path / "whole")
    assert path.stat().st_mtime_ns == time


def test_scenes_without_a_valid_pixel_have_no_row_and_are_counted(make_tagged, write_raster, tmp_path, caplog):
    catalogue = blinded(make_tagged(9), write_raster, 0, 3)
    build(catalogue, tmp_path)
    table = open_scene_table(tmp_path, catalogue, NAMES)
    assert {"s0", "s3"}.isdisjoint(table.scenes[place] for place in table.scene)
    assert len(table) == 7
    assert "2 scenes have no valid pixel" in caplog.text


def test_a_table_without_any_row_is_refused(make_tagged, write_raster, tmp_path):
    with pytest.raises(TableError, match="got none with a valid pixel"):
        build(blinded(make_tagged(2), write_raster, 0, 1), tmp_path)


def test_every_column_says_what_it_is(make_tagged, tmp_path):
    build(make_tagged(4), tmp_path)
    schema = pq.read_schema(tmp_path / "fold=0" / "part-00000.parquet")
    assert schema.names == ["scene", "label haze", "label rough", "label never", *NAMES]
    assert schema.field("label haze").metadata[b"description"] == b"1 where the scene has haze"
    assert schema.field("red_mean").metadata[b"description"] == b"mean of red"
    assert json.loads(schema.metadata[b"terrablend"])["features"] == [*NAMES]


def test_missing_parts_and_features_are_named(make_tagged, tmp_path):
    catalogue = make_tagged(13)
    build(catalogue, tmp_path)
    with pytest.raises(TableError, match=r"part-00000\.parquet: expected the features.* none called red_std"):
        open_scene_table(tmp_path, catalogue, ["red_std"])
    with pytest.raises(TableError, match="got none called label fog"):
        open_scene_table(tmp_path, replace(catalogue, classes=replace(TAGS, names=("haze", "fog", "x"))), NAMES)
    (tmp_path / "fold=1" / "part-00001.parquet").unlink()
    with pytest.raises(TableError, match=r"fold=1/part-00001\.parquet: expected the rows of scenes"):
        open_scene_table(tmp_path, catalogue, NAMES)


def test_the_edges_of_histograms_are_kept_with_the_table(make_tagged, tmp_path, monkeypatch):
    catalogue = make_tagged(6)
    aggregate = AggregateSettings(of=["red", "NDVI"], statistics=["mean"], bins=3, edges={"NDVI": [0]}, texture={})
    settings = FeatureSettings(aggregate=aggregate)
    feature_set = scene_features(catalogue, settings, tmp_path, seed=1)
    edges = measure_edges(catalogue.scenes, FeatureSet(BANDS, ["red"]), 3, seed=1)
    assert read_record(tmp_path / "edges.json", dict, EDGES) == {"NDVI": [0], "red": [*edges["red"]]}
    low, high = edges["red"]
    assert feature_set.names == (
        "red_mean",
        "NDVI_mean",
        f"red_below_{low:g}",
        f"red_from_{low:g}_below_{high:g}",
        f"red_from_{high:g}",
        "NDVI_below_0",
        "NDVI_from_0",
        "valid_share",
    )
    # Later stages see other scenes perhaps, and the same columns.
    monkeypatch.setattr(features.scene_table, "measure_edges", None)
    assert scene_features(catalogue, settings, tmp_path, seed=2).names == feature_set.names


@pytest.mark.parametrize("bins", [0, 1])
def test_without_bins_no_scene_is_looked_at(make_tagged, tmp_path, monkeypatch, bins):
    monkeypatch.setattr(features.scene_table, "measure_edges", None)
    settings = FeatureSettings(aggregate=AggregateSettings(bins=bins))
    names = scene_features(make_tagged(2), settings, tmp_path, seed=0).names
    assert not [name for name in names if "below" in name or "from" in name]
