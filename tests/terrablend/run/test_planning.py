import json

import pytest

from data.errors import ExperimentError
from terrablend.run.opening import open_run
from terrablend.run.planning import Measured, describe_plan
from terrablend.run.run_folder import Cost

ONLY = ("--set", 'members={"lightgbm": {"branch": "trees", "rounds": 3}}', "--workers", 1)


def test_a_plan_goes_by_what_the_stages_of_a_run_took(small_coast, terrablend, tmp_path):
    folder = tmp_path / "run"
    for command in ("check", "features"):
        assert terrablend(command, small_coast, "--run", folder, *ONLY).code == 0
    taken = {name: {"seconds": 99.0, "cpu_seconds": 36.0, "peak_mib": 500} for name in ("check", "features")}
    (folder / "timings.json").write_text(json.dumps(taken))
    outcome = terrablend("plan", folder, "--scenes", 900, "--cores", 2)
    assert outcome.code == 0, outcome.err
    rows = {line.split()[0]: line.split()[1:] for line in outcome.out.splitlines()}
    # 9 scenes took 36 s of a core.
    assert rows["check"][:3] == ["1", "0.5", "0.524"]
    assert rows["all"][0] == "1"
    assert rows["lightgbm"][:2] == ["not", "measured:"]


def test_memory_grows_with_the_table_of_what_learns_from_it(small_coast, tmp_path, monkeypatch):
    costs = {name: Cost(10.0, 10.0, 1000) for name in ("check", "lightgbm", "explain-lightgbm")}
    measured = Measured(10, costs, dict.fromkeys(costs, 10**6), 10**8)
    monkeypatch.setattr(Measured, "of", classmethod(lambda cls, run: measured))
    only = ['members={"lightgbm": {"branch": "trees", "rounds": 3}}']
    run = open_run(small_coast, tmp_path / "run", only)
    run.folder.claim()
    lines = describe_plan(run, 110, 1)
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["check"] == ["0.0306", "0.0306", "1.05", "0.011"]
    assert rows["lightgbm"] == ["0.0306", "0.0306", "2.05", "0.011"]
    # What is bounded does not grow.
    assert rows["explain-lightgbm"] == ["0.00278", "0.00278", "1.05", "0.001"]
    assert lines[-1].startswith("First to fail on this machine: the ")


def test_too_few_scenes_are_no_measure(small_coast, tmp_path):
    with pytest.raises(ExperimentError, match="expected 24 scenes or more to measure, got 9"):
        describe_plan(open_run(small_coast, tmp_path / "run"), 100, 1)
