"""Labels and members' maps on disk, made of numbers that are known."""

import numpy as np
import pytest

from data.maps.geotiff import dequantise, map_writer
from data.maps.parquet import part_name, write_part
from data.maps.store import MAP_FOLDERS
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.scene import LabelFile, Scene, read_label
from data.scenes.windows import Grid
from ensemble import EnsembleSettings, fit_ensemble, score_table
from ensemble.fitted import FittedEnsemble
from ensemble.maps import open_maps
from ensemble.report.page import write_report
from ensemble.report.section import ReportSource, RunFacts

KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
LAND = Classes("multiclass", (0, 1, 5), ("water", "rock", "kelp"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
SHAPE = (24, 31)
SETTINGS = EnsembleSettings(sample=4000)


def noisy(classes, strength, seed, where=None, bias=0, blank=0):
    """Return a member: probabilities that know the label with some strength, everywhere or on one half of the pixels.

    ``bias`` is added to the logits, one a label or one for all; of the first ``blank`` rows it says nothing.
    """

    def proba(scene):
        rng = np.random.default_rng([seed, int(scene.id[1:]), len(scene.split)])
        label = read_label(scene)
        known = np.where(label == 255, 0, label)
        n = len(classes.label_names)
        logits = rng.normal(size=(n, *label.shape)) + np.reshape(bias, (-1, 1, 1))
        rows, cols = np.indices(label.shape)
        power = strength if where is None else np.where((rows + cols) % 2 == where, strength, 0)
        logits += power * np.moveaxis(np.eye(n)[known], -1, 0)
        shares = np.exp(logits) / np.exp(logits).sum(axis=0)
        shares[:, :blank] = np.nan
        return shares[1:] if classes.task == "binary" else shares

    return proba


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
                    f"s{number}",
                    split,
                    (),
                    Grid(*SHAPE),
                    LabelFile(str(path), values),
                    group=f"g{number // 2}",
                    fold=number % folds if split == "train" else None,
                )
            )
            counts = np.bincount(label.ravel(), minlength=256)[:n]
            statistics[split, f"s{number}"] = SceneStatistics(label.size, tuple(counts.tolist()))
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


@pytest.fixture
def write_tag_maps(tmp_path):
    """Return a function that writes what a member says of training scenes: scene → (n_classes,) uint16 as stored."""

    def write(name, classes, stored):
        path = tmp_path / name / MAP_FOLDERS["train"] / part_name(0)
        write_part(path, list(stored), dequantise(np.stack(list(stored.values()))), classes.names, {})
        return tmp_path / name

    return write


@pytest.fixture
def make_members(write_maps):
    """Return a function that writes the maps of `noisy` members: name → (strength, seed, …)."""

    def make(catalogue, **members):
        return {name: write_maps(name, catalogue, noisy(catalogue.classes, *how)) for name, how in members.items()}

    return make


def quicklook(scene, window):
    return np.full((window.height, window.width, 3), 120, np.uint8)


@pytest.fixture
def report(make_catalogue, make_members, tmp_path):
    """Return a function that fits members, writes their report, and returns it as text."""

    def write(catalogue, features=None, explanations=(), **members):
        directories = make_members(catalogue, **members)
        ensemble, evaluations = fit_ensemble(directories, catalogue, SETTINGS, seed=0)
        fitted = FittedEnsemble(ensemble, tuple(evaluations), score_table(evaluations, catalogue.classes, SETTINGS))
        run = RunFacts("coast", quicklook, features=features, explanations=explanations)
        maps = open_maps(directories, catalogue.classes)
        write_report(tmp_path / "report.html", ReportSource(fitted, run, maps, catalogue, SETTINGS))
        return (tmp_path / "report.html").read_text("utf-8"), ensemble

    return write
