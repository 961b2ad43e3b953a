"""Labels of several annotators, and of probabilities, as `check` reads and writes them."""

import math
from itertools import permutations

import numpy as np
import pytest

from data.errors import CatalogueError
from data.pages.numbers import format_number
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE
from data.scenes.opinions import LEVELS, agreement, count_pairs, weigh_labels
from data.scenes.scene import read_label, read_labels
from data.scenes.windows import Window
from data.settings import SceneSettings
from data.survey.discovery import find_scenes, list_paths
from data.survey.inspection import build_catalogue
from data.survey.overview import summarise
from terrablend.check.tables import describe_overview

from ...conftest import KELP, LAND

SHAPE = (20, 30)
PLACE = {"transform": (10, 0, 500_000, 0, -10, 4_600_000), "crs": "EPSG:32630"}
ANNOTATORS = ["ana/{id}.tif", "ben/{id}.tif", {"path": "cem/{id}.tif", "values": {9: "kelp", 7: "ignore"}}]


@pytest.fixture
def build(tmp_path, write_raster):
    """Return a function that writes labels (folder → scene → values) beside images, and builds their catalogue."""

    def make(label, labels, classes=KELP, **options):
        for folder, scenes in labels.items():
            for name, values in scenes.items():
                image = np.random.default_rng([*name.encode()]).normal(0, 1, (1, *SHAPE)).astype(np.float32)
                write_raster(f"img/{name}.tif", image, **PLACE)
                write_raster(f"{folder}/{name}.tif", values, **PLACE)
        train = {"image": "img/{id}.tif", "label": label, **options}
        settings = SceneSettings.model_validate({"bands": ["red"], "train": train})
        files, problems = find_scenes(settings, classes, tmp_path)
        assert {*list_paths(files)} >= {
            tmp_path / folder / f"{name}.tif" for folder in labels for name in labels[folder]
        }
        return build_catalogue(files, problems, settings, classes, labels=tmp_path / "run" / "labels")

    return make


def drawn(seed, n_labels=2, unknown=0.1):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, n_labels, SHAPE).astype(np.uint8)
    label[rng.random(SHAPE) < unknown] = IGNORE
    return label


def three(seed=0):
    ana, ben, cem = (drawn(3 * seed + number) for number in range(3))
    stored = np.choose(np.minimum(cem, 2), [0, 9, 7]).astype(np.uint8)
    return (ana, ben, cem), {
        "ana": np.where(ana == IGNORE, 0, ana),
        "ben": np.where(ben == IGNORE, 1, ben),
        "cem": stored,
    }


def majority(opinions):
    """Return the label that most opinions name, pixel by pixel."""
    found = np.full(SHAPE, IGNORE, np.uint8)
    for place in np.ndindex(SHAPE):
        said = [one[place] for one in opinions if one[place] != IGNORE]
        counts = sorted(((said.count(label), label) for label in set(said)), reverse=True)
        if counts and (len(counts) == 1 or counts[0][0] > counts[1][0]):
            found[place] = counts[0][1]
    return found


def test_what_most_annotators_say_is_scored_and_what_each_says_is_kept(build, tmp_path):
    (_, _, cem), files = three()
    ana, ben = files["ana"], files["ben"]
    catalogue, warnings = build(ANNOTATORS, {name: {"a": values} for name, values in files.items()})
    assert warnings == []
    [scene] = catalogue.scenes
    wanted = majority([ana, ben, cem])
    assert (wanted == IGNORE).any()
    np.testing.assert_array_equal(read_label(scene), wanted)
    np.testing.assert_array_equal(read_labels(scene), [wanted, ana, ben, cem])
    assert catalogue.label_counts("a").tolist() == [(wanted == label).sum() for label in (0, 1)]
    window = Window(-2, 25, 9, 9)
    beyond = read_labels(scene, window)
    assert (beyond[:, :2] == IGNORE).all()
    np.testing.assert_array_equal(beyond[:, 2:, :5], [one[:7, 25:] for one in (wanted, ana, ben, cem)])
    catalogue.save(tmp_path / "run" / "catalogue.parquet")
    assert Catalogue.load(tmp_path / "run" / "catalogue.parquet") == catalogue


def test_blocks_have_the_opinions_of_their_part(build):
    _, files = three()
    catalogue, _ = build(ANNOTATORS, {name: {"a": values} for name, values in files.items()}, blocks=10)
    assert len(catalogue.scenes) == 6
    for scene in catalogue.scenes:
        np.testing.assert_array_equal(read_labels(scene)[1], files["ana"][scene.place.slices])


def test_check_tells_how_much_annotators_agree(build):
    scenes = [three(seed) for seed in range(2)]
    files = {name: {"ab"[seed]: scenes[seed][1][name] for seed in range(2)} for name in ("ana", "ben", "cem")}
    catalogue, _ = build(ANNOTATORS, files)
    said = [(files["ana"][name], files["ben"][name], scenes[seed][0][2]) for seed, name in enumerate("ab")]
    pairs = [
        pair
        for opinions in said
        for one, other in permutations(opinions, 2)
        for pair in zip(one.flat, other.flat, strict=True)
        if IGNORE not in pair
    ]
    alike = sum(one == other for one, other in pairs) / len(pairs)
    share = sum(one == 1 for one, _ in pairs) / len(pairs)
    kappa = (alike - share**2 - (1 - share) ** 2) / (2 * share * (1 - share))
    overview = summarise(catalogue.with_folds({}, {"a": 0, "b": 1}))
    train = overview.annotated[0]
    assert train.agreed == pytest.approx(alike)
    assert train.kappas == pytest.approx((kappa, kappa))
    [line] = [line for line in describe_overview(catalogue, overview).splitlines() if line.startswith("kappa of kelp")]
    assert line.split()[3] == format_number(kappa, 2)


def test_annotators_that_always_agree_or_never_meet_have_a_kappa_of_one_or_none():
    same = np.repeat(drawn(0, unknown=0)[None], 3, axis=0)
    share, kappa = agreement(count_pairs(same, 2))
    assert (share, kappa.tolist()) == (1.0, [1.0, 1.0])
    apart = np.full((2, *SHAPE), IGNORE, np.uint8)
    apart[0, :10], apart[1, 10:] = 0, 1
    share, kappa = agreement(count_pairs(apart, 2))
    assert math.isnan(share)
    assert np.isnan(kappa).all()


def test_an_annotator_of_some_scenes_is_told_of_and_one_of_another_grid_refused(build):
    _, files = three()
    labels = {name: {"a": values, "b": values} for name, values in files.items()}
    del labels["ben"]["b"]
    catalogue, [warning] = build(ANNOTATORS, labels)
    assert [scene.opinions for scene in catalogue.scenes] == [3, 2]
    assert warning.startswith("train: 1 of 2 scenes have no ben/{id}.tif")
    labels["cem"]["a"] = np.zeros((20, 31), np.uint8)
    with pytest.raises(CatalogueError) as caught:
        build(ANNOTATORS, labels)
    assert "1 problems" in str(caught.value)
    assert "cem/a.tif: expected the 20 × 30 pixels of " in str(caught.value)
    assert "ana/a.tif, got pixels 20 × 31." in str(caught.value)


def test_a_scene_that_no_annotator_labelled_is_a_problem(build, write_raster):
    _, files = three()
    write_raster("img/z.tif", np.zeros((1, *SHAPE), np.float32))
    with pytest.raises(CatalogueError) as caught:
        build(ANNOTATORS[:1] + ANNOTATORS[2:], {name: {"a": files[name]} for name in ("ana", "cem")})
    assert "train scene z: expected " in str(caught.value)
    assert "ana/z.tif and " in str(caught.value)


@pytest.mark.parametrize("binary", [True, False])
def test_opinions_have_the_shares_of_probabilities_whatever_the_window(binary):
    rng = np.random.default_rng(0)
    proba = np.stack([np.full((60, 80), share, np.float32) for share in ([0.03] if binary else [0.03, 0.3, 0.67])])
    label, opinions = weigh_labels(proba, Window(0, 0, 60, 80), "p.tif", binary)
    assert (label == (0 if binary else 2)).all()
    wanted = [0.97, 0.03] if binary else [0.03, 0.3, 0.67]
    assert np.bincount(opinions.ravel()) / opinions.size == pytest.approx(wanted, abs=0.003)
    near = rng.dirichlet([1, 1, 1], (60, 80)).transpose(2, 0, 1).astype(np.float32)
    whole = weigh_labels(near[:1] if binary else near, Window(0, 0, 60, 80), "p.tif", binary)[1]
    shares = np.stack([(whole == value).mean(axis=0) for value in range(2 if binary else 3)])
    truth = np.concatenate([1 - near[:1], near[:1]]) if binary else near
    assert np.abs(shares - truth).max() < 1 / LEVELS + 1e-6
    part = Window(11, 7, 20, 30)
    inside = (near[:1] if binary else near)[:, *part.slices]
    np.testing.assert_array_equal(weigh_labels(inside, part, "p.tif", binary)[1], whole[:, *part.slices])


def test_probabilities_are_a_label_the_likeliest_class_of_which_is_scored(build):
    proba = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    proba[0, 0], proba[0, 1] = np.nan, 0.5
    catalogue, warnings = build({"path": "p/{id}.tif", "probability": True}, {"p": {"a": proba}})
    assert warnings == []
    [scene] = catalogue.scenes
    label, *opinions = read_labels(scene)
    assert label[0, :2].tolist() == [IGNORE, IGNORE]
    np.testing.assert_array_equal(label[1:], proba[1:] > 0.5)
    assert [int(one[0, 0]) for one in opinions] == [IGNORE] * LEVELS
    assert np.mean([one[0, 1] for one in opinions]) == 0.5
    assert np.abs(np.mean(opinions, axis=0)[1:] - proba[1:]).max() < 1 / LEVELS
    assert summarise(catalogue.with_folds({}, {"a": 0})).annotated == []


def test_bytes_of_several_classes_are_scaled_by_what_stands_for_one(build):
    rng = np.random.default_rng(2)
    percent = rng.multinomial(100, [0.2, 0.3, 0.5], SHAPE).transpose(2, 0, 1).astype(np.uint8)
    catalogue, _ = build({"path": "p/{id}.tif", "probability": 100}, {"p": {"a": percent}}, LAND)
    [scene] = catalogue.scenes
    best = percent.max(axis=0)
    wanted = np.where((percent == best).sum(axis=0) == 1, percent.argmax(axis=0), IGNORE)
    np.testing.assert_array_equal(read_label(scene), wanted)


@pytest.mark.parametrize(
    ("label", "values", "message"),
    [
        ({"probability": True}, np.full(SHAPE, 87, np.uint8), "p/a.tif: expected probabilities of 0 … 1, got 87"),
        ({"probability": 100}, np.zeros(SHAPE, np.uint8), None),
        ({"probability": True}, None, "expected a band with the probability of each of water, rock, kelp, got 1"),
    ],
)
def test_rasters_that_are_no_probabilities_are_problems(build, label, values, message):
    classes = LAND if values is None else KELP
    values = np.zeros(SHAPE, np.float32) if values is None else values
    with pytest.raises(CatalogueError) as caught:
        build({"path": "p/{id}.tif", **label}, {"p": {"a": values}}, classes)
    assert (message or "expected pixels of the class kelp") in str(caught.value)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            [{"path": "a.tif", "probability": True}, "b.tif"],
            "expected rasters of classes of several annotators, got prob",
        ),
        (["a.tif", "b.gpkg"], "got shapes in b.gpkg"),
        (["a.tif"], "at least 2 items"),
        ({"path": "a.tif", "probability": True, "ignore": [3]}, "expected probability alone"),
        ({"path": "a.tif", "probability": -1}, "greater than 0"),
    ],
)
def test_labels_that_are_none_of_both_are_refused(label, message):
    with pytest.raises(ValueError, match=message):
        SceneSettings.model_validate({"bands": ["red"], "train": {"image": "img/{id}.tif", "label": label}})
