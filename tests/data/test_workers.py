import os
import signal
import subprocess
import sys

import cv2
import pytest

from data.errors import RunError
from data.workers import map_ordered, open_executor


def test_one_worker_works_in_this_process():
    with open_executor(1) as executor:
        assert executor is None


@pytest.mark.parametrize("workers", [1, 2])
def test_opencv_has_as_many_threads_as_there_are_workers(workers):
    with open_executor(workers):
        assert cv2.getNumThreads() == workers


def killed_once(path):
    """End this process at once, as the system does where memory runs out; but once only for each path."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def killed_always(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_worker_was_at_is_tried_once_more_with_one_worker_fewer(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "c").touch()
    with open_executor(2) as executor:
        assert list(map_ordered(killed_once, [tmp_path / name for name in "abc"], executor)) == ["a", "b", "c"]
        assert executor.workers == 1
        with pytest.raises(RunError, match=r"got one that the system killed.*--workers"):
            list(map_ordered(killed_always, [1, 2], executor))


def test_workers_end_with_the_process_that_started_them_however_that_ends(tmp_path):
    (tmp_path / "parent.py").write_text(
        "import os, signal, sys, time\n"
        "from data.workers import open_executor\n"
        "if __name__ == '__main__':\n"
        "    with open_executor(2) as executor:\n"
        "        executor.submit(time.sleep, 3600)\n"
        "        executor.submit(abs, 1).result()\n"
        "        os.kill(os.getpid(), getattr(signal, sys.argv[1]))\n"
    )
    # The pipe of its output is closed when the last worker is gone.
    command = [sys.executable, str(tmp_path / "parent.py"), "SIGKILL"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
