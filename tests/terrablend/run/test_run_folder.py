import pytest

from data.errors import RunError
from data.files import read_json
from terrablend.run.run_folder import RunFolder, Stage


class Steps:
    """Two stages that write a file each, and count how often they do."""

    def __init__(self, path):
        self.folder = RunFolder(path)
        self.done = []

    def table(self, radius=3):
        return Stage("features", "terrablend features x", self._write("pixels"), (), ("pixels",), {"radius": radius})

    def model(self, radius=3, complete=True):
        work = self._write("model")
        return Stage("lgbm", "terrablend trees x", work, (self.table(radius),), ("model",), complete=complete)

    def _write(self, name):
        def work():
            self.done.append(name)
            (self.folder.path / name).write_text(name)

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


def test_a_file_without_a_record_is_not_trusted(steps):
    (steps.folder.path / "pixels").mkdir(parents=True)
    (steps.folder.path / "pixels" / "of unknown make").touch()
    steps.folder.carry_out(steps.table())
    assert (steps.folder.path / "pixels").read_text() == "pixels"


def test_a_part_of_a_stage_leaves_it_unfinished(steps):
    steps.folder.carry_out(steps.table())
    steps.folder.carry_out(steps.model(complete=False))
    assert steps.folder.state(steps.model()) == "unfinished"


def test_the_record_says_what_it_took(steps):
    steps.folder.carry_out(steps.table())
    record = read_json(steps.folder.path / "stages" / "features.json")
    assert record["done"]
    assert record["made_from"]["radius"] == 3
    assert record["peak_mib"] > 1


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    steps = Steps(tmp_path / "file" / "run")
    with pytest.raises(RunError, match="expected a folder to write to"):
        steps.folder.carry_out(steps.table())
