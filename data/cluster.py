"""Workers of a Dask cluster, which must see the files that this process sees."""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import cv2

from data.errors import RunError
from data.files import temporary_prefix
from data.worker_pool import Workers, keep_memory

__all__ = ["Cluster", "open_cluster"]

ANSWER = "10s"
"""Within which a scheduler answers, and has a worker."""

FRESH = 10.0
"""Seconds for which the number of workers is not asked for again: clusters grow and shrink."""

LOOKED_AT = 8
"""Files of the user's that every worker must see."""

START = "Start them with `dask worker {} --nworkers N --nthreads 1`"

R = TypeVar("R")


class Cluster(Workers):
    """The workers of a Dask scheduler, each of one thread: what a process holds is not made for several at once.

    Dask itself does a lost worker's tasks again.

    Parameters
    ----------
    client : distributed.Client
    address : str
        As the user gave it, for messages.
    """

    worth_pixels = 0

    def __init__(self, client: Any, address: str) -> None:
        from distributed.client import ClosedClientError
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        self._client, self._address = client, address
        self.lost = (CancelledError, KilledWorker, CommClosedError, ClosedClientError)
        self._killed, self._slots, self._asked = KilledWorker, 1, -FRESH

    @property
    def slots(self) -> int:
        """Workers; those last known where the scheduler does not answer."""
        if time.monotonic() - self._asked > FRESH:
            with suppress(OSError):
                self._slots = max(sum(self._client.nthreads().values()), 1)
            self._asked = time.monotonic()
        return self._slots

    def submit(self, work: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Hand work to a worker."""
        # Dask's own executor never ends the future of a task whose result was on its way when the scheduler went.
        future: Future[R] = self._client.submit(_work, version("terrablend"), work, *args, **kwargs, pure=False)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster as it is."""

    def recover(self, error: BaseException, times: int) -> None:
        """Raise RunError: what Dask can do again, it did."""
        if isinstance(error, self._killed):
            raise RunError(
                f"--scheduler {self._address}: expected workers to live as long as their work, got a task that "
                f"{error.allowed_failures + 1} of them died of, as they do where memory runs out. Give each worker "
                "more memory, and the same command again."
            ) from error
        raise RunError(
            f"--scheduler {self._address}: expected the scheduler to stay until the work is done, it is gone. Start it "
            "and its workers again, and give the same command: it goes on from where it was."
        ) from error

    def require(self, folder: Path, files: Sequence[Path] = ()) -> None:
        """Refuse workers that could not do their work, or not the same as this process.

        Parameters
        ----------
        folder : Path
            That they write to.
        files : sequence of Path
            Of the user's; some of them are looked at.

        Raises
        ------
        RunError
            If there is no worker, or one is of another version or of several threads, or does not see the files.
        """
        start = START.format(self._address)
        try:
            self._client.wait_for_workers(1, timeout=ANSWER)
        except TimeoutError as error:
            raise self._refuse(f"workers, there is none. {start}.") from error
        ours = version("terrablend")
        for worker, theirs in self._client.run(version, "terrablend", on_error="return").items():
            if theirs != ours:
                got = f"{worker} with {'none' if isinstance(theirs, Exception) else theirs}"
                raise self._refuse(f"workers with Terrablend {ours}, got {got}. Install the same version there.")
        seen = [path for path in files if path.is_file()]
        some = [(path, path.stat().st_size) for path in seen[:: -(-len(seen) // LOOKED_AT) or 1]]
        token = uuid.uuid4().hex
        with tempfile.NamedTemporaryFile("w", prefix=temporary_prefix("writing"), dir=folder) as stream:
            stream.write(token)
            stream.flush()
            found = self._client.run(_look, Path(stream.name), token, some, on_error="return")
        for worker, lacking in found.items():
            if lacking is not None:
                raise self._refuse(
                    f"workers that see {lacking} as this machine does, got {worker}, which does not. Mount the same "
                    "folders there, at the same paths, or choose a shared one: --run or -o."
                )
        for worker, threads in self._client.nthreads().items():
            _require_one(worker, threads, self._address)

    def _refuse(self, text: str) -> RunError:
        return RunError(f"--scheduler {self._address}: expected {text}")


@contextmanager
def open_cluster(address: str) -> Iterator[Cluster]:
    """Open the cluster of a scheduler, such as ``tcp://host:8786``.

    Raises
    ------
    RunError
        If Dask is not installed, or does not answer.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise RunError(
            f"--scheduler {address}: expected Dask, it is not installed. Install `terrablend[dask]`."
        ) from error
    try:
        client = Client(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"--scheduler {address}: expected a Dask scheduler, got: {error}. Start one, or leave the option out."
        ) from error
    with client:
        yield Cluster(client, address)


def _work(made_by: str, work: Callable[..., R], /, *args: Any) -> R:
    _settle(made_by)
    return work(*args)


@cache
def _settle(made_by: str) -> None:
    """Keep a worker to one core; refuse one that came later and is of another version or of several threads."""
    from distributed import get_worker

    worker, here = get_worker(), version("terrablend")
    if here != made_by:
        raise RunError(f"worker {worker.address}: expected Terrablend {made_by}, got {here}. Install the same version.")
    _require_one(worker.address, worker.state.nthreads, worker.scheduler.addr)
    cv2.setNumThreads(1)
    keep_memory()


def _require_one(worker: str, threads: int, scheduler: str) -> None:
    if threads != 1:
        raise RunError(
            f"worker {worker}: expected one thread, got {threads}: scenes are worked on by processes. "
            f"{START.format(scheduler)}."
        )


def _look(written: Path, token: str, files: Sequence[tuple[Path, int]]) -> str | None:
    """Return the first path that a worker does not see as the one who asks does; the folder must be writable."""
    try:
        if written.read_text() != token:
            return str(written.parent)
        with tempfile.NamedTemporaryFile(prefix=temporary_prefix("writing"), dir=written.parent):
            pass
    except OSError:
        return str(written.parent)
    return next((str(path) for path, size in files if not path.is_file() or path.stat().st_size != size), None)
