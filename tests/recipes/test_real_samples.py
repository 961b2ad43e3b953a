"""The recipes on real files of their data sets: what these hold is what recipes and pages say."""

import csv
import gzip
import json

import numpy as np
import pytest
import rasterio
from PIL import Image

from data.folds.plan import plan_folds
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import IGNORE, Scene, read_label, read_scene
from data.scenes.windows import Grid, Window
from data.survey.discovery import find_scenes
from data.survey.inspection import inspect_scene
from terrablend.experiment import load_scene_experiment
from terrablend.start.init import guess_experiment
from terrablend.start.recipes import RECIPES

from .test_solar import SETTINGS, write_copy

pytestmark = pytest.mark.real


@pytest.fixture
def samples(real_data):
    folder = real_data / "seed_samples"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def follow_recipe(name, folder):
    """Return the recipe's experiment for a folder, and the files of its training scenes by id."""
    experiment = load_scene_experiment(RECIPES / f"{name}.yaml", [f"root={json.dumps(str(folder))}"])
    scenes = experiment.scenes
    if not (folder / scenes.test.image[0].path).parent.is_dir():
        scenes = scenes.model_copy(update={"test": None})
    files, problems = find_scenes(scenes, experiment.label_classes(), folder)
    assert problems == []
    return experiment, {file.id: file for file in files if file.split == "train"}


def read_files(files, classes):
    """Return a scene as `check` reads it."""
    [inspection] = inspect_scene(files, classes, ())
    assert not inspection.problems
    return inspection.scene


def test_jpegs_of_inks_are_read_as_pillow_reads_them(samples):
    experiment, files = follow_recipe("amazon", samples / "amazon")
    assert len(files) == 64
    with Image.open(samples / "amazon/train-jpg/train_1.jpg") as picture:
        assert picture.mode == "CMYK"
        wanted = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    scene = read_files(files["train_1"], experiment.label_classes())
    np.testing.assert_array_equal(read_scene(scene), wanted)


def test_near_infrared_that_is_declared_an_alpha_hides_nothing(samples):
    experiment, files = follow_recipe("amazon-tif", samples / "amazon")
    assert len(files) == 30
    [warning] = next(iter(files.values())).warnings
    assert "34 of 64 rows have no image (train_30, train_31, train_32 …) and are left out" in warning
    scene = read_files(files["train_1"], experiment.label_classes())
    with maybe_ungeoreferenced(), rasterio.open(samples / "amazon/train-tif-v2/train_1.tif") as raster:
        np.testing.assert_array_equal(read_scene(scene), raster.read())
    pixels = dict(zip(scene.bands, read_scene(scene), strict=True))
    with Image.open(samples / "amazon/train-jpg/train_1.jpg") as picture:
        drawn = dict(zip(("red", "green", "blue"), np.asarray(picture.convert("RGB")).transpose(2, 0, 1), strict=True))
    for band, plane in drawn.items():
        alike = {name: np.corrcoef(plane.ravel(), pixels[name].ravel())[0, 1] for name in pixels}
        assert max(alike, key=alike.get) == band


def test_every_tag_of_all_scenes_is_dealt_evenly_to_folds(samples):
    experiment = load_scene_experiment(RECIPES / "amazon.yaml", ["root=/"])
    classes = experiment.label_classes()
    with gzip.open(samples / "amazon/train_v2_all_40479.csv.gz", "rt") as file:
        # 70 of them list cultivation twice.
        rows = [(row["image_name"], set(row["tags"].split(" "))) for row in csv.DictReader(file)]
    assert {tag for _, tags in rows for tag in tags} == set(classes.names)
    scenes, statistics = [], {}
    for name, tags in rows:
        present = sorted(classes.names.index(tag) for tag in tags)
        scenes.append(Scene(name, "train", (), Grid(1, 1), tags=tuple(present)))
        statistics["train", name] = SceneStatistics(1, tuple(np.bincount(present, minlength=17).tolist()))
    _, report = plan_folds(Catalogue(classes, (), tuple(scenes), statistics), experiment.folds, samples, 0)
    assert sum(report.scenes) == 40_479
    for counts in [report.scenes, *report.labelled.values()]:
        assert max(counts) - min(counts) <= 1


def test_a_sample_without_some_tags_is_checked_to_the_end(samples, terrablend, tmp_path):
    out = tmp_path / "amazon.yaml"
    assert terrablend("init", samples / "amazon", "--recipe", "amazon", "-o", out).code == 0
    outcome = terrablend("check", out, "--run", tmp_path / "run", "--workers", 1)
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.err.split())
    assert "expected scenes with the tag blooming, blow_down, selective_logging, got none in 64 scenes" in said
    assert "64 training scenes in 5 folds" in said


@pytest.mark.parametrize("scene", ["855", "6399"])
def test_masks_in_colours_are_read_as_the_organisers_read_them(scene, samples):
    experiment, files = follow_recipe("deepglobe", samples / "deepglobe")
    label = read_label(Scene(scene, "train", (), Grid(2448, 2448), files[scene].label), Window(0, 0, 2448, 2448))
    with Image.open(samples / f"deepglobe/train/{scene}_mask.png") as picture:
        bits = np.asarray(picture.convert("RGB")) >= 128
    wanted = np.full(label.shape, IGNORE, np.uint8)
    for index, color in enumerate(experiment.label_classes().colors):
        wanted[(bits == (np.array(color) >= 128)).all(axis=-1)] = index
    np.testing.assert_array_equal(label, wanted)


def test_init_finds_bands_classes_and_places_of_the_korean_pictures(samples):
    found = guess_experiment(samples / "korea_s2")
    [image] = found["scenes"]["train"]["image"]
    assert image == {"path": "images/202309_patchN_{id}.tif", "bands": ["red", "green", "blue"]}
    assert found["scenes"]["train"]["label"] == {"path": "masks/202309_mask_{id}.tif"}
    assert list(found["classes"]) == [10, 30, 50, 70, 100]
    assert found["folds"]["group"] == {"overlap": True}


def test_the_real_solar_tile_is_mapped_where_it_lies(samples, terrablend, tmp_path):
    write_copy(tmp_path / "solar")
    file, run = tmp_path / "solar.yaml", tmp_path / "run"
    assert terrablend("init", tmp_path / "solar", "--recipe", "solar", "-o", file).code == 0
    trees = "members={lightgbm: {branch: trees, booster: lightgbm, rounds: 10}}"
    settings = [word for one in SETTINGS if "members" not in one for word in ("--set", one)] + ["--set", trees]
    for stage in ("check", "features", "trees", "explain", "ensemble"):
        outcome = terrablend(stage, file, "--run", run, "--workers", 1, *settings)
        assert outcome.code == 0, outcome.err
    tile = samples / "solar/median_composite.tif"
    outcome = terrablend("predict", run, tile, "-o", tmp_path / "maps", "--workers", 1)
    assert outcome.code == 0, outcome.err
    with rasterio.open(tile) as raster, rasterio.open(tmp_path / "maps/median_composite_classes.tif") as mapped:
        assert (raster.dtypes[0], raster.count, raster.shape, raster.nodata) == ("float32", 4, (256, 256), -9999)
        assert (mapped.crs, mapped.transform, mapped.shape) == (raster.crs, raster.transform, raster.shape)
        assert set(np.unique(mapped.read(1))) <= {0, 1}
