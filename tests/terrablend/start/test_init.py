import numpy as np
import pytest
import rasterio

from terrablend.start.init import guess_experiment

PLACE = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_600_000.0)


def test_rasters_with_a_header_beside_are_images_and_other_files_of_that_suffix_are_not(tmp_path, write_raster):
    rng = np.random.default_rng(0)
    for name in "abc":
        write_raster(f"img/{name}.dat", rng.integers(0, 999, (4, 16, 16), np.uint16))
        write_raster(f"mask/{name}.tif", rng.integers(0, 2, (16, 16)).astype(np.uint8))
    (tmp_path / "img/notes.bil").write_text("no raster")
    train = guess_experiment(tmp_path)["scenes"]["train"]
    assert train["image"][0]["path"] == "img/{id}.dat"
    assert train["label"]["path"] == "mask/{id}.tif"


@pytest.mark.parametrize(
    ("fourth", "bands"), [([0, 255], ["red", "green", "blue"]), ([0, 90, 255], ["red", "green", "blue", "nir"])]
)
def test_a_fourth_band_that_is_declared_an_alpha_is_one_if_it_only_says_where_there_is_data(
    fourth, bands, tmp_path, write_raster
):
    rng = np.random.default_rng(0)
    for number in range(2):
        pixels = rng.integers(0, 256, (4, 16, 16), np.uint8)
        pixels[3] = rng.choice(fourth, (16, 16))
        # GDAL writes four bytes a pixel as red, green, blue and alpha.
        write_raster(f"img/{number}.tif", pixels)
        write_raster(f"mask/{number}.tif", rng.integers(0, 2, (16, 16)).astype(np.uint8))
    assert guess_experiment(tmp_path)["scenes"]["train"]["image"][0]["bands"] == bands


@pytest.mark.parametrize(("step", "group"), [(20, None), (12, {"overlap": True}), (2, None)])
def test_images_that_overlap_share_a_group_where_folds_are_left(step, group, tmp_path, write_raster):
    rng = np.random.default_rng(0)
    for number in range(12):
        # Two by two, or all of them in one chain.
        left = number * step if step == 2 else number // 2 * 40 + number % 2 * step
        where = {"transform": (1, 0, left, 0, -1, 0), "crs": "EPSG:32652"}
        write_raster(f"img/{number}.tif", rng.integers(0, 256, (3, 16, 16), np.uint8), **where)
        write_raster(f"mask/{number}.tif", rng.integers(0, 2, (16, 16)).astype(np.uint8), **where)
    assert guess_experiment(tmp_path)["folds"].get("group") == group


def test_six_bands_without_names_are_taken_for_those_of_landsat(tmp_path, write_raster):
    for number in range(2):
        write_raster(f"images/{number}.tif", np.full((6, 8, 8), number, np.int16), None, PLACE, "EPSG:32630")
        write_raster(f"masks/{number}.tif", np.eye(8, dtype=np.uint8))
    bands = guess_experiment(tmp_path)["scenes"]["train"]["image"][0]["bands"]
    assert bands == ["blue", "green", "red", "nir", "swir16", "swir22"]


def test_bands_that_files_call_by_a_sensor_s_numbers_get_names_that_indices_and_weights_know(tmp_path, write_raster):
    for number in range(3):
        path = write_raster(f"images/{number}.tif", np.full((5, 8, 8), number, np.int16), None, PLACE, "EPSG:32630")
        with rasterio.open(path, "r+") as raster:
            raster.descriptions = ("B02", "B03", "B04", "B8A", "B12")
        write_raster(f"masks/{number}.tif", np.eye(8, dtype=np.uint8))
    guessed = guess_experiment(tmp_path)
    names = ["blue", "green", "red", "nir08", "swir22"]
    assert guessed["scenes"]["train"]["image"][0]["bands"] == names
    assert guessed["members"]["unet"]["inputs"] == names
