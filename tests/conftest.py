"""Scenes on disk that tests are made of, and the guard that keeps tests off the network."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from data.scene import maybe_ungeoreferenced

WriteRaster = Callable[..., Path]


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
