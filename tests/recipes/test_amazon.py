"""Tags of the Amazon: rare ones in every fold, a threshold each, and the table that Kaggle takes."""

import csv

import numpy as np
import polars as pl

from data.maps.parquet import read_parts
from data.scenes.catalogue import Catalogue
from ensemble.ensemble import Ensemble

from .conftest import nested_score
from .copies import SMALL_NETWORK, smooth_field, write_picture

SIDE = 32
WEATHER = ("clear", "partly_cloudy", "haze", "cloudy")
OFTEN = {"agriculture": 0.3, "road": 0.3, "water": 0.25, "habitation": 0.15, "cultivation": 0.15}
RARE = (
    "artisinal_mine",
    "bare_ground",
    "blooming",
    "blow_down",
    "conventional_mine",
    "selective_logging",
    "slash_burn",
)
SETTINGS = (
    "folds.count=2",
    "features.aggregate.bins=4",
    "features.aggregate.radii=[1]",
    "members.lightgbm.rounds=20",
    "members.lightgbm.min_leaf_rows=2",
    "members.lightgbm.learning_rate=0.2",
    "members.classifier.crop=32",
    "members.classifier.freeze=none",
    "members.classifier.tta=none",
    "ensemble.calibration=none",
    *(setting.format("classifier") for setting in SMALL_NETWORK),
    "members.classifier.steps=20",
)


def draw_tags(rng, number):
    """Return the tags of a scene: one weather and, unless clouds hide it, what there is on the ground."""
    weather = WEATHER[(0, 0, 1, 2, 0, 3)[number % 6]]
    ground = {tag for tag, share in OFTEN.items() if rng.random() < share}
    if weather == "cloudy":
        return {weather}
    return {weather, "primary"} | ground | ({RARE[number % len(RARE)]} if number % 5 == 1 else set())


def draw_scene(rng, tags):
    """Return the picture of a scene that has some tags."""
    pixels = np.array([50.0, 80, 45]) + 6 * smooth_field(rng, SIDE, 2)[..., None]
    if "agriculture" in tags:
        pixels[:14, :16] = (140, 160, 80)
    if "cultivation" in tags:
        pixels[22:28, 2:9] = (120, 110, 60)
    if "water" in tags:
        pixels[smooth_field(rng, SIDE, 6) > 0.8] = (30, 40, 80)
    if "habitation" in tags:
        pixels[16:24, 20:28] = rng.choice([90, 230], (8, 8, 1))
    if "road" in tags:
        pixels[:, 17:19] = (170, 150, 120)
    if "haze" in tags:
        pixels = 0.5 * pixels + 90
    if "partly_cloudy" in tags:
        pixels[smooth_field(rng, SIDE, 4) > 0.7] = 240
    if "cloudy" in tags:
        pixels = 215 + 10 * smooth_field(rng, SIDE, 4)[..., None].repeat(3, axis=2)
    return (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)


def write_copy(root):
    """Write the organisers' folders and table, and return the tags of each scene, those of test scenes too."""
    rng, truth = np.random.default_rng(0), {}
    names = [f"train-jpg/train_{number}" for number in range(84)]
    # What was added to the test set later has other names.
    names += [f"test-jpg/test_{number}" for number in range(8)] + [f"test-jpg/file_{number}" for number in range(4)]
    for number, name in enumerate(names):
        tags = draw_tags(rng, number)
        write_picture(root / f"{name}.jpg", draw_scene(rng, tags))
        truth[name.split("/")[1]] = tags
    with (root / "train_v2.csv").open("w", newline="") as file:
        rows = ([name, " ".join(sorted(tags))] for name, tags in truth.items() if name.startswith("train"))
        csv.writer(file).writerows([["image_name", "tags"], *rows])
    return truth


def read_table(path):
    """Return the tags of each scene of a submission."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["image_name", "tags"]
    assert len({name for name, _ in rows}) == len(rows)
    return {name: set(tags.split(" ")) for name, tags in rows}


def f2(found, truth):
    """Return F2 of the tags of a scene."""
    hits = len(found & truth)
    return 5 * hits / (4 * len(truth) + len(found))


def test_amazon_goes_from_the_download_to_a_table_of_tags(follow, terrablend, tmp_path):
    root = tmp_path / "planet"
    truth = write_copy(root)
    run = follow("amazon", root, *SETTINGS)

    catalogue = Catalogue.load(run / "catalogue.parquet")
    scenes, names = catalogue.split("train"), catalogue.classes.names
    assert len(names) == 17
    for scene in scenes:
        assert {names[tag] for tag in scene.tags} == truth[scene.id]
    for tag in range(len(names)):
        assert {scene.fold for scene in scenes if tag in scene.tags} == {0, 1}
    for member in ("lightgbm", "classifier"):
        assert set(read_parts(run / "members" / member / "oof")[1]) == {scene.id for scene in scenes}

    assert nested_score(run, "objective", scope="scene mean") > 0.75
    candidates = pl.read_parquet(run / "ensemble" / "scores.parquet")["candidate"]
    assert "blend, uncleaned" not in set(candidates)
    assert len(set(Ensemble.load(run / "ensemble" / "ensemble.json").decision.thresholds)) > 1

    told = read_table(run / "submission.csv")
    assert set(told) == {name for name in truth if not name.startswith("train")}
    assert set().union(*told.values()) <= set(names)
    assert np.mean([f2(tags, truth[name]) for name, tags in told.items()]) > 0.75

    # Given as scenes never seen they get the same tags.
    outcome = terrablend("predict", run, *root.glob("test-jpg/*.jpg"), "-o", tmp_path / "out", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert read_table(tmp_path / "out" / "tags.csv") == told
    packed = tmp_path / "amazon.zip"
    assert terrablend("bundle", run, "-o", packed).code == 0
    outcome = terrablend("predict", packed, *root.glob("test-jpg/*.jpg"), "-o", tmp_path / "far", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "far" / "tags.csv").read_bytes() == (tmp_path / "out" / "tags.csv").read_bytes()
