import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from cnn.settings import CnnSettings
from data.errors import ExperimentError
from features import FeatureSet, feature_names
from terrablend.experiment import TableExperiment, load_experiment, save_experiment
from terrablend.start.init import guess_experiment, write_experiment

from ..conftest import EXPERIMENT

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT))
    return path


def test_a_saved_experiment_is_complete_and_loads_as_the_same(file, tmp_path):
    experiment = load_experiment(file)
    save_experiment(experiment, tmp_path / "run" / "experiment.yaml")
    assert load_experiment(tmp_path / "run" / "experiment.yaml") == experiment
    text = (tmp_path / "run" / "experiment.yaml").read_text()
    assert text.startswith("# Made with terrablend ")
    assert yaml.safe_load(text)["members"]["lightgbm"]["learning_rate"] == 0.05


def test_overrides_reach_any_depth(file):
    experiment = load_experiment(
        file, ["members.lightgbm.rounds=7", "folds.group.similar=null", "scenes.nodata=[0, -1]"]
    )
    assert experiment.members["lightgbm"].rounds == 7
    assert experiment.folds.group.similar is None
    assert experiment.scenes.nodata == [0, -1]
    with pytest.raises(ExperimentError, match="expected KEY=VALUE"):
        load_experiment(file, ["folds.count"])
    with pytest.raises(ExperimentError, match="expected a key with keys below it"):
        load_experiment(file, ["name.first=x"])


def test_environment_variables_stand_for_their_values(file, monkeypatch, tmp_path):
    monkeypatch.setenv("COAST", str(tmp_path / "coast"))
    experiment = load_experiment(file, ["root='${COAST}/data'"])
    assert experiment.root == tmp_path / "coast" / "data"


def test_a_relative_root_starts_from_the_file(file, tmp_path):
    assert load_experiment(file).root == tmp_path
    assert load_experiment(file, ["root=deeper"]).root == tmp_path / "deeper"


def test_every_problem_is_listed_at_once(file):
    with pytest.raises(ExperimentError) as caught:
        load_experiment(file, ["folds.count=1", "members.lightgbm.boster=xgboost", "task=regression"])
    message = str(caught.value)
    assert "3 problems" in message
    assert "folds.count" in message
    assert "got boster. Did you mean booster?" in message
    assert "task" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scenes.bands=[label, nir]", "scenes.bands: expected names other than scene, row, .*, got label"),
        ("features.formulas={weight: nir > 1}", "features.formulas: expected names other than .*, got weight"),
        ('scenes.bands=["", nir]', "expected names of printable letters, got ''"),
    ],
)
def test_bands_and_formulas_have_names_of_their_own(file, override, message):
    with pytest.raises(ExperimentError, match=message):
        load_experiment(file, [override])


def test_classes_must_suit_the_task(file):
    with pytest.raises(ExperimentError, match="expected one class with an id above 0"):
        load_experiment(file, ["classes={1: kelp, 2: sand}"]).label_classes()
    with pytest.raises(ExperimentError, match="at least two classes"):
        load_experiment(file, ["task=multiclass"]).label_classes()


def test_classes_may_be_a_list_of_names(file):
    override = ["task=multiclass", "classes=[water, {name: land, color: [0, 99, 0]}]"]
    classes = load_experiment(file, override).label_classes()
    assert classes.ids == (0, 1)
    assert classes.names == ("water", "land")
    assert classes.colors[1] == (0, 99, 0)


def test_the_label_must_suit_the_task(file, tmp_path):
    table = "scenes.train.label={tags: train.csv, id: image_name}"
    with pytest.raises(ExperimentError, match=r"scenes\.train\.label: a table of tags is for the task multilabel"):
        load_experiment(file, [table])
    with pytest.raises(ExperimentError, match=r"scenes\.train\.label: the task multilabel needs a table"):
        load_experiment(file, ["task=multilabel"])
    tagged = load_experiment(file, ["task=multilabel", table, "classes=[haze, water]"])
    save_experiment(tagged, tmp_path / "tagged.yaml")
    assert load_experiment(tmp_path / "tagged.yaml") == tagged
    with pytest.raises(ExperimentError, match=r"got colum\. Did you mean column"):
        load_experiment(file, ["task=multilabel", "scenes.train.label={tags: train.csv, colum: tags}"])


def test_a_label_of_colours_needs_a_colour_for_each_class(file, tmp_path):
    drawn = "scenes.train.label={path: '{id}.png', colors: true}"
    with pytest.raises(ExperimentError, match=r"scenes\.train\.label\.colors: expected a colour .* got none for kelp"):
        load_experiment(file, [drawn])
    colored = load_experiment(file, [drawn, "classes={1: {name: kelp, color: [255, 255, 255]}}"])
    save_experiment(colored, tmp_path / "colored.yaml")
    assert load_experiment(tmp_path / "colored.yaml") == colored
    load_experiment(file, ["scenes.train.label={path: '{id}.png', colors: {kelp: [255, 255, 255]}}"])


def test_training_scenes_need_a_label(file):
    with pytest.raises(ExperimentError, match=r"scenes\.train needs a label"):
        load_experiment(file, ["scenes.train.label=null"])


def test_a_first_experiment_file_is_guessed_from_the_files(tmp_path, write_raster):
    rng = np.random.default_rng(0)
    for name in ("tile_101", "tile_137", "tile_52"):
        write_raster(f"d/train/img/{name}.tif", rng.integers(0, 255, (4, 9, 9), np.uint8), nodata=0)
        write_raster(f"d/train/mask/{name.replace('tile', 'mask')}.tif", rng.choice([0, 255], (9, 9)).astype(np.uint8))
        write_raster(f"d/test/img/{name}.tif", rng.integers(0, 255, (4, 9, 9), np.uint8))
    values = guess_experiment(tmp_path / "d")
    assert values["task"] == "binary"
    entry = {"path": "train/img/tile_{id}.tif", "bands": ["red", "green", "blue", "nir"], "nodata": 0.0}
    assert values["scenes"]["train"] == {
        "image": [entry],
        "label": {"path": "train/mask/mask_{id}.tif", "values": {255: "positive"}},
    }
    assert values["scenes"]["test"]["image"][0]["path"] == "test/img/tile_{id}.tif"
    write_experiment(tmp_path / "d", tmp_path / "first.yaml")
    assert load_experiment(tmp_path / "first.yaml").scenes.train.image[0].bands == entry["bands"]
    with pytest.raises(ExperimentError, match="expected no such file yet"):
        write_experiment(tmp_path / "d", tmp_path / "first.yaml")


@pytest.mark.parametrize(
    ("values", "nodata", "classes", "label"),
    [
        ([1, 2, 3, 255], 255, {1: "class 1", 2: "class 2", 3: "class 3"}, {}),
        ([1, 2, 3, 255], None, {1: "class 1", 2: "class 2", 3: "class 3"}, {"ignore": [255]}),
        ([0, 1, 255], 255, {1: "positive"}, {}),
        ([1, 2], None, {1: "positive"}, {"values": {2: "positive", 1: "background"}}),
        ([0, 300, 400], None, {0: "class 0", 1: "class 300", 2: "class 400"}, None),
    ],
)
def test_a_first_experiment_file_passes_its_own_check(
    values, nodata, classes, label, tmp_path, write_raster, terrablend, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in range(5):
        write_raster(f"d/img/{name}.tif", rng.normal(100, 5, (2, 9, 9)).astype(np.float32))
        drawn = (
            rng.permutation(np.resize(values, 81)).reshape(9, 9).astype(np.uint16 if max(values) > 255 else np.uint8)
        )
        write_raster(f"d/labels/{name}.tif", drawn, nodata=nodata)
    guessed = guess_experiment(tmp_path / "d")
    assert guessed["classes"] == classes
    found = {key: value for key, value in guessed["scenes"]["train"]["label"].items() if key != "path"}
    assert label is None or found == label
    assert terrablend("init", tmp_path / "d", "-o", tmp_path / "d.yaml").code == 0
    checked = terrablend("check", tmp_path / "d.yaml", "--workers", "1")
    assert checked.code == 0, checked.err


def test_a_folder_without_labels_is_left_to_the_user(tmp_path, write_raster):
    write_raster("d/a.tif", np.random.default_rng(0).integers(0, 255, (3, 9, 9), np.uint8))
    with pytest.raises(ExperimentError, match="expected images and, under the same names"):
        guess_experiment(tmp_path / "d")


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("recipes/*.yaml")) + sorted(REPOSITORY.glob("benchmarks/quality/*.yaml"))
)
def test_every_experiment_file_of_the_repository_is_valid(path, monkeypatch):
    for variable in re.findall(r"\$\{(\w+)\}", path.read_text()):
        monkeypatch.setenv(variable, "/data")
    experiment = load_experiment(path)
    experiment.label_classes()
    if isinstance(experiment, TableExperiment):
        return
    bands = [band for entry in experiment.scenes.train.image for band in entry.bands or experiment.scenes.bands]
    FeatureSet(bands, feature_names(bands, experiment.features), experiment.features.formulas)
    for member in experiment.members.values():
        if isinstance(member, CnnSettings):
            FeatureSet(bands, member.inputs or bands, experiment.features.formulas)
