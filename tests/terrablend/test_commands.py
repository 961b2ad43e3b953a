import errno
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from importlib.util import find_spec
from pathlib import Path

import geopandas
import numpy as np
import polars as pl
import pytest
import rasterio
import typer
import yaml

from data.files import read_json
from data.maps.geotiff import read_map
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import maybe_ungeoreferenced
from terrablend.endings import interrupt, plain_endings
from terrablend.run.record import load_record
from terrablend.start.coast import NODATA

COMMANDS = ("check", "features", "trees", "cnn", "explain", "ensemble", "submit")


def read(path):
    with maybe_ungeoreferenced(), rasterio.open(path) as raster:
        return raster.read()


def bytes_below(folder):
    # Records and sidecars tell how long it took; the rest must be the same to the byte.
    kinds = {".parquet", ".tif", ".txt", ".safetensors", ".tar"}
    paths = [path for path in folder.rglob("*") if path.suffix in kinds] + list(folder.glob("explain/*.json"))
    return {path.relative_to(folder): path.read_bytes() for path in paths}


@pytest.fixture
def finished(small_coast, finish):
    return finish(small_coast)


def test_one_command_goes_from_scenes_to_a_submission(finished, small_coast, terrablend, tmp_path):
    catalogue = Catalogue.load(finished / "catalogue.parquet")
    tests = {scene.id for scene in catalogue.split("test")}

    # Near-duplicates of a place are in one group, and every scene is mapped by the model that never saw it.
    places = read_json(small_coast.parent / "truth" / "places.json")
    for first in catalogue.split("train"):
        for second in catalogue.split("train"):
            assert (first.group == second.group) == (places[first.id] == places[second.id])
            assert first.group != second.group or first.fold == second.fold
    for member in ("lightgbm", "unet"):
        for scene in catalogue.split("train"):
            with maybe_ungeoreferenced(), rasterio.open(finished / f"members/{member}/oof/{scene.id}.tif") as raster:
                assert raster.tags()["folds"] == str(scene.fold)
                assert raster.descriptions == ("kelp",)

    with tarfile.open(finished / "submission.tar") as archive:
        assert set(archive.getnames()) == {f"{scene}_kelp.tif" for scene in tests}
    assert "</html>" in (finished / "ensemble" / "report.html").read_text()
    scores = pl.read_parquet(finished / "ensemble" / "scores.parquet")
    steps = {"blend, uncalibrated", "blend, plain threshold", "blend, uncleaned"}
    assert set(scores["candidate"]) == {"lightgbm", "unet", "blend"} | steps
    areas = (finished / "ensemble" / "areas.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in areas[1:]] == [
        [split, label] for split in ("train", "test") for label in ("background", "kelp")
    ]
    assert yaml.safe_load((finished / "experiment.yaml").read_text())["members"]["lightgbm"]["rounds"] == 15

    # The same scene, given as one never seen, gets the same map.
    scene = min(tests)
    image = small_coast.parent / "test" / f"{scene}_satellite.tif"
    outcome = terrablend("predict", finished, image, "-o", tmp_path / "out", "--workers", 1)
    assert outcome.code == 0, outcome.err
    np.testing.assert_array_equal(
        read(tmp_path / "out" / f"{scene}_satellite_classes.tif"), read(finished / f"maps/{scene}.tif")
    )
    nodata = (read(image) == NODATA).all(axis=0)
    assert (read_map(tmp_path / "out" / f"{scene}_satellite_proba.tif")[0][nodata] == 65535).all()

    outcome = terrablend("evaluate", small_coast, finished / "maps", small_coast.parent / "truth")
    assert outcome.code == 0
    assert "Dice" in outcome.out

    # Places to label next lie in test scenes; the same are found again.
    for _ in range(2):
        outcome = terrablend("suggest", finished, "-n", 3, "--side", 16, "-o", tmp_path / "next.gpkg")
        assert outcome.code == 0, outcome.err
    places = geopandas.read_file(tmp_path / "next.gpkg")
    assert len(places) == len(outcome.out.splitlines()) == 3
    assert set(places["scene"]) <= tests
    assert places["rank"].tolist() == [1, 2, 3]
    assert (places["class"] == "").all()
    assert (places.area == 256).all()
    (tmp_path / "own.gpkg").write_bytes(b"SQLite format 3, of somebody else")
    assert terrablend("suggest", finished, "-o", tmp_path / "own.gpkg").code == 2


def test_the_stages_one_by_one_make_the_same_bytes_as_all_at_once(small_coast, terrablend, tmp_path):
    for command in ("run", *COMMANDS):
        run, workers = tmp_path / ("run" if command == "run" else "steps"), 2 if command == "features" else 1
        outcome = terrablend(command, small_coast, "--run", run, "--workers", workers)
        assert outcome.code == 0, outcome.err
    assert bytes_below(tmp_path / "steps") == bytes_below(tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(finished, terrablend):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.tif")}
    outcome = terrablend("run", finished, "--workers", 1)
    assert outcome.code == 0
    assert "done before" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.tif")} == before


def test_what_is_missing_is_made_again_to_the_same_bytes(finished, small_coast, terrablend):
    # As after a kill: the stage's record says unfinished, some files are there and some are not.
    before = bytes_below(finished)
    record = finished / "stages" / "lightgbm.json"
    load_record(record).model_copy(update={"state": "unfinished"}).save(record)
    (finished / "members" / "lightgbm" / "fold1.txt").unlink()
    for path in list((finished / "members" / "lightgbm" / "oof").glob("*.tif"))[::2]:
        path.unlink()
    outcome = terrablend("trees", small_coast, "--run", finished, "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert bytes_below(finished) == before


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(small_coast, terrablend, tmp_path):
    outcome = terrablend("run", small_coast, "--run", tmp_path / "run", "--dry-run")
    assert outcome.code == 0
    assert [line.split() for line in outcome.out.splitlines()] == [
        [name, "to", "do"]
        for name in ("check", "features", "lightgbm", "unet", "explain-lightgbm", "ensemble", "submit")
    ]
    assert not (tmp_path / "run").exists()


def test_changed_settings_are_refused_until_overwritten(finished, small_coast, terrablend):
    changed = ("--run", finished, "--workers", 1, "--set", "members.lightgbm.rounds=9")
    outcome = terrablend("trees", small_coast, *changed)
    assert outcome.code == 2
    assert "lightgbm was made with other settings (rounds: 15 → 9)" in outcome.err
    assert "Traceback" not in outcome.err
    assert terrablend("trees", small_coast, *changed, "--overwrite").code == 0
    outcome = terrablend("ensemble", small_coast, *changed)
    assert "explain-lightgbm was made with other settings" in outcome.err
    assert terrablend("explain", small_coast, *changed, "--overwrite").code == 0
    outcome = terrablend("ensemble", small_coast, *changed)
    assert "the result of ensemble was made with other settings" in outcome.err


def test_a_stage_before_its_turn_names_the_command_that_comes_first(small_coast, terrablend, tmp_path):
    outcome = terrablend("trees", small_coast, "--run", tmp_path / "run")
    assert outcome.code == 2
    assert f"Run `terrablend check {small_coast}` first" in outcome.err


def test_what_the_trees_look_at_is_told_with_the_meaning_of_columns_and_is_in_the_report(finished, terrablend):
    outcome = terrablend("explain", finished, "lightgbm", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert "explain-lightgbm: done before" in outcome.err
    lines = outcome.out.splitlines()
    assert "each by the booster of its own fold" in lines[0]
    assert any(line.startswith("NDVI ") and "(N - R) / (N + R)" in line for line in lines)
    report = (finished / "ensemble" / "report.html").read_text()
    assert "<h2>Feature importance</h2>" in report
    outcome = terrablend("explain", finished, "unet")
    assert outcome.code == 2
    assert "expected a member of the branch trees (lightgbm), got unet" in outcome.err


def test_members_are_explained_before_they_are_blended(finished, small_coast, terrablend):
    (finished / "stages" / "explain-lightgbm.json").unlink()
    outcome = terrablend("ensemble", small_coast, "--run", finished)
    assert outcome.code == 2
    assert f"Run `terrablend explain {small_coast} lightgbm` first" in outcome.err


def test_one_fold_alone_leaves_the_member_unfinished(small_coast, terrablend, tmp_path):
    common = (small_coast, "--run", tmp_path / "run", "--workers", 1)
    for command in ("check", "features"):
        assert terrablend(command, *common).code == 0
    assert terrablend("trees", *common, "--fold", 1).code == 0
    member = tmp_path / "run" / "members" / "lightgbm"
    assert sorted(path.name for path in member.glob("fold*.txt")) == ["fold1.txt"]
    assert "unfinished" in terrablend("trees", *common, "--dry-run").out
    assert terrablend("trees", *common).code == 0
    assert sorted(path.name for path in member.glob("fold*.txt")) == ["fold0.txt", "fold1.txt"]
    outcome = terrablend("trees", *common, "--fold", 7, "--set", "members.lightgbm.rounds=3", "--overwrite")
    assert "expected one of 0, 1" in outcome.err


def test_a_member_that_does_not_exist_is_answered_with_those_that_do(small_coast, terrablend, tmp_path):
    outcome = terrablend("cnn", small_coast, "lightgbm", "--run", tmp_path / "run")
    assert outcome.code == 2
    assert "expected a member of the branch cnn (unet), got lightgbm" in outcome.err


def test_a_network_is_written_as_a_file_of_its_own(small_coast, terrablend, tmp_path, monkeypatch):
    common, run, file = (
        (small_coast, "--run", tmp_path / "run", "--workers", 1),
        tmp_path / "run",
        tmp_path / "unet.onnx",
    )
    assert terrablend("check", *common).code == 0
    outcome = terrablend("export", run, "unet", "-o", file)
    assert outcome.code == 2
    assert "expected a trained member" in outcome.err
    assert terrablend("cnn", *common, "--fold", 1).code == 0
    outcome = terrablend("export", run, "lightgbm", "-o", file)
    assert "expected a member of the branch cnn (unet), got lightgbm" in outcome.err
    for words, message in (
        ((), "expected a member, or --qgis for the whole ensemble, got none"),
        (("unet", "--qgis"), "--qgis: expected a run alone, got a member or a fold, too"),
        (("--qgis",), "expected an ensemble"),
        (("unet", "--earth-engine"), "expected a member of the branch trees"),
    ):
        outcome = terrablend("export", run, *words, "-o", file)
        assert outcome.code == 2
        assert message in " ".join(outcome.err.split())
    if all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        assert terrablend("export", run, "unet", "-o", file).code == 0
        card = read_json(file.with_suffix(".json"))
        assert [channel["name"] for channel in card["inputs"]["channels"]] == ["red", "green", "blue", "nir", "NDVI"]
        assert card["folds"] == [1]
    monkeypatch.setitem(sys.modules, "onnx", None)
    outcome = terrablend("export", run, "unet", "-o", file)
    assert outcome.code == 2
    assert "pip install terrablend[onnx]" in outcome.err


class TestBadInput:
    """Each ends in one clear message, exit status 2, and nothing that a later stage would trust."""

    @pytest.fixture
    def fails(self, small_coast, terrablend, tmp_path):
        def check(*words, command="check"):
            outcome = terrablend(command, small_coast, "--run", tmp_path / "run", "--workers", 1, *words)
            assert outcome.code == 2
            assert "Traceback" not in outcome.err
            assert outcome.err.count("error:") == 1
            assert not list((tmp_path / "run").rglob(".writing-*"))
            assert terrablend("features", small_coast, "--run", tmp_path / "run", *words).code == 2
            return outcome.err

        return check

    @pytest.fixture
    def image(self, small_coast):
        return min((small_coast.parent / "train").iterdir())

    def test_a_truncated_file(self, image, fails):
        image.write_bytes(image.read_bytes()[:5000])
        assert f"{image}: expected a readable raster" in fails()

    def test_a_missing_band(self, image, fails, write_raster):
        image.write_bytes(write_raster("six.tif", np.zeros((6, 64, 64), np.int16)).read_bytes())
        assert f"{image}: expected 7 bands" in fails()

    def test_a_label_of_another_size(self, image, small_coast, fails, write_raster):
        label = small_coast.parent / "train_kelp" / image.name.replace("satellite", "kelp")
        label.write_bytes(write_raster("small.tif", np.zeros((63, 64), np.uint8)).read_bytes())
        assert "expected 64 × 64 pixels" in fails()

    def test_a_class_that_nobody_declared(self, image, small_coast, fails, write_raster):
        label = small_coast.parent / "train_kelp" / image.name.replace("satellite", "kelp")
        label.write_bytes(write_raster("nine.tif", np.full((64, 64), 9, np.uint8)).read_bytes())
        assert "expected the values 0, 1, got also 9" in fails()

    def test_no_training_scenes(self, small_coast, fails):
        for path in (small_coast.parent / "train").iterdir():
            path.unlink()
        assert "expected scenes, got no matching file" in fails()

    def test_labels_without_positives(self, small_coast, fails, write_raster):
        empty = write_raster("empty.tif", np.zeros((64, 64), np.uint8)).read_bytes()
        for path in (small_coast.parent / "train_kelp").iterdir():
            path.write_bytes(empty)
        assert "expected pixels of the class kelp, got none" in fails()

    def test_a_fold_that_cannot_have_positives(self, small_coast, fails, write_raster):
        empty = write_raster("empty.tif", np.zeros((64, 64), np.uint8)).read_bytes()
        places = read_json(small_coast.parent / "truth" / "places.json")
        kept = places[min(small_coast.parent.glob("train/*")).name.removesuffix("_satellite.tif")]
        for path in (small_coast.parent / "train_kelp").iterdir():
            if places[path.name.removesuffix("_kelp.tif")] != kept:
                path.write_bytes(empty)
            else:
                path.write_bytes(write_raster("full.tif", np.ones((64, 64), np.uint8)).read_bytes())
        assert "folds.count" in fails()

    def test_an_unknown_key_is_answered_with_the_nearest(self, fails):
        error = fails("--set", "features.sampel.buffer=3")
        assert "got sampel. Did you mean sample?" in error

    def test_a_value_of_the_wrong_kind(self, fails):
        assert "folds.count" in fails("--set", "folds.count=many")

    def test_an_unknown_feature(self, small_coast, terrablend, tmp_path):
        common = (small_coast, "--run", tmp_path / "run", "--workers", 1, "--set", "features.indices=[NDVJ]")
        outcome = terrablend("check", *common)
        assert outcome.code == 2
        assert "Did you mean NDVI" in outcome.err

    def test_an_environment_variable_that_is_not_set(self, small_coast, terrablend):
        small_coast.write_text(small_coast.read_text().replace("root: .", "root: ${NOWHERE_TO_BE_FOUND}"))
        outcome = terrablend("check", small_coast)
        assert outcome.code == 2
        assert "environment variable NOWHERE_TO_BE_FOUND" in outcome.err

    def test_an_experiment_file_that_is_no_yaml(self, small_coast, terrablend):
        small_coast.write_text("name: [")
        outcome = terrablend("check", small_coast)
        assert outcome.code == 2
        assert f"{small_coast}, line 1, column 8: expected plain YAML" in outcome.err

    def test_an_unwritable_run_folder(self, small_coast, terrablend, tmp_path):
        (tmp_path / "file").touch()
        outcome = terrablend("check", small_coast, "--run", tmp_path / "file" / "run")
        assert outcome.code == 2
        assert "expected a folder to write to" in outcome.err

    def test_the_traceback_is_shown_on_demand(self, image, small_coast, terrablend, tmp_path, monkeypatch):
        image.write_bytes(b"no raster")
        monkeypatch.setattr("sys.argv", ["terrablend", "check", str(small_coast), "--run", str(tmp_path / "run"), "-v"])
        from data.errors import CatalogueError
        from terrablend.cli import main

        with pytest.raises(CatalogueError):
            main()


def test_ctrl_c_in_the_middle_of_a_stage_is_one_message_and_loses_nothing(small_coast, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "terrablend", "run", str(small_coast), "--run", str(run), "--workers", "2"]
    slow = ["--set", "members.unet.steps=100000"]
    process = subprocess.Popen(
        [*command, *slow],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # In the background tests themselves ignore it.
    )
    deadline = time.monotonic() + 120
    while not (run / "stages" / "unet.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    time.sleep(3)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "interrupted: what was finished is kept" in err
    assert "Traceback" not in err
    assert not list(run.rglob(".writing-*"))
    assert not list((run / "members" / "unet").glob("*.safetensors"))
    assert read_json(run / "stages" / "unet.json")["state"] == "unfinished"
    assert read_json(run / "stages" / "lightgbm.json")["state"] == "done"
    assert Path(run / "members" / "lightgbm" / "fold0.txt").exists()


def test_a_file_that_changed_with_its_size_and_time_is_found_by_check_verify(small_coast, tmp_path, terrablend):
    common = ("check", small_coast, "--run", tmp_path / "run", "--workers", 1)
    assert terrablend(*common).code == 0
    outcome = terrablend(*common, "--verify")
    assert outcome.code == 0, outcome.err
    assert "all that check wrote: as they were" in outcome.err
    page = tmp_path / "run" / "check.html"
    text = page.read_text()
    page.write_text(text.replace("small", "smell"))
    assert terrablend(*common).code == 0
    outcome = terrablend(*common, "--verify")
    assert outcome.code == 2
    assert "check.html: expected the file as the stage check wrote it, got other bytes" in outcome.err
    page.write_text(text)
    image = next((small_coast.parent / "train").glob("*.tif"))
    times, content = image.stat(), bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    outcome = terrablend(*common, "--verify")
    assert outcome.code == 2
    # A flipped bit makes other pixels, or a stream that cannot be unpacked.
    assert re.search(
        rf"expected the pixels of the check, got others in {image}|{image}: expected a readable", outcome.err
    )


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), "runs/a: No space left on device. Free space"),
        (OSError(errno.EROFS, "Read-only file system", "b"), "b: Read-only file system. Allow it, or choose another"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "c"), "c: No such file or directory. What was"),
    ],
)
def test_a_fault_of_the_machine_is_one_message_that_says_what_to_do(fault, advice, capfd):
    with pytest.raises(typer.Exit) as end, plain_endings(verbose=False):
        raise fault
    assert end.value.exit_code == 2
    assert f"error: {advice}" in capfd.readouterr().err


def test_a_process_that_is_asked_to_end_ends_as_by_ctrl_c(tmp_path):
    (tmp_path / "asked.py").write_text(
        "import os, signal, sys\n"
        "from terrablend import cli\n"
        "from terrablend.endings import plain_endings\n"
        "@cli.app.command()\n"
        "def ask():\n"
        "    with plain_endings(verbose=False):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        signal.pause()\n"
        "sys.argv = ['terrablend', 'ask']\n"
        "cli.main()\n"
    )
    ended = subprocess.run([sys.executable, tmp_path / "asked.py"], check=False, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "interrupted: what was finished is kept" in ended.stderr


def test_an_interrupt_in_a_callback_which_would_lose_it_comes_once_that_is_over():
    before = signal.getsignal(signal.SIGALRM)
    called = compile("interrupt(signal.SIGINT, sys._getframe())", "site-packages/llvmlite/binding/engine.py", "exec")
    try:
        exec(called, {"interrupt": interrupt, "signal": signal, "sys": sys})
        with pytest.raises(KeyboardInterrupt):
            signal.pause()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_features_that_were_killed_go_on_and_end_with_the_same_bytes(small_coast, tmp_path, terrablend):
    def rows_in(run):
        # What is being written lies beside what is whole, under a name that starts with a dot.
        return {path.relative_to(run): path.read_bytes() for path in run.rglob("fold=*/[!.]*.parquet")}

    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    for run in (killed, undisturbed):
        assert terrablend("check", small_coast, "--run", run).code == 0
    command = ["features", str(small_coast), "--run", str(killed), "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "terrablend", *command], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not rows_in(killed) and process.poll() is None:
        assert time.monotonic() < deadline
    process.kill()
    process.wait()
    assert rows_in(killed)
    for run in (killed, undisturbed):
        assert terrablend("features", small_coast, "--run", run, "--workers", "1").code == 0
    assert len(rows_in(killed)) == 8
    assert rows_in(killed) == rows_in(undisturbed)


def test_ctrl_c_in_code_that_a_library_generated_ends_the_same_way(tmp_path):
    (tmp_path / "interrupted.py").write_text(
        "import sys, typer\n"
        "from terrablend.endings import plain_endings\n"
        "try:\n"
        "    with plain_endings(verbose=False):\n"
        "        exec('raise KeyboardInterrupt')\n"
        "except typer.Exit as end:\n"
        "    sys.exit(end.exit_code)\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    ended = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "interrupted" in ended.stderr


def test_all_packages_lie_in_one_folder():
    import cnn
    import data
    import ensemble
    import features
    import terrablend
    import trees

    parents = {Path(str(package.__file__)).parents[1] for package in (cnn, data, ensemble, features, terrablend, trees)}
    assert len(parents) == 1


@pytest.mark.parametrize("library", ["torch", "lightgbm"])
def test_help_does_not_wait_for_torch_or_trees(library):
    code = f"import sys; from terrablend.cli import app; sys.exit('{library}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
