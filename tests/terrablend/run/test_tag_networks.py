import numpy as np
import pytest
import rasterio
import yaml

from data.maps.geotiff import TOP
from data.maps.parquet import read_parts
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import maybe_ungeoreferenced
from terrablend.experiment import load_scene_experiment

NETWORK = {
    "branch": "cnn",
    "encoder": "tu-regnetx_002",
    "encoder_depth": 2,
    "crop": 16,
    "batch_size": 8,
    "epochs": 6,
    "steps": 6,
    "learning_rate": 0.02,
}


@pytest.fixture
def hazy(tmp_path):
    """Return the experiment file of a few scenes, every other one of which is hazy, and bright."""
    rng = np.random.default_rng(0)
    lines = ["image_name,tags"]
    for number in range(24):
        pixels = rng.normal(60 + 120 * (number % 2), 10, (3, 16, 16)).clip(0, 255).astype(np.uint8)
        with (
            maybe_ungeoreferenced(),
            rasterio.open(
                tmp_path / f"s{number}.png", "w", driver="PNG", width=16, height=16, count=3, dtype="uint8"
            ) as raster,
        ):
            raster.write(pixels)
        lines.append(f"s{number},{'haze' if number % 2 else 'clear'}")
    (tmp_path / "tags.csv").write_text("\n".join(lines) + "\n")
    experiment = {
        "name": "hazy",
        "task": "multilabel",
        "root": ".",
        "classes": ["clear", "haze"],
        "folds": {"count": 2},
        "scenes": {
            "bands": ["red", "green", "blue"],
            "train": {"image": "{id}.png", "label": {"tags": "tags.csv", "id": "image_name", "column": "tags"}},
        },
        "members": {"net": NETWORK},
    }
    path = tmp_path / "hazy.yaml"
    path.write_text(yaml.safe_dump(experiment))
    return path


def test_a_network_of_a_multilabel_task_is_a_classifier_unless_something_else_is_written(hazy, terrablend, tmp_path):
    settings = load_scene_experiment(hazy).members["net"]
    assert (settings.architecture, settings.loss) == ("classifier", "bce")
    settings = load_scene_experiment(hazy, ["members.net.loss=focal"]).members["net"]
    assert (settings.architecture, settings.loss) == ("classifier", "focal")
    run = ("--run", tmp_path / "run", "--workers", 1)
    assert terrablend("check", hazy, *run).code == 0
    outcome = terrablend("cnn", hazy, *run, "--set", "members.net.architecture=fpn")
    assert outcome.code == 2
    assert "expected classifier with the task multilabel" in outcome.err


def test_a_network_learns_tags_from_scenes_to_maps(hazy, terrablend, tmp_path):
    run = ("--run", tmp_path / "run", "--workers", 1)
    for command in ("check", "cnn"):
        outcome = terrablend(command, hazy, *run)
        assert outcome.code == 0, outcome.err
    scenes = Catalogue.load(tmp_path / "run" / "catalogue.parquet").split("train")
    _, found = read_parts(tmp_path / "run" / "members" / "net" / "oof")
    assert [tuple(np.flatnonzero(found[scene.id] > TOP / 2)) for scene in scenes] == [scene.tags for scene in scenes]
