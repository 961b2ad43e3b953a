"""A run touches nothing that is not its own, believes nothing that it does not see, and mixes nothing."""

import json
import os
import re
import shutil

import pytest

from data.errors import (
    BundleError,
    CatalogueError,
    EnsembleError,
    ExperimentError,
    MemberError,
    OutputError,
    RunError,
    SceneError,
    TerrablendError,
)
from data.files import hash_file, read_json
from data.survey import inputs
from terrablend.deliver.bundle import open_model, write_bundle
from terrablend.deliver.evaluate import evaluate_maps
from terrablend.deliver.predict import predict_scenes
from terrablend.experiment import load_scene_experiment
from terrablend.run.run_folder import RunFolder
from terrablend.run.scene_run import Run

from ..conftest import EXPERIMENT, write_small_coast

TREES = {"lightgbm": EXPERIMENT["members"]["lightgbm"]}


def open_run(experiment, folder, *overrides, **machine):
    return Run(load_scene_experiment(experiment, overrides), experiment, RunFolder(folder), **{"workers": 1, **machine})


def carry_out(run, *names, overwrite=False):
    for stage in run.stages:
        if not names or stage.name in names:
            run.folder.carry_out(stage, overwrite)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a coast and a finished run of it, of trees alone."""
    root = tmp_path_factory.mktemp("made")
    experiment = write_small_coast(root / "coast", members=TREES)
    groups = {path.name.removesuffix("_satellite.tif"): path.name[:1] for path in (root / "coast/train").glob("*.tif")}
    (root / "coast" / "groups.json").write_text(json.dumps(groups))
    experiment.write_text(experiment.read_text().replace("similar: dem", "file: groups.json"))
    carry_out(open_run(experiment, root / "run"))
    return root


@pytest.fixture
def world(made, tmp_path):
    """Return copies of the experiment file and of the run: moved, with other times."""
    for name in ("coast", "run"):
        shutil.copytree(made / name, tmp_path / name, copy_function=shutil.copyfile)
    return tmp_path / "coast" / "small.yaml", tmp_path / "run"


def test_two_runs_differ_in_nothing_but_what_was_measured(made, tmp_path):
    carry_out(open_run(made / "coast" / "small.yaml", tmp_path / "again", workers=2))
    first, second = contents(made / "run"), contents(tmp_path / "again")
    assert first.keys() == second.keys()
    differing = {name for name in first if first[name] != second[name]}
    assert differing <= {"timings.json", "submissions.csv"}
    # The journal of submissions says when; the rest of its rows is the same.
    [one], [other] = (table["submissions.csv"].decode().splitlines()[1:] for table in (first, second))
    assert one.split(",")[1:] == other.split(",")[1:]
    for number, run in enumerate((made / "run", tmp_path / "again")):
        write_bundle(
            Run(load_scene_experiment(run / "experiment.yaml"), run, RunFolder(run)), tmp_path / f"{number}.zip"
        )
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()


def test_data_and_run_that_were_moved_or_copied_are_as_fresh_as_before(world, made, caplog):
    experiment, folder = world
    shutil.rmtree(folder / "maps")
    run = open_run(experiment, folder)
    assert {run.folder.state(stage) for stage in run.stages[:-1]} == {"done"}
    assert run.folder.state(run.submit) == "damaged"
    carry_out(run)
    assert contents(folder / "maps") == contents(made / "run" / "maps")
    # The scenes are read where they are now.
    assert all(image.path.startswith(str(experiment.parent)) for s in run.load_catalogue().scenes for image in s.images)


@pytest.mark.parametrize("name", ["groups.json", "train/{}_satellite.tif", "train_kelp/{}_kelp.tif"])
def test_every_file_that_an_experiment_names_is_an_input_and_a_changed_one_is_named(world, name):
    experiment, folder = world
    scene = min(read_json(experiment.parent / "groups.json"))
    path = experiment.parent / name.format(scene)
    if name == "groups.json":
        path.write_text(path.read_text().replace(f'"{scene}": "', f'"{scene}": "other'))
    else:
        path.write_bytes(path.read_bytes() + b" ")
    run = open_run(experiment, folder)
    assert {run.folder.state(stage) for stage in run.stages} == {"stale"}
    with pytest.raises(
        RunError, match=rf"check was made with other settings \(files\.{path.name[:3]}.* changed\)|files"
    ):
        run.folder.carry_out(run.check)


def change_byte(path):
    """Change a file, not its size and time."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_that_changed_with_its_size_and_time_is_noticed_where_that_is_asked_for(world):
    experiment, folder = world
    run = open_run(experiment, folder)
    assert run.folder.state(run.check) == "done"
    change_byte(experiment.parent / "groups.json")
    assert open_run(experiment, folder).folder.state(open_run(experiment, folder).check) == "done"
    again = open_run(experiment, folder, verify=True)
    assert again.folder.state(again.check) == "stale"


def test_where_all_is_read_again_each_file_is_read_once(world, monkeypatch):
    experiment, folder = world
    run = open_run(experiment, folder)
    assert run.folder.state(run.ensemble) == "done"
    hashed = []
    monkeypatch.setattr(inputs, "hash_file", lambda path: hashed.append(path.name) or hash_file(path))
    again = open_run(experiment, folder, verify=True)
    assert {again.folder.state(stage) for stage in again.stages} == {"done"}
    # Scenes have digests in the catalogue, by which they are compared.
    assert hashed == ["groups.json"]


@pytest.mark.parametrize("changed", ["scene", "members/lightgbm/oof"])
def test_a_run_that_is_no_longer_what_it_was_is_not_bundled(world, tmp_path, changed):
    experiment, folder = world
    place = experiment.parent / "train" if changed == "scene" else folder / changed
    path = min(place.glob("*.tif"))
    change_byte(path)
    run = open_run(experiment, folder)
    with pytest.raises(TerrablendError, match=re.escape(path.name)):
        write_bundle(run, tmp_path / "model.zip")
    assert not (tmp_path / "model.zip").exists()
    shutil.rmtree(place)
    if changed == "scene":
        # Where the scenes are no longer there is nothing to compare.
        write_bundle(open_run(folder / "experiment.yaml", folder), tmp_path / "model.zip")


def test_a_bundle_that_was_whole_before_a_kill_is_taken_for_written_and_another_is_left_alone(world, tmp_path):
    _, folder = world
    run, out = open_run(folder / "experiment.yaml", folder), tmp_path / "model"
    write_bundle(run, out)
    (tmp_path / ".bundle-host-1-left").mkdir()
    before = contents(out)
    write_bundle(run, out)
    assert contents(out) == before
    assert "members/lightgbm/fold0.json" in before
    (out / "manifest.json").write_bytes(before["manifest.json"].replace(b"small", b"other"))
    with pytest.raises(BundleError, match="expected a new folder"):
        write_bundle(run, out)


def test_an_error_within_a_zip_names_the_zip_and_no_unpacked_file(world, tmp_path):
    _, folder = world
    path = tmp_path / "model.zip"
    write_bundle(open_run(folder / "experiment.yaml", folder), path)
    with (
        pytest.raises(BundleError, match=r"model\.zip: members/a\.txt: expected a model\. Do not use it"),
        open_model(path) as inside,
    ):
        raise MemberError(f"{inside}/members/a.txt: expected a model. Make it again.")
    with pytest.raises(SceneError, match=r"^a\.tif: expected a scene"), open_model(path):
        raise SceneError("a.tif: expected a scene.")


@pytest.mark.parametrize("name", ["check", "Features", "ensemble", "submit", "explain-lightgbm", "tune-x"])
def test_no_member_has_the_name_of_a_stage(made, tmp_path, name):
    text = (made / "coast" / "small.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text.replace("  lightgbm:", f"  {name}:"))
    with pytest.raises(ExperimentError, match=rf"a\.yaml: members\..*expected a name that no stage has, got {name}"):
        load_scene_experiment(tmp_path / "a.yaml")


def test_what_cannot_be_found_names_the_experiment_file(made, tmp_path):
    text = (made / "coast" / "small.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text.replace("root: .", f"root: {made / 'coast'}").replace("train/", "trian/"))
    run = open_run(tmp_path / "a.yaml", tmp_path / "run")
    with pytest.raises(CatalogueError, match=r"a\.yaml: .*trian.*expected scenes, got no matching file"):
        run.folder.carry_out(run.check)


@pytest.mark.parametrize(
    "lost", ["members/lightgbm/fold1.txt", "members/lightgbm/oof", "pixels", "submission.tar", "ensemble/ensemble.json"]
)
@pytest.mark.parametrize("cut", [False, True])
def test_whatever_is_missing_or_cut_off_is_made_again_to_the_same_bytes(world, made, lost, cut):
    experiment, folder = world
    paths = [folder / lost] if (folder / lost).is_file() else sorted((folder / lost).rglob("*.*"))[:2]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1]) if cut else path.unlink()
    carry_out(open_run(experiment, folder))
    first, second = contents(made / "run"), contents(folder)
    stable = {name for name in first if not name.startswith(("timings", "submissions", "inputs", "experiment"))}
    assert stable <= second.keys()
    assert {name for name in stable if first[name] != second[name]} == set()
    assert len(second["submissions.csv"].splitlines()) == 2


def test_a_member_that_was_trained_anew_after_the_ensemble_is_not_applied(world, tmp_path):
    experiment, folder = world
    changed = open_run(experiment, folder, "members.lightgbm.rounds=9")
    carry_out(changed, "lightgbm", overwrite=True)
    image = str(next((experiment.parent / "test").glob("*.tif")))
    run = open_run(folder / "experiment.yaml", folder)
    for deliver in (
        lambda: predict_scenes(run, [image], tmp_path / "out"),
        lambda: write_bundle(run, tmp_path / "model.zip"),
    ):
        with pytest.raises(EnsembleError, match=r"fold0\.json: .*the stage ensemble is stale.*terrablend ensemble"):
            deliver()
    assert not (tmp_path / "out").exists()
    before = run.load_ensemble()
    carry_out(changed, "explain-lightgbm", "ensemble", overwrite=True)
    predict_scenes(run, [image], tmp_path / "out")
    assert dict(run.load_ensemble().models) != dict(before.models)


def test_a_refused_command_leaves_the_experiment_that_the_results_were_made_by(world):
    experiment, folder = world
    before = (folder / "experiment.yaml").read_text()
    with pytest.raises(RunError, match="made with other settings"):
        carry_out(open_run(experiment, folder, "members.lightgbm.rounds=9"))
    assert (folder / "experiment.yaml").read_text() == before


def test_predictions_take_the_place_of_earlier_predictions_and_of_nothing_else(world, made):
    experiment, folder = world
    scenes = experiment.parent / "test"
    image = next(scenes.glob("*.tif"))
    before = contents(scenes)
    run = open_run(folder / "experiment.yaml", folder)
    for _ in range(2):
        predict_scenes(run, [str(image)], scenes)
    assert {name: content for name, content in contents(scenes).items() if name in before} == before
    # They have names of their own, by which they are also scored.
    (scenes / f".writing-{image.stem}.tif").write_bytes(b"left by a kill")
    truth = experiment.parent / "truth"
    label = next(truth.glob(f"{image.name.removesuffix('_satellite.tif')}*"))
    shutil.copyfile(label, truth / f"{image.stem}.tif")
    assert "1 scenes" in evaluate_maps(run.experiment, scenes, str(truth / "{id}.tif"))
    for kind in ("_classes", "_proba"):
        path = scenes / f"{image.stem}{kind}.tif"
        shutil.copyfile(image, path)
        with pytest.raises(OutputError, match=rf"{kind}\.tif: expected no such file yet"):
            predict_scenes(run, [str(image)], scenes)
        assert path.read_bytes() == image.read_bytes()
        path.unlink()


def test_a_zip_that_is_no_bundle_is_not_replaced_and_a_bundle_is(world, tmp_path):
    _, folder = world
    run = open_run(folder / "experiment.yaml", folder)
    path = tmp_path / "kelp.zip"
    path.write_bytes(b"holiday pictures")
    with pytest.raises(OutputError, match=r"kelp\.zip: expected no such file yet"):
        write_bundle(run, path)
    assert path.read_bytes() == b"holiday pictures"
    path.unlink()
    for _ in range(2):
        write_bundle(run, path)
    with open_model(path):
        pass


@pytest.mark.parametrize("name", ["..", ".", ".hidden"])
def test_no_experiment_and_no_member_has_the_name_of_a_folder_above_or_a_hidden_one(made, tmp_path, name):
    text = (made / "coast" / "small.yaml").read_text()
    for change in (("name: small", f"name: {name}"), ("  lightgbm:", f"  {name}:")):
        (tmp_path / "a.yaml").write_text(text.replace(*change))
        with pytest.raises(Exception, match="match pattern"):
            load_scene_experiment(tmp_path / "a.yaml")


def test_a_folder_with_work_of_its_own_is_no_run_folder(made, tmp_path):
    for name in ("pixels", "ensemble", "maps"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.csv").write_text("a year of work")
    run = open_run(made / "coast" / "small.yaml", tmp_path)
    for overwrite in (False, True):
        with pytest.raises(RunError, match="expected a new or empty folder"):
            carry_out(run, overwrite=overwrite)
    assert contents(tmp_path) == {f"{name}/mine.csv": b"a year of work" for name in ("pixels", "ensemble", "maps")}


def test_hidden_files_are_no_scenes(world, tmp_path):
    experiment, _ = world
    scenes = experiment.parent / "train"
    image = min(scenes.glob("*.tif"))
    shutil.copyfile(image, scenes / f".writing-{image.name}")
    run = open_run(experiment, tmp_path / "new")
    assert not [path for path in run.input_files() if path.name.startswith(".")]
