import json
import zipfile

import pytest
import yaml

from data.errors import ExperimentError
from data.variables import hide_values
from terrablend.experiment import change_experiment, load_experiment, save_experiment
from terrablend.experiment.written_paths import expand_paths, strip_paths

from ..conftest import EXPERIMENT, write_small_coast


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """Return the folder that the variable SECRET_COAST holds."""
    monkeypatch.setattr("data.variables._expanded", {})
    folder = tmp_path / "s3cr3t-folder"
    folder.mkdir()
    monkeypatch.setenv("SECRET_COAST", str(folder))
    return folder


def test_variables_stand_in_paths_and_nowhere_else(secret, tmp_path):
    values = {
        "root": "${SECRET_COAST}/a",
        "classes": {1: "${SECRET_COAST}"},
        "scenes": {
            "train": {"image": ["${SECRET_COAST}/{id}.tif"], "label": {"path": "x"}},
            "bands": ["${SECRET_COAST}"],
        },
    }
    expanded, written = expand_paths(values, tmp_path)
    assert expanded["root"] == f"{secret}/a"
    assert expanded["scenes"]["train"]["image"] == [f"{secret}/{{id}}.tif"]
    assert expanded["classes"] == values["classes"]
    assert expanded["scenes"]["bands"] == values["scenes"]["bands"]
    assert set(written.values()) == {"${SECRET_COAST}/a", "${SECRET_COAST}/{id}.tif"}
    assert hide_values(f"{secret}/a/b.tif: no such file") == "${SECRET_COAST}/a/b.tif: no such file"
    with pytest.raises(ExperimentError, match="expected the environment variable NOT_SET, got none"):
        expand_paths({"root": "${NOT_SET}"}, tmp_path)


@pytest.mark.parametrize("root", ["${SECRET_COAST}", "../${NAME_OF_FOLDER}"])
def test_an_experiment_is_saved_as_it_was_written_and_means_the_same(secret, tmp_path, monkeypatch, root):
    monkeypatch.setenv("NAME_OF_FOLDER", secret.name)
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "x.yaml"
    file.write_text(yaml.safe_dump(EXPERIMENT | {"root": root}))
    experiment = change_experiment(load_experiment(file), {"folds.count": 3}, file)
    (tmp_path / "b" / "c").mkdir(parents=True)
    save_experiment(experiment, tmp_path / "b" / "c" / "experiment.yaml")
    assert secret.name not in (tmp_path / "b" / "c" / "experiment.yaml").read_text()
    again = load_experiment(tmp_path / "b" / "c" / "experiment.yaml")
    assert again.root == experiment.root == secret
    assert again.folds.count == 3


def test_a_value_of_a_variable_is_in_no_message_record_page_or_bundle(secret, tmp_path, terrablend):
    members = {"lightgbm": {"branch": "trees", "rounds": 3, "leaves": 4}}
    file = write_small_coast(secret, members=members)
    file.write_text(file.read_text().replace("root: .", "root: ${SECRET_COAST}"))
    file = file.rename(tmp_path / "small.yaml")
    run = tmp_path / "run"
    outcome = terrablend("run", file, "--run", run, "--workers", 1)
    assert outcome.code == 0, outcome.err
    said = [outcome.out + outcome.err]
    outcome = terrablend("check", file, "--run", tmp_path / "other", "--set", "scenes.train.image=nothing/{id}.tif")
    assert outcome.code == 2
    assert "${SECRET_COAST}" in outcome.err
    said.append(outcome.out + outcome.err)
    assert terrablend("bundle", run, "-o", tmp_path / "x.zip").code == 0
    # Where scenes lie the catalogue must know, for itself alone.
    files = [path for path in run.rglob("*") if path.suffix in (".json", ".html", ".txt", ".yaml", ".csv", ".tif")]
    said += [path.read_bytes().decode("latin-1") for path in files]
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        said += [archive.read(name).decode("latin-1") for name in archive.namelist()]
        experiment = yaml.safe_load(archive.read("experiment.yaml"))
    assert len(files) > 20
    assert [text for text in said if secret.name in text] == []
    assert experiment["root"] == "."
    assert experiment["scenes"]["train"]["image"][0]["path"] == "{id}_satellite.tif"
    assert json.loads((run / "stages" / "check.json").read_text())


def test_no_folder_is_left_of_paths():
    values = {"scenes": {"train": {"image": "/home/me/{id}/B04.tif", "label": "a/b.tif"}}, "pretrained": "/w/net.pth"}
    assert strip_paths(values) == {
        "scenes": {"train": {"image": "{id}_B04.tif", "label": "b.tif"}},
        "pretrained": "net.pth",
    }


@pytest.mark.parametrize(
    "values",
    [
        {"root": "https://host/${SECRET_COAST}"},
        {"root": "s3://${SECRET_COAST}/data"},
        {"root": ".", "scenes": {"train": {"image": "https://host/{id}.tif?key=${SECRET_COAST}"}}},
        {"root": "${ADDRESS}/${SECRET_COAST}"},
        {"root": "https://host", "scenes": {"train": {"image": "${WORD}/{id}.tif"}}},
        {"root": "${ADDRESS}", "scenes": {"train": {"list": "a/${SECRET_COAST}.csv"}}},
    ],
)
def test_no_variable_is_sent_along_with_an_address(secret, tmp_path, monkeypatch, values):
    monkeypatch.setenv("ADDRESS", "s3://bucket")
    monkeypatch.setenv("WORD", "s3cr3t")
    with pytest.raises(ExperimentError, match="expected a variable at the beginning of an address alone") as caught:
        expand_paths(values, tmp_path)
    assert "s3cr3t" not in str(caught.value)


def test_an_address_may_be_what_a_variable_holds(secret, tmp_path, monkeypatch):
    monkeypatch.setenv("ADDRESS", "s3://bucket")
    values = {"root": "${ADDRESS}/data", "folds": {"file": "${SECRET_COAST}/folds.csv"}}
    assert expand_paths(values, tmp_path)[0] == {"root": "s3://bucket/data", "folds": {"file": f"{secret}/folds.csv"}}


@pytest.mark.parametrize("root", ["ftp://host/data", "https://host/data?key=1", "s3://bucket/../other", "/vsistdin/"])
def test_a_root_is_a_folder_or_an_address_that_is_known(small_coast, root):
    with pytest.raises(ExperimentError, match="root: expected a folder, or an address of s3://"):
        load_experiment(small_coast, [f"root={root}"])
