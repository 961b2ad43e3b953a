import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from data.errors import MemberError
from features.applicability import (
    LAYERS,
    Applicability,
    compare_rows,
    learn_applicability,
    load_applicability,
    weigh_columns,
)
from features.explanation import ClassUse, ColumnUse, Explanation, Spread

from ..conftest import table_of


def slow_measure(rows, folds, weights, pixels):
    """The formulas of the papers, written out."""
    mean, deviation = rows.mean(axis=0), rows.std(axis=0, ddof=1)
    train, new = ((values - mean) / deviation * weights for values in (rows, pixels))

    def distance(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5

    pairs = [distance(a, b) for i, a in enumerate(train) for b in train[i + 1 :]]
    average = sum(pairs) / len(pairs)
    apart = [
        min(distance(a, b) for b, other in zip(train, folds, strict=True) if other != fold) / average
        for a, fold in zip(train, folds, strict=True)
    ]
    low, high = np.quantile(apart, [0.25, 0.75], method="averaged_inverted_cdf")
    threshold = max(value for value in apart if value <= high + 1.5 * (high - low))
    distances = np.array([[distance(a, b) for b in train] for a in new]) / average
    return average, threshold, distances.min(axis=1), (distances <= threshold).sum(axis=1)


@pytest.mark.parametrize("columns", [1, 3, 7])
def test_layers_are_those_of_the_papers_formulas(columns):
    rng = np.random.default_rng(columns)
    rows = rng.normal(size=(60, columns)) * rng.uniform(0.1, 50, columns) + rng.uniform(-9, 9, columns)
    rows[::9] += 30  # Outliers, which the threshold leaves out.
    folds, weights = np.arange(60) % 4, rng.uniform(0.2, 3, columns)
    pixels = rng.normal(size=(40, columns)) * 30
    pixels[0] = rows[7]
    average, threshold, *_ = slow_measure(rows, folds, weights, pixels)
    found = compare_rows(rows, folds, dict(zip("abcdefg", weights.tolist(), strict=False)))
    assert found.mean_distance == pytest.approx(average, rel=1e-9)
    assert found.threshold == pytest.approx(threshold, rel=1e-9)
    # Features are float32; pixels are the same to the formula.
    layers = found.measure(pixels.T.reshape(columns, 8, 5).astype(np.float32)).reshape(3, -1)
    again = slow_measure(rows, folds, weights, pixels.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(layers[0], again[2], atol=1e-6, rtol=1e-6)
    np.testing.assert_array_equal(layers[1], again[3])
    np.testing.assert_array_equal(layers[2], again[2] <= threshold)
    assert layers[0, 0] < 1e-6
    assert 0 < layers[2].mean() < 1, "or the test shows nothing"
    assert ((layers[1] > 0) == (layers[2] == 1)).all(), "some training pixel is near where the model may be applied"


def test_a_value_that_is_missing_counts_as_the_mean_and_a_pixel_without_any_is_not_measured():
    rng = np.random.default_rng(0)
    rows = rng.normal((5, 0), size=(50, 2))
    found = compare_rows(rows, np.arange(50) % 2, {"a": 1.0, "b": 1.0})
    pixels = np.float32([[np.nan, rows[:, 0].mean(), np.nan], [1, 1, np.nan]])
    layers = found.measure(pixels)
    np.testing.assert_allclose(layers[:, 0], layers[:, 1], rtol=1e-5)
    assert np.isnan(layers[:, 2]).all()
    rows[:10, 0] = np.nan
    holed = compare_rows(rows, np.arange(50) % 2, {"a": 1.0, "b": 1.0})
    assert holed.offset[0] == pytest.approx(np.nanmean(rows[:, 0]))
    assert np.isfinite(holed.references).all()


@pytest.mark.filterwarnings("error")
def test_constant_and_empty_columns_say_nothing_and_one_fold_no_threshold():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=30), np.full(30, 7.0), np.full(30, np.nan)])
    found = compare_rows(rows, np.arange(30) % 3, dict.fromkeys("abc", 1.0))
    pixels = np.stack([rows[:, 0], rng.normal(size=30), rng.normal(size=30)]).astype(np.float32)
    alone = compare_rows(rows[:, :1], np.arange(30) % 3, {"a": 1.0})
    np.testing.assert_allclose(found.measure(pixels), alone.measure(pixels[:1]), atol=1e-6)
    assert compare_rows(rows[:, :1], np.zeros(30, int), {"a": 1.0}).threshold == 0


def test_outside_a_model_errs_far_more_than_its_cross_validation_says_and_inside_less():
    """As in the paper's simulation: a response of some predictors, learned in clusters in a part of their space."""
    rng = np.random.default_rng(1)

    def response(rows):
        return np.sin(2 * rows[:, 0]) + rows[:, 1] * rows[:, 2] + 0.5 * rows[:, 3]

    centres = rng.uniform(-1.5, 0.5, (30, 4))
    groups = np.repeat(np.arange(30), 16)
    rows = centres[groups] + 0.25 * rng.normal(size=(480, 4))
    folds = groups % 4
    noise = rng.normal(size=(480, 3))  # Columns that do not matter, and have other values in the new place.
    table = np.column_stack([rows, noise])
    errors = []
    for fold in range(4):
        model = RandomForestRegressor(60, random_state=0).fit(table[folds != fold], response(rows[folds != fold]))
        errors.append((model.predict(table[folds == fold]) - response(rows[folds == fold])) ** 2)
    expected = np.sqrt(np.concatenate(errors).mean())
    model = RandomForestRegressor(60, random_state=0).fit(table, response(rows))
    weights = dict(zip("abcdefg", model.feature_importances_.tolist(), strict=True))
    found = compare_rows(table, folds, weights)
    place = rng.uniform(-2.5, 1.5, (3000, 4))
    new = np.column_stack([place, 1 + rng.normal(size=(3000, 3))])
    index, density, inside = found.measure(new.T.astype(np.float32))
    wrong = (model.predict(new) - response(place)) ** 2
    assert 0.1 < inside.mean() < 0.9
    assert np.sqrt(wrong[inside == 1].mean()) < 2 * expected < 0.7 * np.sqrt(wrong[inside == 0].mean())
    # The index ranks errors, and where training pixels lie densely they are small.
    order = np.argsort(index)
    assert wrong[order[:1000]].mean() < wrong[order[1000:2000]].mean() < wrong[order[2000:]].mean()
    assert wrong[density > 10].mean() < wrong[(density > 0) & (density <= 10)].mean()


def use(name, rise):
    return ColumnUse(name, Spread(0, 0), Spread(rise, 0), Spread(0, 0), np.nan, None, None)


def test_a_column_weighs_its_share_in_each_class():
    common = ClassUse("common", 0, 0, (use("a", 30.0), use("b", 10.0), use("c", -5.0)))
    rare = ClassUse("rare", 0, 0, (use("b", 0.03), use("a", 0.0), use("c", 0.01)))
    weights = weigh_columns(Explanation("trees", 1, 1, 1, False, (common, rare)), "abc")
    assert list(weights) == ["b", "a", "c"]
    assert weights == pytest.approx({"b": 1.5, "a": 1.125, "c": 0.375})
    none = ClassUse("none", 0, 0, (use("a", -1.0), use("b", 0.0)))
    assert weigh_columns(Explanation("trees", 1, 1, 1, False, (none,)), "ab") == {"a": 1, "b": 1}
    assert list(weigh_columns(Explanation("trees", 1, 1, 1, False, (common, rare)), "bc")) == ["b", "c"]
    many = ClassUse("many", 0, 0, tuple(use(f"x{number:03}", 1.0) for number in range(100)))
    assert len(weigh_columns(Explanation("trees", 1, 1, 1, False, (many,)), [one.name for one in many.columns])) == 24


def test_rows_of_every_class_and_fold_are_compared_with_and_the_seed_decides_which(tmp_path):
    rng = np.random.default_rng(0)
    label = (rng.random(4000) < 0.01).astype(np.uint8)
    features = rng.normal(size=(4000, 2)).astype(np.float32) + 9 * label[:, None]
    table = dataclasses.replace(
        table_of(features, label, names=["a", "b"]),
        scene=(np.arange(4000) % 4).astype(np.int32),
        scenes=("w", "x", "y", "z"),
    )
    scenes = [SimpleNamespace(id=name, fold=place % 2) for place, name in enumerate("wxyz")]
    catalogue = SimpleNamespace(split=lambda split: scenes, classes=SimpleNamespace(label_names=("background", "kelp")))
    first, again, other = (
        learn_applicability(table, catalogue, {"a": 1.0, "b": 1.0}, seed=seed, references=200) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert 100 < len(first.references) <= 200
    points = np.array(first.references) / np.array(first.scale) + np.array(first.offset)
    assert np.count_nonzero(points.mean(axis=1) > 5) > 20, "the rare class is there"
    layers = first.measure(np.float32([[9, 0, 60], [9, 0, 60]]))
    assert layers[LAYERS.index("applicable")].tolist() == [1, 1, 0]

    first.save(tmp_path / "applicability.json")
    assert load_applicability(tmp_path / "applicability.json") == first
    (tmp_path / "applicability.json").write_bytes(b"{}")
    with pytest.raises(MemberError, match=r"applicability\.json: expected an area of applicability"):
        load_applicability(tmp_path / "applicability.json")


def test_what_is_kept_is_plain():
    fields = [field.name for field in dataclasses.fields(Applicability)]
    assert fields == ["columns", "offset", "scale", "references", "mean_distance", "threshold"]
