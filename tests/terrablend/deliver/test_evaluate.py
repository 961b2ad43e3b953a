"""`terrablend evaluate`: maps made by hand, scored against labels and by points."""

import re

import numpy as np
import pytest
import yaml
from rasterio.crs import CRS
from sklearn.metrics import f1_score, precision_score, recall_score

from data.maps.geotiff import map_writer, write_class_map
from data.scenes.windows import Grid
from terrablend.experiment import load_scene_experiment

from ..conftest import EXPERIMENT

GRID = Grid(30, 40, CRS.from_epsg(32633).to_wkt(), (100, 0, 500_000, 0, -100, 5_000_000))


@pytest.fixture
def coast(tmp_path):
    """An experiment file, labels of four scenes and maps of them, and what both hold."""
    (tmp_path / "coast.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    classes = load_scene_experiment(tmp_path / "coast.yaml").label_classes()
    rng = np.random.default_rng(0)
    labels, predictions = [], []
    for number in range(4):
        label = (rng.random((30, 40)) < 0.3).astype(np.uint8)
        prediction = np.where(rng.random(label.shape) < 0.15, 1 - label, label).astype(np.uint8)
        prediction[0, :5] = 255
        write_class_map(tmp_path / "labels" / f"s{number}.tif", label, GRID, classes, {})
        write_class_map(tmp_path / "maps" / f"s{number}.tif", prediction, GRID, classes, {})
        labels.append(label)
        predictions.append(prediction)
    return tmp_path, np.stack(labels), np.stack(predictions)


def dice(label, prediction):
    return f1_score(label.ravel(), (prediction == 1).ravel())


def row_of(text, title):
    """Return the words of the only line that starts with a title."""
    (line,) = (line for line in text.splitlines() if line.split(" ")[0] == title)
    return [word for word in line[len(title) :].split(" ") if word]


def test_labels_are_read_where_they_lie(coast, terrablend):
    folder, label, prediction = coast
    classes = load_scene_experiment(folder / "coast.yaml").label_classes()
    for number, drawn in enumerate(label):
        # The same label, drawn on half as large pixels.
        grid = Grid(60, 80, GRID.crs, (50, 0, 500_000, 0, -50, 5_000_000))
        write_class_map(folder / "labels" / f"s{number}.tif", drawn.repeat(2, 0).repeat(2, 1), grid, classes, {})
    outcome = terrablend("evaluate", folder / "coast.yaml", folder / "maps", folder / "labels")
    assert float(row_of(outcome.out, "Dice")[0]) == pytest.approx(dice(label, prediction), abs=5e-5)
    far = Grid(30, 40, GRID.crs, (100, 0, 700_000, 0, -100, 6_000_000))
    write_class_map(folder / "maps" / "s2.tif", prediction[2], far, classes, {})
    outcome = terrablend("evaluate", folder / "coast.yaml", folder / "maps", folder / "labels")
    assert outcome.code == 2
    assert re.search(
        r"labels/s2\.tif: expected a file that covers its scene, got one that lies .* pixels .* off", outcome.err
    )


def test_maps_are_scored_against_labels_in_words_and_tables(coast, terrablend):
    folder, label, prediction = coast
    outcome = terrablend("evaluate", folder / "coast.yaml", folder / "maps", folder / "labels")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("4 scenes, 4\u202f800 labelled pixels, 20 of them not mapped\nIntervals: 95%")
    # What is not mapped is a miss of its class.
    by_scene = [dice(*scene) for scene in zip(label, prediction, strict=True)]
    pooled, low, mean, _ = (word.strip("()") for word in row_of(outcome.out, "Dice"))
    assert float(mean) == pytest.approx(np.mean(by_scene), abs=5e-5)
    assert float(pooled) == pytest.approx(dice(label, prediction), abs=5e-5)
    assert float(low.split("–")[0]) <= float(pooled) <= float(low.split("–")[1])
    header = next(line for line in outcome.out.splitlines() if line.startswith("class"))
    assert "precision (user’s)" in header
    assert "recall (producer’s)" in header
    seen = prediction != 255
    kelp = next(line for line in outcome.out.splitlines() if line.startswith("kelp")).split(" ")
    numbers = [word for word in kelp[1:] if word and not word.startswith("(")]
    assert float(numbers[2]) == pytest.approx(precision_score(label[seen], prediction[seen]), abs=6e-4)
    assert float(numbers[3]) == pytest.approx(recall_score(label.ravel(), (prediction == 1).ravel()), abs=6e-4)


def test_areas_of_labelled_maps_are_told_in_hectares(coast, terrablend):
    folder, label, prediction = coast
    text = terrablend("evaluate", folder / "coast.yaml", folder / "maps", folder / "labels").out
    assert "Areas: all that is mapped is labelled, so these are the areas of the labels." in text
    kelp = [line for line in text.splitlines() if line.startswith("kelp")][-1]
    mapped, area = [word for word in kelp.split(" ") if word][1:3]
    # A pixel is a hectare. Every mapped pixel is labelled, so the area is that of the labels there.
    assert mapped.replace("\u202f", "") == str((prediction == 1).sum())
    assert area.replace("\u202f", "") == str(label[prediction != 255].sum())


def test_points_tell_accuracy_and_areas_of_all_maps(coast, terrablend):
    folder, label, prediction = coast
    rng = np.random.default_rng(1)
    lines = ["scene,row,col,class"]
    expected = {}
    for mapped in (0, 1):
        chosen = rng.permutation(np.argwhere(prediction == mapped))[:60]
        lines += [
            f"s{scene},{row},{col},{('background', 'kelp')[label[scene, row, col]]}" for scene, row, col in chosen
        ]
        truth = label[tuple(chosen.T)]
        expected[mapped] = truth.mean()
    lines.append("s0,0,0,kelp")
    (folder / "points.csv").write_text("\n".join(lines))
    outcome = terrablend("evaluate", folder / "coast.yaml", folder / "maps", "--sample", folder / "points.csv")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("121 points on 4 maps; 1 where nothing is mapped are left out")
    kelp = [line for line in outcome.out.splitlines() if line.startswith("kelp")][-1]
    area = float([word for word in kelp.split(" ") if word][2].replace("\u202f", ""))
    assert area == pytest.approx(sum((prediction == mapped).sum() * share for mapped, share in expected.items()), abs=1)
    assert "Olofsson" in outcome.out


def test_probabilities_beside_the_maps_save_points(coast, terrablend):
    folder, label, prediction = coast
    rng = np.random.default_rng(1)
    lines = ["scene,row,col,class"]
    for mapped in (0, 1):
        chosen = rng.permutation(np.argwhere(prediction == mapped))[:200]
        lines += [
            f"s{scene},{row},{col},{('background', 'kelp')[label[scene, row, col]]}" for scene, row, col in chosen
        ]
    (folder / "points.csv").write_text("\n".join(lines))
    arguments = ("evaluate", folder / "coast.yaml", folder / "maps", "--sample", folder / "points.csv")
    assert "points saved" not in terrablend(*arguments).out
    soft = np.clip(0.1 + 0.8 * label + rng.normal(0, 0.1, label.shape), 0, 1).astype(np.float32)
    for number, proba in enumerate(soft):
        with map_writer(folder / "proba" / f"s{number}.tif", GRID, ("kelp",), {}) as writer:
            writer.write(GRID.window, proba[None])
    (folder / "proba").rename(folder / "elsewhere")
    assert "points saved" not in terrablend(*arguments).out
    given = terrablend(*arguments, "--proba", folder / "elsewhere")
    (folder / "elsewhere").rename(folder / "proba")
    beside = terrablend(*arguments)
    assert given.out == beside.out
    rows = [[word for word in line.split(" ") if word] for line in beside.out.splitlines() if line.startswith("kelp")]
    plain, assisted = rows
    truth = label[prediction != 255].sum()
    low, high = (float(end.replace("\u202f", "")) for end in assisted[2].split("–"))
    assert low <= truth <= high
    assert high - low < 0.7 * np.subtract(*[float(end.replace("\u202f", "")) for end in plain[3].split("–")][::-1])
    assert int(assisted[3].replace("\u202f", "")) > 400
    (folder / "proba" / "s1.tif").unlink()
    lacking = terrablend(*arguments, "--proba", folder / "proba")
    assert lacking.code == 2
    assert "of each of 4 class maps, 1 are missing: s1. Correct --proba" in lacking.err


def test_labels_and_points_are_either_or(coast, terrablend):
    folder, *_ = coast
    neither = terrablend("evaluate", folder / "coast.yaml", folder / "maps")
    assert neither.code == 2
    assert "expected LABELS or --sample, got neither" in neither.err
    both = terrablend("evaluate", folder / "coast.yaml", folder / "maps", folder / "labels", "--sample", "points.csv")
    assert "got both" in both.err
    alone = terrablend("evaluate", folder / "coast.yaml", folder / "maps", folder / "labels", "--proba", folder)
    assert "--proba: expected it with --sample" in alone.err


def test_no_map_and_no_label_are_refused(coast, terrablend):
    folder, *_ = coast
    (folder / "labels" / "s1.tif").unlink()
    outcome = terrablend("evaluate", folder / "coast.yaml", folder / "maps", folder / "labels")
    assert outcome.code == 2
    assert "got 4 maps, 1 of them without a label ['s1']" in outcome.err
    outcome = terrablend("evaluate", folder / "coast.yaml", folder / "nowhere", "--sample", folder / "points.csv")
    assert "expected class maps <id>.tif, got none" in outcome.err
