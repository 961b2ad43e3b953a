import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ..conftest import EXPERIMENT, write_small_coast

UNET = EXPERIMENT["members"]["unet"]
MEMBERS = {"lightgbm": {"branch": "trees", "rounds": 3, "leaves": 4}, "unet": {**UNET, "stack": ["lightgbm"]}}
SCENES = {**EXPERIMENT["scenes"], "test": {"image": "train/{id}_satellite.tif"}}
CODE = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"


def contents(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if not path.name.startswith(".")}


@pytest.fixture
def cluster(tmp_path):
    """Start a scheduler and three workers, each a process with a working directory of its own; return both."""
    pytest.importorskip("distributed")
    port = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.strip()
    address, processes = f"tcp://127.0.0.1:{port}", []

    def start(name, *words):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "log").open("w") as log:
            command = [sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:], "--no-dashboard"]
            processes.append(subprocess.Popen(command, cwd=tmp_path / name, stdout=log, stderr=log))
        return processes[-1]

    start("scheduler", "dask_scheduler", "--host", "127.0.0.1", "--port", port)
    workers = [start(f"worker{n}", "dask_worker", address, "--nthreads", "1", "--no-nanny") for n in range(3)]
    yield address, workers
    for process in processes:
        process.kill()
        process.wait()


def kill_at(worker, folder):
    """End a worker at once when the first file lies in a folder."""

    def wait():
        while not any(folder.glob("*.tif")):
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.slow
def test_a_cluster_of_three_gives_the_bytes_of_one_process_though_a_worker_is_killed(
    tmp_path, monkeypatch, terrablend, cluster
):
    address, workers = cluster
    write_small_coast(tmp_path / "coast", members=MEMBERS, scenes=SCENES)
    images = [f"../coast/train/{path.name}" for path in sorted((tmp_path / "coast" / "train").glob("*.tif"))[:3]]
    for name, options in (("local", ("--workers", 1)), ("far", ("--workers", 1, "--scheduler", address))):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        if name == "far":
            kill_at(workers[0], tmp_path / "far" / "runs" / "small" / "members" / "lightgbm" / "oof")
        outcome = terrablend("run", "../coast/small.yaml", *options)
        assert outcome.code == 0, outcome.err
        outcome = terrablend("bundle", "runs/small", "-o", "small.zip")
        assert outcome.code == 0, outcome.err
        outcome = terrablend("predict", "small.zip", *images, "--uncertainty", *options)
        assert outcome.code == 0, outcome.err
    assert workers[0].wait(30) == -signal.SIGKILL
    local, far = contents(tmp_path / "local"), contents(tmp_path / "far")
    # How long it took differs, and what machine it took it on.
    same = {name for name in local if not name.endswith(("timings.json", ".csv"))}
    assert far.keys() == local.keys()
    assert [name for name in sorted(same) if far[name] != local[name]] == []
    # Every worker worked, and wrote nothing where it stands.
    for number in range(3):
        assert {path.name for path in (tmp_path / f"worker{number}").iterdir()} <= {"log", "dask-scratch-space"}
