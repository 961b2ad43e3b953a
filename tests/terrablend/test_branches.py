"""A kind of model is a record: a further one needs no other word in the front door."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
import rasterio
import yaml
from pydantic import Field

from data.files import read_json, write_json
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import maybe_ungeoreferenced, open_raster
from data.scenes.scene import read_scene, valid_mask
from features.branch import Branch, MemberSettings
from features.stacked import open_channel_rows
from terrablend.branches import BRANCHES
from terrablend.experiment import Experiment
from trees.member import load_member

from .conftest import EXPERIMENT, write_small_coast

ROOT = Path(__file__).resolve().parents[2]
TREES = {"branch": "trees", "rounds": 15, "leaves": 7}


class BrightSettings(MemberSettings):
    branch: Literal["bright"] = Field("bright", description="a band, brought to 0 … 1, is the probability")
    band: str = Field("nir", description="the band")


@dataclass(frozen=True)
class BrightMember:
    name: str
    folds: tuple[int, ...]
    band: str
    top: float

    def predict(self, scenes, folds: Sequence[int]):
        for scene in scenes:
            pixels = read_scene(scene)
            proba = np.clip(pixels[[scene.bands.index(self.band)]] / self.top, 0, 1)
            proba[:, ~valid_mask(scene, pixels)] = np.nan
            yield scene, scene.grid.window, np.where(np.isnan(proba), np.nan, proba).astype(np.float32)


def fit_bright(training):
    band = training.settings.band
    top = max(
        part["maximum"]
        for facts in training.catalogue.statistics.values()
        for part in facts.bands
        if part["band"] == band
    )
    write_json(
        training.directory / "member.json", {"name": training.name, "folds": training.catalogue.folds, "top": top}
    )


def load_bright(loading):
    about = read_json(loading.directory / "member.json")
    return BrightMember(about["name"], tuple(about["folds"]), loading.settings.band, about["top"])


BRIGHT = Branch(
    name="bright",
    help="Measure how bright a band is.",
    settings=BrightSettings,
    fit=fit_bright,
    load=load_bright,
    architecture=lambda settings: f"brightness of {settings.band}",
    inputs=lambda member, classes: iter(()),
)


@pytest.fixture
def bright():
    """Add a kind of model, and take it away again."""
    BRANCHES["bright"] = BRIGHT
    Experiment.model_rebuild(force=True)
    yield
    del BRANCHES["bright"]
    Experiment.model_rebuild(force=True)


def test_a_further_kind_of_model_runs_from_check_to_predict_by_its_record_alone(bright, tmp_path, terrablend):
    members = {"lightgbm": TREES, "shine": {"branch": "bright", "band": "nir"}}
    experiment = write_small_coast(tmp_path / "coast", members=members)
    run = tmp_path / "run"
    outcome = terrablend("run", experiment, "--run", run, "--workers", 1)
    assert outcome.code == 0, outcome.err
    candidates = set(pl.read_parquet(run / "ensemble" / "scores.parquet")["candidate"])
    assert {"lightgbm", "shine", "blend"} <= candidates
    assert "bright" in (run / "ensemble" / "report.html").read_text()
    image = next((tmp_path / "coast" / "test").glob("*.tif"))
    assert terrablend("predict", run, image, "-o", tmp_path / "out", "--workers", 1).code == 0
    assert (tmp_path / "out" / f"{image.stem}_classes.tif").exists()
    catalogue = Catalogue.load(run / "catalogue.parquet")
    for scene in catalogue.split("train"):
        with open_raster(str(run / "members" / "shine" / "oof" / f"{scene.id}.tif")) as raster:
            assert raster.tags()["folds"] == str(scene.fold)


def test_an_unknown_kind_of_model_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="'trees', 'cnn', 'maps'"):
        Experiment.model_validate(EXPERIMENT | {"members": {"a": {"branch": "forest"}}})


def test_the_front_door_knows_no_kind_of_model_by_name():
    for path in (ROOT / "terrablend").rglob("*.py"):
        # The table itself; what lets the packages speak to the terminal; what guards their names.
        if path.relative_to(ROOT / "terrablend").as_posix() not in ("branches.py", "progress.py", "__init__.py"):
            text = path.read_text("utf-8")
            assert not re.search(r"^\s*(from|import) (trees|cnn|maps)\b", text, re.MULTILINE), path
            assert not re.search(r"""["'](trees|cnn)["']""", text), path


@pytest.fixture
def foreign(tmp_path):
    """Return a coast, and a function that lets another tool map its scenes: the label, blurred by noise, in bytes."""
    experiment = write_small_coast(tmp_path / "coast", members={"lightgbm": TREES})
    root = experiment.parent

    def write(ids=None, noise=60, seed=0):
        for image in sorted([*root.glob("train/*.tif"), *root.glob("test/*.tif")]):
            name = image.name.removesuffix("_satellite.tif")
            if ids is not None and name not in ids:
                continue
            rng = np.random.default_rng([seed, *name.encode()])
            with maybe_ungeoreferenced(), rasterio.open(image) as raster:
                profile = {**raster.profile, "count": 1, "dtype": "uint8", "nodata": None}
            label = root / "train_kelp" / f"{name}_kelp.tif"
            truth = np.zeros((profile["height"], profile["width"]))
            if label.exists():
                with maybe_ungeoreferenced(), rasterio.open(label) as raster:
                    truth = raster.read(1) == 1
            stored = np.clip(60 + 120 * truth + rng.normal(0, noise, truth.shape), 0, 255).astype(np.uint8)
            (root / "foundation").mkdir(exist_ok=True)
            with maybe_ungeoreferenced(), rasterio.open(root / "foundation" / f"{name}.tif", "w", **profile) as raster:
                raster.write(stored, 1)

    return experiment, write


def change(experiment, **values):
    experiment.write_text(yaml.safe_dump(yaml.safe_load(experiment.read_text()) | values))


MAPS = {"branch": "maps", "path": "foundation/{id}.tif", "scale": "uint8", "fold": "unseen"}


def test_maps_of_another_tool_are_blended_scored_and_predicted_like_any_other_member(foreign, tmp_path, terrablend):
    experiment, write = foreign
    write()
    change(experiment, members={"lightgbm": TREES, "foundation": MAPS})
    run = tmp_path / "run"
    outcome = terrablend("run", experiment, "--run", run, "--workers", 1)
    assert outcome.code == 0, outcome.err
    scores = pl.read_parquet(run / "ensemble" / "scores.parquet")
    assert {"lightgbm", "foundation", "blend"} <= set(scores["candidate"])
    assert "foundation" in (run / "ensemble" / "report.html").read_text()

    # New scenes need new maps; with the same ones they come out the same.
    image = next((tmp_path / "coast" / "test").glob("*.tif"))
    name = image.name.removesuffix("_satellite.tif")
    lacking = terrablend("predict", run, image, "-o", tmp_path / "out", "--workers", 1)
    assert lacking.code == 2
    assert "expected maps of these scenes for member foundation" in lacking.err
    assert "--maps 'foundation=FOLDER/{id}.tif'" in lacking.err
    (tmp_path / "new").mkdir()
    (experiment.parent / "foundation" / f"{name}.tif").rename(tmp_path / "new" / f"{image.stem}.tif")
    given = f"foundation={tmp_path}/new/{{id}}.tif"
    outcome = terrablend("predict", run, image, "-o", tmp_path / "out", "--workers", 1, "--maps", given)
    assert outcome.code == 0, outcome.err
    with (
        open_raster(str(tmp_path / "out" / f"{image.stem}_classes.tif")) as new,
        open_raster(str(run / "maps" / f"{name}.tif")) as old,
    ):
        np.testing.assert_array_equal(new.read(), old.read())
    outcome = terrablend("predict", run, image, "-o", tmp_path / "out", "--workers", 1, "--maps", "x=y")
    assert "expected NAME=PATTERN" in outcome.err

    # A changed map is noticed, and a bundle carries the member along.
    write(noise=50, ids={name})
    assert "foundation" in terrablend("run", experiment, "--run", run, "--dry-run").out
    outcome = terrablend("bundle", run, "-o", tmp_path / "bundle.zip")
    assert outcome.code == 0, outcome.err
    outcome = terrablend(
        "predict", tmp_path / "bundle.zip", image, "-o", tmp_path / "two", "--workers", 1, "--maps", given
    )
    assert outcome.code == 0, outcome.err


def test_an_ensemble_of_maps_alone_needs_no_table(foreign, tmp_path, terrablend):
    experiment, write = foreign
    write()
    (experiment.parent / "foundation").rename(experiment.parent / "first")
    write(seed=1)
    first = MAPS | {"path": "first/{id}.tif"}
    change(experiment, members={"first": first, "second": MAPS})
    run = tmp_path / "run"
    outcome = terrablend("run", experiment, "--run", run, "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert not (run / "pixels").exists()
    assert (run / "submission.tar").exists()
    out = terrablend("maps", experiment, "first", "--run", run, "--dry-run").out
    assert out.split() == ["first", "done"]
    tuned = terrablend("tune", experiment, "first", "--run", run)
    assert "learns nothing" in tuned.err


def test_trees_learn_from_what_other_members_say_out_of_fold(foreign, tmp_path, terrablend):
    experiment, write = foreign
    write(noise=20)
    stacked = {**TREES, "stack": ["foundation"]}
    change(experiment, members={"stacked": stacked, "foundation": MAPS, "lightgbm": TREES})
    run = tmp_path / "run"
    outcome = terrablend("run", experiment, "--run", run, "--workers", 1)
    assert outcome.code == 0, outcome.err
    record = read_json(run / "members" / "stacked" / "member.json")
    assert record["features"][-1] == "foundation:kelp"
    # The column is the map: whoever has it needs little else.
    importance = read_json(run / "members" / "stacked" / "fold0.json")["importance"]
    assert max(importance, key=importance.get) == "foundation:kelp"
    scores = pl.read_parquet(run / "ensemble" / "scores.parquet")
    pooled = scores.filter((pl.col("metric") == "dice") & (pl.col("scope") == "pooled"))
    dice = dict(pooled.select("candidate", "value").rows())
    assert dice["stacked"] > dice["lightgbm"] + 0.05
    catalogue = Catalogue.load(run / "catalogue.parquet")
    scene = catalogue.split("train")[0]
    member = load_member(run / "members" / "stacked")
    table = open_channel_rows(run / "pixels", catalogue, member.feature_set, [scene.fold])
    with maybe_ungeoreferenced(), rasterio.open(run / "members" / "foundation" / "oof" / f"{scene.id}.tif") as raster:
        stored = raster.read(1)
    rows = pl.read_parquet(run / "pixels" / f"fold={scene.fold}" / f"{scene.id}.parquet")
    of_scene = table.read(np.array(table.scenes)[table.scene] == scene.id)
    expected = stored[rows["row"].to_numpy(), rows["col"].to_numpy()] / 65534
    np.testing.assert_allclose(of_scene[:, -1], np.where(expected > 1, np.nan, expected), atol=1e-6)
    image = next(iter(sorted((experiment.parent / "test").glob("*.tif"))))
    maps = ("--maps", f"foundation={experiment.parent}/foundation/{{id}}.tif")
    for noise in (20, 90):
        write(noise=noise)
        new = experiment.parent / "foundation" / f"{image.stem}.tif"
        (experiment.parent / "foundation" / f"{image.stem.removesuffix('_satellite')}.tif").rename(new)
        outcome = terrablend("predict", run, image, "-o", tmp_path / f"out{noise}", *maps, "--workers", 1)
        assert outcome.code == 0, outcome.err
    one, other = ((tmp_path / f"out{noise}" / f"{image.stem}_proba.tif").read_bytes() for noise in (20, 90))
    assert one != other
    change(experiment, members={"stacked": {**TREES, "stack": ["unet"]}, "lightgbm": TREES})
    assert "got unet" in terrablend("check", experiment).err


def test_an_in_sample_member_is_never_decided_on(foreign, tmp_path, terrablend):
    experiment, write = foreign
    write()
    members = {"lightgbm": TREES, "leaky": {**MAPS, "insample": True, "fold": None}}
    change(experiment, members=members)
    run = tmp_path / "run"
    outcome = terrablend("run", experiment, "--run", run, "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert "nothing is decided on it" in outcome.err
    assert "leaky" not in set(pl.read_parquet(run / "ensemble" / "scores.parquet")["candidate"])
    assert not (run / "members" / "leaky" / "oof").exists()
    assert len(list((run / "members" / "leaky" / "test").iterdir())) == 1
    change(experiment, members={"leaky": members["leaky"]})
    assert "there is nothing to decide on" in terrablend("check", experiment).err
    change(experiment, members=members | {"unet": {"branch": "cnn", "stack": ["leaky"]}})
    assert "got leaky, which is in-sample" in terrablend("check", experiment).err
