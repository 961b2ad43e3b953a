from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import rasterio
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cnn.network.model_file import read_about
from cnn.settings import CnnSettings
from data.files import read_json
from data.maps.geotiff import map_tags, read_map
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import maybe_ungeoreferenced
from ensemble.decide.decision.blend import Blend
from ensemble.ensemble import Ensemble
from ensemble.maps import open_maps
from ensemble.predict import write_prediction
from terrablend.experiment.stacking import learning_order

from ..conftest import EXPERIMENT, write_small_coast

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
def test_a_stack_that_cannot_be_is_refused(refusal, stacks, message):
    members = STACKED | {name: UNET | {"stack": stack} for name, stack in stacks.items()}
    assert message in refusal(members=members)


def test_members_that_are_stacked_on_each_other_are_refused(refusal):
    members = STACKED | {"lightgbm": TREES | {"stack": ["unet"]}}
    assert "got lightgbm on unet on lightgbm" in refusal(members=members)


def test_a_stacked_network_goes_from_scenes_to_a_submission(run_small_coast, tmp_path, terrablend):
    run, stages = run_small_coast(members=STACKED)
    assert stages == ["check", "features", "lightgbm", "unet", "second", "explain-lightgbm", "ensemble", "submit"]
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
    assert {path.name for path in out.glob("*.tif")} == {
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


DEEP = {
    "lightgbm": TREES | {"stack": ["unet", {"member": "unet", "layer": "decoder", "components": 3}]},
    "forest": TREES | {"rounds": 5, "stack": [{"member": "unet", "layer": "decoder", "components": 3}]},
    "unet": UNET | {"inputs": ["nir"]},
}


def test_trees_see_the_features_of_a_layer_from_scenes_to_a_bundle(run_small_coast, tmp_path, terrablend):
    run, stages = run_small_coast(members=DEEP)
    assert stages[2:6] == ["unet", "unet@decoder", "forest", "lightgbm"]
    catalogue = Catalogue.load(run / "catalogue.parquet")
    for scene in catalogue.split("train"):
        path = run / f"members/unet@decoder/oof/{scene.id}.tif"
        assert map_tags(path)["folds"] == str(scene.fold)
        assert read_map(path).shape == (3, 64, 64)
    columns = read_json(run / "members/lightgbm/member.json")["features"]
    assert columns[-4:] == ["unet:kelp", "unet@decoder:1", "unet@decoder:2", "unet@decoder:3"]
    assert "unet@decoder" not in Ensemble.load(run / "ensemble/ensemble.json").members

    ensemble = Ensemble.load(run / "ensemble/ensemble.json")
    alone = Blend((tuple(float(name == "lightgbm") for name in ensemble.members),))
    replace(ensemble, decision=replace(ensemble.decision, blend=alone)).save(run / "ensemble/ensemble.json")
    [scene, *_], out, packed = catalogue.split("test"), tmp_path / "out", tmp_path / "model.zip"
    outcome = terrablend("bundle", run, "-o", packed)
    # Written over by this test, the stage is no longer as it was; its members are.
    assert "ensemble/ensemble.json" in outcome.err
    outcome = terrablend("predict", run, scene.images[0].path, "-o", out, "--workers", 1)
    assert outcome.code == 0, outcome.err
    maps = open_maps({"lightgbm": run / "members/lightgbm"}, catalogue.classes)
    ensemble = Ensemble.load(run / "ensemble/ensemble.json")
    write_prediction(ensemble, maps, scene, tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(read_map(out / f"{scene.id}_satellite_proba.tif"), read_map(tmp_path / "b.tif"))


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (
            [{"member": "unett", "layer": "decoder"}],
            "members.lightgbm.stack: expected members among forest, lightgbm, unet, got unett. Did",
        ),
        (
            [{"member": "forest", "layer": "decoder"}],
            "members.lightgbm.stack: expected a layer of a network, got one of forest",
        ),
        (
            [{"member": "unet", "layer": "decoder", "components": 2}],
            "expected as many components of unet@decoder as in other stacks",
        ),
        ([{"member": "unet", "layer": "head"}], "String should match pattern"),
        ([{"member": "unet", "layer": "decoder", "strict": True}], "expected strict of probabilities alone"),
        (["unet", "unet"], "expected each member once, got unet, unet"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(refusal, stack, message):
    members = DEEP | {"lightgbm": TREES | {"stack": stack}}
    assert message in refusal(members=members)


def write_strict_coast(root, members, flipped=()):
    """Write a coast in three folds that are given, and return its file; some folds' labels say the opposite."""
    # With all pixels in the table it has the same rows, and LightGBM the same bins, whatever the labels.
    every = {**EXPERIMENT["features"], "sample": {"negatives": "all", "ring": "all"}}
    path = write_small_coast(root, members=members, folds={"file": "folds.csv"}, features=every)
    known = read_json(root / "truth/places.json")
    scenes = sorted(file.name.removesuffix("_satellite.tif") for file in (root / "train").iterdir())
    places = sorted({known[scene] for scene in scenes})
    fold = {scene: min(places.index(known[scene]), 2) for scene in scenes}
    lines = [f"{scene},{known[scene]},{fold[scene]}" for scene in scenes]
    (root / "folds.csv").write_text("\n".join(["id,group,fold", *lines]) + "\n")
    for scene in scenes:
        if fold[scene] in flipped:
            label = root / "train_kelp" / f"{scene}_kelp.tif"
            with maybe_ungeoreferenced(), rasterio.open(label, "r+") as raster:
                raster.write(1 - raster.read())
    return path


def stacked_boosters(root, members, terrablend, flipped=()):
    """Return the boosters of the members that are stacked on `lower`, fold by fold."""
    path, inner = write_strict_coast(root / "coast", members, flipped), root / "run/members/lower@inner"
    for command in (("check",), ("features",), ("trees", "lower"), ("trees", "loose"), ("trees", "strict")):
        assert not inner.exists()
        outcome = terrablend(command[0], path, *command[1:], "--run", root / "run", "--workers", 1)
        assert outcome.code == 0, outcome.err
    assert {path.name for path in (inner / "fold2").glob("fold*.txt")} == {"fold0.txt", "fold1.txt"}
    return {
        name: [(root / f"run/members/{name}/fold{fold}.txt").read_text() for fold in range(3)]
        for name in ("strict", "loose")
    }


def test_only_a_strict_stack_lets_no_label_of_a_fold_into_its_booster(tmp_path, terrablend):
    few = {"branch": "trees", "rounds": 5, "leaves": 7, "min_leaf_rows": 5}
    upper = {name: few | {"stack": [{"member": "lower", "strict": name == "strict"}]} for name in ("strict", "loose")}
    members = {"lower": few, **upper}
    plain = stacked_boosters(tmp_path / "plain", members, terrablend)
    flipped = stacked_boosters(tmp_path / "flipped", members, terrablend, flipped=[2])
    assert plain["strict"][2] == flipped["strict"][2]
    assert plain["loose"][2] != flipped["loose"][2]
    for name in upper:
        assert plain[name][0] != flipped[name][0]


@pytest.mark.slow
def test_a_network_on_a_strict_stack_learns_from_models_inside_of_its_folds(tmp_path, terrablend):
    few = {"branch": "trees", "rounds": 5, "leaves": 7, "min_leaf_rows": 5}
    members = {"lower": few, "upper": UNET | {"inputs": ["nir"], "stack": [{"member": "lower", "strict": True}]}}
    path = write_strict_coast(tmp_path / "coast", members)
    outcome = terrablend("run", path, "--run", tmp_path / "run", "--workers", 1)
    assert outcome.code == 0, outcome.err
    catalogue = Catalogue.load(tmp_path / "run/catalogue.parquet")
    for scene in catalogue.outside_fold(1):
        inner = tmp_path / f"run/members/lower@inner/fold1/oof/{scene.id}.tif"
        assert map_tags(inner)["folds"] == str(scene.fold)
    again = terrablend("run", path, "--run", tmp_path / "run", "--workers", 1, "--dry-run")
    assert {line.split()[-1] for line in again.out.splitlines()} == {"done"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": TREES | {"stack": [{"member": "b", "strict": True}]}, "b": TREES | {"stack": ["c"]}, "c": TREES},
         "expected strict of a member without a stack, got b"),
        ({"a": UNET | {"stack": [{"member": "b", "layer": "decoder"}]}, "b": UNET}, "only trees see layers"),
    ],
)  # fmt: skip
def test_a_strict_stack_that_cannot_be_is_refused(refusal, members, message):
    assert message in refusal(members=members)
