import pytest

from data.errors import ExperimentError
from terrablend.deliver.predict import take_shard

MEMBERS = {"lightgbm": {"branch": "trees", "rounds": 3, "leaves": 4}}


def test_status_says_what_is_done_and_what_is_missing(small_coast, terrablend, tmp_path):
    run, only = tmp_path / "run", ("--set", 'members={"lightgbm": {"branch": "trees", "rounds": 3}}', "--workers", 1)
    assert terrablend("status", small_coast, "--run", run).code == 1
    assert terrablend("check", small_coast, "--run", run, *only).code == 0
    assert terrablend("features", small_coast, "--run", run, *only).code == 0
    assert terrablend("trees", small_coast, "lightgbm", "--fold", 1, "--run", run, *only).code == 0
    outcome = terrablend("status", run)
    assert outcome.code == 1
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["check", "done"] in lines
    assert ["features", "done"] in lines
    assert ["lightgbm", "unfinished", "terrablend", "trees", str(run), "lightgbm"] in lines
    assert "    no model of fold 0 of 2: --fold" in outcome.out.splitlines()
    assert "    no map of 9 of 9 scenes" in outcome.out.splitlines()
    assert terrablend("trees", run, "--fold", 0, "--workers", 1).code == 0
    assert "no model" not in terrablend("status", run).out


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/2/3", "-1/3", "1/0"])
def test_a_part_that_is_none_is_refused(shard):
    with pytest.raises(ExperimentError, match="expected K/N with K from 1 to N"):
        take_shard(["a"], shard)


def test_parts_are_all_scenes_each_once():
    scenes = [str(number) for number in range(11)]
    parts = [take_shard(scenes, f"{part}/4") for part in range(1, 5)]
    assert sorted((scene for part in parts for scene in part), key=int) == scenes
