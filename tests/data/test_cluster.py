"""In a process of its own: Dask's cluster warns of what this machine lacks, and here warnings are errors."""

import subprocess
import sys

import pytest

from data.cluster import _look, open_cluster
from data.errors import RunError

BEGIN = """
import sys, time
from pathlib import Path
from distributed import LocalCluster
from data.errors import RunError
from data.workers import map_ordered, open_executor

def start(threads=1, workers=1):
    return LocalCluster(n_workers=workers, threads_per_worker=threads, processes=False, dashboard_address=None)

def refused(work):
    try:
        work()
    except RunError as error:
        print("refused:", error)
"""

WORK = """
folder = Path(sys.argv[1])
(folder / "scene.tif").write_text("pixels")
with start(workers=2) as cluster, open_executor(1, cluster.scheduler_address) as executor:
    executor.require(folder, [folder / "scene.tif"])
    assert [path.name for path in folder.iterdir()] == ["scene.tif"]
    print(executor.slots, list(map_ordered(abs, range(-100, 0), executor)) == list(range(100, 0, -1)))
"""

THREADS = """
with start(threads=2) as cluster, open_executor(1, cluster.scheduler_address) as executor:
    refused(lambda: executor.require(Path(sys.argv[1])))
    refused(lambda: list(map_ordered(abs, [1], executor)))
"""

NO_WORKERS = """
import data.cluster
data.cluster.ANSWER = "1s"
with start(workers=0) as cluster, open_executor(1, cluster.scheduler_address) as executor:
    refused(lambda: executor.require(Path(sys.argv[1])))
"""

GONE = """
import subprocess
def begin(what, *words):
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--no-dashboard"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
import socket
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
scheduler = begin("scheduler", "--host", "127.0.0.1", "--port", port)
worker = begin("worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-nanny")
import data.cluster
data.cluster.ANSWER = "300s"
def work():
    with open_executor(1, f"tcp://127.0.0.1:{port}") as executor:
        executor._client._timeout = 1
        for number in map_ordered(abs, range(2000), executor, ahead=4):
            if number == 3:
                scheduler.kill()
refused(work)
worker.kill()
"""


def carried_out(script, folder):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script, str(folder)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def test_a_cluster_does_the_work_in_order_once_its_workers_see_the_files(tmp_path):
    pytest.importorskip("distributed")
    assert carried_out(WORK, tmp_path) == ["2 True"]


def test_a_worker_says_what_it_does_not_see_as_this_machine_does(tmp_path):
    written, scene = tmp_path / "run" / "token", tmp_path / "scene.tif"
    scene.write_text("pixels")
    assert _look(written, "token", [(scene, 6)]) == str(tmp_path / "run")
    written.parent.mkdir()
    written.write_text("that of another machine")
    assert _look(written, "token", [(scene, 6)]) == str(tmp_path / "run")
    written.write_text("token")
    assert _look(written, "token", [(scene, 6)]) is None
    assert _look(written, "token", [(scene, 6), (scene, 7)]) == str(scene)
    assert _look(written, "token", [(tmp_path / "other.tif", 6)]) == str(tmp_path / "other.tif")
    assert sorted(path.name for path in written.parent.iterdir()) == ["token"]


@pytest.mark.slow
def test_workers_of_several_threads_are_refused_at_the_start_and_where_they_come_later(tmp_path):
    pytest.importorskip("distributed")
    at_start, later = carried_out(THREADS, tmp_path)
    assert "expected one thread, got 2" in at_start
    assert "--nthreads 1" in at_start
    assert "expected one thread, got 2" in later


@pytest.mark.slow
def test_a_cluster_without_workers_is_refused(tmp_path):
    pytest.importorskip("distributed")
    [line] = carried_out(NO_WORKERS, tmp_path)
    assert "expected workers, there is none. Start them with `dask worker" in line


@pytest.mark.slow
def test_a_scheduler_that_goes_is_an_error_that_says_what_to_do(tmp_path):
    pytest.importorskip("distributed")
    [line] = carried_out(GONE, tmp_path)
    assert "expected the scheduler to stay until the work is done, it is gone" in line


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch):
    distributed = pytest.importorskip("distributed")

    def refuse(*_args, **_options):
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(RunError, match="expected a Dask scheduler, got: Timed out"), open_cluster("tcp://nowhere:1"):
        pass
