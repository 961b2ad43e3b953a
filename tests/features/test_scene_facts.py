import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.scenes.windows import Grid, Window, tile_windows
from features.bases import Bases
from features.feature import parse_feature
from features.scene_facts import MOST_PIXELS, lattice_of, measure_scene

BASES = Bases(["red", "nir"], {"water": "nir < 0.2", "ratio": "nir / red"})
NAN = np.nan


def measure(name, valid=None, **planes):
    """Measure what one feature needs to know of the pixels of some planes."""
    pixels = {band: np.float32(values) for band, values in planes.items()}
    if valid is None:
        valid = np.isfinite(next(iter(pixels.values())))
    return measure_scene([parse_feature(name, BASES)], pixels, np.array(valid))[name]


def test_the_median_is_of_all_pixels_that_have_a_value():
    assert measure("red_above_scene", red=[0.5, 0.1, NAN, 0.2]) == np.float32(0.2)
    assert measure("red_above_scene", red=[0.5, 0.25, NAN, 0.25, 0.75]) == np.float32(0.375)


def test_the_median_over_a_mask_is_of_the_pixels_where_it_holds():
    nir = [0.1, 0.1, 0.5, 0.1, NAN]
    assert measure("red_above_water", red=[1, 3, 9, NAN, 7], nir=nir) == 2


def test_a_pixel_where_the_mask_is_unknown_is_not_in_it():
    assert measure("red_above_water", red=[1, 99], nir=[0.1, NAN]) == 1


def test_a_mask_holds_where_it_is_not_0():
    bases = Bases(["red", "kind"], {"known": "kind"})
    planes = {"red": np.float32([1, 2, 50]), "kind": np.float32([3, -1, 0])}
    facts = measure_scene([parse_feature("red_above_known", bases)], planes, np.ones(3, bool))
    assert facts["red_above_known"] == 1.5


def test_the_median_of_an_index_leaves_out_where_it_is_not_finite():
    assert measure("ratio_above_scene", red=[0, 1, 1, 1], nir=[1, 2, 4, 6]) == 4


@pytest.mark.parametrize(
    ("name", "count"), [("red_above_scene", 1), ("red_above_water", 1), ("red_rank", 257), ("water_share", 1)]
)
def test_where_no_pixel_has_a_value_the_fact_is_unknown(name, count):
    facts = measure(name, red=[NAN, NAN], nir=[NAN, NAN])
    assert facts.shape == (count,)
    assert facts.dtype == np.float32
    assert np.isnan(facts).all()


def test_a_scene_without_water_has_no_median_over_it():
    assert np.isnan(measure("red_above_water", red=[1, 2], nir=[0.5, 0.5]))


def test_ranks_go_by_257_quantiles():
    values = np.random.default_rng(0).permutation(257).astype(np.float32)
    np.testing.assert_array_equal(measure("red_rank", red=values), np.arange(257, dtype=np.float32))


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(-(2.0**20), 2.0**20, width=32) | st.just(NAN)))
def test_quantiles_go_up_from_the_least_value_to_the_greatest_whatever_is_missing(values):
    quantiles = measure("red_rank", red=values)
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        assert np.isnan(quantiles).all()
        return
    assert quantiles.shape == (257,)
    assert quantiles.dtype == np.float32
    assert quantiles[0] == known[0]
    assert quantiles[-1] == known[-1]
    assert (np.diff(quantiles) >= 0).all()
    places = np.arange(257) * (len(known) - 1) / 256
    np.testing.assert_allclose(quantiles, np.interp(places, np.arange(len(known)), known), rtol=1e-4, atol=0.5)


def test_a_share_is_of_the_pixels_where_it_is_known():
    assert measure("water_share", nir=[0.1, 0.5, 0.5, NAN, 0.1, 0.5, NAN]) == np.float32(0.4)
    assert measure("water_share", nir=[0.5, NAN]) == 0
    assert measure("water_share", nir=[0.1, NAN]) == 1


def test_the_valid_share_is_that_of_the_scenes_mask():
    assert measure("valid_share", [True, False, False, True], red=[1, 2, 3, 4]) == 0.5
    assert measure("valid_share", [False, False], red=[1, 2]) == 0
    facts = measure_scene([parse_feature("valid_share", BASES)], {}, np.array([True, True, False, True]))
    assert facts["valid_share"] == 0.75


def test_facts_are_measured_of_what_needs_them_alone():
    names = ["red", "red_mean_r3", "at_row", "water", "red_rank", "valid_share", "red_above_water", "water_share"]
    planes = {"red": np.float32([1, 2]), "nir": np.float32([0.1, 0.5])}
    facts = measure_scene([parse_feature(name, BASES) for name in names], planes, np.ones(2, bool))
    assert list(facts) == ["red_rank", "valid_share", "red_above_water", "water_share"]
    assert all(fact.dtype == np.float32 for fact in facts.values())
    assert measure_scene([parse_feature("red", BASES)], planes, np.ones(2, bool)) == {}


@given(st.permutations(range(20)))
def test_the_order_of_the_pixels_changes_nothing(order):
    rng = np.random.default_rng(1)
    planes = {band: rng.random(20).astype(np.float32) for band in ("red", "nir")}
    valid = rng.random(20) < 0.5
    features = [parse_feature(f"red{end}", BASES) for end in ("_above_scene", "_above_water", "_rank")]
    features += [parse_feature(name, BASES) for name in ("valid_share", "water_share")]
    found = measure_scene(features, {band: plane[order] for band, plane in planes.items()}, valid[order])
    for name, expected in measure_scene(features, planes, valid).items():
        np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize("shape", [(1, 1), (37, 40), (350, 350), (1024, 1024), (1, MOST_PIXELS)])
def test_a_small_scene_is_covered_wholly(shape):
    grid = Grid(*shape)
    for window in (grid.window, Window(0, 0, 1, 1), Window(shape[0] - 1, shape[1] - 1, 1, 1)):
        rows, cols = lattice_of(grid, window)
        assert len(range(window.height)[rows]) == window.height
        assert len(range(window.width)[cols]) == window.width


@pytest.mark.parametrize(
    ("shape", "step"),
    [((1024, 1025), 2), ((2048, 2048), 2), ((2049, 2048), 3), ((3000, 2000), 3), ((10980, 10980), 11)],
)
def test_a_large_scene_is_covered_by_every_nth_pixel(shape, step):
    grid = Grid(*shape)
    rows, cols = lattice_of(grid, grid.window)
    assert rows == slice(0, shape[0], step)
    assert cols == slice(0, shape[1], step)
    assert len(range(*rows.indices(shape[0]))) * len(range(*cols.indices(shape[1]))) <= MOST_PIXELS * 1.01


def lattice_in(grid, window):
    """Return the rows and columns of the scene that a window contributes."""
    rows, cols = lattice_of(grid, window)
    return set(range(window.row, window.row + window.height)[rows]), set(
        range(window.col, window.col + window.width)[cols]
    )


GRIDS = st.sampled_from([Grid(3000, 2000), Grid(2000, 3000), Grid(1025, 1024), Grid(7001, 6007), Grid(900, 700)])


@given(GRIDS, st.data())
def test_a_window_has_the_pixels_that_the_scenes_lattice_has_there(grid, data):
    row, col = data.draw(st.integers(0, grid.height - 1)), data.draw(st.integers(0, grid.width - 1))
    height = data.draw(st.integers(1, grid.height - row))
    width = data.draw(st.integers(1, grid.width - col))
    window = Window(row, col, height, width)
    all_rows, all_cols = lattice_in(grid, grid.window)
    rows, cols = lattice_in(grid, window)
    assert rows == {place for place in all_rows if row <= place < row + height}
    assert cols == {place for place in all_cols if col <= place < col + width}


@given(st.integers(40, 3500))
def test_tiles_of_any_size_have_each_pixel_of_the_lattice_once(size):
    grid = Grid(3000, 2000)
    all_rows, all_cols = lattice_in(grid, grid.window)
    parts = [lattice_in(grid, window) for window in tile_windows(grid.height, grid.width, size)]
    assert sum(len(rows) * len(cols) for rows, cols in parts) == len(all_rows) * len(all_cols)
    assert set().union(*(rows for rows, _ in parts)) == all_rows
    assert set().union(*(cols for _, cols in parts)) == all_cols


def test_what_is_measured_is_the_same_whatever_the_windows():
    grid = Grid(1500, 1100)
    red = np.random.default_rng(2).random((grid.height, grid.width)).astype(np.float32)
    red[:400, 300:] = NAN
    features = [parse_feature(name, BASES) for name in ("red_above_scene", "red_rank", "valid_share")]

    def facts(size):
        pieces = [
            red[window.slices][lattice_of(grid, window)].ravel()
            for window in tile_windows(grid.height, grid.width, size)
        ]
        pixels = np.concatenate(pieces)
        return measure_scene(features, {"red": pixels}, np.isfinite(pixels))

    whole = facts(1500)
    for size in (333, 512):
        for name, found in facts(size).items():
            np.testing.assert_array_equal(found, whole[name])
