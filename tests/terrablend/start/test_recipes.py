import logging

import numpy as np
import pytest
from PIL import Image

from data.errors import ExperimentError
from data.folds.plan import plan_folds
from data.settings import LabelSettings
from data.survey.discovery import find_scenes
from data.survey.inspection import build_catalogue
from terrablend.experiment import load_experiment
from terrablend.start.recipes import PUBLISHED, RECIPES, recipe_names, write_recipe

SIDE = 24
COLORS = [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]


def save_picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def copy_kelp(root, write, rng):
    for name in ("AA498489", "AB207083", "CD311207", "EF770012"):
        bands = rng.integers(7000, 12000, (7, SIDE, SIDE)).astype(np.int16)
        bands[5], bands[6] = 0, rng.integers(-5, 90, (SIDE, SIDE))
        bands[:, 0, 0] = -32768
        write(f"d/train_satellite/{name}_satellite.tif", bands)
        write(f"d/train_kelp/{name}_kelp.tif", (rng.random((SIDE, SIDE)) < 0.1).astype(np.uint8))
        write(f"d/test_satellite/{name[::-1]}_satellite.tif", bands)


def copy_solar(root, write, rng):
    for plant in range(6):
        for number in range(2):
            bands = rng.integers(0, 5722, (4, SIDE, SIDE)).astype(np.int16)
            bands[:, :2] = -9999
            write(f"d/train/images/plant_{plant:02}_{number}.tif", bands)
            label = (rng.random((SIDE, SIDE)) < 0.1 * (number == 0)).astype(np.uint8)
            write(f"d/train/masks/plant_{plant:02}_{number}.tif", label)
    write("d/test/images/plant_99_0.tif", rng.integers(0, 5722, (4, SIDE, SIDE)).astype(np.int16))


def copy_deepglobe(root, write, rng):
    for name in (119, 606, 2334, 3484, 3965, 999):
        save_picture(root / f"train/{name}_sat.jpg", rng.integers(0, 256, (SIDE, SIDE, 3)))
        drawn = np.array(COLORS)[rng.integers(0, 7, (SIDE, SIDE))]
        save_picture(root / f"train/{name}_mask.png", np.abs(drawn - rng.integers(0, 3, drawn.shape)))
        save_picture(root / f"test/{name + 1}_sat.jpg", rng.integers(0, 256, (SIDE, SIDE, 3)))


def copy_landcover(root, write, rng):
    for image in ("M-33-7-A", "M-34-51-C", "N-33-60-D", "N-34-97", "N-34-106"):
        for row in range(2):
            write(f"d/train/images/{image}_{row}_0.png", rng.integers(0, 256, (3, SIDE, SIDE), np.uint8))
            write(f"d/train/masks/{image}_{row}_0.png", rng.integers(0, 4, (SIDE, SIDE), np.uint8))
    write("d/test/images/N-34-77_0_0.png", rng.integers(0, 256, (3, SIDE, SIDE), np.uint8))


def copy_amazon(root, write, rng):
    names = list(load_experiment(RECIPES / "amazon.yaml", ["root=/"]).label_classes().names)
    rows = ["image_name,tags"]
    for number in range(40):
        save_picture(root / f"train-jpg/train_{number}.jpg", rng.integers(0, 256, (SIDE, SIDE, 3)))
        rows.append(f"train_{number},{' '.join({names[number % 17], names[number // 3], 'primary'})}")
        save_picture(root / f"test-jpg/test_{number}.jpg", rng.integers(0, 256, (SIDE, SIDE, 3)))
    (root / "train_v2.csv").write_text("\n".join(rows) + "\n")


def copy_amazon_tif(root, write, rng):
    copy_amazon(root, write, rng)
    for jpeg in sorted(root.glob("t*-jpg/*.jpg")):
        write(f"d/{jpeg.parent.name[:-4]}-tif-v2/{jpeg.stem}.tif", rng.integers(1, 9999, (4, SIDE, SIDE), np.uint16))


COPIES = {
    "kelp": copy_kelp,
    "solar": copy_solar,
    "deepglobe": copy_deepglobe,
    "landcover": copy_landcover,
    "amazon": copy_amazon,
    "amazon-tif": copy_amazon_tif,
}
GROUPS = {"kelp": 4, "solar": 6, "deepglobe": 6, "landcover": 5, "amazon": 40, "amazon-tif": 40}


@pytest.fixture
def make_copy(tmp_path, write_raster):
    """Return a function that writes a small copy of a data set in its own layout, and returns its folder."""

    def make(name):
        COPIES[name](tmp_path / "d", write_raster, np.random.default_rng(0))
        return tmp_path / "d"

    return make


@pytest.mark.parametrize("name", sorted(COPIES))
def test_a_recipe_reads_a_copy_of_its_data_set(make_copy, name, tmp_path, caplog):
    folder, out = make_copy(name), tmp_path / f"{name}.yaml"
    with caplog.at_level(logging.WARNING):
        write_recipe(name, folder, out)
    assert caplog.messages
    assert all("files, got" in message or "pixels, got" in message for message in caplog.messages)
    experiment = load_experiment(out, ["folds.count=2"])
    assert experiment.root == folder
    assert experiment.scenes.test is not None
    classes = experiment.label_classes()
    catalogue, _ = build_catalogue(*find_scenes(experiment.scenes, classes, folder), experiment.scenes, classes)
    planned, report = plan_folds(catalogue, experiment.folds, folder, 0)
    assert sum(report.groups) == GROUPS[name]
    assert not report.leaks
    assert planned.split("test")
    held = [{scene.group for scene in planned.in_fold(fold)} for fold in (0, 1)]
    assert not held[0] & held[1]


def test_the_commands_lead_from_a_download_to_folds(make_copy, terrablend, tmp_path):
    folder, out = make_copy("amazon"), tmp_path / "amazon.yaml"
    done = terrablend("init", folder, "--recipe", "amazon", "-o", out)
    assert done.code == 0
    assert "expected 40479 files, got 40" in " ".join(done.err.split())
    checked = terrablend("check", out, "--run", tmp_path / "run", "--workers", 1, "--set", "folds.count=2")
    assert checked.code == 0
    assert "primary 20 scenes (50%)" in (tmp_path / "run/folds.txt").read_text()
    refused = terrablend("init", folder, "--recipe", "kelp", "-o", tmp_path / "kelp.yaml")
    assert refused.code == 2
    assert "expected the data set that recipes/kelp.yaml describes, got 3 deviations" in " ".join(refused.err.split())


def test_every_recipe_is_known_by_what_was_published():
    assert sorted(COPIES) == recipe_names() == sorted(PUBLISHED)
    for name in recipe_names():
        scenes = load_experiment(RECIPES / f"{name}.yaml", ["root=/"]).scenes
        patterns = [file.path for part in (scenes.train, scenes.test) for file in part.image]
        if isinstance(scenes.train.label, LabelSettings):
            patterns.append(scenes.train.label.path)
        assert sorted(PUBLISHED[name]) == sorted(patterns)


def test_every_deviation_is_listed_at_once(make_copy, write_raster, tmp_path):
    folder = make_copy("solar")
    write_raster("d/train/images/plant_00_0.tif", np.zeros((3, SIDE, SIDE), np.int16))
    write_raster("d/train/images/plant_00_1.tif", np.zeros((4, 9, SIDE), np.uint8), nodata=0)
    write_raster("d/train/masks/plant_01_0.tif", np.zeros((3, SIDE, SIDE), np.uint8))
    (folder / "test/images/plant_99_0.tif").write_bytes(b"no raster")
    with pytest.raises(ExperimentError) as caught:
        write_recipe("solar", folder, tmp_path / "solar.yaml")
    message = str(caught.value)
    for part in (
        "train/images/{id}.tif: expected 4 bands (red, green, blue, nir), got 3 in 1 of 12 files (plant_00_0)",
        "train/images/{id}.tif: expected -9999 nodata value, got 0 in 1 of 12 files (plant_00_1)",
        "train/images/{id}.tif: expected int16 or float32, got uint8 in 1 of 12 files (plant_00_1)",
        "train/images/{id}.tif: expected 256 × 256 pixels, got 24 × 24 in 11 of 12 files (plant_00_0, plant_01_0,",
        "train/masks/{id}.tif: expected one band, got 3 bands of uint8 in 1 of 12 files (plant_01_0)",
        "test/images/{id}.tif: expected a readable raster, got another file in 1 of 1 files (plant_99_0)",
    ):
        assert part in message
    assert not (tmp_path / "solar.yaml").exists()


def test_missing_folders_scenes_and_headers_are_deviations(make_copy, tmp_path):
    with pytest.raises(ExperimentError, match=r"train_kelp/\{id\}_kelp\.tif: expected scenes, got no matching file"):
        write_recipe("kelp", tmp_path, tmp_path / "kelp.yaml")
    folder = make_copy("landcover")
    (folder / "train/masks/N-34-97_0_0.png").unlink()
    with pytest.raises(
        ExperimentError, match=r"train scene N-34-97_0_0: expected .*train/masks/N-34-97_0_0\.png, no such file"
    ):
        write_recipe("landcover", folder, tmp_path / "landcover.yaml")
    folder = make_copy("amazon")
    (folder / "train_v2.csv").write_text("image,tags\ntrain_0,primary\n")
    with pytest.raises(ExperimentError, match="expected the columns image_name and tags, got image, tags"):
        write_recipe("amazon", folder, tmp_path / "amazon.yaml")


def test_a_mask_of_values_is_no_deepglobe_mask(make_copy, write_raster, tmp_path):
    folder = make_copy("deepglobe")
    write_raster("d/train/119_mask.png", np.zeros((SIDE, SIDE), np.uint8))
    with pytest.raises(
        ExperimentError, match=r"expected a picture of red, green and blue, got 1 bands of uint8 in 1 of 6"
    ):
        write_recipe("deepglobe", folder, tmp_path / "deepglobe.yaml")


def test_without_scenes_to_predict_the_rest_is_used(make_copy, tmp_path, caplog):
    folder, out = make_copy("solar"), tmp_path / "my own" / "solar.yaml"
    (folder / "test/images/plant_99_0.tif").unlink()
    write_recipe("solar", folder, out)
    assert "test/images/{id}.tif: expected scenes to predict, got none: scenes.test is left out" in caplog.messages
    assert load_experiment(out).scenes.test is None
    assert "root is the folder with train/images/" in out.read_text()
    with pytest.raises(ExperimentError, match="expected no such file yet"):
        write_recipe("solar", folder, out)


def test_an_unknown_recipe_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(ExperimentError, match=r"--recipe keplp: expected one of amazon, .* Nearest: kelp"):
        write_recipe("keplp", tmp_path, tmp_path / "x.yaml")
