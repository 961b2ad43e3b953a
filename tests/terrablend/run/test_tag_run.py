import numpy as np
import pytest
import rasterio
import yaml

from data.maps.geotiff import TOP
from data.maps.parquet import read_parts
from data.scenes.catalogue import Catalogue
from data.scenes.scene import maybe_ungeoreferenced

TAGS = ("clear", "haze", "road")


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
                lines.append(f"{path.stem},{TAGS[haze]}{' road' * road}")
    (tmp_path / "train_v2.csv").write_text("\n".join(lines) + "\n")
    experiment = {
        "name": "planet", "task": "multilabel", "root": ".", "classes": [*TAGS], "folds": {"count": 2},
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


def bytes_below(folder):
    kinds = {".parquet", ".zip", ".json"}
    parts = [folder / name for name in ("pixels", "members", "explain", "columns.json")]
    paths = [path for part in parts for path in ([part] if part.is_file() else part.rglob("*")) if path.suffix in kinds]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def test_trees_learn_tags_from_scenes_to_maps_and_say_by_which_columns(planet, terrablend, tmp_path):
    for run in ("one", "two"):
        for command in ("check", "features", "trees", "explain"):
            outcome = terrablend(command, planet, "--run", tmp_path / run, "--workers", 1)
            assert outcome.code == 0, outcome.err
    catalogue = Catalogue.load(tmp_path / "one" / "catalogue.parquet")
    _, found = read_parts(tmp_path / "one" / "members" / "lightgbm" / "oof")
    for scene in catalogue.split("train"):
        assert tuple(np.flatnonzero(found[scene.id] > TOP / 2)) == scene.tags
    _, test = read_parts(tmp_path / "one" / "members" / "lightgbm" / "test")
    for number in range(4):
        haze = number % 2
        assert (test[f"test_{number}"] > TOP / 2).tolist() == [not haze, haze, number % 3 == 0]
    one, two = (bytes_below(tmp_path / run) for run in ("one", "two"))
    assert one.keys() == two.keys()
    assert not [path for path in one if one[path] != two[path]]
    assert "road: IoU 1.0" in outcome.out

    outcome = terrablend("features", planet, "--run", tmp_path / "one", "--describe", "--workers", 1)
    assert outcome.code == 0
    assert "bright_share" in outcome.out
    assert "share of the scene's pixels that have bright: red > 100" in outcome.out


def test_what_cannot_be_done_with_tags_is_refused(planet, terrablend, tmp_path):
    run = ("--run", tmp_path / "run", "--workers", 1)
    assert terrablend("check", planet, *run).code == 0
    outcome = terrablend("features", planet, *run, "--set", "features.coordinates=[row]")
    assert outcome.code == 2
    assert "expected coordinates not with the task multilabel" in outcome.err
    assert terrablend("features", planet, *run, "--overwrite").code == 0
    outcome = terrablend("features", planet, *run, "--points", tmp_path / "points.parquet")
    assert outcome.code == 2
    assert "got scenes with tags" in outcome.err
    outcome = terrablend("tune", planet, "lightgbm", *run)
    assert outcome.code == 2
    assert "expected a task of pixels for `terrablend tune`, got multilabel" in outcome.err
