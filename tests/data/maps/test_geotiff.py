import numpy as np
import pytest
import rasterio

from data.errors import MapError
from data.maps.geotiff import (
    NODATA,
    TOP,
    dequantise,
    map_names,
    map_writer,
    quantise,
    read_class_map,
    read_map,
    read_proba,
    write_class_map,
)
from data.scenes.classes import IGNORE, Classes
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.windows import Grid, tile_windows

GRID = Grid(30, 41, "EPSG:32610", (30, 0, 500, 0, -30, 900))
LAND = Classes("multiclass", (0, 4, 7), ("land", "water", "kelp"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))


def test_quantised_probabilities_come_back_within_half_a_step():
    proba = np.random.default_rng(0).random((2, 9, 9), np.float32)
    assert np.abs(dequantise(quantise(proba)) - proba).max() <= 0.5 / TOP + 1e-7


def test_a_map_written_in_windows_is_the_whole_map(tmp_path):
    proba = np.random.default_rng(1).random((3, 30, 41), np.float32)
    proba[:, 3, 5] = np.nan
    path = tmp_path / "oof" / "a.tif"
    with map_writer(path, GRID, LAND.names, {"member": "unet"}) as writer:
        for window in tile_windows(30, 41, 16):
            writer.write(window, proba[:, *window.slices])
    np.testing.assert_array_equal(read_map(path), quantise(proba))
    assert (read_map(path)[:, 3, 5] == NODATA).all()
    assert np.isnan(read_proba(path)[:, 3, 5]).all()
    assert map_names(path) == LAND.names


def test_a_map_tells_other_programs_its_scale_names_and_place(tmp_path):
    with map_writer(tmp_path / "a.tif", GRID, LAND.names, {"member": "unet"}):
        pass
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.scales == (1 / TOP,) * 3
        assert raster.nodata == NODATA
        assert raster.crs == rasterio.CRS.from_epsg(32610)
        assert raster.transform[:6] == GRID.transform
        assert raster.tags()["member"] == "unet"


def test_a_map_that_was_not_finished_does_not_exist(tmp_path):
    with pytest.raises(ZeroDivisionError), map_writer(tmp_path / "a.tif", GRID, LAND.names, {}):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_same_map_has_the_same_bytes(tmp_path):
    proba = np.random.default_rng(2).random((3, 30, 41), np.float32)
    for name in ("a.tif", "b.tif"):
        with map_writer(tmp_path / name, GRID, LAND.names, {"member": "unet"}) as writer:
            writer.write(GRID.window, proba)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_class_map_holds_ids_colours_and_names(tmp_path):
    label = np.array([[0, 1], [2, IGNORE]], np.uint8)
    path = tmp_path / "a.tif"
    write_class_map(path, label, Grid(2, 2, GRID.crs, GRID.transform), LAND, {})
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(1), [[0, 4], [7, 255]])
        assert raster.nodata == 255
        assert raster.colormap(1)[4] == (4, 5, 6, 255)
    assert "<Category>kelp</Category>" in (tmp_path / "a.tif.aux.xml").read_text()
    np.testing.assert_array_equal(read_class_map(path, LAND), label)


def test_a_class_map_of_other_classes_is_refused(tmp_path):
    write_class_map(tmp_path / "a.tif", np.full((2, 2), 2, np.uint8), Grid(2, 2), LAND, {})
    other = Classes("binary", (1,), ("flood",), ((1, 1, 1),))
    with pytest.raises(MapError, match=r"expected class ids 0, 1, got also \[7\]"):
        read_class_map(tmp_path / "a.tif", other)


def test_another_raster_is_no_probability_map(tmp_path, write_raster):
    with pytest.raises(MapError, match="expected a probability map, got no such file"):
        read_map(tmp_path / "none.tif")
    with pytest.raises(MapError, match="got another raster"):
        read_map(write_raster("x.tif", np.zeros((2, 2), np.uint8)))


LARGE = Grid(700, 1100, GRID.crs, GRID.transform)


def is_cog(path):
    with maybe_ungeoreferenced(), rasterio.open(path) as raster:
        return raster.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG", raster.overviews(1)


def test_overviews_of_a_class_map_hold_the_commonest_class_never_a_mean(tmp_path):
    label = np.zeros((700, 1100), np.uint8)
    label[:, 1::2], label[1::2, ::2], label[:100, :100] = 2, 2, IGNORE
    path = tmp_path / "a.tif"
    write_class_map(path, label, LARGE, LAND, {"model": "x"})
    assert is_cog(path) == (True, [2, 4])
    with rasterio.open(path) as raster:
        assert raster.tags()["model"] == "x"
        assert raster.colormap(1)[7] == (7, 8, 9, 255)
    with rasterio.open(path, overview_level=0) as raster:
        overview = raster.read(1)
        assert raster.colormap(1)[7] == (7, 8, 9, 255)
    assert (overview[:50, :50] == IGNORE).all()
    assert (overview[50:, 50:] == 7).all()
    np.testing.assert_array_equal(read_class_map(path, LAND), label)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a.tif.aux.xml"]


def test_overviews_of_probabilities_hold_the_mean_of_what_was_predicted(tmp_path):
    proba = np.random.default_rng(3).random((2, 700, 1100)).astype(np.float32)
    proba[:, :4, :4] = np.nan
    proba[:, 4, 4] = np.nan
    path = tmp_path / "a.tif"
    with map_writer(path, LARGE, ("land", "kelp"), {"model": "x"}, cloud_optimized=True) as writer:
        for window in tile_windows(700, 1100, 400):
            writer.write(window, proba[:, *window.slices])
    assert is_cog(path) == (True, [2, 4])
    np.testing.assert_array_equal(read_map(path), quantise(proba))
    assert map_names(path) == ("land", "kelp")
    with rasterio.open(path, overview_level=0) as raster:
        overview = dequantise(raster.read())
    assert np.isnan(overview[:, :2, :2]).all()
    expected = np.nanmean(proba[:, 4:6, 4:6], axis=(1, 2))
    np.testing.assert_allclose(overview[:, 2, 2], expected, atol=1 / TOP)
    np.testing.assert_allclose(overview[:, 100, 100], proba[:, 200:202, 200:202].mean(axis=(1, 2)), atol=1 / TOP)


def test_a_small_map_needs_no_overviews(tmp_path):
    write_class_map(tmp_path / "a.tif", np.zeros((512, 300), np.uint8), Grid(512, 300), LAND, {})
    assert is_cog(tmp_path / "a.tif") == (True, [])


def test_a_cloud_optimized_map_that_was_not_finished_does_not_exist_and_the_same_has_the_same_bytes(tmp_path):
    path = tmp_path / "a.tif"
    with pytest.raises(ZeroDivisionError), map_writer(path, GRID, LAND.names, {}, cloud_optimized=True):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    label = np.random.default_rng(4).integers(0, 3, (700, 1100)).astype(np.uint8)
    for name in ("a.tif", "b.tif"):
        write_class_map(tmp_path / name, label, LARGE, LAND, {})
    assert path.read_bytes() == (tmp_path / "b.tif").read_bytes()
