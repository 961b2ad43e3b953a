"""How much faster scenes are worked on by several processes than by one, and whether they write the same bytes.

``python benchmarks/workers.py [--workers 2] [--scenes 8] [--side 768]``

Scenes of the synthetic coast, half of them to learn from, go through a run. Then what is spread over scenes is done
anew by this process alone, and twice by workers: the first time they start and load libraries and models, as in every
command; the second time they have them, as in a command that takes long. Processor time is of all processes, for one
turn, and without what the workers need to start. It takes 5 minutes of two idle cores.
"""

import argparse
import hashlib
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from data.workers import open_executor
from terrablend.run.opening import open_run
from terrablend.run.scene_run import Run
from terrablend.start.coast import EXPERIMENT, write_coast

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


def write_run(folder: Path, scenes: int, side: int, workers: int) -> Run:
    """Write scenes, carry out all stages of their run, and return it."""
    coast = folder / "coast"
    write_coast(coast, places=scenes // 2, acquisitions=1, test=scenes - scenes // 2, size=side)
    file = coast / "coast.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(EXPERIMENT) | CHANGES))
    with open_executor(workers) as executor:
        run = open_run(file, folder / "run", device="cpu", workers=workers, executor=executor)
        assert isinstance(run, Run)
        run.carry_out(run.stages)
    return replace(run, workers=1, executor=None)


def work_of(run: Run) -> dict[str, tuple[Callable[[Run], None], tuple[str, ...]]]:
    """Return what is done anew, by what the table calls it: how, and the folders of what it writes."""
    catalogue = run.load_catalogue()
    maps = {name: (f"members/{name}/oof", f"members/{name}/test") for name in run.experiment.members}
    return {
        "features": (lambda run: run.build_table(catalogue), ("pixels",)),
        "trees: maps": (lambda run: run.apply_member("lightgbm", catalogue), maps["lightgbm"]),
        "cnn: maps": (lambda run: run.apply_member("unet", catalogue), maps["unet"]),
        "submit: class maps": (lambda run: run.submit.work(), ("maps", "proba", "uncertainty")),
    }


def time_anew(run: Run, work: Callable[[Run], None], folders: tuple[str, ...]) -> tuple[float, str]:
    """Do some work anew; return the seconds that it takes, and the hash of what it wrote."""
    for name in folders:
        shutil.rmtree(run.folder.path / name, ignore_errors=True)
    begin = time.perf_counter()
    work(run)
    seconds, digest = time.perf_counter() - begin, hashlib.sha256()
    for path in sorted(path for name in folders for path in (run.folder.path / name).rglob("*") if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return seconds, digest.hexdigest()


def cpu_seconds() -> float:
    """Return the processor time of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Print a row of a table for each kind of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--side", type=int, default=768, help="pixels")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        begin = time.perf_counter()
        run = write_run(Path(name), options.scenes, options.side, options.workers)
        print(
            f"{options.scenes} scenes of {options.side}², ready after {time.perf_counter() - begin:.0f} s", flush=True
        )
        many = f"{options.workers} workers"
        print(
            f"| | CPU s, 1 worker | {many} | s, 1 worker | {many}, with their start | {many} | speed-up | same bytes |"
        )
        for kind, (work, folders) in work_of(run).items():
            used = cpu_seconds()
            with open_executor(1):
                alone, wrote = time_anew(run, work, folders)
            of_one = cpu_seconds() - used
            with open_executor(options.workers) as executor:
                spread = replace(run, workers=options.workers, executor=executor)
                first, wrote_first = time_anew(spread, work, folders)
                second, wrote_second = time_anew(spread, work, folders)
            of_all = (cpu_seconds() - used - of_one) / 2
            same = "yes" if wrote == wrote_first == wrote_second else "NO"
            print(
                f"| {kind} | {of_one:.1f} | {of_all:.1f} | {alone:.1f} | {first:.1f} | {second:.1f} | "
                f"{alone / second:.2f} | {same} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
