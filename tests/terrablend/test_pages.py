"""Every block of code in the README and on the pages: experiments are accepted, commands exist, Python runs.

The blocks of docs/python.md, docs/scenes.md and the notebooks have tests of their own, which run them on data.
"""

import json
import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
import typer
import yaml

from features.feature_set import FeatureSet
from features.settings import feature_names, scene_feature_names
from terrablend.cli import app
from terrablend.experiment import Experiment, TableExperiment, load_experiment
from terrablend.experiment.reference import list_settings, spellings
from trees.boosters.lightgbm_booster import LightGBMLearner
from trees.earth_engine import export_trees
from trees.settings import TreeSettings

from ..conftest import learn, table_of
from ..trees.test_earth_engine import follow, member_of, read_text

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN_ELSEWHERE = {"docs/python.md", "docs/scenes.md"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(terrablend [^`]+)`")
SETTINGS = list_settings(Experiment, TableExperiment)
COMMANDS = typer.main.get_command(app).commands
BANDS = ["blue", "green", "red", "nir", "swir16", "qa", "dem"]
KELP = {
    "name": "kelp",
    "task": "binary",
    "root": ".",
    "scenes": {"bands": BANDS, "train": {"image": "img/{id}.tif", "label": "mask/{id}.tif"}},
    "classes": {1: "kelp"},
    "members": {"lightgbm": {"branch": "trees"}, "unet": {"branch": "cnn"}},
}
BRANCHES = {"cnn.md": "cnn", "trees.md": "trees"}


class Block(NamedTuple):
    """A block of code, where it stands, and its language."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(*languages):
    pages = {page: page.read_text("utf-8") for page in PAGES if str(page.relative_to(ROOT)) not in RUN_ELSEWHERE}
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for page, text in pages.items()
        for match in FENCE.finditer(text)
        if match[1] in languages
    ]


def on_scenes(block):
    """Return the whole experiments that a block is a part of, as text."""
    recipe = ROOT / "recipes" / f"{block.page.stem}.yaml"
    if block.page.parent.name == "recipes" and block.code.startswith(" "):
        return [placed(block.code, recipe.read_text("utf-8"))]
    lines = block.code.splitlines()
    keys = [line.split(":")[0] for line in lines if line[:1] not in (" ", "#", "")]
    # Lines that begin alike are alternatives.
    parts = [block.code] if len(set(keys)) == len(keys) else lines
    return [yaml.safe_dump(completed(yaml.safe_load(dedent(part)), block)) for part in parts]


def placed(code, recipe):
    """Put indented lines into a recipe: in place of those with the same key, or as its last member."""
    key = code.split(":")[0]
    if re.search(rf"^{key}:", recipe, re.MULTILINE):
        return re.sub(rf"^{key}:.*\n", lambda _: code, recipe, flags=re.MULTILINE)
    for name in re.findall(r"<<: \*(\w+)", code):
        recipe = recipe.replace(f"  {name}:\n", f"  {name}: &{name}\n")
    members = re.search(r"^members:\n(?:(?: .*)?\n)+", recipe, re.MULTILINE)
    return recipe[: members.end()] + code + recipe[members.end() :]


def completed(values, block):
    """Return an experiment with some of its keys, with some of its members, or with some settings of a member."""
    if "table" in values:
        return values
    if set(values) <= set(Experiment.model_fields):
        scenes = KELP["scenes"] | values.get("scenes", {})
        tags = {"task": "multilabel", "scenes": scenes_of_tags()} if values.get("task") == "multilabel" else {}
        members = KELP["members"] | values.get("members", {}) if not tags else values["members"]
        return KELP | {"scenes": scenes} | values | tags | {"members": members}
    if all(isinstance(entry, dict) and "branch" in entry for entry in values.values()):
        return KELP | {"members": KELP["members"] | values}
    return KELP | {"members": {"mine": {"branch": BRANCHES[block.page.name]} | values}}


def scenes_of_tags():
    return {"bands": BANDS, "train": {"image": "img/{id}.tif", "label": {"tags": "tags.csv"}}}


@pytest.mark.parametrize("block", blocks_of("yaml"), ids=str)
def test_every_experiment_is_accepted_as_it_is_written(block, tmp_path, monkeypatch):
    for text in on_scenes(block):
        for name in re.findall(r"\$\{(\w+)\}", text):
            monkeypatch.setenv(name, str(tmp_path))
        path = tmp_path / "experiment.yaml"
        path.write_text(text)
        load_experiment(path)


def test_the_features_of_the_page_are_those_of_its_bands(tmp_path):
    of_pixels, of_scenes, *_ = [block for block in blocks_of("yaml") if block.page.name == "features.md"]
    path, dated = tmp_path / "experiment.yaml", [f"{band}_{when}" for when in ("before", "after") for band in BANDS]
    path.write_text(on_scenes(of_pixels)[0])
    settings = load_experiment(path).features
    names = feature_names([*BANDS, *dated], settings)
    assert len(FeatureSet([*BANDS, *dated], names, settings.formulas)) > 100
    path.write_text(on_scenes(of_scenes)[0])
    settings = load_experiment(path).features
    assert len(scene_feature_names(BANDS, settings, settings.aggregate.edges)) > 50


def commands_of(page):
    """Return the commands of ours that a page shows, as lists of words."""
    text = page.read_text("utf-8")
    shown = [
        line
        for match in FENCE.finditer(text)
        if match[1] in ("", "sh", "bash")
        for line in match[2].replace("\\\n", " ").splitlines()
        if line.startswith(("terrablend ", "make "))
    ]
    inline = [" ".join(code.split()) for code in INLINE.findall(FENCE.sub("", text))]
    return [shlex.split(line, comments=True) for line in (*shown, *inline)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_shown_exists_with_its_options(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for program, *words in commands_of(page):
        if program == "make":
            assert set(words) <= set(targets), words
            continue
        for name in words[0].split("|"):
            if not re.fullmatch(r"[a-z][a-z-]*", name):
                continue
            command = COMMANDS[name]
            options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            written = {word.split("=")[0] for word in words[1:] if re.match(r"-{1,2}[a-z]", word)}
            assert written <= options, (name, written - options)
        for key, value in pairwise(words):
            if key == "--set":
                assert spellings(SETTINGS, value.split("=")[0]), value


def test_the_pages_show_many_commands():
    assert sum(len(commands_of(page)) for page in PAGES) > 80


def test_folds_for_other_tools_are_written_as_the_page_says(small_coast, terrablend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert terrablend("check", small_coast, "--run", "runs/kelp", "--workers", 1).code == 0
    [block] = [block for block in blocks_of("python") if block.page.name == "maps.md"]
    exec(block.code, {})
    assert set(pl.read_csv("folds.csv")["split"]) == {"train", "test"}


class FakeImage:
    """What the page uses of an image of Earth Engine: columns by name, or one column, of a few pixels."""

    def __init__(self, values):
        self.values = values

    def select(self, names):
        return FakeImage({name: self.values[name] for name in names})

    def classify(self, trees):
        rows = [dict(zip(self.values, row, strict=True)) for row in zip(*self.values.values(), strict=True)]
        return FakeImage(np.array([np.mean([follow(read_text(tree), row) for tree in trees]) for row in rows]))

    def exp(self):
        return FakeImage(np.exp(self.values))

    def __getattr__(self, name):
        def combine(other):
            return FakeImage(getattr(np, name)(self.values, getattr(other, "values", other)))

        return combine


def test_earth_engine_is_asked_for_what_the_trees_say(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 2)).astype(np.float32).round(2)
    rows = table_of(features, (features[:, 0] > 0.3).astype(np.uint8), names=("nir", "NDVI"))
    settings = TreeSettings(rounds=8, learning_rate=0.2, leaves=7, min_leaf_rows=5)
    boosters = {fold: learn(LightGBMLearner, rows, 2, settings, seed=fold) for fold in (0, 1)}
    export_trees(member_of(boosters, ("nir", "NDVI")), tmp_path / "trees.json")
    monkeypatch.chdir(tmp_path)
    trees = SimpleNamespace(decisionTreeEnsemble=lambda texts: SimpleNamespace(setOutputMode=lambda mode: texts))
    monkeypatch.setitem(sys.modules, "ee", SimpleNamespace(Image=FakeImage, Classifier=trees))
    [block] = [block for block in blocks_of("python") if block.page.name == "trees.md"]
    image = FakeImage({"nir": features[:, 0].tolist(), "NDVI": features[:, 1].tolist()})
    names = {"image": image, "json": json}
    exec(re.sub(r"^image = .*\n", "", block.code, flags=re.MULTILINE), names)  # the page leaves it to the reader
    expected = np.mean([booster.predict_proba(features)[:, 0] for booster in boosters.values()], axis=0)
    np.testing.assert_allclose(names["proba"].values, expected, atol=1e-6)
