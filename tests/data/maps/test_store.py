from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import MapError
from data.maps.geotiff import dequantise, quantise, read_map
from data.maps.store import ParquetStore, RasterStore, open_store, read_windows, write_maps
from data.scenes.blocks import split_scene
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid, Window, tile_windows

COLORS = ((0, 0, 255), (90, 90, 90))
CLASSES = [
    Classes("multiclass", (0, 1), ("water", "rock"), COLORS),
    Classes("multilabel", (0, 1), ("haze", "road"), COLORS),
]


class Rising:
    """A member whose probabilities rise with the row, the class and the folds that are asked."""

    name, folds = "rising", (0, 1)

    def __init__(self, whole):
        self.whole = whole

    def proba(self, scene, folds):
        shape = (1, 1) if self.whole else (scene.grid.height, scene.grid.width)
        rows = np.arange(shape[0], dtype=np.float32)[:, None] / 100 + np.zeros(shape, np.float32)
        return np.stack([rows + k / 10 + np.float32(np.mean(folds)) / 5 for k in range(2)])

    def predict(self, scenes, folds):
        for scene in scenes:
            proba = self.proba(scene, folds)
            for window in tile_windows(*proba.shape[1:], 4):
                yield scene, window, proba[:, *window.slices]


@pytest.mark.parametrize("classes", CLASSES, ids=["pixels", "tags"])
def test_both_kinds_of_store_give_back_what_the_models_that_never_saw_a_scene_said(tmp_path, classes):
    tags = classes.task == "multilabel"
    train = [Scene(f"s{k}", "train", (), Grid(9, 6), fold=k % 2, tags=()) for k in range(5)]
    scenes = (*train, Scene("v0", "val", (), Grid(9, 6)), Scene("t0", "test", (), Grid(9, 6)))
    member, store = Rising(tags), open_store(tmp_path, classes)
    write_maps(member, Catalogue(classes, ("red",), scenes), store)
    assert isinstance(store, ParquetStore if tags else RasterStore)
    assert not store.missing(scenes)
    assert all(path.exists() for path in store.files(scenes))
    for scene in scenes:
        expected = member.proba(scene, member.folds if scene.fold is None else (scene.fold,))
        grid = store.grid(scene)
        assert store.names_of(scene) == classes.names
        np.testing.assert_array_equal(store.read(scene), quantise(expected))
        window = Window(grid.height // 2, 0, grid.height - grid.height // 2, 1)
        part = quantise(expected)[:, *window.slices]
        np.testing.assert_array_equal(store.read(scene, window), part)
        assert store.read(scene).shape == (2, grid.height, grid.width)
    assert store.missing([*scenes, Scene("s9", "train", (), Grid(9, 6))]) == [Scene("s9", "train", (), Grid(9, 6))]


def test_a_map_of_another_size_is_refused(tmp_path):
    store, scene = RasterStore(tmp_path, ("water", "rock")), Scene("a", "test", (), Grid(9, 6))
    [path] = store.files([scene])
    store.write(path, Rising(False), [scene])
    assert np.nanmax(dequantise(store.read(scene))) < 1
    with pytest.raises(MapError, match="expected 5 × 6 pixels like scene a, got 9 × 6"):
        store.read(Scene("a", "test", (), Grid(5, 6)))


@given(st.integers(1, 1300), st.integers(1, 1300), st.integers(1, 500), st.integers(2000, 10**7))
def test_windows_cover_a_scene_once_and_fit_the_memory(height, width, planes, most_bytes):
    windows = list(read_windows(height, width, planes, most_bytes))
    seen = np.zeros((height, width), np.uint8)
    for window in windows:
        seen[window.slices] += 1
        # A row of a tile is the least that is read.
        assert window.height * window.width * planes * 2 <= max(most_bytes, 512 * planes * 2)
    assert (seen == 1).all()


def test_windows_of_many_planes_begin_where_tiles_of_the_files_do():
    for planes in (1, 7, 20, 80, 160, 1000):
        windows = list(read_windows(3000, 5000, planes))
        assert all(window.col % 512 == 0 for window in windows)
        assert all(window.row % min(512, windows[0].height) == 0 for window in windows)


def test_the_blocks_of_a_scene_come_back_as_one_map(tmp_path):
    whole = Scene("w", "train", (), Grid(9, 6))
    blocks = [replace(block, fold=k % 2) for k, block in enumerate(split_scene(whole, 4))]
    member, store = Rising(False), RasterStore(tmp_path, CLASSES[0].names)
    write_maps(member, Catalogue(CLASSES[0], ("red",), tuple(blocks)), store)
    assert [path.name for path in store.files(blocks)] == ["w.tif"]
    assert not store.missing(blocks)
    pieces = read_map(tmp_path / "oof" / "w.tif")
    for block in blocks:
        expected = quantise(member.proba(block, (block.fold,)))
        np.testing.assert_array_equal(store.read(block), expected)
        np.testing.assert_array_equal(store.read(block, Window(0, 1, 1, 1)), expected[:, :1, 1:2])
        np.testing.assert_array_equal(pieces[:, *block.block.window.slices], expected)
