"""Land cover with coarse labels: crops of an image stay together, wrong labels are found, images of any size mapped."""

import numpy as np
import polars as pl
import rasterio

from data.scenes.rasters import maybe_ungeoreferenced

from .conftest import nested_score, require_no_leak
from .copies import SMALL_NETWORK, draw_land, write_picture

SIDE = 64
IMAGES = ("M-33-7-A-d-2-3", "M-34-32-B-b-1-3", "N-33-60-D-c-4-2", "N-34-97-C-b-1-2")
TEST_IMAGE = "N-34-77-A-b-1-4"
LOOKS = {
    "other": ((150, 145, 100), 10),
    "building": ((160, 100, 90), 12),
    "woodland": ((50, 80, 45), 14),
    "water": ((35, 50, 80), 3),
}
OTHER, WATER = 0, 3
WRONG = {"M-34-32-B-b-1-3_0_1": (8, 20), "N-34-97-C-b-1-2_1_0": (30, 6)}
"""Top and left of the square, by scene, that somebody called water or, where it is water, other."""
WIDTH = 24
SETTINGS = (
    "folds.count=2",
    "features.indices=contrasts",
    "features.context.radii=[1,3]",
    "members.lightgbm.rounds=15",
    "members.unet.crop=32",
    "members.unet.tta=none",
    *(setting.format("unet") for setting in SMALL_NETWORK),
    "members.unet.steps=20",
    "members.unet.learning_rate=0.01",
)


def read(path):
    with maybe_ungeoreferenced(), rasterio.open(path) as raster:
        return raster.read(1)


def write_copy(root):
    """Write the folders of crops, and beside them the test image as a whole; return what each of these shows."""
    rng, truth = np.random.default_rng(0), {}
    for image in (*IMAGES, TEST_IMAGE):
        label, pixels = draw_land(rng, 2 * SIDE, LOOKS)
        split = "train" if image in IMAGES else "test"
        for row, col in np.ndindex(2, 2):
            scene, cut = f"{image}_{row}_{col}", np.s_[row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE]
            write_picture(root / split / "images" / f"{scene}.png", pixels[cut])
            truth[scene] = label[cut]
            if split == "train":
                # Drawn a little beside what is there.
                drawn = np.roll(label[cut], rng.integers(-1, 2, 2), axis=(0, 1)).astype(np.uint8)
                if scene in WRONG:
                    top, left = WRONG[scene]
                    there = drawn[top : top + WIDTH, left : left + WIDTH]
                    there[:] = np.where(there == WATER, OTHER, WATER)
                write_picture(root / split / "masks" / f"{scene}.png", drawn)
    write_picture(root.parent / f"{TEST_IMAGE}.png", pixels)
    truth[TEST_IMAGE] = label
    return truth


def test_landcover_goes_from_crops_to_maps_and_to_labels_that_are_wrong(follow, terrablend, tmp_path):
    truth = write_copy(tmp_path / "landcover")
    run = follow("landcover", tmp_path / "landcover", *SETTINGS)
    require_no_leak(run, {scene: scene.rsplit("_", 2)[0] for scene in truth})
    assert nested_score(run, "macro_iou") > 0.7

    worst = pl.read_csv(run / "ensemble" / "audit.csv")["scene"].head(len(WRONG))
    assert set(worst) == set(WRONG)
    for region in pl.read_parquet(run / "ensemble" / "audit.parquet").head(3).iter_rows(named=True):
        top, left = WRONG[region["scene"]]
        assert top <= region["row"] < top + WIDTH
        assert left <= region["col"] < left + WIDTH

    crops = [scene for scene in truth if scene.startswith(f"{TEST_IMAGE}_")]
    assert sorted(path.name for path in (run / "maps").glob("*.tif")) == sorted(f"{scene}.tif" for scene in crops)
    for scene in crops:
        found = read(run / "maps" / f"{scene}.tif")
        assert (found.shape, found.dtype) == ((SIDE, SIDE), np.uint8)
        assert (found == truth[scene]).mean() > 0.75

    outcome = terrablend("predict", run, tmp_path / f"{TEST_IMAGE}.png", "-o", tmp_path / "whole", "--workers", 1)
    assert outcome.code == 0, outcome.err
    whole = read(tmp_path / "whole" / f"{TEST_IMAGE}_classes.tif")
    assert (whole == truth[TEST_IMAGE]).mean() > 0.75
