"""A small world that a small network can learn: bright blobs on dark ground, seen through nodata corners."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

import cnn
from cnn.inputs.normalisation import Normalisation
from cnn.member import CnnMember, load_member
from cnn.network.model_file import model_path, write_tensors
from cnn.network.network import build_network
from cnn.settings import CnnSettings
from data.records import write_record
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.image import ImageFile
from data.scenes.scene import LabelFile, Scene
from data.scenes.windows import Grid
from data.survey.discovery import SceneFiles
from data.survey.inspection import inspect_scene
from features.branch import Training

BANDS = ("red", "nir", "qa")
BINARY = Classes("binary", (1,), ("bright",), ((230, 159, 0),))
MULTICLASS = Classes("multiclass", (0, 1, 2), ("dark", "bright", "edge"), ((0, 0, 0), (9, 9, 9), (5, 5, 5)))


def write(path: Path, bands: np.ndarray, nodata: float | None = None) -> None:
    count, height, width = bands.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype=bands.dtype,
        nodata=nodata,
        transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as raster:
        raster.write(bands)


def catalogue_of(classes: Classes, scenes: tuple[Scene, ...]) -> Catalogue:
    """Return the catalogue of some scenes, with their statistics."""
    statistics = {}
    for scene in scenes:
        files = SceneFiles(scene.id, scene.split, scene.images, scene.label)
        [inspection] = inspect_scene(files, classes, scene.invalid)
        found = inspection.statistics
        assert found is not None
        statistics[scene.split, scene.id] = found
    return Catalogue(classes, BANDS, scenes, statistics)


def fit_member(name, settings, catalogue, directory, *, members=None, formulas=None, **options):
    """Train a member as the front door does."""

    def columns():
        raise AssertionError("networks read no table")

    folder = members or directory.parent
    cnn.fit_member(
        Training(name, settings, catalogue, directory, directory, folder, directory, columns, formulas or {}, **options)
    )


@pytest.fixture
def make_scene(tmp_path: Path) -> Callable[..., Scene]:
    """Write one scene; its truth is `red > 100` before noise, and pixel (0, 0) … (3, 3) is nodata."""

    def make(
        name: str,
        height: int = 40,
        width: int = 48,
        fold: int | None = 0,
        split: str = "train",
        shift: float = 0.0,
        multiclass: bool = False,
    ) -> Scene:
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
        bands = np.stack([red, nir, np.zeros_like(red)]).astype(np.float32)
        bands[:2, :4, :4] = -1
        folder = tmp_path / split
        folder.mkdir(exist_ok=True)
        write(folder / f"{name}.tif", bands, nodata=-1)
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
    return catalogue_of(BINARY, (*train, make_scene("unseen", 70, 33, fold=None, split="test")))


@pytest.fixture
def multiclass_catalogue(make_scene: Callable[..., Scene]) -> Catalogue:
    """Four training scenes of three classes in two folds."""
    train = tuple(make_scene(f"scene{number}", fold=number % 2, multiclass=True) for number in range(4))
    return catalogue_of(MULTICLASS, train)


@pytest.fixture
def tiny() -> CnnSettings:
    """A network that trains in a second."""
    return CnnSettings(
        encoder="tu-regnetx_002",
        encoder_depth=2,
        decoder_channels=[16, 8],
        crop=32,
        batch_size=4,
        epochs=2,
        steps=2,
        tile=32,
        overlap=8,
    )


@pytest.fixture
def make_member(tmp_path: Path) -> Callable[..., CnnMember]:
    """Write a member of two folds that has learned nothing, and load it."""
    normalisations = [
        Normalisation((0.2, 80.0, 500.0), (0.3, 40.0, 50.0)),
        Normalisation((0.0, 0.0, 0.0), (99.0, 99.0, 99.0), clip=2.0),
    ]

    def make(
        classes: tuple[str, ...] = ("dark", "bright"),
        *,
        fixed_size: bool = False,
        threads: int = 1,
        inputs: tuple[str, ...] = ("NDVI", "red", "nir_mean_r3"),
        name: str = "net",
        **values: Any,
    ) -> CnnMember:
        settings = CnnSettings(encoder="tu-regnetx_002", encoder_depth=2, decoder_channels=[16, 8], crop=16, **values)
        for fold, known in enumerate(normalisations):
            normalisation = replace(known, offset=known.offset[: len(inputs)], scale=known.scale[: len(inputs)])
            torch.manual_seed(fold)
            network = build_network(settings, len(inputs), len(classes))
            # As after training: other statistics than those that a network starts with.
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_var.mul_(2).add_(0.1)
            about = {"normalisation": None if settings.normalise.per_scene else asdict(normalisation)}
            write_tensors(model_path(tmp_path / name, fold), network.state_dict(), about)
        card = {
            "name": name,
            "branch": "cnn",
            "settings": settings.model_dump(mode="json"),
            "inputs": inputs,
            "formulas": {},
            "bands": BANDS,
            "classes": classes,
            "crop": settings.crop,
            "multiple": 4,
            "fixed_size": fixed_size,
            "folds": {"0": {}, "1": {}},
            "parameters": 0,
            "seed": 0,
            "versions": {},
        }
        write_record(tmp_path / name / "member.json", card)
        return load_member(tmp_path / name, threads, "cpu")

    return make


@pytest.fixture
def bfloat16_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with instructions for bfloat16; torch emulates them where there are none."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
