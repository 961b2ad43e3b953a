"""A small coast, a small table and few tagged scenes, with their experiment files, and the commands that run them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
import rasterio
import yaml

from data.errors import ExperimentError
from data.scenes.rasters import maybe_ungeoreferenced
from terrablend.cli import main
from terrablend.experiment import load_experiment
from terrablend.start.coast import BANDS, write_coast


class Outcome(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]

EXPERIMENT = {
    "name": "small",
    "task": "binary",
    "root": ".",
    "scenes": {
        "bands": list(BANDS),
        "train": {"image": "train/{id}_satellite.tif", "label": "train_kelp/{id}_kelp.tif"},
        "test": {"image": "test/{id}_satellite.tif"},
        "nodata": -32768,
        "invalid": {"qa": "nonzero"},
    },
    "classes": {1: "kelp"},
    "folds": {"count": 2, "group": {"similar": "dem"}},
    "features": {
        "indices": ["NDVI"],
        "context": {"of": ["nir"], "radii": [2], "statistics": ["mean", "std"]},
        "sample": {"negatives": 300},
    },
    "members": {
        "lightgbm": {"branch": "trees", "rounds": 15, "leaves": 7},
        "unet": {
            "branch": "cnn",
            "encoder": "tu-regnetx_002",
            "encoder_depth": 2,
            "decoder_channels": [8, 8],
            "inputs": ["red", "green", "blue", "nir", "NDVI"],
            "crop": 32,
            "batch_size": 4,
            "epochs": 1,
            "steps": 2,
        },
    },
    "ensemble": {"metric": "dice"},
    "submission": {"format": "kelp"},
}


@pytest.fixture
def terrablend(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Return a function that gives a command as a user would, in this process."""

    def run(*words: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["terrablend", *map(str, words)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the tests of a module keep the run that `finish` copies."""
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture
def finish(terrablend: Command, kept_run: Path, tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that finishes the run of an experiment, and returns its folder.

    The first test of a module carries it out; others, whose experiments have the same content, get a copy.
    """

    def run(experiment: Path) -> Path:
        if kept_run.exists():
            return shutil.copytree(kept_run, tmp_path / "run")
        outcome = terrablend("run", experiment, "--run", tmp_path / "run", "--workers", 1)
        assert outcome.code == 0, outcome.err
        shutil.copytree(tmp_path / "run", kept_run)
        return tmp_path / "run"

    return run


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """Return a function that says why an experiment with some values changed is refused."""

    def of(**values: object) -> str:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(EXPERIMENT | values))
        with pytest.raises(ExperimentError) as caught:
            load_experiment(path)
        return str(caught.value)

    return of


def write_small_coast(root: Path, **overrides: object) -> Path:
    """Write a coast of a few small scenes with its experiment file, and return the file."""
    write_coast(root, places=4, acquisitions=2, test=1, size=64, seed=3)
    path = root / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT | overrides))
    return path


@pytest.fixture
def small_coast(tmp_path: Path) -> Path:
    """Return the experiment file of a small coast."""
    return write_small_coast(tmp_path / "coast")


@pytest.fixture
def run_small_coast(tmp_path: Path, terrablend: Command) -> Callable[..., tuple[Path, list[str]]]:
    """Return a function that runs a small coast with values changed, and returns the run folder and what is planned."""

    def carry_out(**overrides: object) -> tuple[Path, list[str]]:
        run = tmp_path / "run"
        command = ("run", write_small_coast(tmp_path / "coast", **overrides), "--run", run)
        stages = [line.split()[0] for line in terrablend(*command, "--dry-run").out.splitlines()]
        outcome = terrablend(*command, "--workers", 1)
        assert outcome.code == 0, outcome.err
        return run, stages

    return carry_out


MEMBER = {"branch": "trees", "rounds": 10, "leaves": 7, "min_leaf_rows": 5, "colsample": 1.0}


def write_table_experiment(path, **values):
    """Write the experiment file of a table of fields, and return it."""
    base = {"name": "crops", "task": "binary", "root": ".", "classes": {1: "crop"}, "members": {"lightgbm": MEMBER}}
    path.write_text(yaml.safe_dump(base | values))
    return path


@pytest.fixture
def small_table(tmp_path):
    """Return the experiment file of a few hundred rows in nine groups."""
    rng = np.random.default_rng(0)
    n = 360
    label = rng.integers(0, 2, n)
    rows = {
        "number": np.arange(n),
        "kind": label,
        "plot": [f"p{number}" for number in rng.integers(0, 9, n)],
        "weight": rng.choice([1.0, 3.0], n),
        "red": rng.normal(size=n),
        "nir": rng.normal(size=n) + 1.5 * label,
        "NDVI_S1": rng.normal(size=n) + 0.5 * label,
    }
    root = tmp_path / "field"
    root.mkdir()
    pl.DataFrame(rows).write_csv(root / "rows.csv")
    table = {"files": "*.csv", "label": "kind", "group": "plot", "weight": "weight", "exclude": ["number"]}
    return write_table_experiment(root / "crops.yaml", table=table, folds={"count": 3})


PLANET_TAGS = ("clear", "haze", "road")


@pytest.fixture
def planet(tmp_path):
    """Return the experiment file of a few scenes: haze is bright, a road is a line, and not every scene has one."""
    rng = np.random.default_rng(0)
    lines = ["image_name,tags"]
    for split, count in (("train", 36), ("test", 4)):
        (tmp_path / f"{split}-jpg").mkdir()
        for number in range(count):
            haze, road = number % 2, number % 3 == 0
            pixels = rng.normal(60 + 80 * haze, 10, (3, 32, 32))
            if road:
                pixels[:, 10:14] += 70
            path = tmp_path / f"{split}-jpg" / f"{split}_{number}.jpg"
            with (
                maybe_ungeoreferenced(),
                rasterio.open(path, "w", driver="JPEG", width=32, height=32, count=3, dtype="uint8") as raster,
            ):
                raster.write(pixels.clip(0, 255).astype(np.uint8))
            if split == "train":
                lines.append(f"{path.stem},{PLANET_TAGS[haze]}{' road' * road}")
    (tmp_path / "train_v2.csv").write_text("\n".join(lines) + "\n")
    experiment = {
        "name": "planet", "task": "multilabel", "root": ".", "classes": [*PLANET_TAGS], "folds": {"count": 2},
        "scenes": {
            "bands": ["red", "green", "blue"],
            "train": {
                "image": "train-jpg/{id}.jpg", "label": {"tags": "train_v2.csv", "id": "image_name", "column": "tags"}
            },
            "test": {"image": "test-jpg/{id}.jpg"},
        },
        "features": {"formulas": {"bright": "red > 100"}, "aggregate": {"bins": 4, "radii": [1]}},
        "members": {
            "lightgbm": {
                "branch": "trees", "rounds": 15, "leaves": 4, "min_leaf_rows": 3, "learning_rate": 0.3, "subsample": 1
            }
        },
    }  # fmt: skip
    path = tmp_path / "planet.yaml"
    path.write_text(yaml.safe_dump(experiment))
    return path
