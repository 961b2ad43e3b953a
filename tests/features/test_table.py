import json
import pickle
from concurrent.futures import Executor, Future
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.errors import TableError
from data.scenes.scene import read_label
from data.workers import open_executor
from features import FeatureSet, build_table, open_table
from features.settings import SampleSettings
from features.table import table_path

from ..conftest import BANDS, KELP, LAND

NAMES = ("nir", "NDVI", "red_mean_r2")
SAMPLE = SampleSettings(buffer=2, negatives=60, quota=25)


def build(catalogue, directory, executor=None, sample=SAMPLE, **options):
    feature_set = FeatureSet(BANDS, NAMES, **options)
    build_table(catalogue, feature_set, sample, directory, experiment="test", seed=7, executor=executor)


def all_bytes(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*.parquet")}


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_rows_are_the_features_of_their_pixels_even_across_windows(make_scenes, tmp_path, classes):
    catalogue = make_scenes(classes)
    build(catalogue, tmp_path, block=8, window_pixels=300)
    table = open_table(tmp_path, catalogue.split("train"), NAMES[::-1])
    for position, scene in enumerate(catalogue.split("train")):
        rows = pq.read_table(table_path(tmp_path, scene), partitioning=None)
        row, col = rows["row"].to_numpy(), rows["col"].to_numpy()
        planes = FeatureSet(BANDS, NAMES[::-1]).compute(scene)[:, row, col].T
        np.testing.assert_array_equal(table.read()[table.scene == position], planes)
        assert set(rows["scene"].to_pylist()) == {scene.id}
    assert table.names == NAMES[::-1]
    assert table.read().flags.c_contiguous


def test_rows_are_read_block_by_block_in_their_order(make_scenes, tmp_path):
    catalogue = make_scenes(LAND)
    build(catalogue, tmp_path, block=8, window_pixels=300)
    table = open_table(tmp_path, catalogue.split("train"), NAMES)
    assert len(table.blocks) > len(table.scenes)
    everything, chosen = table.read(), np.random.default_rng(0).random(len(table)) < 0.3
    chosen[table.scene == 1] = False
    for wanted in (None, chosen):
        places, rows = (np.concatenate(parts) for parts in zip(*table.batches(wanted), strict=True))
        np.testing.assert_array_equal(places, np.arange(len(table)) if wanted is None else np.flatnonzero(chosen))
        np.testing.assert_array_equal(rows, everything[places])
        np.testing.assert_array_equal(table.read(wanted), rows)


def test_every_column_says_what_it_is(make_scenes, tmp_path):
    catalogue = make_scenes()
    build(catalogue, tmp_path)
    schema = pq.read_schema(table_path(tmp_path, catalogue.scenes[0]))
    about = json.loads(schema.metadata[b"terrablend"])
    assert about["experiment"] == "test"
    assert about["sample"]["negatives"] == 60
    assert schema.field("NDVI").metadata[b"description"] == b"(N - R) / (N + R)"
    assert all(b"unit" in schema.field(name).metadata for name in schema.names)


def test_the_table_has_a_folder_a_fold(make_scenes, tmp_path):
    catalogue = make_scenes()
    build(catalogue, tmp_path)
    assert {str(path) for path in all_bytes(tmp_path)} == {
        "fold=0/s0.parquet",
        "fold=0/s2.parquet",
        "fold=1/s1.parquet",
        "fold=1/s3.parquet",
    }


def test_any_number_of_workers_and_any_order_writes_the_same_bytes(make_scenes, tmp_path):
    catalogue = make_scenes()
    build(catalogue, tmp_path / "one")
    with open_executor(2) as executor:
        build(catalogue, tmp_path / "two", executor)
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two")


class Elsewhere(Executor):
    """Works as a process would: on copies."""

    def submit(self, work, /, *args, **kwargs):
        future = Future()
        future.set_result(pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(work))(*args, **kwargs))))
        self.done = getattr(self, "done", 0) + 1
        return future


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_the_windows_of_one_scene_are_shared_by_workers_and_give_the_same_bytes(make_scenes, tmp_path, classes):
    catalogue, elsewhere = make_scenes(classes), Elsewhere()
    alone = replace(catalogue, scenes=catalogue.split("train")[:1])
    for name, executor in (("here", None), ("there", elsewhere)):
        build(alone, tmp_path / name, executor, block=8, window_pixels=300)
    assert elsewhere.done > 2
    assert all_bytes(tmp_path / "here") == all_bytes(tmp_path / "there")


def test_a_restart_keeps_what_is_there_and_ends_with_the_same_bytes(make_scenes, tmp_path):
    catalogue = make_scenes()
    build(catalogue, tmp_path)
    before = all_bytes(tmp_path)
    kept, lost = table_path(tmp_path, catalogue.scenes[0]), table_path(tmp_path, catalogue.scenes[1])
    lost.unlink()
    time = kept.stat().st_mtime_ns
    build(catalogue, tmp_path)
    assert all_bytes(tmp_path) == before
    assert kept.stat().st_mtime_ns == time


def test_rows_that_a_power_cut_left_without_their_end_are_made_again(make_scenes, tmp_path):
    catalogue = make_scenes()
    build(catalogue, tmp_path)
    before = all_bytes(tmp_path)
    empty, cut = (table_path(tmp_path, scene) for scene in catalogue.scenes[:2])
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-100])
    build(catalogue, tmp_path)
    assert all_bytes(tmp_path) == before


def test_a_table_without_a_row_is_refused(make_scenes, tmp_path):
    with pytest.raises(TableError, match="expected pixels to learn from, got none"):
        build(make_scenes(holes=1.1), tmp_path)


def test_missing_rows_and_columns_are_named(make_scenes, tmp_path):
    catalogue = make_scenes()
    with pytest.raises(TableError, match=r"s0\.parquet: expected the rows of scenes"):
        open_table(tmp_path, catalogue.scenes, NAMES)
    build(catalogue, tmp_path)
    with pytest.raises(TableError, match=r"s0\.parquet: expected the features"):
        open_table(tmp_path, catalogue.scenes, ["EVI"])


def test_rows_have_the_labels_of_annotators_by_their_shares_also_where_these_are_equal(
    make_scenes, write_raster, tmp_path
):
    catalogue = make_scenes(n_scenes=1, folds=1, holes=0, positive_share=0.3)
    [scene] = catalogue.scenes
    first = read_label(scene)
    other = np.where(first == 255, 255, 1 - first)
    opinions = np.repeat(first[None], 4, axis=0)
    opinions[0, :20] = other[:20]
    opinions[1, :10] = other[:10]
    opinions[2, 10:20] = 255
    scored = first.copy()
    scored[:10] = 255
    path = write_raster("soft.tif", np.stack([scored, *opinions]))
    soft = replace(scene, label=replace(scene.label, path=str(path), opinions=4))
    everything = SampleSettings(positives="all", buffer=0, negatives="all")
    build(replace(catalogue, scenes=(soft,)), tmp_path, sample=everything)
    rows = pq.read_table(table_path(tmp_path, soft), partitioning=None)
    row, col, label = (rows[name].to_numpy() for name in ("row", "col", "label"))
    assert len(rows) == (first != 255).sum()
    assert rows["weight"].to_pylist() == [1.0] * len(rows)
    changed = label != first[row, col]
    assert changed[row < 10].mean() == pytest.approx(1 / 2, abs=0.07)
    assert changed[(row >= 10) & (row < 20)].mean() == pytest.approx(1 / 3, abs=0.07)
    assert not changed[row >= 20].any()
