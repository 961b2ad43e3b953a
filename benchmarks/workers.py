"""How much faster scenes are worked on by several processes than by one, and whether they write the same bytes.

``python benchmarks/workers.py [--workers 2] [--scenes 8] [--side 1024]``

Scenes of the synthetic coast, half of them to learn from, go through a run. Then what is spread over scenes is done
anew by this process alone, and twice by workers: the first time they start and load libraries and models, as in every
command; the second time they have them, as in a command that takes long. Processor time is of all processes; that to
start is what both turns of the workers took beyond two turns of one process. It takes some 4 minutes of two idle cores.
"""

import argparse
import hashlib
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from data.worker_pool import Workers
from data.workers import open_executor

if TYPE_CHECKING:
    # Workers, which are started by importing this file, load what they need.
    from data.scenes.scene import Scene
    from terrablend.run.scene_run import Run

CHANGES = {
    "folds": {"count": 2, "group": {"similar": "dem"}},
    "features": {"indices": ["NDVI", "NDWI", "MNDWI"], "sample": {"negatives": 1000}},
    "members": {
        "lightgbm": {"branch": "trees", "rounds": 150},
        "unet": {
            "branch": "cnn",
            "encoder": "resnet18",
            "encoder_depth": 3,
            "decoder_channels": [64, 32, 16],
            "inputs": ["red", "green", "blue", "nir"],
            "crop": 96,
            "batch_size": 4,
            "epochs": 1,
            "steps": 4,
        },
    },
    "submission": {"format": "kelp", "proba": True, "uncertainty": True},
}


def write_run(folder: Path, scenes: int, side: int, workers: int) -> "Run":
    """Write scenes, carry out all stages of their run, and return it."""
    from terrablend.run.opening import open_run
    from terrablend.start.coast import EXPERIMENT, write_coast

    coast = folder / "coast"
    write_coast(coast, places=scenes // 2, acquisitions=1, test=scenes - scenes // 2, size=side)
    file = coast / "coast.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(EXPERIMENT) | CHANGES))
    with open_executor(workers) as executor:
        run = open_run(file, folder / "run", device="cpu", workers=workers, executor=executor)
        run.carry_out(run.stages)
    return replace(run, workers=1, executor=None)


@dataclass(frozen=True)
class Work:
    """What is done anew: how, the folders of what it writes, and the scenes that it is done to."""

    name: str
    carry_out: "Callable[[Run], None]"
    folders: tuple[str, ...]
    scenes: "tuple[Scene, ...]"

    @property
    def megapixels(self) -> float:
        """Of the scenes."""
        return sum(scene.grid.height * scene.grid.width for scene in self.scenes) / 1e6


def list_work(run: "Run") -> list[Work]:
    """Return all that is spread over scenes."""
    catalogue = run.load_catalogue()
    train, test = catalogue.split("train"), catalogue.split("test")
    trees, cnn = ((f"members/{name}/oof", f"members/{name}/test") for name in ("lightgbm", "unet"))
    return [
        Work("features", lambda run: run.build_table(catalogue), ("pixels",), train),
        Work("trees: maps", lambda run: run.apply_member("lightgbm", catalogue), trees, catalogue.scenes),
        Work("cnn: maps", lambda run: run.apply_member("unet", catalogue), cnn, catalogue.scenes),
        Work("submit: class maps", lambda run: run.submit.work(), ("maps", "proba", "uncertainty"), test),
    ]


def time_anew(run: "Run", work: Work) -> tuple[float, str]:
    """Do some work anew; return the seconds that it takes, and the hash of what it wrote."""
    folders = [run.folder.path / name for name in work.folders]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    begin = time.perf_counter()
    work.carry_out(run)
    seconds, digest = time.perf_counter() - begin, hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return seconds, digest.hexdigest()


def cpu_seconds() -> float:
    """Return the processor time of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def compare(run: "Run", work: Work, workers: int) -> str:
    """Return the row of a table about some work."""
    begin = cpu_seconds()
    with open_executor(1):
        alone, wrote = time_anew(run, work)
    of_one = cpu_seconds() - begin
    with open_executor(workers) as executor:
        assert isinstance(executor, Workers)
        # However few the pixels are.
        executor.worth_pixels = 0
        spread = replace(run, workers=workers, executor=executor)
        (first, wrote_first), (second, wrote_second) = time_anew(spread, work), time_anew(spread, work)
    to_start = cpu_seconds() - begin - 3 * of_one
    same = "yes" if wrote == wrote_first == wrote_second else "NO"
    return (
        f"| {work.name} | {of_one / work.megapixels:.2f} | {alone:.1f} | {second:.1f} | {alone / second:.2f} | "
        f"{first:.1f} | {to_start:.1f} | {same} |"
    )


def main() -> None:
    """Print a table with a row for each kind of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        begin = time.perf_counter()
        run = write_run(Path(name), options.scenes, options.side, options.workers)
        taken = time.perf_counter() - begin
        print(f"{options.scenes} scenes of {options.side}², ready after {taken:.0f} s\n", flush=True)
        columns = (
            "",
            "CPU s a megapixel, 1 worker",
            "s, 1 worker",
            f"s, {options.workers} workers",
            "speed-up",
            "s with their start",
            "CPU s of their start",
            "same bytes",
        )
        print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
        for work in list_work(run):
            print(compare(run, work, options.workers), flush=True)


if __name__ == "__main__":
    main()
