"""The run folder: what each stage made, what it was made from, and whether that still holds."""

import logging
import multiprocessing
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from data.errors import RunError
from data.files import TIMINGS, clear_leftovers, fingerprint, read_json, write_json
from data.maps.qgis_style import STYLE, is_own_style
from terrablend.run.lock import lock_folder
from terrablend.run.marker import claim_folder, is_claimed, mark_folder
from terrablend.run.record import StageRecord, changed_files, load_record, record_files

__all__ = ["Cost", "RunFolder", "Stage", "State"]

logger = logging.getLogger(__name__)

State = Literal["to do", "unfinished", "done", "damaged", "stale"]


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
    inputs : callable
        Returns the hash of the content of each file of the user's that the work reads.
    complete : bool
        Unset where the work is a part of the stage, such as one fold or some trials, which then stays unfinished.
    """

    name: str
    command: str
    work: Callable[[], None]
    reads: tuple["Stage", ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: Callable[[], dict[str, str]] = dict
    complete: bool = True

    @property
    def made_from(self) -> dict[str, Any]:
        """All that the result depends on: settings, the user's files, the stages before, the version of the code."""
        read = {stage.name: fingerprint(stage.made_from) for stage in self.reads}
        files = self.inputs()
        return {**self.settings, **({"files": files} if files else {}), **read, "terrablend": version("terrablend")}


@dataclass(frozen=True)
class Cost:
    """What a stage took: seconds, those of all cores together, and the most memory of a process in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: int


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run; the record of each stage is ``stages/<name>.json``.

    Nothing is removed but what a record says this run wrote, and nothing of a stage is believed but what is there as
    its record says.
    """

    path: Path
    _verified: set[str] = field(default_factory=set, init=False, compare=False)
    _records: dict[str, tuple[tuple[int, ...], StageRecord]] = field(default_factory=dict, init=False, compare=False)

    def claim(self) -> None:
        """Make the folder that of a run; see `terrablend.run.marker.claim_folder`."""
        claim_folder(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder that of a run, and keep other processes from working in it."""
        self.claim()
        with lock_folder(self.path):
            clear_leftovers(self.path)
            yield

    @property
    def is_ours(self) -> bool:
        """Whether the folder is that of a run."""
        return is_claimed(self.path)

    def state(self, stage: Stage) -> State:
        """Return whether a stage's result is there as it was written, from what it would be made from now."""
        record = self._record(stage.name)
        if record is None or record.state == "clearing":
            return "to do"
        # What began and wrote nothing, such as a check that found problems, is in nobody's way.
        if record.state == "unfinished" and not any((self.path / output).exists() for output in stage.outputs):
            return "to do"
        if fingerprint(record.made_from) != fingerprint(stage.made_from) or self._remade(record):
            return "stale"
        if record.state == "unfinished":
            return "unfinished"
        return "damaged" if changed_files(self.path, record.files) else "done"

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
        if state == "damaged":
            lost = changed_files(self.path, self._records[stage.name][1].files)[0]
            raise RunError(
                f"{self.path / lost}: expected the file as the stage {stage.name} wrote it, got none or one of another "
                f"size. Make it again: `{stage.command}`."
            )
        if state != "done":
            raise RunError(
                f"{self.path}: expected the stage {stage.name} to be done, it is {state}. Run `{stage.command}` first."
            )

    def verify(self, stage: Stage) -> None:
        """Refuse to go on unless a stage is done and every byte is as it was written.

        Raises
        ------
        RunError
            Naming the stage, the first file that is not, and the command that makes it again.
        """
        self.require(stage)
        self.verify_files(stage)

    def verify_files(self, stage: Stage) -> None:
        """Refuse any other bytes than a stage wrote when it was done, whatever it would be made from now.

        Raises
        ------
        RunError
            As `verify` does.
        """
        record = self._record(stage.name)
        if record is None or record.state != "done" or stage.name in self._verified:
            return
        if changed := changed_files(self.path, record.files, content=True):
            raise RunError(
                f"{self.path / changed[0]}: expected the file as the stage {stage.name} wrote it, got other bytes"
                f"{f', and so {len(changed) - 1} more' if len(changed) > 1 else ''}. "
                f"Make it again: `{stage.command} --overwrite`."
            )
        self._verified.add(stage.name)

    def carry_out(self, stage: Stage, overwrite: bool = False) -> None:
        """Do a stage, or what is left of it, or what is missing of it; a stage that is done is left as it is.

        Parameters
        ----------
        stage : Stage
        overwrite : bool
            Whether to do it anew whatever there is.

        Raises
        ------
        RunError
            If a stage that it reads is not done or not as it was written, if the folder holds its result of other
            settings and ``overwrite`` is unset, or if the folder is not ours or cannot be written.
        """
        for before in stage.reads:
            self.require(before)
        state, result = self.state(stage), self.path / stage.outputs[0]
        if state == "stale" and not overwrite:
            raise RunError(self._stale(stage))
        if overwrite and not stage.complete and state in ("done", "damaged"):
            raise RunError(
                f"{self.path}: expected all of the stage {stage.name} to be made anew, got a part of it. "
                f"Give `{stage.command} --overwrite`, without --fold."
            )
        anew = state in ("to do", "stale") or (overwrite and stage.complete)
        if state == "done" and not anew:
            logger.info("%s: done before, in %s", stage.name, result)
            return
        for before in stage.reads:
            self.verify(before)
        self.claim()
        try:
            begun = self._begin(stage, anew)
        except OSError as error:
            raise RunError(
                f"{self.path}: expected a folder to write to, got: {error}. Choose another: --run."
            ) from error
        start, used = time.perf_counter(), _cpu_seconds()
        with self._kept(stage, begun):
            stage.work()
            self._end(stage)
            seconds = time.perf_counter() - start
            self._note_cost(stage, Cost(round(seconds, 1), round(_cpu_seconds() - used, 1), _peak_memory()))
        logger.info("%s: %s in %.0f s, in %s", stage.name, "done" if stage.complete else "done so far", seconds, result)

    def costs(self) -> dict[str, Cost]:
        """Return what each stage took when it was last done."""
        try:
            return {name: Cost(**cost) for name, cost in read_json(self.path / TIMINGS).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            # Nothing depends on them.
            return {}

    def bytes_of(self, stage: Stage) -> int:
        """Return the bytes that a stage wrote; 0 where it is not done."""
        record = self._record(stage.name)
        return sum(file.size for file in record.files.values()) if record else 0

    def copy_stage(self, stage: Stage, target: "RunFolder") -> None:
        """Copy what a stage wrote, and its record, to another run folder."""
        record = self._record(stage.name)
        assert record is not None
        target.claim()
        for name in record.files:
            (target.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path / name, target.path / name)
        target._save(stage, record)

    def _record(self, name: str) -> StageRecord | None:
        path = self._record_path(name)
        try:
            stat = path.stat()
        except OSError:
            return None
        version_of_file = stat.st_mtime_ns, stat.st_size, stat.st_ino
        if name not in self._records or self._records[name][0] != version_of_file:
            self._records[name] = version_of_file, load_record(path)
        return self._records[name][1]

    def _record_path(self, name: str) -> Path:
        return self.path / "stages" / f"{name}.json"

    def _save(self, stage: Stage, record: StageRecord) -> None:
        record.save(self._record_path(stage.name))

    def _remade(self, record: StageRecord) -> list[str]:
        """Return the stages that wrote something else since their results were read."""
        now = {name: self._record(name) for name in record.reads}
        return [
            name
            for name, wrote in record.reads.items()
            if (current := now[name]) is not None and current.state == "done" and current.wrote != wrote
        ]

    def _begin(self, stage: Stage, anew: bool) -> StageRecord:
        """Leave nothing that the work would take for what it made itself, or for what it is to make."""
        self._verified.discard(stage.name)
        clear_leftovers(self.path, "stages", *stage.outputs)
        if anew:
            self._clear(stage)
        before, reads = self._record(stage.name), {}
        for read in stage.reads:
            record = self._record(read.name)
            if record is None:
                raise self._removed(stage)
            reads[read.name] = record.wrote
        expected = {} if anew or before is None else before.files
        if before is not None and before.state == "done" and (changed := changed_files(self.path, expected)):
            logger.warning(
                "%s: %d of %d files are missing or damaged, such as %s; they are made again",
                stage.name,
                len(changed),
                len(expected),
                changed[0],
            )
            self._remove(changed)
        begun = StageRecord(state="unfinished", made_from=stage.made_from, reads=reads, files=expected)
        self._save(stage, begun)
        return begun

    @contextmanager
    def _kept(self, stage: Stage, begun: StageRecord) -> Iterator[None]:
        """Keep mark and record of a stage at work; where somebody removes them, what is written after that is ours.

        Raises
        ------
        RunError
            If they are gone at the end.
        """
        gone = False
        try:
            yield
        finally:
            gone = not (self.is_ours and self._record_path(stage.name).exists())
            if gone and self.path.exists():
                mark_folder(self.path)
                self._save(stage, begun)
        if gone:
            raise self._removed(stage)

    def _removed(self, stage: Stage) -> RunError:
        return RunError(
            f"{self.path}: expected the run folder to stay as it is while {stage.name} is at work, got one that "
            "somebody removed, or stages/ in it. Give the same command again."
        )

    def _end(self, stage: Stage) -> None:
        """Write down what the stage wrote; where something made again has other bytes, make all of it anew."""
        if not stage.complete:
            return
        begun, files = self._record(stage.name), record_files(self.path, stage.outputs)
        if begun is None:
            # Somebody removed it, of which `_kept` tells.
            return
        if other := [name for name, file in begun.files.items() if files.get(name) != file]:
            logger.warning("%s: %s came out with other bytes than before; all is made anew", stage.name, other[0])
            self._clear(stage)
            self._save(stage, begun.model_copy(update={"files": {}}))
            stage.work()
            files = record_files(self.path, stage.outputs)
        self._save(stage, begun.model_copy(update={"state": "done", "files": files}))

    def _clear(self, stage: Stage) -> None:
        """Remove what the stage wrote before.

        Raises
        ------
        RunError
            If there is anything that no record says this run wrote.
        """
        record, outputs = self._record(stage.name), [self.path / output for output in stage.outputs]
        if record is None:
            if others := [path for path in outputs if path.exists()]:
                raise RunError(
                    f"{others[0]}: expected nothing there yet, got what no record says the stage {stage.name} wrote, "
                    "and leaves it alone. Move it away, or choose another folder: --run."
                )
            return
        # Until all is gone there is a record that says so, and nothing is believed.
        self._save(stage, record.model_copy(update={"state": "clearing"}))
        if record.files:
            self._remove(record.files)
            _remove_empty(outputs)
            return
        for path in map(self._own, stage.outputs):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            path = self._own(name)
            # A style that was saved in QGIS is the user's.
            if not name.endswith(STYLE) or is_own_style(path):
                path.unlink(missing_ok=True)

    def _own(self, name: str) -> Path:
        """Return a path of the folder; raises RunError where a link on the way leads out of it."""
        path = self.path / name
        if not path.parent.resolve().is_relative_to(self.path.resolve()):
            raise RunError(
                f"{path}: expected a folder of the run's own, got a link to {path.parent.resolve()}, where nothing is "
                "removed. Remove what is there yourself, or choose another folder: --run."
            )
        return path

    def _note_cost(self, stage: Stage, cost: Cost) -> None:
        costs = {**self.costs(), stage.name: cost}
        write_json(self.path / TIMINGS, {name: asdict(cost) for name, cost in costs.items()})

    def _stale(self, stage: Stage) -> str:
        record = self._record(stage.name)
        changes = [] if record is None else list(_differences(record.made_from, stage.made_from))
        if record is not None and not changes:
            changes = [f"{name} was made anew since" for name in self._remade(record)]
        return (
            f"{self.path}: the result of {stage.name} was made with other settings ({'; '.join(changes[:3])}). "
            f"Rebuild it with `{stage.command} --overwrite`, or keep it and choose another folder: --run."
        )


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that hold nothing, and what they hold of such."""
    for top in folders:
        for folder in sorted([top, *top.rglob("*")], reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new), key=str):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    elif old != new:
        texts = [str(value) for value in (old, new)]
        yield f"{where}: {texts[0]} → {texts[1]}" if max(map(len, texts)) <= 60 else f"{where} changed"


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of all that it started."""
    total = sum(os.times()[:4])
    for worker in multiprocessing.active_children():
        with suppress(OSError):
            fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _peak_memory() -> int:
    """Return the most memory that this process, or one of its workers, held so far, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(usage) // unit
