"""Let the machine fail while a command works, then let it work: all must end in the bytes of an undisturbed run.

A fault ends in one message and exit status 2, or the command goes on and ends well. Either way no file with a final
name is torn, no worker lives on, and the same command given again ends with the same bytes.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from campaigns.endings import judge_end, tell
from campaigns.lab import DELIVERIES, Lab, Process, hash_home, watch_operations

__all__ = ["faults"]

WELL_OR_NAMED = (0, 2)
NOBODY = 65534
"""The user and the group of nobody: root is refused nothing."""

WORKER = "spawn_main"
"""What the command line of a worker holds."""

POOLED = ("check", "features", "submit")
"""Commands that hand scenes to workers."""


@dataclass(frozen=True)
class Place:
    """Where a fault strikes.

    Parameters
    ----------
    lab : Lab
    name : str
        Of the command.
    home : Path
        In which all is done that comes before it.
    rng : Random
    """

    lab: Lab
    name: str
    home: Path
    rng: random.Random

    def start(self, prepare: Callable[[], None] | None = None, workers: int = 1, out: Path | None = None) -> Process:
        """Begin the command."""
        return self.lab.start(self.name, self.home, prepare, workers, out)

    def new_files(self) -> list[Path]:
        """Return what the command is to write, where it lies in the reference."""
        place = self.lab.commands.index(self.name)
        before = self.lab.after[self.lab.commands[place - 1]] if place else {}
        return [self.lab.reference / path for path in sorted(self.lab.after[self.name].keys() - before.keys())]

    def wait_partly(self, process: Process) -> None:
        """Wait for a random part of the time that the command takes."""
        process.wait(self.rng.uniform(0, self.lab.seconds[self.name]))

    def wait_for_worker(self, process: Process) -> int | None:
        """Wait until a process has workers, and a random time more; return one of them."""
        while not process.wait(0.02):
            if process.others(WORKER):
                process.wait(self.rng.uniform(0, 4))
                workers = process.others(WORKER)
                return self.rng.choice(workers) if workers and process.status is None else None
        return None


def fill_file_size(place: Place) -> list[str]:
    """Let no file grow beyond a size at which one of those to come is not yet whole."""
    size = place.rng.choice(place.new_files()).stat().st_size
    limit = max(0, size - place.rng.choice([1, 8, 300, 5000, size // 2, size]))
    process = place.start(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    return judge_end(process, WELL_OR_NAMED)


def fill_disk(place: Place) -> list[str]:
    """Leave less room on the disk than the command needs."""
    needed = sum(path.stat().st_size for path in place.new_files())
    disk = place.lab.folder / "disk"
    with small_disk(disk) as resize:
        there = replace(place, home=disk / "home")
        there.lab.copy_before(there.name, there.home)
        resize(there.rng.randint(1, max(needed // 1024, 2)))
        problems = judge_end(there.start(), WELL_OR_NAMED)
        problems += [f"{path} is torn" for path in there.lab.find_torn(there.home)]
        resize(1 << 16)
        return problems + _finish(there)


def fill_temporary_folder(place: Place) -> list[str]:
    """Leave no room, or next to none, where temporary files go."""
    folder = place.lab.folder / "temporary"
    with small_disk(folder) as resize:
        resize(place.rng.choice([4, 8, 16]))
        (folder / "filler").write_bytes(bytes(4096))
        problems = judge_end(place.start(lambda: _use_temporary(folder)), WELL_OR_NAMED)
        left = [path.name for path in folder.iterdir() if path.name != "filler"]
    return problems + [f"{name} is left in the temporary folder" for name in left]


def forbid_writing(place: Place) -> list[str]:
    """Forbid to write below the home."""
    paths = [place.home, *place.home.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    process = place.start(_become_nobody if os.getuid() == 0 else None)
    problems = judge_end(process, (2,))
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return problems


def bar_output(place: Place) -> list[str]:
    """Name a folder to write to that cannot be made: below a file, or in a system's own."""
    blocked = place.lab.folder / "a-file"
    blocked.write_text("of the user")
    problems = judge_end(place.start(out=place.rng.choice([blocked, blocked / "below", Path("/proc/below")])), (2,))
    return problems if blocked.read_text() == "of the user" else [*problems, f"{blocked} was written over"]


def delete_at_work(place: Place) -> list[str]:
    """Remove the run folder, or a folder of it, before a random operation on files."""
    last = place.rng.randint(1, place.lab.operations[place.name])
    below = place.rng.choice(["run", "run", "run", "run/members", "run/pixels", "run/ensemble", "run/maps"])

    def remove(done: int) -> None:
        if done == last:
            shutil.rmtree(place.home / below, ignore_errors=True)

    return judge_end(place.start(watch_operations(place.home, remove)), WELL_OR_NAMED)


def kill_worker(place: Place) -> list[str]:
    """Kill a worker, as the system does where memory runs out."""
    process = place.start(workers=2)
    worker = place.wait_for_worker(process)
    if worker is not None:
        os.kill(worker, signal.SIGKILL)
    return judge_end(process, WELL_OR_NAMED)


def kill_parent(place: Place) -> list[str]:
    """Kill the process alone: its workers end with it."""
    process = place.start(workers=2)
    place.wait_for_worker(process)
    process.kill(group=False)
    return judge_end(process, (0, -signal.SIGKILL))


def end_politely(place: Place) -> list[str]:
    """Ask the process alone to end, as a scheduler of jobs does."""
    # Networks that learn with more threads are others.
    process = place.start(workers=2 if place.name in POOLED else 1)
    place.wait_partly(process)
    process.kill(signal.SIGTERM, group=False)
    return judge_end(process, WELL_OR_NAMED)


def start_twice(place: Place) -> list[str]:
    """Give the same command a second time while the first works."""
    first = place.start()
    place.wait_partly(first)
    second = place.start()
    problems = judge_end(first, WELL_OR_NAMED) + judge_end(second, WELL_OR_NAMED)
    return problems if 0 in (first.status, second.status) else [*problems, "neither of two runs came to its end"]


STAGES = ("check", "features", "trees", "cnn", "explain", "ensemble", "submit")
FAULTS: dict[str, tuple[Callable[[Place], list[str]], tuple[str, ...]]] = {
    "full disk": (fill_disk, (*STAGES, *DELIVERIES)),
    "file size": (fill_file_size, (*STAGES, *DELIVERIES)),
    "full TMPDIR": (fill_temporary_folder, ("again", "again", "features", "trees", "cnn", "submit", "bundle")),
    "read-only": (forbid_writing, (*STAGES, *DELIVERIES)),
    "no place": (bar_output, ("check", *DELIVERIES)),
    "deleted": (delete_at_work, STAGES),
    "worker killed": (kill_worker, POOLED),
    "parent killed": (kill_parent, POOLED),
    "SIGTERM": (end_politely, STAGES),
    "second run": (start_twice, STAGES),
}


def faults(lab: Lab, count: int, seed: int) -> bool:
    """Strike commands so often; print how each ends, and return whether all ends were clean."""
    rng = random.Random(seed)
    ends: Counter[str] = Counter()
    unclean: list[str] = []
    known = {name: fault for name, fault in FAULTS.items() if fault[0] not in DISKS or can_mount(lab.folder)}
    for number in range(count):
        kind = list(known)[number % len(known)]
        strike, commands = known[kind]
        name = rng.choice([name for name in commands if name in lab.commands])
        place = Place(lab, name, lab.folder / "home", rng)
        lab.copy_before(name, place.home)
        problems = strike(place) + [f"{path} is torn" for path in lab.find_torn(place.home)]
        problems += _finish(place)
        ends[kind] += 1
        unclean += tell([f"{number}: {kind}, {name}: {problem}" for problem in problems])
    print(f"faults: {ends.total()} faults, seed {seed}: {dict(ends)}; {len(unclean)} unclean")
    return not unclean


def _finish(place: Place) -> list[str]:
    """Give the commands again, from the first whose result is gone; return what is unclean in the end."""
    lab = place.lab
    wanted = lab.commands[: lab.commands.index(place.name) + 1]
    gone = [name for name in wanted if set(lab.after[name]) - set(hash_home(place.home))]
    problems = []
    for name in wanted[wanted.index(gone[0]) :] if gone else [place.name]:
        problems += [f"{name} again: {one}" for one in judge_end(lab.start(name, place.home), (0,))]
    return problems + [f"{path} differs in the end" for path in lab.differences(place.home, place.name)]


DISKS = (fill_disk, fill_temporary_folder)


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], None]]:
    """Mount a disk of its own, in memory; yield what sets its free KiB."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True, capture_output=True)

    def resize(free: int) -> None:
        disk = os.statvfs(folder)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024
        subprocess.run(["mount", "-o", f"remount,size={used + free}k", folder], check=True, capture_output=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", folder], check=True)


def can_mount(folder: Path) -> bool:
    """Return whether this process may mount disks."""
    try:
        with small_disk(folder / "disk"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _use_temporary(folder: Path) -> None:
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
