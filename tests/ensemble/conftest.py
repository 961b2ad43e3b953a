"""Labels and members' maps on disk, made of numbers that are known."""

import numpy as np
import pytest

from data.catalogue import Catalogue, SceneStatistics
from data.classes import Classes
from data.maps import map_writer
from data.members import MAP_FOLDERS
from data.scene import LabelFile, Scene
from data.windows import Grid

KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
LAND = Classes("multiclass", (0, 1, 5), ("water", "rock", "kelp"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
SHAPE = (24, 31)


@pytest.fixture
def make_catalogue(write_raster):
    """Return a function that writes labels, with folds and groups but without images."""

    def make(classes=KELP, n_scenes=9, folds=3, split="train", rare=0.2):
        n = len(classes.label_names)
        scenes, statistics = [], {}
        for number in range(n_scenes):
            rng = np.random.default_rng([1 if split == "train" else 2, number])
            label = rng.choice(n, SHAPE, p=[1 - rare, *[rare / (n - 1)] * (n - 1)]).astype(np.uint8)
            label[0, :4] = 255
            path = write_raster(f"{split}{number}.tif", label)
            values = (*((index, index) for index in range(n)), (255, 255))
            scenes.append(
                Scene(
                    f"s{number}", split, (), Grid(*SHAPE), LabelFile(str(path), values), group=f"g{number // 2}",
                    fold=number % folds if split == "train" else None,
                )
            )  # fmt: skip
            statistics[split, f"s{number}"] = SceneStatistics(label.size)
        return Catalogue(classes, (), tuple(scenes), statistics)

    return make


@pytest.fixture
def write_maps(tmp_path):
    """Return a function that writes a member's maps: proba(scene) → (n_classes, H, W)."""

    def write(name, catalogue, proba):
        for scene in catalogue.scenes:
            path = tmp_path / name / MAP_FOLDERS[scene.split] / f"{scene.id}.tif"
            with map_writer(path, scene.grid, catalogue.classes.names, {}) as writer:
                writer.write(scene.grid.window, proba(scene).astype(np.float32))
        return tmp_path / name

    return write
