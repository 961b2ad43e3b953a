from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cnn.network.model_file import read_about
from cnn.settings import CnnSettings
from data.errors import ExperimentError
from data.maps.geotiff import map_tags, read_map
from data.scenes.catalogue import Catalogue
from ensemble.decide.decision.blend import Blend
from ensemble.ensemble import Ensemble
from ensemble.maps import open_maps
from ensemble.predict import write_prediction
from terrablend.experiment import load_experiment
from terrablend.stacking import learning_order

from .conftest import EXPERIMENT, write_small_coast

TREES, UNET = (EXPERIMENT["members"][name] for name in ("lightgbm", "unet"))
# Listed by name, `second` comes before `unet`, which it is stacked on.
STACKED = {
    "unet": UNET | {"stack": ["lightgbm"], "inputs": ["nir"]},
    "second": UNET | {"stack": ["unet", "lightgbm"], "inputs": ["red"]},
    "lightgbm": TREES,
}


@pytest.fixture
def stacked_coast(tmp_path):
    """Return the experiment file of a small coast with a network that is stacked on trees."""
    return write_small_coast(tmp_path / "coast", members={name: STACKED[name] for name in ("unet", "lightgbm")})


@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=6), st.randoms())
def test_members_come_after_all_that_they_are_stacked_on(below, random):
    names = [f"m{number}" for number in range(len(below))]
    stacks = {
        name: [names[other] for other in sorted(others) if other < number]
        for number, (name, others) in enumerate(zip(names, below, strict=True))
    }
    random.shuffle(names)
    members = {name: CnnSettings(stack=stacks[name]) for name in names}
    order = learning_order(members)
    assert sorted(order) == sorted(names)
    for name in names:
        assert all(order.index(other) < order.index(name) for other in stacks[name])
        needed = learning_order(members, [name])
        assert needed[-1] == name
        assert set(needed) == {name}.union(*(learning_order(members, [other]) for other in stacks[name]))


def test_members_without_a_stack_stay_as_they_are_listed():
    members = {name: CnnSettings() for name in ("c", "a", "b")}
    assert learning_order(members) == ("c", "a", "b")
    assert learning_order(members, ["b", "c"]) == ("b", "c")


@pytest.mark.parametrize(
    ("stacks", "message"),
    [
        ({"unet": ["lightgmb"]}, "expected members among lightgbm, second, unet, got lightgmb. Did you mean lightgbm?"),
        ({"unet": ["unet"]}, "expected members stacked on others than themselves, got unet on unet."),
        ({"unet": ["second"], "second": ["unet"]}, "got second on unet on second. Take one of them out of a stack."),
    ],
)
def test_a_stack_that_cannot_be_is_refused(tmp_path, stacks, message):
    members = STACKED | {name: UNET | {"stack": stack} for name, stack in stacks.items()}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT | {"members": members}))
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    assert message in str(caught.value)


def test_members_that_are_stacked_on_each_other_are_refused(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT | {"members": STACKED | {"lightgbm": TREES | {"stack": ["unet"]}}}))
    with pytest.raises(ExperimentError, match="got lightgbm on unet on lightgbm"):
        load_experiment(path)


def test_a_stacked_network_goes_from_scenes_to_a_submission(tmp_path, terrablend):
    experiment = write_small_coast(tmp_path / "coast", members=STACKED)
    outcome = terrablend("run", experiment, "--run", tmp_path / "run", "--dry-run")
    stages = [line.split()[0] for line in outcome.out.splitlines()]
    assert stages == ["check", "features", "lightgbm", "unet", "second", "explain-lightgbm", "ensemble", "submit"]
    run = tmp_path / "run"
    outcome = terrablend("run", experiment, "--run", run, "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert (run / "submission.tar").exists()
    assert read_about(run / "members/unet/fold0.safetensors")["inputs"] == ["nir", "lightgbm:kelp"]
    assert read_about(run / "members/second/fold1.safetensors")["inputs"] == ["red", "unet:kelp", "lightgbm:kelp"]
    catalogue = Catalogue.load(run / "catalogue.parquet")
    for scene in catalogue.split("train"):
        assert map_tags(run / f"members/second/oof/{scene.id}.tif")["folds"] == str(scene.fold)

    # Scenes that are given anew are mapped first by what is stacked on, though the blend takes the last member alone.
    ensemble = Ensemble.load(run / "ensemble/ensemble.json")
    last = Blend((tuple(float(name == "second") for name in ensemble.members),))
    ensemble = replace(ensemble, decision=replace(ensemble.decision, blend=last))
    ensemble.save(run / "ensemble/ensemble.json")
    [other, *_], [scene, *_] = catalogue.split("train"), catalogue.split("test")
    images, out = (other.images[0].path, scene.images[0].path), tmp_path / "out"
    outcome = terrablend("predict", run, *images, "-o", out, "--workers", 1)
    assert outcome.code == 0, outcome.err
    maps = open_maps({"second": run / "members/second"}, catalogue.classes)
    write_prediction(ensemble, maps, scene, tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(read_map(out / f"{scene.id}_satellite_proba.tif"), read_map(tmp_path / "b.tif"))
    assert {path.name for path in out.iterdir() if path.suffix != ".xml"} == {
        f"{one.id}_satellite{kind}.tif" for one in (scene, other) for kind in ("_classes", "_proba")
    }


def test_a_stacked_network_waits_for_what_it_is_stacked_on_and_is_stale_without_it(stacked_coast, tmp_path, terrablend):
    run = ("--run", tmp_path / "run", "--workers", 1)
    for command in ("check", "features"):
        assert terrablend(command, stacked_coast, *run).code == 0
    outcome = terrablend("cnn", stacked_coast, *run)
    assert outcome.code == 2
    assert f"the stage lightgbm to be done, it is to do. Run `terrablend trees {stacked_coast} lightgbm` first." in (
        outcome.err
    )
    for command in ("trees", "cnn"):
        assert terrablend(command, stacked_coast, *run).code == 0
    changed = (*run, "--set", "members.lightgbm.rounds=9")
    assert terrablend("trees", stacked_coast, *changed, "--overwrite").code == 0
    outcome = terrablend("cnn", stacked_coast, *changed)
    assert outcome.code == 2
    assert "the result of unet was made with other settings (lightgbm changed)" in outcome.err


def test_trials_of_a_stacked_network_read_the_maps_of_the_run(stacked_coast, tmp_path, terrablend):
    run, search = tmp_path / "run", {"members.unet.stack": [[], ["lightgbm"]]}
    written = yaml.safe_load(stacked_coast.read_text())
    stacked_coast.write_text(yaml.safe_dump(written | {"tune": {"search": search, "metric": "macro_iou"}}))
    common = (stacked_coast, "--run", run, "--workers", 1)
    for command in ("check", "features", "trees"):
        assert terrablend(command, *common).code == 0
    outcome = terrablend("tune", stacked_coast, "unet", *common[1:], "--trials", 2)
    assert outcome.code == 0, outcome.err
    trials = pl.read_csv(run / "tune/unet/trials.csv")
    assert set(trials["end"]) == {"done"}
    assert not (run / "members/unet").exists()


def test_a_trial_stacked_on_a_member_that_is_not_there_fails_and_says_why(tmp_path, terrablend):
    members = {"lightgbm": TREES, "unet": UNET}
    tuned = {"search": {"members.unet.stack": [["lightgbm"]]}, "metric": "macro_iou"}
    experiment = write_small_coast(tmp_path / "coast", members=members, tune=tuned)
    assert terrablend("check", experiment, "--run", tmp_path / "run", "--workers", 1).code == 0
    outcome = terrablend("tune", experiment, "unet", "--run", tmp_path / "run", "--workers", 1, "--trials", 1)
    assert outcome.code == 0, outcome.err
    assert "trial 1:" in outcome.err
    assert "expected the stage lightgbm to be done, it is to do" in outcome.err
    assert pl.read_csv(tmp_path / "run/tune/unet/trials.csv")["end"].to_list() == ["done", "failed"]


def test_stacks_of_any_width_are_ordered_at_once_and_deep_ones_refused():
    unet = CnnSettings.model_validate(UNET)
    layers = [[f"{place}{side}" for side in "ab"] for place in range(20)]
    wide = dict.fromkeys(layers[0], unet)
    for below, names in pairwise(layers):
        wide |= {name: unet.model_copy(update={"stack": below}) for name in names}
    assert set(learning_order(wide)) == set(wide)
    deep = {str(place): unet.model_copy(update={"stack": [str(place + 1)]}) for place in range(2000)} | {"2000": unet}
    with pytest.raises(ValueError, match="stacked in at most 20 levels"):
        learning_order(deep)
