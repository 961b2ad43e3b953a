"""`terrablend init` where labels are drawn, and what it writes passes its own check."""

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
import yaml

from terrablend.start.init import guess_experiment

PLACE = rasterio.Affine(30, 0, 600_000, 0, -30, 4_200_000)


@pytest.fixture
def landsat(tmp_path):
    """A scene of six files of one band each, a map of classes beside them, and polygons of three classes."""
    rng, folder = np.random.default_rng(0), tmp_path / "lsat"
    folder.mkdir()
    truth = rng.integers(0, 3, (10, 10)).repeat(20, 0).repeat(20, 1)
    profile = {"driver": "GTiff", "height": 200, "width": 200, "count": 1, "crs": "EPSG:32617", "transform": PLACE}
    for band in (1, 2, 3, 4, 5, 7):
        plane = (1000 + 300 * truth * (band % 3) + rng.normal(0, 30, (200, 200))).astype(np.float32)
        with rasterio.open(
            folder / f"LE07_20000331_B{band}.TIF", "w", dtype="float32", nodata=-9999, **profile
        ) as raster:
            raster.write(plane, 1)
    with rasterio.open(folder / "strata.tif", "w", dtype="uint8", nodata=0, **profile) as raster:
        raster.write(truth.astype(np.uint8) + 1, 1)
    corners = [(row, col) for row in range(10) for col in range(10)][::2]
    shapes = [
        shapely.box(600_060 + 600 * col, 4_199_460 - 600 * row, 600_500 + 600 * col, 4_199_900 - 600 * row)
        for row, col in corners
    ]
    names = np.array(["water", "forest", "urban"])[[truth[20 * row, 20 * col] for row, col in corners]]
    pyogrio.raw.write(
        str(folder / "training.gpkg"),
        np.array([shapely.to_wkb(shape) for shape in shapes], object),
        [names, np.arange(len(shapes))],
        ["landuse", "fid_1"],
        crs="EPSG:32617",
        geometry_type="Polygon",
    )
    return folder


def test_one_scene_of_band_files_and_polygons_is_understood(landsat, tmp_path, terrablend, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guessed = guess_experiment(landsat)
    train = guessed["scenes"]["train"]
    assert [entry["bands"] for entry in train["image"]] == [
        ["blue"],
        ["green"],
        ["red"],
        ["nir"],
        ["swir16"],
        ["swir22"],
    ]
    assert train["label"] == {"vector": "training.gpkg", "field": "landuse"}
    assert train["blocks"] in (32, 64)
    assert guessed["classes"] == {1: "forest", 2: "urban", 3: "water"}
    assert terrablend("init", landsat, "-o", "lsat.yaml").code == 0
    assert yaml.safe_load((tmp_path / "lsat.yaml").read_text())["scenes"]["train"] == train
    checked = terrablend("check", "lsat.yaml", "--workers", 1)
    assert checked.code == 0, checked.err
    assert (tmp_path / "runs/lsat/labels/train/LE07_20000331_B1.tif").exists()


@pytest.mark.slow
def test_a_scene_in_blocks_comes_back_as_one_map(landsat, tmp_path, terrablend, monkeypatch):
    monkeypatch.chdir(tmp_path)
    terrablend("init", landsat, "-o", "lsat.yaml")
    few = ("members.lightgbm.rounds=20", "features.indices=[NDVI]", "features.context.of=[nir]", "folds.count=2")
    small = [word for value in few for word in ("--set", value)]
    done = terrablend("run", "lsat.yaml", "--workers", 1, *small, "--set", "scenes.train.blocks=64")
    assert done.code == 0, done.err
    [oof] = (tmp_path / "runs/lsat/members/lightgbm/oof").glob("*.tif")
    with rasterio.open(oof) as raster:
        assert raster.shape == (200, 200)
        assert (raster.read(1) != 65535).all()
    [classes] = (tmp_path / "runs/lsat/maps").glob("*.tif")
    with rasterio.open(classes) as raster, rasterio.open(landsat / "strata.tif") as truth:
        named = np.array([0, 3, 1, 2])[truth.read(1)]
        assert (raster.read(1) == named).mean() > 0.9
