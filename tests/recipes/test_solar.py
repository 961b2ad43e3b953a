"""Solar plants, from the folders of tiles to a map of each tile in question."""

import numpy as np
import rasterio

from data.files import scene_rng
from data.scenes.rasters import maybe_ungeoreferenced

from .conftest import nested_score, require_no_leak
from .copies import SMALL_NETWORK, smooth_field, write_tiff

SIDE = 64
NODATA = -9999
BRIGHTEST = 5721
SPECTRA = {
    "soil": (1700, 1400, 1150, 2300),
    "crop": (700, 950, 550, 3900),
    "roof": (1500, 1550, 1650, 1800),
    "water": (350, 500, 650, 250),
    "panel": (620, 720, 1000, 1150),
}
"""Counts of red, green, blue and near infrared."""
TRAIN = [f"{name}_pv" for name in ("altiplano", "badajoz", "cestas", "datong", "evora", "freiburg", "gila", "huelva")]
TEST = ["izmir_pv", "jodhpur_pv"]
SETTINGS = (
    "folds.count=2",
    "features.indices=[NDVI, NDWI]",
    "features.context.radii=[1, 4]",
    "features.sample.negatives=200",
    "members.lightgbm.rounds=40",
    *(setting.format("unet") for setting in SMALL_NETWORK),
    "members.unet.encoder_depth=2",
    "members.unet.decoder_channels=[16, 8]",
    "members.unet.resize=2",
    "members.unet.crop=64",
    "members.unet.epochs=6",
    "members.unet.steps=12",
)


def write_copy(root):
    """Write the folders, four tiles a plant, of which one shows panels; return the plant of each tile."""
    plants = {}
    for split, names in (("train", TRAIN), ("test", TEST)):
        for name in names:
            for number in range(4):
                tile = f"{name}_{number}"
                pixels, label = draw_tile(scene_rng(0, tile), with_panels=number == 0)
                write_tiff(root / split / "images" / f"{tile}.tif", pixels)
                if split == "train":
                    write_tiff(root / "train" / "masks" / f"{tile}.tif", label)
                    plants[tile] = name
    return plants


def draw_tile(rng, with_panels):
    """Return counts (4, SIDE, SIDE) int16 and the mask; roofs resemble panels, but are not in rows."""
    counts, label = np.empty((4, SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)
    rows, cols = np.indices(label.shape)

    def paint(kind, where):
        counts[:, where] = np.array(SPECTRA[kind])[:, None]

    paint("crop", np.ones_like(label, bool))
    paint("soil", smooth_field(rng, SIDE, 8) > 0.3)
    paint("water", smooth_field(rng, SIDE, 10) > 2)
    for row, col in rng.integers(0, SIDE // 6, (4, 2)):
        paint("roof", (rows // 6 == row) & (cols // 6 == col))
    if with_panels:
        share, shape = rng.uniform(0.04, 0.11), rng.uniform(0.5, 2)
        height, width = int((share * shape) ** 0.5 * SIDE), int((share / shape) ** 0.5 * SIDE)
        top, left = rng.integers(0, SIDE - height), rng.integers(0, SIDE - width)
        label[top : top + height, left : left + width] = 1
        paint("panel", (label > 0) & (rows % 3 > 0))
    counts = counts * rng.uniform(0.9, 1.1) + rng.normal(0, 60, counts.shape)
    unseen = rows + 2 * cols < rng.integers(-40, 40)
    label[unseen] = 0
    return np.where(unseen, NODATA, counts.clip(0, BRIGHTEST)).astype(np.int16), label


def test_solar_goes_from_the_download_to_a_map_of_each_tile(follow, terrablend, tmp_path):
    root = tmp_path / "solar"
    plants = write_copy(root)
    run = follow("solar", root, *SETTINGS)

    catalogue = require_no_leak(run, plants)
    assert {scene.group for scene in catalogue.split("train")} == set(TRAIN)
    without = sum(catalogue.label_counts(tile)[1] == 0 for tile in plants)
    assert without == 24
    assert "scenes without solar: 24 of 32" in (run / "folds.txt").read_text()

    assert nested_score(run, "dice") > 0.8
    assert nested_score(run, "dice", "unet") > 0.4
    tiles = {path.name for path in (root / "test" / "images").iterdir()}
    assert {path.name for path in (run / "maps").glob("*.tif")} == tiles
    for tile in tiles:
        with maybe_ungeoreferenced(), rasterio.open(root / "test" / "images" / tile) as raster:
            seen = raster.read(1) != NODATA
        with maybe_ungeoreferenced(), rasterio.open(run / "maps" / tile) as raster:
            assert (raster.count, raster.dtypes[0], raster.shape) == (1, "uint8", (SIDE, SIDE))
            solar = raster.read(1)
        assert set(np.unique(solar[seen])) <= {0, 1}
        assert (solar[~seen] == 255).all()
        assert (solar == 1).any() == tile.endswith("_0.tif")

    # Tiles without a plant are left out of the mean over tiles, or scored as the metric says: both are told.
    metric = "ensemble.metric={name: dice, over: scenes, empty: 1}"
    outcome = terrablend("ensemble", run, "--workers", 1, "--overwrite", "--set", metric)
    assert outcome.code == 0, outcome.err
    assert 0.5 < nested_score(run, "dice", scope="scene mean") < nested_score(run, "objective", scope="scene mean") <= 1
