"""Scenes on disk that tests are made of, and the guard that keeps tests off the network."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from data.catalogue import Catalogue, SceneStatistics
from data.classes import Classes
from data.scene import ImageFile, LabelFile, Scene, maybe_ungeoreferenced, read_label
from data.windows import Grid

WriteRaster = Callable[..., Path]

KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
LAND = Classes("multiclass", (0, 1, 2), ("water", "rock", "kelp"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
BANDS = ("red", "nir", "green")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests must not use the network: {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """Return a function that writes an array (C, H, W) or (H, W) below the test's folder."""

    def write(
        name: str,
        values: NDArray[np.generic],
        nodata: float | None = None,
        transform: tuple[float, ...] | None = None,
        crs: str | None = None,
    ) -> Path:
        planes = values[None] if values.ndim == 2 else values
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        driver = {".tif": "GTiff", ".png": "PNG"}[path.suffix]
        where = {} if transform is None else {"transform": rasterio.Affine(*transform), "crs": crs}
        with (
            maybe_ungeoreferenced(),
            rasterio.open(
                path, "w", driver=driver, count=len(planes), height=planes.shape[1], width=planes.shape[2],
                dtype=planes.dtype.name, nodata=nodata, **where,
            ) as raster,
        ):  # fmt: skip
            raster.write(planes)
        return path

    return write


@pytest.fixture
def real_data() -> Path:
    """Return the folder of the real data sets, or skip the test."""
    folder = os.environ.get("TERRABLEND_DATA")
    if not folder:
        pytest.skip("TERRABLEND_DATA is not set")
    return Path(folder)


@pytest.fixture
def make_scenes(write_raster):
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
