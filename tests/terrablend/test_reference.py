"""What is described is shown: on the terminal, on a page, and to editors."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml

from data.errors import ExperimentError
from features.stack_settings import Stacked
from terrablend.experiment import Experiment, TableExperiment, load_experiment
from terrablend.experiment.reference import find_settings, list_settings, settings_page, spellings
from terrablend.start.coast import EXPERIMENT as DEMO
from terrablend.start.schema import SCHEMA_FILE, experiment_schema, write_experiment_file

from .conftest import EXPERIMENT

ROOT = Path(__file__).resolve().parents[2]
ALL = list_settings(Experiment, TableExperiment)


def problems(values):
    # As an editor reads YAML: the keys of a mapping are text.
    return [
        error.message
        for error in jsonschema.Draft202012Validator(experiment_schema()).iter_errors(keys_as_text(values))
    ]


def keys_as_text(value):
    if isinstance(value, dict):
        return {str(key): keys_as_text(entry) for key, entry in value.items()}
    return [keys_as_text(entry) for entry in value] if isinstance(value, list) else value


def test_every_setting_is_described():
    assert [setting.key for setting in ALL if len(setting.description) < 8] == []
    assert len(ALL) > 200


def test_no_name_means_two_settings_of_one_place():
    for setting in ALL:
        beside = [other for other in ALL if other.place[:-1] == setting.place[:-1] and other.branch == setting.branch]
        names = [name for other in beside for name in (other.name, *other.aliases)]
        assert len(names) == len(set(names)), setting.key


def test_the_page_of_settings_is_that_which_the_command_writes(terrablend):
    outcome = terrablend("settings", "--markdown")
    assert outcome.code == 0
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert page == outcome.out == settings_page(ALL), "stale: terrablend settings --markdown > docs/settings.md"


def test_a_setting_is_shown_with_its_values_default_meaning_names_and_place(terrablend):
    out = terrablend("settings", "members.trees.rounds").out
    assert "members.trees.rounds  (whole number ≥ 1; default 600)" in out
    assert "boosting rounds" in out
    assert "n_estimators" in out
    place = yaml.safe_load(out.split("in the file:")[1])
    assert place == {"members": {"NAME": {"branch": "trees", "rounds": 600}}}


@pytest.mark.parametrize("key", ["rounds", "n_estimators", "members.lightgbm.rounds"])
def test_a_setting_is_found_by_its_name_alone_or_a_library_s(key):
    assert [setting.key for setting in find_settings(ALL, key)] == ["members.trees.rounds"]


def test_a_key_with_keys_below_it_shows_them():
    found = [setting.key for setting in find_settings(ALL, "folds")]
    assert found[:2] == ["folds", "folds.count"]
    assert "folds.group.overlap" in found
    assert all(key.startswith("folds") for key in found)


def test_an_unknown_key_is_answered_with_the_nearest_or_none(terrablend):
    outcome = terrablend("settings", "folds.cuont")
    assert outcome.code == 2
    assert "Did you mean folds.count?" in outcome.err
    with pytest.raises(
        ExperimentError, match=r"got members\.trees\.n_estimatrs\. Did you mean members\.trees\.rounds\?"
    ):
        find_settings(ALL, "members.trees.n_estimatrs")
    with pytest.raises(ExperimentError, match=r"got quux\. `terrablend settings` lists all"):
        find_settings(ALL, "quux")


def test_every_default_that_is_shown_is_that_of_the_settings():
    experiment = Experiment.model_validate(EXPERIMENT | {"members": {"lightgbm": {"branch": "trees"}}})
    holders = {"lightgbm": experiment.members["lightgbm"], "stack": Stacked(member="unet")}
    for setting in find_settings(ALL, "members.trees"):
        if setting.default is not None:
            holder = holders["stack" if setting.place[-2] == "stack" else "lightgbm"]
            assert yaml.safe_load(setting.default) == getattr(holder, setting.name)


def test_a_dotted_key_is_known_under_all_of_its_names():
    assert {"rounds", "n_estimators"} <= spellings(ALL, "members.mine.n_estimators")
    assert spellings(ALL, "members.mine.nonsense") == set()
    assert spellings(ALL, "scenes.train.mask") == spellings(ALL, "scenes.train.label")


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_schema_accepts_every_recipe(recipe):
    assert problems(yaml.safe_load(recipe.read_text("utf-8"))) == []


def test_the_schema_accepts_what_the_experiment_file_accepts():
    assert problems(yaml.safe_load(DEMO)) == []
    assert problems(EXPERIMENT) == []
    table = {
        "name": "a",
        "task": "binary",
        "root": ".",
        "classes": ["no", "yes"],
        "table": {"files": "*.csv", "label": "k"},
    }
    assert problems(table | {"members": {"lightgbm": {"branch": "trees"}}}) == []
    names = {
        "a": {"branch": "trees", "n_estimators": 3},
        "b": {"branch": "cnn", "normalise": "quantile", "logger": "wandb"},
    }
    assert problems(EXPERIMENT | {"members": names}) == []


def test_the_schema_accepts_a_resolved_experiment(tmp_path, small_coast):
    resolved = load_experiment(small_coast).model_dump(mode="json")
    assert problems(resolved) == []


@pytest.mark.parametrize(
    "change",
    [
        {"folds": {"cuont": 3}},
        {"folds": {"count": 1}},
        {"folds": {"n_splits": 1}},
        {"task": "regression"},
        {"members": {"a": {"rounds": 3}}},
        {"members": {"a": {"branch": "trees", "epochs": 3}}},
        {"members": {"a": {"branch": "forest"}}},
        {"members": {"a": {"branch": "cnn", "lr": "fast"}}},
        {"ensemble": {"metric": "dcie"}},
        {"nonsense": 1},
    ],
)
def test_the_schema_refuses_what_the_experiment_file_refuses(change):
    assert problems(EXPERIMENT | change) != []


def test_the_schema_is_printed(terrablend):
    assert json.loads(terrablend("settings", "--schema").out) == experiment_schema()


def test_an_experiment_file_names_the_schema_beside_it(tmp_path):
    path = tmp_path / "a.yaml"
    write_experiment_file(path, "name: a\n")
    assert path.read_text().splitlines() == [f"# yaml-language-server: $schema={SCHEMA_FILE}", "name: a"]
    assert json.loads((tmp_path / SCHEMA_FILE).read_text()) == experiment_schema()


def test_an_older_schema_of_ours_is_replaced_and_another_s_file_is_not(tmp_path, caplog):
    schema = tmp_path / SCHEMA_FILE
    schema.write_text(json.dumps({"$comment": experiment_schema()["$comment"]}))
    write_experiment_file(tmp_path / "a.yaml", "name: a\n")
    assert json.loads(schema.read_text()) == experiment_schema()
    for foreign in ('{"mine": 1}', "not JSON", "[1]"):
        schema.write_text(foreign)
        write_experiment_file(tmp_path / "b.yaml", "name: b\n")
        assert schema.read_text() == foreign
        assert (tmp_path / "b.yaml").read_text() == "name: b\n"
    assert "another's file" in caplog.text


def test_the_version_is_told(terrablend):
    outcome = terrablend("--version")
    assert outcome.code == 0
    assert re.fullmatch(rf"terrablend {re.escape(version('terrablend'))}\n", outcome.out)
