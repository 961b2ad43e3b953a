import numpy as np
import pytest

from data.errors import ExperimentError
from data.scenes.blocks import length_in_pixels, split_scene
from data.scenes.catalogue import Catalogue
from data.scenes.image import ImageFile
from data.scenes.scene import LabelFile, Scene, read_label, read_scene
from data.scenes.windows import Grid, Window
from features.feature_set import FeatureSet

GRID = Grid(70, 90, None, (10.0, 0.0, 500.0, 0.0, -10.0, 9000.0))


@pytest.fixture
def scene(write_raster):
    rng = np.random.default_rng(0)
    pixels = rng.normal(100, 10, (2, 70, 90)).astype(np.float32)
    pixels[0, 30:40, 20:50] = np.nan
    label = LabelFile(str(write_raster("m.tif", rng.integers(0, 2, (70, 90), np.uint8))), ((0, 0), (1, 1)))
    image = ImageFile(str(write_raster("a.tif", pixels)), ("red", "nir"))
    return Scene("a", "train", (image,), GRID, label)


def test_blocks_cover_the_scene_exactly_once_and_lie_where_they_should(scene):
    blocks = [*split_scene(scene, 32)]
    cover = np.zeros((70, 90), int)
    for block in blocks:
        assert block.block is not None
        cover[block.block.window.slices] += 1
        assert block.whole == scene
        x, y = block.grid.transform[2], block.grid.transform[5]
        assert (x, y) == (500 + 10 * block.block.window.col, 9000 - 10 * block.block.window.row)
    assert (cover == 1).all()
    assert len({block.id for block in blocks}) == len(blocks) == 9


def test_a_block_reads_what_lies_around_it_but_no_label(scene):
    pixels, label = read_scene(scene), read_label(scene)
    block = [*split_scene(scene, 32)][4]
    np.testing.assert_array_equal(read_scene(block, halo=5), pixels[:, 27:69, 27:69])
    around = read_label(block, Window(-5, -5, 42, 42))
    np.testing.assert_array_equal(around[5:37, 5:37], label[32:64, 32:64])
    around[5:37, 5:37] = 255
    assert (around == 255).all()


def test_features_of_blocks_are_bit_for_bit_those_of_the_scene(scene):
    names = ["red", "NDVI", "red_mean_r3", "nir_std_r2", "NDVI_gradient_r1", "red_rank", "at_row", "at_x"]
    feature_set = FeatureSet(("red", "nir"), names, block=16)
    whole = feature_set.compute(scene)
    for block in split_scene(scene, 25):
        opened, window = feature_set.open(block), block.block.window
        np.testing.assert_array_equal(opened.compute(), whole[:, *window.slices])
        rows, cols = np.array([0, 3]), np.array([1, 4])
        gathered = opened.gather(block.grid.window, rows, cols)
        np.testing.assert_array_equal(gathered, whole[:, rows + window.row, cols + window.col])


def test_a_catalogue_keeps_blocks(scene, tmp_path, make_scenes):
    catalogue = make_scenes()
    blocks = tuple(split_scene(scene, 32))
    Catalogue(catalogue.classes, ("red", "nir"), blocks).save(tmp_path / "c.parquet")
    assert Catalogue.load(tmp_path / "c.parquet").scenes == blocks


def test_lengths_are_pixels_or_metres():
    assert [length_in_pixels("gap", length, GRID) for length in (3, "3", "25 m", "1km")] == [3, 3, 3, 100]
    with pytest.raises(ExperimentError, match="gap: expected pixels or a length such as 256, 500 m or 2 km, got far"):
        length_in_pixels("gap", "far", GRID)
    with pytest.raises(ExperimentError, match="expected scenes with georeferencing"):
        length_in_pixels("gap", "5 m", Grid(9, 9))
