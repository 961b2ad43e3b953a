import numpy as np
import pytest

from data.scenes.histogram import KEYS, ValueCounts
from data.survey.suspects import Declared, find_fill, find_kinds, find_scales


def fill_of(values):
    plane = np.asarray(values, np.float32)
    total = np.zeros((1, KEYS), np.int64)
    ValueCounts.of(plane[None]).add_to(total)
    return find_fill(["red"], {"train": total}, np.array([[plane.min(), plane.max()]], np.float64))


@pytest.mark.parametrize("fill", [-9999, -3.4028235e38, 9.96921e36, 1e20, -1e15])
def test_a_frequent_value_far_from_all_others_is_named(fill):
    values = np.random.default_rng(0).normal(1000, 100, 10_000)
    assert fill_of(values) == []
    values[:500] = fill
    [line] = fill_of(values)
    assert f"red: {np.float32(fill):.9g} in up to 5.00% of the pixels" in line


def test_a_single_far_pixel_is_named_only_if_it_is_a_usual_fill():
    values = np.random.default_rng(0).normal(1000, 100, 10_000)
    values[0] = 50_000
    assert fill_of(values) == []
    values[0] = -9999
    assert "scenes.nodata: -9999" in fill_of(values)[0]


def test_masks_and_classes_hold_no_fill():
    assert fill_of([0, 255] * 50) == []
    assert fill_of([0, 1, 2, 3, 4, 5] * 50) == []


def test_scenes_that_declare_different_scales_are_told_apart():
    declared = [Declared(f"s{k}", band, 1e-4, -0.1 * (k > 1)) for k in range(4) for band in ("red", "nir")]
    [line] = find_scales(declared)
    assert line.startswith("red, nir: scenes declare different scales: scale 0.0001 and offset -0.1 in 2 scenes (s2 …)")
    assert find_scales(declared[:4]) == []


def kinds_of(name, values, **options):
    plane = np.asarray(values, np.float32)
    total = np.zeros((1, KEYS), np.int64)
    ValueCounts.of(plane[None]).add_to(total)
    ends = np.array([[plane.min(), plane.max()]], np.float64)
    return find_kinds([name], {"train": total}, ends, **{"fewest_pixels": 10, **options})


def test_bands_that_look_like_classes_or_angles_are_named():
    rng = np.random.default_rng(0)
    [line] = kinds_of("soil", rng.integers(0, 7, 5000))
    assert line.startswith("soil: 7 whole values, as of classes")
    assert kinds_of("soil", rng.integers(0, 7, 5000), masks=["soil"]) == []
    assert kinds_of("mask", rng.integers(0, 2, 5000)) == []
    assert kinds_of("red", rng.integers(0, 200, 5000)) == []
    assert kinds_of("slope", rng.uniform(0, 6, 5000)) == []
    assert "as of an angle" in kinds_of("terrain", rng.uniform(0, 360, 50_000))[0]
    assert "as of an angle" in kinds_of("aspect", rng.uniform(90, 200, 5000))[0]
    assert kinds_of("slope", rng.uniform(0, 80, 5000)) == []
    assert kinds_of("soil", rng.integers(0, 7, 5000), fewest_pixels=10_000) == []
