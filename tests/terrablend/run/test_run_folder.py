import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from data.errors import RunError, TableError
from data.files import hash_file, read_json
from data.records import write_record
from terrablend.run.run_folder import RunFolder, Stage


class Steps:
    """Two stages that write a file each, and count how often they do."""

    def __init__(self, path):
        self.folder = RunFolder(path)
        self.done = []
        self.text = ""

    def table(self, radius=3):
        return Stage("features", "terrablend features x", self._write("pixels"), (), ("pixels",), {"radius": radius})

    def model(self, radius=3, complete=True):
        work = self._write("model")
        return Stage("lgbm", "terrablend trees x", work, (self.table(radius),), ("model",), complete=complete)

    def _write(self, name):
        def work():
            self.done.append(name)
            (self.folder.path / name).write_text(self.text or name)

        return work


@pytest.fixture
def steps(tmp_path):
    return Steps(tmp_path / "run")


def test_what_is_done_is_not_done_again(steps):
    for _ in range(2):
        steps.folder.carry_out(steps.table())
    assert steps.done == ["pixels"]
    assert steps.folder.state(steps.table()) == "done"


def test_a_stage_waits_for_those_it_reads(steps):
    with pytest.raises(
        RunError, match=r"expected the stage features to be done, it is to do\. Run `terrablend features x`"
    ):
        steps.folder.carry_out(steps.model())
    steps.folder.carry_out(steps.table())
    steps.folder.carry_out(steps.model())
    assert steps.done == ["pixels", "model"]


def test_a_result_of_other_settings_is_named_and_refused(steps):
    steps.folder.carry_out(steps.table())
    assert steps.folder.state(steps.table(7)) == "stale"
    with pytest.raises(RunError, match=r"features was made with other settings \(radius: 3 → 7\).*--overwrite"):
        steps.folder.carry_out(steps.table(7))
    with pytest.raises(RunError, match="features was made with other settings"):
        steps.folder.carry_out(steps.model(7))
    assert steps.done == ["pixels"]


def test_what_failed_before_it_wrote_anything_may_be_done_with_other_settings(steps):
    def fail():
        raise TableError("34 problems")

    broken = steps.table(7)
    with pytest.raises(TableError):
        steps.folder.carry_out(Stage(broken.name, broken.command, fail, (), broken.outputs, broken.settings))
    assert steps.folder.state(steps.table()) == "to do"
    steps.folder.carry_out(steps.table())
    assert steps.done == ["pixels"]


def test_overwriting_rebuilds_what_is_stale_and_all_that_was_made_from_it(steps):
    for stage in (steps.table(), steps.model()):
        steps.folder.carry_out(stage)
    steps.folder.carry_out(steps.table(7), overwrite=True)
    assert steps.folder.state(steps.model(7)) == "stale"
    steps.folder.carry_out(steps.model(7), overwrite=True)
    assert steps.done == ["pixels", "model", "pixels", "model"]


def test_a_stage_that_was_broken_off_keeps_its_files_and_goes_on(steps):
    def interrupted():
        (steps.folder.path / "pixels").write_text("half the scenes")
        raise KeyboardInterrupt

    stage = steps.table()
    broken = Stage(stage.name, stage.command, interrupted, stage.reads, stage.outputs, stage.settings)
    with pytest.raises(KeyboardInterrupt):
        steps.folder.carry_out(broken)
    assert steps.folder.state(stage) == "unfinished"
    with pytest.raises(RunError, match="it is unfinished"):
        steps.folder.carry_out(steps.model())
    assert (steps.folder.path / "pixels").read_text() == "half the scenes"
    steps.folder.carry_out(stage)
    assert steps.folder.state(stage) == "done"


@pytest.mark.parametrize("ours", [False, True])
def test_a_file_without_a_record_is_neither_trusted_nor_removed(steps, ours):
    if ours:
        steps.folder.claim()
    work = steps.folder.path / "pixels" / "a year of work.csv"
    work.parent.mkdir(parents=True)
    work.write_text("by hand")
    message = "what no record says" if ours else "expected a new or empty folder"
    for overwrite in (False, True):
        with pytest.raises(RunError, match=message):
            steps.folder.carry_out(steps.table(), overwrite)
    assert work.read_text() == "by hand"
    assert steps.done == []


def test_a_part_of_a_stage_leaves_it_unfinished(steps):
    steps.folder.carry_out(steps.table())
    steps.folder.carry_out(steps.model(complete=False))
    assert steps.folder.state(steps.model()) == "unfinished"


def test_the_record_says_what_was_written_and_apart_from_it_what_it_took(steps):
    steps.folder.carry_out(steps.table())
    record = read_json(steps.folder.path / "stages" / "features.json")
    assert record["state"] == "done"
    assert record["made_from"]["radius"] == 3
    assert record["files"] == {"pixels": [6, hashlib.sha256(b"pixels").hexdigest()]}
    assert steps.folder.costs()["features"].peak_mib > 1


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    steps = Steps(tmp_path / "file" / "run")
    with pytest.raises(RunError, match="expected a folder to write to"):
        steps.folder.carry_out(steps.table())


def test_what_is_missing_or_other_than_it_was_written_is_made_again(steps):
    for damage in ("", "pixel", None):
        steps.folder.carry_out(steps.table())
        steps.folder.carry_out(steps.model())
        path = steps.folder.path / "pixels"
        path.unlink() if damage is None else path.write_text(damage)
        assert steps.folder.state(steps.table()) == "damaged"
        with pytest.raises(RunError, match=r"pixels: expected the file as the stage features wrote it, got none or"):
            steps.folder.require(steps.table())
    steps.folder.carry_out(steps.table())
    assert steps.folder.state(steps.model()) == "done"
    assert steps.done == ["pixels", "model", "pixels", "pixels", "pixels"]


def test_another_byte_of_a_file_of_the_same_size_stops_what_would_read_it(steps):
    steps.folder.carry_out(steps.table())
    (steps.folder.path / "pixels").write_text("pixelz")
    again = RunFolder(steps.folder.path)
    with pytest.raises(RunError, match=r"run/pixels: expected the file as the stage features wrote it.*--overwrite`"):
        again.carry_out(steps.model())
    again.carry_out(steps.table(), overwrite=True)
    again.carry_out(steps.model())


def test_overwriting_rebuilds_what_is_done(steps):
    for _ in range(2):
        steps.folder.carry_out(steps.table(), overwrite=True)
    assert steps.done == ["pixels", "pixels"]


def test_a_part_of_a_stage_that_is_done_is_not_overwritten(steps):
    for stage in (steps.table(), steps.model()):
        steps.folder.carry_out(stage)
    with pytest.raises(RunError, match="without --fold"):
        steps.folder.carry_out(steps.model(complete=False), overwrite=True)
    assert steps.folder.state(steps.model()) == "done"


def test_a_stage_that_was_made_anew_with_other_bytes_makes_stale_what_read_it(steps):
    for stage in (steps.table(), steps.model()):
        steps.folder.carry_out(stage)
    steps.folder.carry_out(steps.table(), overwrite=True)
    assert steps.folder.state(steps.model()) == "done"
    steps.text = "other pixels"
    steps.folder.carry_out(steps.table(), overwrite=True)
    with pytest.raises(RunError, match=r"lgbm was made with other settings \(features was made anew since\)"):
        steps.folder.require(steps.model())


def test_where_a_part_comes_out_with_other_bytes_all_is_made_anew(tmp_path):
    folder, number = RunFolder(tmp_path / "run"), iter(range(100))

    def work():
        for name in "ab":
            path = folder.path / "out" / name
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.write_text(f"{next(number):04}")

    stage = Stage("random", "terrablend x", work, (), ("out",))
    folder.carry_out(stage)
    (folder.path / "out" / "a").unlink()
    folder.carry_out(stage)
    assert [(folder.path / "out" / name).read_text() for name in "ab"] == ["0003", "0004"]
    assert folder.state(stage) == "done"


def test_only_what_a_stage_wrote_is_removed(tmp_path):
    folder = RunFolder(tmp_path / "run")

    def work():
        (folder.path / "maps").mkdir(exist_ok=True)
        (folder.path / "maps" / "a.tif").write_text("map")

    stage = Stage("submit", "terrablend submit x", work, (), ("maps",))
    folder.carry_out(stage)
    (folder.path / "maps" / "notes.txt").write_text("by hand")
    folder.carry_out(stage, overwrite=True)
    assert (folder.path / "maps" / "notes.txt").read_text() == "by hand"
    assert folder.state(stage) == "done"


def test_a_stage_that_was_stopped_while_it_was_cleared_is_to_do(steps, monkeypatch):
    steps.folder.carry_out(steps.table())

    def stop(self, names):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "_remove", stop)
        with pytest.raises(KeyboardInterrupt):
            steps.folder.carry_out(steps.table(), overwrite=True)
    assert steps.folder.state(steps.table()) == "to do"
    steps.folder.carry_out(steps.table())
    assert steps.done == ["pixels", "pixels"]


def test_what_killed_processes_left_is_cleared_when_a_stage_starts_and_nothing_else(steps):
    steps.folder.claim()
    left = [sys.executable, "-c", "from data.files import temporary_prefix as of; print(of('writing') + 'abc_12.tif')"]
    name = subprocess.run(left, capture_output=True, text=True, check=True).stdout.strip()
    kept = [name.replace(str(name.split("-")[-2]), str(os.getpid())), ".writing-of-mine.tif", ".gitignore"]
    for file in (name, *kept):
        (steps.folder.path / file).touch()
    steps.folder.carry_out(steps.table())
    hidden = {path.name for path in steps.folder.path.iterdir() if path.name.startswith(".")}
    assert hidden == set(kept)


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"state": "done"}', '{"state": 1, "made_from": {}}', "\x00"])
def test_a_damaged_record_is_one_message_that_names_it(steps, text):
    steps.folder.carry_out(steps.table())
    (steps.folder.path / "stages" / "features.json").write_text(text)
    with pytest.raises(RunError, match=r"stages/features.json: expected the record of a stage, got a damaged file"):
        RunFolder(steps.folder.path).carry_out(steps.table())


def test_what_was_measured_is_in_a_file_apart_and_nothing_depends_on_it(steps):
    steps.folder.carry_out(steps.table())
    first = {path.name: path.read_bytes() for path in steps.folder.path.rglob("*.json")}
    assert json.loads(first.pop("timings.json"))["features"]["seconds"] >= 0
    steps.folder.carry_out(steps.table(), overwrite=True)
    (steps.folder.path / "timings.json").write_text("damaged")
    assert {path.name: path.read_bytes() for path in steps.folder.path.rglob("*.json")} == {
        **first,
        "timings.json": b"damaged",
    }
    assert steps.folder.state(steps.table()) == "done"
    assert steps.folder.costs() == {}


def test_a_folder_that_another_process_works_in_is_refused_with_its_name_until_it_ends_however_that_is(tmp_path):
    hold = (
        "import sys; from pathlib import Path; from terrablend.run.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock():\n    print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "run")]
    folder = RunFolder(tmp_path / "run")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RunError, match=rf"in use by process {process.pid} on .*--run"), folder.lock():
            pass
        process.kill()
        process.wait()
    with folder.lock():
        pass


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*words):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with RunFolder(tmp_path / "run").lock():
        assert "this file system has no locks (No locks available)" in caplog.text


@pytest.mark.parametrize("removed", ["", "stages"])
def test_a_run_folder_that_is_removed_at_work_can_be_gone_on_with(steps, removed):
    folder = steps.folder

    def work():
        shutil.rmtree(folder.path / removed)
        (folder.path / "table.txt").parent.mkdir(exist_ok=True)
        (folder.path / "table.txt").write_text("rows")

    first = Stage("features", "terrablend features", work, (), ("table.txt",))
    with pytest.raises(RunError, match="expected the run folder to stay as it is while features is at work"):
        folder.carry_out(first)
    assert folder.state(first) == "unfinished"
    second = Stage("features", "terrablend features", lambda: None, (), ("table.txt",))
    folder.carry_out(second)
    assert folder.state(second) == "done"


@pytest.mark.parametrize("name", ["../outside.txt", "/{outside}", "a/../../outside.txt"])
def test_a_record_that_names_files_outside_of_the_folder_is_refused(tmp_path, name):
    outside = tmp_path / "outside.txt"
    outside.touch()
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    stage = Stage("check", "check", lambda: None, (), ("a",))
    files = {name.format(outside=str(outside).lstrip("/")): (0, "0" * 64)}
    values = {"state": "done", "made_from": {"other": 1}, "reads": {}, "files": files}
    (folder.path / "stages").mkdir()
    write_record(folder.path / "stages" / "check.json", values)
    with pytest.raises(RunError, match="expected the name of a file below the folder"):
        folder.carry_out(stage, overwrite=True)
    assert outside.exists()


def test_nothing_is_removed_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").touch()
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    (folder.path / "members").symlink_to(outside)
    stage = Stage("x", "trees x", lambda: None, (), ("members/mine.txt",))
    for files in ({"members/mine.txt": (0, hash_file(outside / "mine.txt"))}, {}):
        (folder.path / "stages").mkdir(exist_ok=True)
        values = {"state": "done", "made_from": {"other": 1}, "reads": {}, "files": files}
        write_record(folder.path / "stages" / "x.json", values)
        with pytest.raises(RunError, match=r"got a link to .*outside, where nothing is removed"):
            folder.carry_out(stage, overwrite=True)
    assert (outside / "mine.txt").exists()
