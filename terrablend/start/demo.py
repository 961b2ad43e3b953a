"""Run every stage on a synthetic coast whose truth is known."""

import time
from concurrent.futures import Executor
from pathlib import Path

from data.progress import Track
from features.branch import DeviceName
from terrablend.deliver.evaluate import evaluate_maps
from terrablend.experiment import load_scene_experiment
from terrablend.progress import console
from terrablend.run.marker import claim_folder
from terrablend.run.run_folder import RunFolder
from terrablend.run.scene_run import Run
from terrablend.start.coast import EXPERIMENT, write_coast
from terrablend.start.known_errors import judge_audit
from terrablend.start.schema import write_experiment_file

__all__ = ["run_demo"]


def run_demo(out: Path, *, device: DeviceName | None, workers: int, executor: Executor | None, track: Track) -> None:
    """Make the coast, run every stage, and score the test maps against the truth that no label shows.

    Parameters
    ----------
    out : Path
        Gets ``coast/`` with the scenes and ``run/`` with the results; what is done there is kept.
    device : {"auto", "cpu", "cuda"} or None
    workers : int
    executor : Executor or None
    track : Track
    """
    start = time.perf_counter()
    claim_folder(out, "-o")
    coast, file = out / "coast", out / "coast" / "demo.yaml"
    if not file.exists():
        write_coast(coast)
        write_experiment_file(file, EXPERIMENT)
    experiment = load_scene_experiment(file)
    run = Run(experiment, file, RunFolder(out / "run"), device, workers, executor, track)
    run.carry_out(run.stages)
    console.print(f"\nTest maps against the truth, on places that no training scene shows ({out / 'run' / 'maps'}):\n")
    console.print(evaluate_maps(experiment, out / "run" / "maps", str(coast / "truth" / "{id}.tif")), soft_wrap=True)
    console.print()
    console.print(judge_audit(out / "run" / "ensemble" / "audit.parquet", coast).line(), soft_wrap=True)
    console.print(
        f"\nDone in {time.perf_counter() - start:.0f} s. Report: {out / 'run' / 'ensemble' / 'report.html'}\n"
        f"Submission: {out / 'run' / 'submission.tar'}"
    )
