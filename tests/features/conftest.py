"""Small scenes with labels and folds, on disk."""

import numpy as np
import pytest

from data.catalogue import Catalogue, SceneStatistics
from data.classes import Classes
from data.scene import ImageFile, LabelFile, Scene, read_label
from data.windows import Grid

KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
LAND = Classes("multiclass", (0, 1, 2), ("water", "rock", "kelp"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
BANDS = ("red", "nir", "green")


@pytest.fixture
def make_catalogue(write_raster):
    """Return a function that writes scenes and their labels; pixels of one class differ from the others."""

    def make(classes=KELP, n_scenes=4, shape=(40, 37), folds=2, positive_share=0.05, holes=0.02):
        scenes, statistics = [], {}
        for number in range(n_scenes):
            rng = np.random.default_rng(number)
            label = (rng.random(shape) < positive_share).astype(np.uint8)
            if classes.task == "multiclass":
                label = rng.choice([0, 1, 2], shape, p=[0.8, 0.17, 0.03]).astype(np.uint8)
            pixels = rng.normal(100, 10, (3, *shape)).astype(np.float32)
            pixels[1] += 25 * label
            pixels[:, rng.random(shape) < holes] = np.nan
            label[0, :3] = 255
            image, mask = write_raster(f"i{number}.tif", pixels), write_raster(f"m{number}.tif", label)
            values = (*((index, index) for index in range(len(classes.label_names))), (255, 255))
            scene = Scene(
                f"s{number}", "train", (ImageFile(str(image), BANDS),), Grid(*shape), LabelFile(str(mask), values),
                group=f"g{number}", fold=number % folds,
            )  # fmt: skip
            counts = np.bincount(read_label(scene).ravel(), minlength=256)[: len(classes.label_names)]
            scenes.append(scene)
            statistics["train", scene.id] = SceneStatistics(label.size, tuple(counts.tolist()))
        return Catalogue(classes, BANDS, tuple(scenes), statistics)

    return make
