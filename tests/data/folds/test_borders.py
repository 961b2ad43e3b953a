from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import shapely
from rasterio.crs import CRS

from data.folds.borders import shape_pairs, trim_labels
from data.scenes.blocks import split_scene
from data.scenes.classes import Classes
from data.scenes.scene import Scene, read_label
from data.scenes.windows import Grid
from data.settings import VectorSettings
from data.vectors.burn import burn_label, write_label
from data.vectors.drawn import drawn_label

GRID = Grid(40, 40, CRS.from_epsg(32630).to_wkt(), (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_600_000.0))
LAND = Classes("multiclass", (0, 1), ("water", "forest"), ((0, 0, 9),) * 2)


def box(left, top, right, bottom):
    return shapely.box(500_000 + 10 * left, 4_600_000 - 10 * bottom, 500_000 + 10 * right, 4_600_000 - 10 * top)


@pytest.fixture
def blocks(tmp_path):
    """Four blocks in two folds, left and right, with a shape across their border and one apart of the same plot."""
    shapes = [box(12, 2, 24, 6), box(30, 30, 36, 36), box(2, 30, 6, 36)]
    pyogrio.raw.write(
        str(tmp_path / "a.gpkg"),
        np.array([shapely.to_wkb(shape) for shape in shapes], object),
        [np.array(["forest", "water", "water"]), np.array(["p", "q", "q"])],
        ["label", "plot"],
        crs="EPSG:32630",
        geometry_type="Polygon",
    )
    drawn = drawn_label(str(tmp_path / "a.gpkg"), VectorSettings(vector="a.gpkg"), LAND, None)
    label = burn_label(drawn, GRID, LAND, tmp_path / "label.tif").label
    whole = Scene("a", "train", (), GRID, label)
    return [replace(block, fold=int(block.block.window.col > 0)) for block in split_scene(whole, 20)], {"a": drawn}


def test_a_shape_belongs_to_the_fold_that_most_of_it_lies_in(blocks):
    scenes, drawn = blocks
    assert trim_labels(scenes, drawn, None, 0) == scenes
    label = read_label(scenes[0].whole)
    assert (label[2:6, 12:20] == 1).all()
    assert (label[2:6, 20:24] == 255).all()
    assert (label[30:36, 30:36] == 0).all()


def test_shapes_of_one_plot_belong_together(blocks):
    scenes, drawn = blocks
    trim_labels(scenes, drawn, "plot", 0)
    label = read_label(scenes[0].whole)
    assert (label[30:36, 30:36] == 0).all()
    assert (label[30:36, 2:6] == 255).all()
    pairs = {frozenset(pair) for pair in shape_pairs(scenes, drawn, "plot") if len(set(pair)) == 2}
    names = [scene.id for scene in scenes]
    assert pairs == {frozenset(names[:2]), frozenset(names[2:])}


def test_labels_near_another_fold_are_left_out(blocks):
    scenes, _ = blocks
    before = read_label(scenes[0].whole)
    trim_labels(scenes, {}, None, "30 m")
    label = read_label(scenes[0].whole)
    assert (label[:, 17:23] == 255).all()
    np.testing.assert_array_equal(label[:, :17], before[:, :17])
    np.testing.assert_array_equal(label[:, 23:], before[:, 23:])


def test_strips_leave_out_what_the_whole_does(blocks):
    scenes, drawn = blocks
    before = read_label(scenes[0].whole)
    found = []
    for pixels in (10**6, 3 * 40):
        write_label(Path(scenes[0].label.path), GRID, iter([(GRID.window, before)]))
        trim_labels(scenes, drawn, "plot", 5, strip_pixels=pixels)
        found.append(read_label(scenes[0].whole))
    np.testing.assert_array_equal(*found)
    assert (found[0] != before).any()
