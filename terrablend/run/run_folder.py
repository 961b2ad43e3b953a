"""The run folder: what each stage made, what it was made from, and whether that still holds."""

import logging
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from data.errors import RunError
from data.files import fingerprint, read_json, write_json

__all__ = ["RunFolder", "Stage", "State"]

logger = logging.getLogger(__name__)

State = Literal["to do", "unfinished", "done", "stale"]


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Parameters
    ----------
    name : str
        ``check``, ``features``, a member's name, ``explain-`` or ``tune-`` and one, ``ensemble`` or ``submit``.
    command : str
        The command line that runs it.
    work : callable
        Does it; what is there of an unfinished try is kept.
    reads : tuple of Stage
        The stages whose results it reads.
    outputs : tuple of str
        Files and folders that it writes, below the run folder; the first is the result.
    settings : dict
        JSON-like values that the result depends on.
    complete : bool
        Unset where the work is a part of the stage, such as one fold or some trials, which then stays unfinished.
    """

    name: str
    command: str
    work: Callable[[], None]
    reads: tuple["Stage", ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    complete: bool = True

    @property
    def made_from(self) -> dict[str, Any]:
        """All that the result depends on: settings, the stages before, the version of the code."""
        read = {stage.name: fingerprint(stage.made_from) for stage in self.reads}
        return {**self.settings, **read, "terrablend": version("terrablend")}


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run; the record of each stage is ``stages/<name>.json``."""

    path: Path

    def state(self, stage: Stage) -> State:
        """Return whether a stage's result is there, and was made from what it would be made from now."""
        record = self._record(stage)
        if record is None:
            return "to do"
        if record["fingerprint"] != fingerprint(stage.made_from):
            return "stale"
        return "done" if record["done"] else "unfinished"

    def require(self, stage: Stage) -> None:
        """Refuse to go on unless a stage is done.

        Raises
        ------
        RunError
            Naming the stage and the command that does it.
        """
        state = self.state(stage)
        if state == "stale":
            raise RunError(self._stale(stage))
        if state != "done":
            raise RunError(
                f"{self.path}: expected the stage {stage.name} to be done, it is {state}. Run `{stage.command}` first."
            )

    def carry_out(self, stage: Stage, overwrite: bool = False) -> None:
        """Carry out a stage, or what is left of it; a stage that is done is left as it is.

        Raises
        ------
        RunError
            If a stage that it reads is not done, if the folder holds its result of other settings and
            ``overwrite`` is unset, or if the folder cannot be written.
        """
        for before in stage.reads:
            self.require(before)
        state = self.state(stage)
        if state == "stale" and not overwrite:
            raise RunError(self._stale(stage))
        result = self.path / stage.outputs[0]
        if state == "done":
            logger.info("%s: done before, in %s", stage.name, result)
            return
        try:
            if state != "unfinished":
                self._remove_outputs(stage)
            self._write_record(stage, done=False)
        except OSError as error:
            raise RunError(
                f"{self.path}: expected a folder to write to, got: {error}. Choose another: --run."
            ) from error
        start = time.perf_counter()
        stage.work()
        seconds = time.perf_counter() - start
        self._write_record(stage, done=stage.complete, seconds=round(seconds, 1), peak_mib=_peak_memory())
        logger.info("%s: %s in %.0f s, in %s", stage.name, "done" if stage.complete else "done so far", seconds, result)

    def cost(self, stage: Stage) -> tuple[float, int] | None:
        """Return the seconds that a stage took when it was last done, and the most memory in MiB; None if never."""
        record = self._record(stage)
        return (record["seconds"], record["peak_mib"]) if record and "seconds" in record else None

    def _record(self, stage: Stage) -> dict[str, Any] | None:
        path = self._record_path(stage)
        if not path.exists():
            return None
        try:
            record: dict[str, Any] = read_json(path)
        except ValueError as error:
            raise RunError(f"{path}: expected the record of a stage, got: {error}. Remove the file.") from error
        return record

    def _record_path(self, stage: Stage) -> Path:
        return self.path / "stages" / f"{stage.name}.json"

    def _write_record(self, stage: Stage, **facts: Any) -> None:
        made_from = stage.made_from
        record = {"fingerprint": fingerprint(made_from), "made_from": made_from, **facts}
        write_json(self._record_path(stage), record)

    def _remove_outputs(self, stage: Stage) -> None:
        # A result without its record could be of any make, so it is not trusted.
        self._record_path(stage).unlink(missing_ok=True)
        for output in stage.outputs:
            path = self.path / output
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _stale(self, stage: Stage) -> str:
        record = self._record(stage) or {}
        changes = "; ".join(list(_differences(record.get("made_from", {}), stage.made_from))[:3])
        return (
            f"{self.path}: the result of {stage.name} was made with other settings ({changes}). "
            f"Rebuild it with `{stage.command} --overwrite`, or keep it and choose another folder: --run."
        )


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new), key=str):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    elif old != new:
        texts = [str(value) for value in (old, new)]
        yield f"{where}: {texts[0]} → {texts[1]}" if max(map(len, texts)) <= 60 else f"{where} changed"


def _peak_memory() -> int:
    """Return the most memory that this process, or one of its workers, held so far, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(usage) // unit
