"""A synthetic experiment that one core runs in seconds, each command of it, and processes to run them in.

A home is a folder that holds all that the commands write: ``run/``, ``predicted/``, ``model.zip`` and ``model/``.
"""

import hashlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from data.files import LEFTOVER

__all__ = ["DELIVERIES", "Lab", "Process", "hash_home", "watch_operations"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")
for _name in THREADS:
    os.environ.setdefault(_name, "1")

EXPERIMENT = """\
name: small
task: binary
root: .
scenes:
  bands: [swir16, nir, red, green, blue, qa, dem]
  train: {image: "train/{id}_satellite.tif", label: "train_kelp/{id}_kelp.tif"}
  test: {image: "test/{id}_satellite.tif"}
  nodata: -32768
  invalid: {qa: nonzero}
classes: {1: kelp}
folds: {count: 2, group: {similar: dem}}
features:
  indices: [NDVI]
  context: {of: [nir], radii: [2], statistics: [mean, std]}
  sample: {positives: all, buffer: 3, negatives: 100}
members:
  lightgbm: {branch: trees, booster: lightgbm, rounds: 5, learning_rate: 0.3, leaves: 5}
ensemble: {metric: dice, cleaning: none}
submission: {format: kelp, proba: true, uncertainty: true}
"""

NETWORK = """\
  unet:
    branch: cnn
    architecture: unet
    encoder: tu-mobilenetv3_small_050
    encoder_depth: 2
    decoder_channels: [8, 8]
    inputs: [red, green, nir, NDVI]
    crop: 32
    batch_size: 4
    epochs: 2
    steps: 2
"""

COMMANDS = {
    "check": ("check", "{file}", "--run", "{run}"),
    "features": ("features", "{file}", "--run", "{run}"),
    "trees": ("trees", "{file}", "--run", "{run}"),
    "cnn": ("cnn", "{file}", "--run", "{run}"),
    "explain": ("explain", "{file}", "--run", "{run}"),
    "ensemble": ("ensemble", "{file}", "--run", "{run}"),
    "submit": ("submit", "{file}", "--run", "{run}"),
    "predict": ("predict", "{run}", "{scene}", "-o", "{out}/predicted", "--uncertainty"),
    "bundle": ("bundle", "{run}", "-o", "{out}/model.zip"),
    "unpacked": ("bundle", "{run}", "-o", "{out}/model"),
    "again": ("predict", "{home}/model.zip", "{scene}", "-o", "{out}/again"),
}
"""By name, in their order: what is given to `terrablend`."""

NETWORKS = frozenset({"cnn"})
"""Commands of the members that are networks."""

DELIVERIES = ("predict", "bundle", "unpacked", "again")
"""Commands that read a finished run, and write elsewhere."""

OPERATIONS = frozenset(
    {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree"}
)
"""Of CPython's audit events, those that change files."""

BROKEN = 70
"""Exit status of a process that ended otherwise than commands do."""

VOLATILE = re.compile(r"(^|/)(timings\.json|\.lock)$")
"""What is measured, and the lock."""

UNFINISHED = re.compile(
    r"run/(stages/\w[\w-]*\.json|inputs\.json|experiment\.yaml|submissions\.csv|.*\.ckpt|members/\w+/fold\d\.(csv|html))"
)
"""Files whose content says how far a run, or a training, is; all others have from the first the bytes of the end."""

MODULES = (
    # Of zips: nobody may not be allowed to read the Python of root.
    "encodings.cp437",
    "lightgbm",
    "terrablend.cli",
    "terrablend.deliver.bundle",
    "terrablend.deliver.predict",
    "terrablend.run.scene_run",
    "terrablend.run.table_run",
    "data.survey.verification",
)


def preload(networks: bool = True) -> None:
    """Import all that a command needs, so that forked processes begin at once."""
    for name in MODULES:
        importlib.import_module(name)
    if networks:
        import torch

        torch.set_num_threads(1)
        for name in ("cnn.fit", "cnn.member", "segmentation_models_pytorch"):
            importlib.import_module(name)


@dataclass
class Process:
    """A forked process that runs a command, and leads a process group of its own.

    Parameters
    ----------
    id : int
    pipe : int
        From which all that it says is read.
    """

    id: int
    pipe: int
    status: int | None = None
    said: str = ""

    @classmethod
    def start(cls, words: tuple[str, ...], folder: Path, prepare: Callable[[], None] | None = None) -> "Process":
        """Fork a process that runs ``terrablend WORDS`` in a folder, once it has prepared itself."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        process = os.fork()
        if process:
            # Whoever of the two comes first.
            with suppress(OSError):
                os.setpgid(process, process)
            os.close(writer)
            return cls(process, reader)
        status = BROKEN
        try:
            os.setpgid(0, 0)
            os.chdir(folder)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            status = _run(words, prepare)
        finally:
            os._exit(status)

    def wait(self, seconds: float = 600.0) -> bool:
        """Wait for its end, reading what it says; return whether the end came."""
        end = time.monotonic() + seconds
        while self.status is None:
            process, status = os.waitpid(self.id, os.WNOHANG)
            self._listen()
            if process:
                self.status = os.waitstatus_to_exitcode(status)
                self._listen()
                os.close(self.pipe)
            elif time.monotonic() >= end:
                return False
            else:
                time.sleep(0.01)
        return True

    def kill(self, number: int = signal.SIGKILL, group: bool = True) -> None:
        """Send a signal to it or, with it, to its group."""
        if self.status is None:
            (os.killpg if group else os.kill)(self.id, number)

    def others(self, what: str = "") -> list[int]:
        """Return the other processes of its group whose command holds a text."""
        listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(maxsplit=3) for line in listed.stdout.splitlines()]
        ours = [row for row in rows if int(row[1]) == self.id != int(row[0]) and not row[2].startswith("Z")]
        return [int(row[0]) for row in ours if what in row[-1]]

    def survivors(self, seconds: float = 180.0) -> list[int]:
        """Return the processes of its group that live on so long after its end, and end them."""
        end = time.monotonic() + seconds
        while (left := self.others()) and time.monotonic() < end:
            time.sleep(0.1)
        for process in left:
            os.kill(process, signal.SIGKILL)
        return left

    def _listen(self) -> None:
        try:
            while text := os.read(self.pipe, 1 << 16):
                self.said += text.decode(errors="replace")
        except BlockingIOError:
            pass


def _run(words: tuple[str, ...], prepare: Callable[[], None] | None) -> int:
    from terrablend.cli import main

    status = BROKEN
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if prepare is not None:
            prepare()
        sys.argv = ["terrablend", *words]
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def watch_operations(folder: Path, act: Callable[[int], object]) -> Callable[[], None]:
    """Return what makes a process act before each operation on files below a folder, which are numbered from 1."""

    def prepare() -> None:
        done, acts = 0, False

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal done, acts
            if acts or event not in OPERATIONS or not isinstance(arguments[0], str | os.PathLike):
                return
            path = os.fspath(arguments[0])
            if not path.startswith(f"{folder}{os.sep}") or (event == "open" and not _writes(*arguments[1:])):
                return
            done, acts = done + 1, True
            try:
                act(done)
            finally:
                acts = False

        sys.addaudithook(hook)

    return prepare


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


@dataclass
class Lab:
    """A coast, its experiment, and a home in which nothing disturbed the commands.

    Parameters
    ----------
    folder : Path
        For all that is written.
    networks : bool
        Whether a network is among the members; it takes most of the time.

    Attributes
    ----------
    after : dict of str to dict
        By command: the hash of each file of the home after it.
    operations, seconds : dict of str to number
        By command: its operations on files, and how long it took.
    """

    folder: Path
    networks: bool = True
    after: dict[str, dict[str, str]] = field(default_factory=dict, init=False)
    operations: dict[str, int] = field(default_factory=dict, init=False)
    seconds: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Write the coast, and carry out every command undisturbed.

        Raises
        ------
        RuntimeError
            If one fails.
        """
        # In a process of its own: threads of this one would not outlive a fork.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        coast = [sys.executable, "-c", WRITE_COAST, str(self.folder / "coast")]
        subprocess.run(coast, check=True, env=environment)
        self.file.write_text(EXPERIMENT.replace("ensemble:", NETWORK * self.networks + "ensemble:", 1))
        preload(self.networks)
        counter = self.folder / "operations"
        count = watch_operations(self.reference, lambda done: counter.write_text(str(done)))
        for name in self.commands:
            begun = time.monotonic()
            process = self.start(name, self.reference, count)
            if not process.wait() or process.status:
                raise RuntimeError(f"{name}, undisturbed: exit status {process.status}: {process.said[-2000:]}")
            self.seconds[name], self.operations[name] = time.monotonic() - begun, int(counter.read_text())
            self.after[name] = hash_home(self.reference)

    @property
    def file(self) -> Path:
        """The experiment file."""
        return self.folder / "coast" / "small.yaml"

    @property
    def reference(self) -> Path:
        """The home that nothing disturbed."""
        return self.folder / "reference"

    @property
    def commands(self) -> list[str]:
        """The names of the commands, in order."""
        return [name for name in COMMANDS if self.networks or name not in NETWORKS]

    def start(
        self,
        name: str,
        home: Path,
        prepare: Callable[[], None] | None = None,
        workers: int = 1,
        out: Path | None = None,
    ) -> Process:
        """Begin a command in a process of its own.

        Parameters
        ----------
        name : str
        home : Path
        prepare : callable, optional
            Called in the process before the command begins.
        workers : int
        out : Path, optional
            Where it writes to in place of the home.
        """
        scene = min((self.folder / "coast" / "test").glob("*.tif"))
        values = {"file": self.file, "home": home, "out": out or home, "scene": scene}
        values["run"] = home / "run" if name in DELIVERIES else values["out"] / "run"
        words = tuple(word.format(**values) for word in COMMANDS[name])
        options = () if "bundle" in words else ("--workers", str(workers))
        return Process.start((*words, *options), self.folder, prepare)

    def copy_before(self, name: str, home: Path) -> None:
        """Make a home in which all is done that comes before a command, and nothing else."""
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        place = self.commands.index(name)
        for path in self.after[self.commands[place - 1]] if place else ():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.reference / path, home / path)

    def differences(self, home: Path, name: str) -> list[str]:
        """Return the files that are missing after a command, other than they must be, or left over."""
        now, then = hash_home(home), self.after[name]
        return sorted(path for path in {*now, *then} if now.get(path) != then.get(path))

    def find_torn(self, home: Path) -> list[str]:
        """Return the files of a home left in the midst that have a final name, and not the bytes of the end."""
        end = self.after[self.commands[-1]]
        return [
            name
            for name, now in hash_home(home).items()
            if end.get(name) != now
            and not UNFINISHED.fullmatch(name)
            and not any(LEFTOVER.fullmatch(part) for part in Path(name).parts)
        ]


WRITE_COAST = """
import sys
from pathlib import Path
from terrablend.start.coast import write_coast

write_coast(Path(sys.argv[1]), places=4, acquisitions=2, test=1, size=48, seed=3)
"""


def hash_home(home: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, but for what is measured: times, and the dates of submissions."""
    hashes = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        # What a process removes as it ends is not there.
        with suppress(FileNotFoundError):
            if path.is_file() and not VOLATILE.search(name):
                content = path.read_bytes()
                if path.name == "submissions.csv":
                    content = re.sub(rb"(?m)^[^,]*,", b"", content)
                hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes
