import subprocess
import sys

import pytest

from data.errors import RunError
from data.workers import open_executor

# In a process of its own: Dask's cluster warns of what this machine lacks, and here warnings are errors.
SCRIPT = """
from distributed import LocalCluster
from data.workers import map_ordered, open_executor
with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
    with open_executor(1, cluster.scheduler_address) as executor:
        print(list(map_ordered(abs, [-3, 2, -1], executor)))
"""


def test_a_dask_cluster_does_the_work_where_one_is_named():
    pytest.importorskip("distributed")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[3, 2, 1]"


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch):
    distributed = pytest.importorskip("distributed")

    def refuse(*_args, **_options):
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    with (
        pytest.raises(RunError, match="expected a Dask scheduler, got: Timed out"),
        open_executor(1, "tcp://nowhere:1"),
    ):
        pass


def test_one_worker_works_in_this_process():
    with open_executor(1) as executor:
        assert executor is None
