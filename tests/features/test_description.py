import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import features.description
from data.errors import TableError
from features.description import (
    QUANTILES,
    ColumnFacts,
    TableFacts,
    _correlate,
    _most_correlated,
    _rank_facts,
    describe_table,
    load_facts,
    save_facts,
)
from features.feature_set import FeatureSet
from features.settings import SampleSettings
from features.table import build_table, open_table

from ..conftest import BANDS, KELP, LAND, Held

NAMES = ("nir", "red", "NDVI", "red_mean_r2")
FEATURES = FeatureSet(BANDS, NAMES)
SAMPLE = SampleSettings(buffer=0, negatives=200, quota=100)


@pytest.fixture
def built(make_scenes, tmp_path):
    """Return a function that makes scenes and opens their pixel table."""

    def build(classes=KELP, **options):
        catalogue = make_scenes(classes, **options)
        build_table(catalogue, FEATURES, SAMPLE, tmp_path, experiment="test", seed=7)
        return open_table(tmp_path, catalogue.scenes, NAMES)

    return build


def column(name="nir", quantiles=(1.0,) * 5, auc=(0.5,)):
    return ColumnFacts(name, "band", f"the band {name}", 0, "", 0.0, quantiles, auc)


def random_rows(seed, n_rows, n_values, n_labels=3):
    """Few distinct values: ties; weights far from equal; some NaN."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, n_values, n_rows).astype(np.float32) / 7
    values[rng.random(n_rows) < 0.2] = np.nan
    return values, rng.integers(0, n_labels, n_rows).astype(np.uint8), rng.choice([1.0, 2.5, 40.0], n_rows)


@given(st.integers(0, 999), st.integers(1, 80), st.sampled_from([1, 2, 5, 10_000]))
def test_auc_is_that_of_scikit_learn_with_ties_and_weights(seed, n_rows, n_values):
    values, label, weight = random_rows(seed, n_rows, n_values)
    _, auc = _rank_facts(values, label, weight, 4)
    there = ~np.isnan(values)
    for index in range(4):
        own = label[there] == index
        if own.any() and not own.all():
            expected = roc_auc_score(own, values[there], sample_weight=weight[there])
            assert auc[index] == pytest.approx(expected, abs=1e-9)
        else:
            assert math.isnan(auc[index])


@given(st.integers(0, 999), st.integers(1, 80), st.sampled_from([1, 2, 5, 10_000]))
def test_a_quantile_is_the_smallest_value_whose_cumulative_weight_reaches_the_share(seed, n_rows, n_values):
    values, label, weight = random_rows(seed, n_rows, n_values)
    quantiles, _ = _rank_facts(values, label, weight, 3)
    there = ~np.isnan(values)
    if not there.any():
        assert np.isnan(quantiles).all()
        return
    total = weight[there].sum()
    for share, quantile in zip(QUANTILES, quantiles, strict=True):
        slow = min(value for value in values[there] if weight[values <= value].sum() >= share * total)
        assert quantile == slow


@pytest.mark.parametrize("batch_rows", [7, 10_000])
def test_correlations_are_those_of_numpy(batch_rows):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + 1000).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    weight = rng.choice([1.0, 30.0], 300)
    filled = rows.astype(np.float64)
    for values in filled.T:
        there = ~np.isnan(values)
        values[~there] = np.average(values[there], weights=weight[there])
    covariance = np.cov(filled.T, aweights=weight)
    deviation = np.sqrt(np.diag(covariance))
    expected = np.abs(covariance / np.outer(deviation, deviation))
    np.testing.assert_allclose(_correlate(rows, weight, batch_rows), expected, rtol=1e-9)
    equal = _correlate(filled.astype(np.float32), np.ones(300), batch_rows)
    np.testing.assert_allclose(equal, np.abs(np.corrcoef(filled.astype(np.float32).T)), rtol=1e-5)


def test_constant_and_empty_columns_correlate_with_none():
    values = np.random.default_rng(0).normal(size=100).astype(np.float32)
    constant = np.full(100, 0.1, np.float32)
    half = np.where(values > 0, constant, np.float32(np.nan))
    rows = np.stack([values, constant, half, np.full(100, np.nan, np.float32), -values], axis=1)
    correlation = _correlate(rows, np.random.default_rng(1).random(100) + 0.1)
    assert not correlation[1:4].any()
    assert not correlation[:, 1:4].any()
    assert correlation[0, 4] == pytest.approx(1)


def test_the_most_correlated_pairs_come_first_and_are_at_most_twenty():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 9)).astype(np.float32)
    rows[:, 7] = -rows[:, 2] + rng.normal(0, 0.01, 200)
    pairs = _most_correlated("abcdefghi", _correlate(rows, np.ones(200)))
    assert pairs[0][:2] == ("c", "h")
    assert pairs[0][2] > 0.99
    assert len(pairs) == 20
    assert [value for *_, value in pairs] == sorted((value for *_, value in pairs), reverse=True)
    assert all(first < second for first, second, _ in pairs)


@pytest.mark.parametrize(
    ("auc", "expected"), [((0.5, 0.1, 0.8), 0.8), ((math.nan, 0.75), 0.5), ((math.nan,), 0), ((), 0)]
)
def test_separability_is_that_of_the_best_label_in_either_direction(auc, expected):
    assert column(auc=auc).separability == pytest.approx(expected)


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_the_band_in_which_classes_differ_separates_them(built, classes):
    table = built(classes)
    facts = describe_table(table, FEATURES, classes.label_names)
    nir, red, ndvi, mean = facts.columns
    for one, row in zip(facts.columns, FEATURES.describe(), strict=True):
        for key in ("name", "kind", "definition", "halo", "reference"):
            assert getattr(one, key) == row[key]
    assert facts.labels == classes.label_names
    assert nir.auc[-1] > 0.9
    assert nir.auc[0] < 0.2
    assert nir.separability > 0.8
    assert red.separability < 0.25
    assert list(nir.quantiles) == sorted(nir.quantiles)
    assert 90 < nir.quantiles[2] < 115
    assert (ndvi.definition, mean.kind) == ("(N - R) / (N + R)", "context")
    assert {name for pair in facts.pairs for name in pair[:2]} == set(NAMES)
    assert facts.pairs[0][2] > 0.5


def test_the_facts_are_those_of_the_rows_of_the_table(built):
    table = built()
    facts = describe_table(table, FEATURES, KELP.label_names)
    weight = table.weight.astype(np.float64)
    assert facts.rows == len(table)
    for one, values in zip(facts.columns, table.read().T, strict=True):
        there = ~np.isnan(values)
        assert one.nan_share == pytest.approx(weight[~there].sum() / weight.sum())
        expected = roc_auc_score(table.label[there], values[there], sample_weight=weight[there])
        assert one.auc == pytest.approx((1 - expected, expected))


def test_the_share_of_nan_is_weighted(built):
    table = built()
    rows = table.read()
    rows[table.label == 1, 0] = np.nan
    rows[:, 1] = np.nan
    facts = describe_table(replace(table, blocks=[Held(rows)]), FEATURES, KELP.label_names)
    share = table.weight[table.label == 1].sum() / table.weight.sum()
    assert share < 0.6 * (table.label == 1).mean()
    assert facts.columns[0].nan_share == pytest.approx(share, rel=1e-5)
    assert np.isnan(facts.columns[0].auc).all()
    assert facts.columns[1].nan_share == 1
    assert np.isnan(facts.columns[1].quantiles).all()
    assert facts.columns[1].separability == 0
    assert facts.columns[2].nan_share == 0


def test_an_absent_label_has_no_auc(built):
    table = built()
    facts = describe_table(table, FEATURES, [*KELP.label_names, "ice"])
    assert [math.isnan(auc) for auc in facts.columns[0].auc] == [False, False, True]


@pytest.mark.parametrize("most_rows", [1, 3, 50, 333])
def test_no_more_rows_are_kept_than_asked_for_and_each_scene_gives_its_share(built, most_rows):
    table = built()
    counts = np.bincount(table.scene).tolist()
    assert sum(counts) > 333
    # The first column tells the scene, the second the row.
    marks = table.read()
    marks[:, 0], marks[:, 1] = table.scene, np.arange(len(table))
    rows, label, weight = features.description._sample_rows(replace(table, blocks=[Held(marks)]), most_rows, 0)
    assert len(rows) == len(label) == len(weight) == most_rows
    assert len({(scene, row) for scene, row in rows[:, :2].tolist()}) == most_rows
    for position, count in enumerate(counts):
        assert abs((rows[:, 0] == position).sum() - count * most_rows / sum(counts)) < 1
    assert describe_table(table, FEATURES, KELP.label_names, most_rows=most_rows).rows == most_rows


def test_rows_kept_keep_their_features_labels_and_weights(built):
    table = built()
    rows, label, weight = features.description._sample_rows(table, 100, 0)
    known = {row.tobytes(): position for position, row in enumerate(table.read())}
    positions = [known[row.tobytes()] for row in np.ascontiguousarray(rows)]
    np.testing.assert_array_equal(table.label[positions], label)
    np.testing.assert_array_equal(table.weight[positions], weight)


def test_the_seed_alone_decides_which_rows_are_looked_at(built):
    table = built()

    def facts(seed):
        return asdict(describe_table(table, FEATURES, KELP.label_names, most_rows=99, seed=seed))

    assert facts(1) == facts(1)
    assert facts(1) != facts(2)


def test_facts_survive_a_trip_through_a_file_that_is_strict_json(tmp_path):
    nan = math.nan
    columns = (column("nir", (0.1, 0.2, 1 / 3, 4.0, 5.0), (0.25, nan)), column("red", (nan,) * 5, (nan, nan)))
    facts = TableFacts(12, ("background", "kelp"), columns, (("nir", "red", 0.75),))
    path = tmp_path / "facts.json"
    save_facts(facts, path)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    values = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    assert values["columns"][0]["auc"] == [0.25, None]
    loaded = load_facts(path)
    np.testing.assert_equal(asdict(loaded), asdict(facts))
    assert isinstance(loaded.columns[0].quantiles, tuple)
    before = path.read_bytes()
    save_facts(loaded, path)
    assert path.read_bytes() == before


def test_facts_of_a_table_survive_a_trip_through_a_file(built, tmp_path):
    table = built(LAND)
    facts = describe_table(table, FEATURES, [*LAND.label_names, "ice"])
    save_facts(facts, tmp_path / "facts.json")
    np.testing.assert_equal(asdict(load_facts(tmp_path / "facts.json")), asdict(facts))


def test_no_rows_are_refused(built):
    table = built()
    empty = replace(table, blocks=[], label=table.label[:0], weight=table.weight[:0], scene=table.scene[:0])
    for rows, most_rows in ((empty, 9), (table, 0)):
        with pytest.raises(TableError, match="expected rows to describe, got none"):
            describe_table(rows, FEATURES, KELP.label_names, most_rows=most_rows)


def test_each_tag_has_the_auc_of_its_own_rows(built):
    table = built()
    tags = np.random.default_rng(0).integers(0, 2, (len(table), 3)).astype(np.uint8)
    tags[:, 2] = 1
    facts = describe_table(replace(table, label=tags), FEATURES, ["haze", "road", "primary"])
    for one, values in zip(facts.columns, table.read().T, strict=True):
        there = ~np.isnan(values)
        expected = [roc_auc_score(tag[there], values[there], sample_weight=table.weight[there]) for tag in tags.T[:2]]
        assert one.auc[:2] == pytest.approx(expected)
        assert math.isnan(one.auc[2])
