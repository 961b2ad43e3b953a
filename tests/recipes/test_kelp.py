"""Kelp forests, from the organisers' folders to the archive that they take."""

import csv
import io
import tarfile

import numpy as np
import rasterio

from data.files import read_json, scene_rng
from data.scenes.rasters import maybe_ungeoreferenced
from terrablend.start.coast import write_coast

from .conftest import nested_score, require_no_leak
from .copies import SMALL_NETWORK, write_tiff

SIDE = 80
SHIFT = 1
"""Most pixels by which two tiles of a place are off each other; of 350 this would be 4."""
NODATA = -32768
SETTINGS = (
    "folds.count=2",
    "features.context.radii=[2]",
    "features.sample.negatives=400",
    *(f"members.{name}.rounds=25" for name in ("lightgbm", "xgboost")),
    *(setting.format("unet") for setting in SMALL_NETWORK),
    "members.unet.encoder_depth=3",
    "members.unet.decoder_channels=[32, 16, 8]",
    "members.unet.crop=64",
    "members.unet.epochs=4",
    "members.unet.steps=12",
    # The recipe's rate is one for 16 000 steps.
    "members.unet.learning_rate=0.003",
)


def write_copy(root):
    """Write the organisers' folders, and return which place each tile shows; one test tile shows a place known."""
    coast = root.parent / "coast"
    write_coast(coast, places=8, acquisitions=2, test=2, size=SIDE + SHIFT, seed=5)
    places, rows = read_json(coast / "truth" / "places.json"), []
    again = min(tile for tile, place in places.items() if place == "place0")
    for path in sorted(coast.glob("t*/*_satellite.tif")):
        tile = path.name.removesuffix("_satellite.tif")
        split = "test" if tile == again else path.parent.name
        top, left = scene_rng(0, tile).integers(0, SHIFT + 1, 2)
        parts = {"satellite": path}
        if split == "train":
            parts["kelp"] = coast / "train_kelp" / f"{tile}_kelp.tif"
        for kind, source in parts.items():
            with maybe_ungeoreferenced(), rasterio.open(source) as raster:
                pixels = raster.read()[:, top : top + SIDE, left : left + SIDE]
            if kind == "satellite":
                pixels[:5] = to_counts(pixels[:5])
            write_tiff(root / f"{split}_{kind}" / f"{tile}_{kind}.tif", pixels)
            rows.append([f"{tile}_{kind}.tif", tile, kind, split == "train"])
    with (root / "metadata_fTq0l2T.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["filename", "tile_id", "type", "in_train"], *rows])
    return places


def to_counts(reflectance):
    """Turn 10 000 × reflectance into counts of Landsat's Collection 2, whose water is about 8000; keep nodata."""
    counts = (reflectance / 10_000 + 0.2) / 2.75e-5
    return np.where(reflectance == NODATA, NODATA, counts.clip(0, 32_767)).astype(np.int16)


def test_kelp_goes_from_the_download_to_the_archive(follow, tmp_path):
    root = tmp_path / "kelp"
    places = write_copy(root)
    run = follow("kelp", root, *SETTINGS)

    scenes = require_no_leak(run, places).split("train")
    assert len({scene.group for scene in scenes}) == len({places[scene.id] for scene in scenes}) == 8
    assert "1 of 3 test scenes nearly equal a training scene" in (run / "folds.txt").read_text()

    assert nested_score(run, "dice") > 0.4
    assert nested_score(run, "dice", "unet") > 0.1
    tests = {path.name.removesuffix("_satellite.tif") for path in (root / "test_satellite").iterdir()}
    kelp = 0
    with tarfile.open(run / "submission.tar") as archive:
        assert sorted(archive.getnames()) == sorted(f"{tile}_kelp.tif" for tile in tests)
        for name in archive.getnames():
            content = archive.extractfile(name).read()
            with maybe_ungeoreferenced(), rasterio.open(io.BytesIO(content)) as raster:
                assert (raster.driver, raster.count, raster.dtypes[0]) == ("GTiff", 1, "uint8")
                labels = raster.read(1)
            assert labels.shape == (SIDE, SIDE)
            assert set(np.unique(labels)) <= {0, 1}
            kelp += labels.sum(dtype=int)
    assert kelp > 0
