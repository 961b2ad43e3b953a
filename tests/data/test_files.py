import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.files import read_json, replacing, scene_rng, write_json
from data.scenes.statistics import Moments
from data.scenes.windows import Window, tile_windows
from data.workers import map_ordered, open_executor


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with pytest.raises(IsADirectoryError), replacing(path):
        tmp_path.write_text("half")
    assert not path.exists()
    with replacing(path) as temporary:
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1})
    with pytest.raises(TypeError):
        write_json(path, {"b": object()})
    assert read_json(path) == {"b": 1}


def test_the_generator_of_a_scene_depends_on_seed_and_scene_alone():
    assert scene_rng(1, "a").random() == scene_rng(1, "a").random()
    assert len({scene_rng(seed, name).random() for seed in (0, 1) for name in ("a", "b")}) == 4


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50))
def test_tiles_cover_the_scene_exactly_once(height, width, size):
    seen = np.zeros((height, width), int)
    for window in tile_windows(height, width, size):
        assert max(window.height, window.width) <= size
        seen[window.slices] += 1
    assert (seen == 1).all()


def test_a_window_grows_on_every_side():
    assert Window(2, 3, 4, 5).grow(1) == Window(1, 2, 6, 7)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_merged_moments_are_those_of_all_pixels(sizes, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(1e4, 3, (2, size)).astype(np.float32) for size in sizes]
    for part in parts:
        part[rng.random(part.shape) < 0.3] = np.nan
    merged = Moments.empty(2)
    for part in parts:
        merged = merged.merge(Moments.of(part))
    everything = np.concatenate(parts, axis=1).astype(np.float64)
    for channel in range(2):
        finite = everything[channel][np.isfinite(everything[channel])]
        assert merged.count[channel] == finite.size
        if finite.size:
            np.testing.assert_allclose(merged.mean[channel], finite.mean(), rtol=1e-9)
            np.testing.assert_allclose(merged.deviation[channel], finite.std(), rtol=1e-4, atol=1e-3)
            assert merged.minimum[channel] == finite.min()
            assert merged.maximum[channel] == finite.max()
    assert Moments.from_dict(merged.to_dict()).to_dict() == merged.to_dict()


def test_results_come_in_order_whoever_does_the_work():
    numbers = range(50)
    with open_executor(2) as executor:
        assert list(map_ordered(abs, numbers, executor, ahead=4)) == list(numbers)
    assert list(map_ordered(abs, numbers, None)) == list(numbers)


def test_an_error_in_a_worker_reaches_the_caller():
    with open_executor(2) as executor, pytest.raises(TypeError):
        list(map_ordered(abs, [1, "a", 2], executor))
