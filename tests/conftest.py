"""Scenes on disk that tests are made of, and the guard that keeps tests off the network."""

import html
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

import data.workers
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.image import ImageFile
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import LabelFile, Scene, read_label
from data.scenes.windows import Grid
from features.table import Table

# Tests know no clock: a busy machine is no failure.
hypothesis.settings.register_profile("terrablend", deadline=None)
hypothesis.settings.load_profile("terrablend")

# Where every core runs tests, only those that say so start workers; it is set before modules are imported that ask.
if "PYTEST_XDIST_WORKER" in os.environ:
    data.workers.cores = lambda: 1

WriteRaster = Callable[..., Path]

KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
LAND = Classes("multiclass", (0, 1, 2), ("water", "rock", "kelp"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
TAGS = Classes("multilabel", (0, 1, 2), ("haze", "rough", "never"), ((230, 230, 230), (90, 90, 90), (0, 0, 255)))
BANDS = ("red", "nir", "green")


class Held:
    """A block of rows that lie in memory."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def read(self) -> NDArray[np.float32]:
        return self.features


def table_of(features, label, weight=None, names=None, n_blocks=3):
    """Return a table of rows in memory, in some blocks."""
    blocks = [Held(block.copy()) for block in np.array_split(np.asarray(features, np.float32), n_blocks)]
    names = tuple(names or (f"f{column}" for column in range(features.shape[1])))
    weight = np.ones(len(label), np.float32) if weight is None else weight
    place = np.arange(len(label), dtype=np.int32)
    return Table(blocks, names, np.asarray(label, np.uint8), weight, np.zeros_like(place), ("a",), place)


def pick(rows, chosen):
    """Return some rows of a table."""
    return table_of(rows.read(chosen), rows.label[chosen], rows.weight[chosen], rows.names)


def join(rows, more):
    """Return the rows of two tables as one, and which are of the first."""
    joined = table_of(
        np.concatenate([rows.read(), more.read()]),
        np.concatenate([rows.label, more.label]),
        np.concatenate([rows.weight, more.weight]),
        rows.names,
    )
    return joined, np.arange(len(joined)) < len(rows)


def learn(kind, rows, n_labels, settings, stop=None, device="cpu", **options):
    """Let a library learn from all rows of one table, stopped by those of another."""
    if stop is None:
        return kind(rows, n_labels, device=device).fit(settings, np.ones(len(rows), bool), **options)
    joined, first = join(rows, stop)
    return kind(joined, n_labels, device=device).fit(settings, first, ~first, **options)


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
        driver = {".tif": "GTiff", ".png": "PNG", ".dat": "ENVI"}[path.suffix]
        where = {} if transform is None else {"transform": rasterio.Affine(*transform), "crs": crs}
        with (
            maybe_ungeoreferenced(),
            rasterio.open(
                path,
                "w",
                driver=driver,
                count=len(planes),
                height=planes.shape[1],
                width=planes.shape[2],
                dtype=planes.dtype.name,
                nodata=nodata,
                **where,
            ) as raster,
        ):
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
                label = rng.choice([0, 1, 2], shape, p=[0.8, 0.17, 0.03]).astype(np.uint8) % len(classes.names)
            pixels = rng.normal(100, 10, (3, *shape)).astype(np.float32)
            pixels[1] += 25 * label
            pixels[:, rng.random(shape) < holes] = np.nan
            label[0, :3] = 255
            image, mask = write_raster(f"i{number}.tif", pixels), write_raster(f"m{number}.tif", label)
            values = (*((index, index) for index in range(len(classes.label_names))), (255, 255))
            scene = Scene(
                f"s{number}",
                "train",
                (ImageFile(str(image), BANDS),),
                Grid(*shape),
                LabelFile(str(mask), values),
                group=f"g{number}",
                fold=number % folds,
            )
            counts = np.bincount(read_label(scene).ravel(), minlength=256)[: len(classes.label_names)]
            scenes.append(scene)
            statistics["train", scene.id] = SceneStatistics(label.size, tuple(counts.tolist()))
        return Catalogue(classes, BANDS, tuple(scenes), statistics)

    return make


@pytest.fixture
def make_tagged(write_raster):
    """Return a function that writes scenes with tags: haze is bright, rough is uneven, and no scene has the third."""

    def make(n_scenes=24, shape=(24, 20), folds=2, holes=0.05):
        scenes, statistics = [], {}
        for number in range(n_scenes):
            rng = np.random.default_rng(number)
            haze, rough = number // 2 % 2 == 1, number // 4 % 2 == 1
            pixels = rng.normal(100 + 30 * haze, 20 if rough else 5, (3, *shape)).astype(np.float32)
            pixels[:, rng.random(shape) < holes] = np.nan
            image = write_raster(f"t{number}.tif", pixels)
            tags = tuple(np.flatnonzero([haze, rough, False]).tolist())
            scene = Scene(
                f"s{number}",
                "train",
                (ImageFile(str(image), BANDS),),
                Grid(*shape),
                group=f"g{number}",
                fold=number % folds,
                tags=tags,
            )
            scenes.append(scene)
            statistics["train", scene.id] = SceneStatistics(pixels[0].size, tuple(int(k in tags) for k in range(3)))
        return Catalogue(TAGS, BANDS, tuple(scenes), statistics)

    return make


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

WATCH = """<script>
const seen = { problems: [], value: null };
addEventListener("error", (event) => seen.problems.push(event.message));
console.error = console.warn = (...words) => seen.problems.push(words.join(" "));
</script>"""

ACT = """<script>
addEventListener("load", () => {
  try { seen.value = (() => { %s })(); } catch (error) { seen.problems.push(String(error)); }
  const told = document.createElement("pre");
  told.id = "seen";
  told.textContent = JSON.stringify(seen);
  document.body.append(told);
});
</script>"""


@pytest.fixture
def browse(tmp_path):
    """Return a function that opens a page in a browser, runs a script in it and returns what that returns.

    Whatever the page complains of is a failure. Without a browser the test is skipped.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("needs Chromium or Chrome")

    def look(page, script="return null"):
        copy = tmp_path / "looked-at.html"
        text = page.read_text("utf-8").replace("<head>", f"<head>{WATCH}", 1)
        copy.write_text(text.replace("</body>", f"{ACT % script}</body>"), "utf-8")
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1200,900",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            copy.as_uri(),
        ]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        told = re.search(r'<pre id="seen">(.*?)</pre>', shown.stdout, re.DOTALL)
        assert told, shown.stderr
        seen = json.loads(html.unescape(told[1]))
        assert seen["problems"] == []
        assert "CONSOLE" not in shown.stderr
        return seen["value"]

    return look
