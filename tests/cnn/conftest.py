"""A small world that a small network can learn: bright blobs on dark ground, seen through nodata corners."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cnn.settings import CnnSettings
from data.catalogue import Catalogue
from data.classes import Classes
from data.scene import ImageFile, LabelFile, Scene
from data.windows import Grid

BANDS = ("red", "nir", "qa")
BINARY = Classes("binary", (1,), ("bright",), ((230, 159, 0),))
MULTICLASS = Classes("multiclass", (0, 1, 2), ("dark", "bright", "edge"), ((0, 0, 0), (9, 9, 9), (5, 5, 5)))


def write(path: Path, planes: np.ndarray, nodata: float | None = None) -> None:
    count, height, width = planes.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=planes.dtype, nodata=nodata,
        transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as raster:  # fmt: skip
        raster.write(planes)


@pytest.fixture
def make_scene(tmp_path: Path) -> Callable[..., Scene]:
    """Write one scene; its truth is `red > 100` before noise, and pixel (0, 0) … (3, 3) is nodata."""

    def make(
        name: str, height: int = 40, width: int = 48, fold: int | None = 0, split: str = "train", shift: float = 0.0,
        multiclass: bool = False,
    ) -> Scene:  # fmt: skip
        rng = np.random.default_rng([len(name), *name.encode()])
        rows, cols = np.mgrid[:height, :width]
        truth = np.zeros((height, width), np.uint8)
        for _ in range(3):
            row, col = rng.integers(height), rng.integers(width)
            truth[(rows - row) ** 2 + (cols - col) ** 2 < 60] = 1
        if multiclass:
            truth[:, -6:] = 2
        red = np.choose(truth, [60, 140, 220]) + rng.normal(0, 15, truth.shape) + shift
        nir = rng.normal(500, 50, truth.shape)
        planes = np.stack([red, nir, np.zeros_like(red)]).astype(np.float32)
        planes[:2, :4, :4] = -1
        folder = tmp_path / split
        folder.mkdir(exist_ok=True)
        write(folder / f"{name}.tif", planes, nodata=-1)
        label = None
        if split != "test":
            write(folder / f"{name}_label.tif", truth[None])
            label = LabelFile(str(folder / f"{name}_label.tif"), ((0, 0), (1, 1), (2, 2)))
        image = ImageFile(str(folder / f"{name}.tif"), BANDS)
        return Scene(name, split, (image,), Grid(height, width), label, (("qa", ()),), group=name, fold=fold)  # type: ignore[arg-type]

    return make


@pytest.fixture
def catalogue(make_scene: Callable[..., Scene]) -> Catalogue:
    """Eight training scenes in two folds, and one test scene."""
    train = tuple(make_scene(f"scene{number}", fold=number % 2) for number in range(8))
    return Catalogue(BINARY, BANDS, (*train, make_scene("unseen", 70, 33, fold=None, split="test")))


@pytest.fixture
def multiclass_catalogue(make_scene: Callable[..., Scene]) -> Catalogue:
    """Four training scenes of three classes in two folds."""
    train = tuple(make_scene(f"scene{number}", fold=number % 2, multiclass=True) for number in range(4))
    return Catalogue(MULTICLASS, BANDS, train)


@pytest.fixture
def tiny() -> CnnSettings:
    """A network that trains in a second."""
    return CnnSettings(
        encoder="tu-regnetx_002", encoder_depth=2, decoder_channels=[16, 8], crop=32, batch_size=4, epochs=2, steps=2,
        tile=32, overlap=8,
    )  # fmt: skip
