from dataclasses import dataclass

import numpy as np
import pytest

from data.files import read_json
from data.maps.geotiff import map_tags
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.rasters import open_raster
from terrablend.experiment.self_train import SelfTrainSettings
from terrablend.run.teaching import OneFold, draw_labels

from ..conftest import EXPERIMENT

BINARY = Classes("binary", (1,), ("kelp",), ((0, 0, 255),))
THREE = Classes("multiclass", (3, 5, 9), ("a", "b", "c"), ((0, 0, 0), (0, 0, 255), (0, 255, 0)))
TREES = {"branch": "trees", "rounds": 8, "leaves": 7, "min_leaf_rows": 5}
SETTINGS = {"teachers": ["lightgbm"], "pupils": ["again", "unet"], "weight": 0.5}
MEMBERS = {"lightgbm": TREES, "again": TREES, "unet": EXPERIMENT["members"]["unet"]}


def settings(**values):
    return SelfTrainSettings.model_validate({"teachers": ["a"], "pupils": ["b"], "weight": 1.0, **values})


def test_labels_are_drawn_by_their_probabilities_so_that_their_mean_is_soft():
    proba = np.full((1, 200, 200), 0.9, np.float32)
    label = draw_labels(proba, BINARY, settings(confidence=0.8), np.random.default_rng(0))
    assert set(np.unique(label)) == {0, 1}
    assert label.mean() == pytest.approx(0.9, abs=0.01)


def test_pixels_of_which_teachers_are_not_sure_or_know_nothing_are_not_labelled():
    proba = np.array([[[0.5, 0.79, 0.81, 0.1, np.nan]]], np.float32)
    label = draw_labels(proba, BINARY, settings(confidence=0.8), np.random.default_rng(0))
    assert (label[0] != IGNORE).tolist() == [False, False, True, True, False]


def test_confidence_can_differ_by_class_and_weight_is_the_share_that_is_labelled():
    proba = np.broadcast_to(np.float32([0.7, 0.2, 0.1])[:, None, None], (3, 300, 300))
    rng = np.random.default_rng(0)
    assert (draw_labels(proba, THREE, settings(confidence=0.8), rng) == IGNORE).all()
    label = draw_labels(proba, THREE, settings(confidence={"a": 0.6}, weight=0.25), rng)
    assert (label != IGNORE).mean() == pytest.approx(0.25, abs=0.01)
    counts = np.bincount(label[label != IGNORE], minlength=3)
    assert counts / counts.sum() == pytest.approx([0.7, 0.2, 0.1], abs=0.02)


@dataclass
class Told:
    """A member that says which folds it was asked for."""

    name = "told"
    folds = (0, 1, 2)

    def predict(self, scenes, folds):
        yield from ((scene, None, folds) for scene in scenes)


def test_a_teacher_of_a_fold_speaks_by_the_model_of_that_fold_whatever_it_is_asked():
    teacher = OneFold(Told(), 1)
    assert teacher.folds == (1,)
    assert [folds for _, _, folds in teacher.predict(["scene"], [0])] == [(1,)]


@pytest.mark.parametrize(
    ("changes", "members", "message"),
    [
        ({"teachers": ["nobody"]}, {}, "self_train.teachers: expected members among"),
        ({"pupils": ["lightgbm"]}, {}, "expected pupils that are no teachers, got lightgbm"),
        ({}, {"again": TREES | {"stack": ["lightgbm"]}}, "self_train.pupils: expected members without a stack"),
        ({}, {"again": TREES | {"validation_fraction": 0.2}}, "expected members without validation_fraction"),
        ({}, {"top": TREES | {"stack": ["again"]}}, "members.top.stack: expected members that are no pupils"),
        ({"confidence": {"sand": 0.5}}, {}, "self_train.confidence: expected classes among"),
    ],
)
def test_teachers_and_pupils_that_cannot_be_are_refused(refusal, changes, members, message):
    assert message in refusal(members=MEMBERS | members, self_train=SETTINGS | changes)


def test_pupils_of_both_branches_learn_from_test_scenes_and_are_blended_like_others(
    run_small_coast, tmp_path, terrablend
):
    folds = {"count": 3, "group": {"similar": "dem"}}
    run, stages = run_small_coast(members=MEMBERS, folds=folds, self_train=SETTINGS)
    assert stages[2:6] == ["lightgbm", "teach", "again", "unet"]
    catalogue = Catalogue.load(run / "catalogue.parquet")
    [scene] = catalogue.split("test")
    labels = []
    for fold in range(3):
        with open_raster(str(run / f"taught/fold{fold}/labels/{scene.id}@test.tif")) as raster:
            labels.append(raster.read(1))
        rows = {name: read_json(run / f"members/{name}/fold{fold}.json")["rows"] for name in ("lightgbm", "again")}
        assert rows["again"] > rows["lightgbm"]
    with open_raster(str(tmp_path / f"coast/truth/{scene.id}.tif")) as raster:
        truth = raster.read(1)
    known = labels[0] != IGNORE
    assert 0 < known.mean() <= 0.55
    assert (labels[0] == truth)[known].mean() > 0.9
    assert not np.array_equal(labels[0], labels[1])
    for train in catalogue.split("train"):
        assert map_tags(run / f"members/again/oof/{train.id}.tif")["folds"] == str(train.fold)
    assert "again" in (run / "ensemble/report.html").read_text()
    outcome = terrablend("run", tmp_path / "coast/small.yaml", "--run", run, "--dry-run")
    assert {line.split()[-1] for line in outcome.out.splitlines()} == {"done"}
    assert terrablend("predict", run, scene.images[0].path, "-o", tmp_path / "out", "--workers", 1).code == 0
