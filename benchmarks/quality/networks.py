"""Which settings of a network move the score, and how fast it learns: tables for docs/results.md within a given time.

``python benchmarks/quality/networks.py [EXPERIMENT …] [--seconds 540] [--parallel 4] [--try ';loss=dice']``

For a machine with a GPU, and in one call: by default the three ``…-gpu.yaml`` beside this script. First it measures
how many images a second the card can learn from, batches lying ready in its memory, and how many a training really
feeds it. Then every candidate, which is the file's network with some settings changed, learns from all folds but one,
fold by fold, several at once, and is scored on the scenes left out by a plain threshold of 0.5, or by the likeliest
class. No training is begun that would not end in time. Differences are paired: from the network as written, on the
same fold with the same seed. Without the hub's weights at hand add ``--set members.unet.pretrained=null``.
"""

import argparse
import logging
import statistics
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cnn
from cnn.machine import choose_device, choose_precision
from cnn.network.network import build_network
from cnn.settings import CnnSettings
from cnn.train.fold_plan import LARGEST_BATCH, build_loss
from data.files import TIMINGS, read_json
from data.metrics.confusion import confusion_counts, plain_prediction
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE
from data.scenes.scene import read_label
from data.workers import cores
from ensemble.objective import objective_of
from features.branch import Training
from features.feature_set import FeatureSet
from terrablend.experiment import Experiment, load_scene_experiment
from terrablend.run.run_folder import RunFolder
from terrablend.run.scene_run import Run

HERE = Path(__file__).parent
EXPERIMENTS = [HERE / f"{name}-gpu.yaml" for name in ("naip", "ombria", "burnscars")]
CANDIDATES = (
    "",
    "encoder=resnet34",
    "encoder=tu-convnext_tiny",
    "encoder=mit_b1",
    "architecture=fpn",
    "loss=dice",
    "loss=lovasz+ce",
    "loss=focal+dice",
    "augment.rotate=180 augment.scale=1.3",
)
"""Settings changed together are parted by spaces; none at all is the network as written."""
STEPS = 30
"""Of learning, behind the card's limit."""


@dataclass(frozen=True)
class Job:
    """One network to learn."""

    experiment: Path
    changes: str
    seed: int
    fold: int


@dataclass(frozen=True)
class Learned:
    """What became of it: a score on the fold left out, and what it took."""

    score: float
    seconds: float
    images_per_second: float
    peak_gb: float


def open_job(job: Job, member: str, overrides: list[str]) -> tuple[Experiment, CnnSettings]:
    """Return the experiment of a job, and the settings of its network."""
    changes = [f"members.{member}.{change}" for change in job.changes.split()]
    experiment = load_scene_experiment(job.experiment, [*overrides, *changes, f"seed={job.seed}"])
    settings = experiment.members[member]
    assert isinstance(settings, CnnSettings)
    return experiment, settings


def learn(job: Job, member: str, overrides: list[str], catalogue_path: Path, threads: int) -> Learned:
    """Learn from all folds but one, and score the scenes of that one."""
    logging.disable(logging.INFO)
    start = time.perf_counter()
    experiment, settings = open_job(job, member, overrides)
    catalogue = Catalogue.load(catalogue_path)
    n_labels = len(catalogue.classes.label_names)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        columns = partial(FeatureSet, catalogue.bands, catalogue.bands)
        files = directory, experiment.root, directory.parent, directory
        formulas = experiment.features.formulas
        cnn.fit_member(
            Training(member, settings, catalogue, *files, columns, formulas, job.seed, threads, folds=[job.fold])
        )
        rates = [epoch["images_per_second"] for epoch in read_json(directory / TIMINGS)[f"fold{job.fold}"]]
        trained = cnn.load_member(directory, threads, "auto")
        counts = np.zeros((n_labels, n_labels + 1), np.int64)
        for scene, window, proba in trained.predict(catalogue.in_fold(job.fold), [job.fold]):
            flat = proba.reshape(len(proba), -1).T
            prediction = np.where(np.isnan(flat[:, 0]), np.uint8(IGNORE), plain_prediction(flat))
            counts += confusion_counts(read_label(scene, window).ravel(), prediction, n_labels)
    peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else float("nan")
    score = float(objective_of(experiment.ensemble, catalogue.classes).score(counts[None]))
    return Learned(score, time.perf_counter() - start, statistics.median(rates), peak)


def measure_limit(job: Job, member: str, overrides: list[str], catalogue: Catalogue) -> float:
    """Return the images a second that the network learns from if they lie ready where it is."""
    _, settings = open_job(job, member, overrides)
    device = choose_device("auto")
    precision = choose_precision(settings.precision, device)
    classes, inputs = catalogue.classes, settings.inputs or catalogue.bands
    network = build_network(settings, len(inputs), len(classes.names)).to(device)
    network.to(memory_format=torch.channels_last).train()
    loss = build_loss(settings, classes, np.ones((classes.n_questions, classes.n_labels), np.int64)).to(device)
    optimizer = torch.optim.AdamW(network.parameters())
    batch, side = settings.batch_size or LARGEST_BATCH, settings.crop
    images = torch.randn(batch, len(inputs), side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    label = torch.randint(len(classes.label_names), (batch, side, side), device=device)
    for step in range(STEPS):
        if step == STEPS // 3:
            _finish(device)
            start = time.perf_counter()
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            value = loss(network(images), label)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
    _finish(device)
    return (STEPS - STEPS // 3) * batch / (time.perf_counter() - start)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def learn_all(
    jobs: list[Job], member: str, overrides: list[str], catalogues: dict[Path, Path], *, parallel: int, until: float
) -> dict[Job, Learned]:
    """Learn as many networks as there is time for, in order."""
    done: dict[Job, Learned] = {}
    running: dict[Future[Learned], Job] = {}
    threads = max(1, cores() // parallel)
    left = list(jobs)
    with ProcessPoolExecutor(parallel, get_context("spawn")) as processes:
        while left or running:
            while left and len(running) < parallel:
                longest = max(
                    (found.seconds for job, found in done.items() if job.experiment == left[0].experiment), default=0
                )
                if time.monotonic() + longest > until:
                    left.clear()
                    break
                job = left.pop(0)
                running[processes.submit(learn, job, member, overrides, catalogues[job.experiment], threads)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                done[job] = future.result()
                print(
                    f"{job.experiment.stem}, {job.changes or 'as written'}, fold {job.fold}, seed {job.seed}: "
                    f"{done[job].score:.4f} in {done[job].seconds:.0f} s",
                    flush=True,
                )
    return done


def print_table(experiment: Path, candidates: list[str], done: dict[Job, Learned]) -> None:
    """Print what each candidate reached, and how far it is from the network as written."""
    print(
        f"\n| {experiment.stem} | score | over folds and seeds | against as written | networks | images/s | peak GB |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for changes in candidates:
        own = {
            (job.fold, job.seed): found
            for job, found in done.items()
            if job.experiment == experiment and job.changes == changes
        }
        plain = {place: done.get(Job(experiment, "", place[1], place[0])) for place in own}
        gains = [found.score - base.score for place, found in own.items() if (base := plain[place]) is not None]
        if own:
            found = list(own.values())
            print(
                f"| {changes or 'as written'} | {_mean([one.score for one in found])} | "
                f"{min(one.score for one in found):.3f}–{max(one.score for one in found):.3f} | "
                f"{_mean(gains) if changes else ''} | {len(found)} | "
                f"{statistics.median(one.images_per_second for one in found):.0f} | "
                f"{max(one.peak_gb for one in found):.1f} |"
            )


def _mean(values: list[float]) -> str:
    """Write a mean with its standard deviation."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main() -> None:
    """Measure, learn and print."""
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", type=Path, default=EXPERIMENTS)
    parser.add_argument("--seconds", type=float, default=540, help="after which nothing is begun that would not end")
    parser.add_argument("--parallel", type=int, default=4, help="networks that learn at the same time")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--member", default="unet")
    parser.add_argument("--try", default=";".join(CANDIDATES), help="settings to change, candidates parted by ;")
    parser.add_argument("--set", action="append", default=[], help="override a value of every experiment")
    arguments: Any = parser.parse_args()
    candidates = vars(arguments)["try"].split(";")
    with tempfile.TemporaryDirectory() as folder:
        catalogues, folds = {}, {}
        for path in arguments.experiments:
            run = Run(load_scene_experiment(path, arguments.set), path, RunFolder(Path(folder) / path.stem))
            run.folder.carry_out(run.check)
            catalogues[path], folds[path] = run.folder.path / "catalogue.parquet", run.load_catalogue().folds
            first = Job(path, "", 0, folds[path][0])
            limit = measure_limit(first, arguments.member, arguments.set, run.load_catalogue())
            few = [*arguments.set, f"members.{arguments.member}.epochs=5"]
            alone = learn(first, arguments.member, few, catalogues[path], cores())
            print(
                f"{path.stem}: {alone.images_per_second:.0f} images/s while training alone, {limit:.0f} if batches lie "
                f"ready: {alone.images_per_second / limit:.0%}; peak {alone.peak_gb:.1f} GB",
                flush=True,
            )
        # Fold by fold and seed by seed, so that whatever time allows is a fair comparison.
        most = max(map(len, folds.values()))
        jobs = [
            Job(path, changes, seed, folds[path][number])
            for seed, number, changes, path in product(
                range(arguments.seeds), range(most), candidates, arguments.experiments
            )
            if number < len(folds[path])
        ]
        until = begun + arguments.seconds
        done = learn_all(jobs, arguments.member, arguments.set, catalogues, parallel=arguments.parallel, until=until)
    for path in arguments.experiments:
        print_table(path, candidates, done)
    print(f"\n{len(done)} of {len(jobs)} networks in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
