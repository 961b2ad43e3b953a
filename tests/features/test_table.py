import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.linear_model import LogisticRegression

import features.table
from data.classes import IGNORE
from data.errors import TableError
from data.workers import open_executor
from features import FeatureSet, build_table, read_table
from features.sample import draw_pixels
from features.settings import SampleSettings
from features.table import table_path

from ..conftest import BANDS, KELP, LAND

NAMES = ("nir", "NDVI", "red_mean_r2")
SAMPLE = SampleSettings(buffer=2, negatives=60, quota=25)


def build(catalogue, directory, executor=None, sample=SAMPLE):
    build_table(catalogue, FeatureSet(BANDS, NAMES), sample, directory, experiment="test", seed=7, executor=executor)


def all_bytes(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*.parquet")}


@given(
    st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 4), st.integers(0, 50), st.integers(0, 99)
)
def test_weights_of_a_stratum_sum_to_its_pixels(height, width, share, buffer, negatives, seed):
    rng = np.random.default_rng(seed)
    label = (rng.random((height, width)) < share).astype(np.uint8)
    label[rng.random(label.shape) < 0.1] = IGNORE
    valid = rng.random(label.shape) < 0.9
    sample = draw_pixels(label, valid, KELP, SampleSettings(buffer=buffer, negatives=negatives), rng)
    usable = valid & (label != IGNORE)
    near = ndimage.binary_dilation(label == 1, np.ones((2 * buffer + 1,) * 2)) if buffer else label == 1
    strata = {0: label == 1, 1: near & (label != 1), 2: ~near}
    assert usable[sample.rows, sample.cols].all()
    assert len(set(zip(sample.rows.tolist(), sample.cols.tolist(), strict=True))) == len(sample)
    for stratum, mask in strata.items():
        drawn = sample.stratum == stratum
        assert mask[sample.rows[drawn], sample.cols[drawn]].all()
        pixels = (mask & usable).sum()
        if stratum < 2:
            assert drawn.sum() == pixels
        else:
            assert drawn.sum() == min(negatives, pixels)
        if drawn.any():
            np.testing.assert_allclose(sample.weight[drawn].sum(), pixels, rtol=1e-5)


@given(st.integers(0, 99), st.integers(1, 60))
def test_a_quota_takes_all_of_a_rare_class(seed, quota):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2], (30, 30), p=[0.8, 0.18, 0.02]).astype(np.uint8)
    sample = draw_pixels(label, np.ones_like(label, bool), LAND, SampleSettings(quota=quota), rng)
    for value in range(3):
        count = (label == value).sum()
        assert (sample.label == value).sum() == min(quota, count)
        np.testing.assert_allclose(sample.weight[sample.label == value].sum(), count, rtol=1e-5)


def test_design_weights_calibrate_a_model_on_full_scenes():
    rng = np.random.default_rng(0)
    label = (ndimage.gaussian_filter(rng.normal(size=(300, 300)), 3) > 0.2).astype(np.uint8)
    feature = label + rng.normal(0, 1, label.shape)
    sample = draw_pixels(label, np.ones_like(label, bool), KELP, SampleSettings(buffer=2, negatives=800), rng)
    rows = feature[sample.rows, sample.cols][:, None]
    truth = label.mean()
    weighted = LogisticRegression().fit(rows, sample.label, sample.weight).predict_proba(feature.reshape(-1, 1))[:, 1]
    plain = LogisticRegression().fit(rows, sample.label).predict_proba(feature.reshape(-1, 1))[:, 1]
    assert weighted.mean() == pytest.approx(truth, rel=0.1)
    assert plain.mean() > 1.5 * truth


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_rows_are_the_features_of_their_pixels_even_across_windows(make_scenes, tmp_path, monkeypatch, classes):
    monkeypatch.setattr(features.table, "WINDOW", 16)
    catalogue = make_scenes(classes)
    build(catalogue, tmp_path)
    table = read_table(tmp_path, catalogue.split("train"), NAMES[::-1])
    for position, scene in enumerate(catalogue.split("train")):
        rows = pq.read_table(table_path(tmp_path, scene), partitioning=None)
        row, col = rows["row"].to_numpy(), rows["col"].to_numpy()
        planes = FeatureSet(BANDS, NAMES[::-1]).compute(scene)[:, row, col].T
        np.testing.assert_allclose(table.features[table.scene == position], planes, rtol=1e-5, atol=1e-6)
        assert set(rows["scene"].to_pylist()) == {scene.id}
    assert table.names == NAMES[::-1]
    assert table.features.flags.c_contiguous


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
        "fold=0/s0.parquet", "fold=0/s2.parquet", "fold=1/s1.parquet", "fold=1/s3.parquet"
    }  # fmt: skip


def test_any_number_of_workers_and_any_order_writes_the_same_bytes(make_scenes, tmp_path):
    catalogue = make_scenes()
    build(catalogue, tmp_path / "one")
    with open_executor(2) as executor:
        build(catalogue, tmp_path / "two", executor)
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two")


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


def test_a_table_without_a_row_is_refused(make_scenes, tmp_path):
    with pytest.raises(TableError, match="expected pixels to learn from, got none"):
        build(make_scenes(holes=1.1), tmp_path)


def test_missing_rows_and_columns_are_named(make_scenes, tmp_path):
    catalogue = make_scenes()
    with pytest.raises(TableError, match=r"s0\.parquet: expected the rows of a scene"):
        read_table(tmp_path, catalogue.scenes, NAMES)
    build(catalogue, tmp_path)
    with pytest.raises(TableError, match=r"s0\.parquet: expected the features"):
        read_table(tmp_path, catalogue.scenes, ["EVI"])
