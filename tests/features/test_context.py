import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.context import STATISTICS, Surroundings, local_statistics


def statistics(plane, radius, names=STATISTICS):
    """Compute statistics of a plane that is all there is: nodata around it."""
    halo = max(STATISTICS[name].halo(radius) for name in names)
    return local_statistics(Surroundings(np.pad(plane, halo, constant_values=np.nan), halo), radius, names)


def value_at(plane, row, col):
    inside = 0 <= row < plane.shape[0] and 0 <= col < plane.shape[1]
    return plane[row, col] if inside else np.nan


def differences_at(plane, row, col):
    down = (value_at(plane, row + 1, col) - value_at(plane, row - 1, col)) / 2
    right = (value_at(plane, row, col + 1) - value_at(plane, row, col - 1)) / 2
    return down, right


def slow_mean(plane, radius):
    mean = np.full(plane.shape, np.nan)
    for row, col in np.ndindex(*plane.shape):
        around = plane[max(row - radius, 0) : row + radius + 1, max(col - radius, 0) : col + radius + 1]
        seen = around[np.isfinite(around)].astype(np.float64)
        mean[row, col] = seen.mean() if seen.size else np.nan
    return mean


def slow_statistics(plane, radius):
    """The oracle: a loop over pixels."""
    out = {name: np.full(plane.shape, np.nan) for name in STATISTICS}
    mean, wider = slow_mean(plane, radius), slow_mean(plane, 2 * radius)
    step = 2 * radius + 1
    far = np.pad(plane, 3 * radius + 1, constant_values=np.nan)
    far_mean = slow_mean(far, radius)
    for row, col in np.ndindex(*plane.shape):
        rows, cols = slice(max(row - radius, 0), row + radius + 1), slice(max(col - radius, 0), col + radius + 1)
        seen = plane[rows, cols][np.isfinite(plane[rows, cols])].astype(np.float64)
        at = row, col
        if seen.size:
            out["std"][at], out["median"][at] = seen.std(), np.median(seen)
            out["min"][at], out["max"][at] = seen.min(), seen.max()
        far_row, far_col = row + 3 * radius + 1, col + 3 * radius + 1
        # The window around a pixel beyond the edge holds pixels of this side of it.
        out["gradient"][at] = np.hypot(*differences_at(far_mean, far_row, far_col))
        beside = [far_mean[far_row + dr, far_col + dc] for dr, dc in ((-step, 0), (step, 0), (0, -step), (0, step))]
        out["laplacian"][at] = np.mean(beside) - mean[at]
        tensor, count = np.zeros((2, 2)), 0
        for r in range(row - radius, row + radius + 1):
            for c in range(col - radius, col + radius + 1):
                gradient = np.array(differences_at(plane, r, c), np.float64)
                if np.isfinite(gradient).all():
                    tensor += np.outer(gradient, gradient)
                    count += 1
        small, large = np.linalg.eigvalsh(tensor)
        if count:
            out["edges"][at] = np.sqrt(np.trace(tensor) / count)
        if large + small > 0:
            out["coherence"][at] = (large - small) / (large + small)
        for name, (down, right) in {"north": (-1, 0), "south": (1, 0), "west": (0, -1), "east": (0, 1)}.items():
            out[name][at] = value_at(plane, row + down * radius, col + right * radius)
    inside, outside = np.argwhere(np.isfinite(plane) & (plane != 0)), np.argwhere(plane == 0)
    for row, col in np.ndindex(*plane.shape):
        is_inside = np.isfinite(plane[row, col]) and plane[row, col] != 0
        others = outside if is_inside else inside
        distance = min((np.hypot(*(other - (row, col))) for other in others), default=np.inf)
        out["distance"][row, col] = min(distance, radius) * (-1 if is_inside else 1)
    out["mean"], out["range"], out["diff"], out["dob"] = mean, out["max"] - out["min"], plane - mean, mean - wider
    return out


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.sampled_from([0, 0.2, 0.9, 1]), st.integers(0, 99))
def test_local_statistics_are_those_of_a_slow_loop(height, width, radius, holes, seed):
    rng = np.random.default_rng(seed)
    # Large values with a small spread, as in 16-bit imagery: what uncentred float32 sums get wrong.
    plane = rng.normal(1e4, 3, (height, width)).astype(np.float32)
    plane[rng.random(plane.shape) < 0.3] = 0
    if seed % 2:
        plane[plane == 0] = 1e4
    plane[rng.random(plane.shape) < holes] = np.nan
    found, expected = statistics(plane, radius), slow_statistics(plane, radius)
    for name in STATISTICS:
        assert found[name].dtype == np.float32
        tolerance = 2e-2 if name == "coherence" else 2e-3
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=tolerance, err_msg=name)


def test_nodata_changes_nothing_but_the_count():
    plane = np.random.default_rng(0).normal(5, 1, (9, 9)).astype(np.float32)
    plane[4, 4] = np.nan
    values = plane[np.isfinite(plane)]
    found = statistics(plane, 4, ["mean", "max", "median"])
    assert np.isfinite(found["mean"]).all()
    np.testing.assert_allclose(found["mean"][4, 4], values.mean(), rtol=1e-6)
    assert found["max"][4, 4] == values.max()
    assert found["median"][4, 4] == pytest.approx(np.median(values))


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_has_the_same_bits_alone_and_among_others(name):
    plane = np.random.default_rng(1).normal(1e4, 3, (40, 33)).astype(np.float32)
    around = Surroundings(plane, 10)
    local_statistics(around, 2, STATISTICS)
    alone, among = local_statistics(Surroundings(plane, 10), 3, [name]), local_statistics(around, 3, STATISTICS)
    np.testing.assert_array_equal(alone[name], among[name])


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_looks_no_farther_than_its_halo(name):
    rng = np.random.default_rng(2)
    plane = rng.normal(0, 1, (41, 41)).astype(np.float32)
    plane[rng.random(plane.shape) < 0.5] = 0
    halo = STATISTICS[name].halo(3)
    changed = rng.normal(9, 1, plane.shape).astype(np.float32)
    near = slice(20 - halo, 21 + halo)
    changed[near, near] = plane[near, near]
    assert statistics(plane, 3, [name])[name][20, 20] == statistics(changed, 3, [name])[name][20, 20]


def test_one_straight_edge_is_coherent_and_a_corner_is_less():
    edge, corner = np.zeros((2, 21, 21), np.float32)
    edge[:, 10:] = 1
    corner[10:, 10:] = 1
    coherence = [statistics(plane, 4, ["coherence"])["coherence"][10, 10] for plane in (edge, corner)]
    assert coherence[0] == pytest.approx(1)
    assert coherence[1] < 0.6


def test_a_bright_spot_stands_out_from_twice_its_size():
    plane = np.zeros((31, 31), np.float32)
    plane[13:18, 13:18] = 1
    found = statistics(plane, 2, ["dob", "laplacian"])
    assert np.nanargmax(found["dob"]) == np.nanargmin(found["laplacian"]) == 15 * 31 + 15
