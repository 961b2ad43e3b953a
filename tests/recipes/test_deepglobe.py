"""DeepGlobe: land cover in six classes, masks and submission in colours, unknown ground that counts for nothing."""

import io
import zipfile

import numpy as np
from PIL import Image

from data.scenes.scene import IGNORE, read_label

from .conftest import nested_score, require_no_leak
from .copies import SMALL_NETWORK, draw_land, write_picture

SIDE = 64
COLORS = np.array([[0, 255, 255], [255, 255, 0], [255, 0, 255], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]])
LOOKS = {
    "urban": ((120, 110, 120), 40),
    "agriculture": ((150, 160, 80), 6),
    "rangeland": ((135, 145, 90), 12),
    "forest": ((50, 80, 45), 14),
    "water": ((35, 50, 70), 3),
    "barren": ((170, 160, 130), 8),
}
SETTINGS = (
    "folds.count=2",
    "features.indices=contrasts",
    "features.context.radii=[1,3]",
    "members.lightgbm.rounds=15",
    "members.unet.crop=32",
    "members.unet.tta=none",
    *(setting.format("unet") for setting in SMALL_NETWORK),
    "members.unet.steps=30",
    "members.unet.learning_rate=0.01",
)


def write_copy(root):
    """Write the organisers' folders, and return what each scene shows; what they call unknown is `IGNORE`."""
    rng, truth = np.random.default_rng(0), {}
    for split, ids in (("train", range(119, 199, 10)), ("test", (905, 2334))):
        for scene in ids:
            label, pixels = draw_land(rng, SIDE, LOOKS)
            write_picture(root / split / f"{scene}_sat.jpg", pixels)
            if split == "train":
                label[:8, :8] = len(LOOKS)
                # The masks were once saved with loss: values are near 0 and 255, not always these.
                values = np.abs(COLORS[label] - rng.integers(0, 3, (SIDE, SIDE, 3)))
                write_picture(root / split / f"{scene}_mask.png", values.astype(np.uint8))
                label[:8, :8] = IGNORE
            truth[str(scene)] = label
    return truth


def test_deepglobe_goes_from_the_download_to_a_zip_of_coloured_masks(follow, tmp_path):
    truth = write_copy(tmp_path / "deepglobe")
    run = follow("deepglobe", tmp_path / "deepglobe", *SETTINGS)
    catalogue = require_no_leak(run, {scene: scene for scene in truth})
    assert catalogue.classes.names == (*LOOKS,)
    for scene in catalogue.split("train"):
        np.testing.assert_array_equal(read_label(scene), truth[scene.id])
    assert nested_score(run, "macro_iou") > 0.8

    with zipfile.ZipFile(run / "submission.zip") as archive:
        assert sorted(archive.namelist()) == ["2334_mask.png", "905_mask.png"]
        for name in archive.namelist():
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (SIDE, SIDE))
                drawn = np.asarray(picture)
            found = (drawn[:, :, None] == COLORS[:6]).all(axis=-1)
            assert found.any(axis=-1).all()
            assert (found.argmax(axis=-1) == truth[name.removesuffix("_mask.png")]).mean() > 0.9
