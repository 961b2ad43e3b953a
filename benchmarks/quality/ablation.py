"""What each kind of feature, and the design weights, do for the tree branch: a table for docs/results.md.

``python benchmarks/quality/ablation.py benchmarks/quality/burnscars.yaml [--steps 'bands;+ contrasts'] [--threads 2]``

Every step builds its own pixel table, trains the experiment's first tree member on each fold's rows and predicts the
rows held out. Those are a designed sample, so with their weights their confusion counts estimate those of the whole
scenes; no map is written. With ``--official`` the model of all training scenes is scored on the validation scenes.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # Before any library loads OpenMP.

import numpy as np

import trees
from data.metrics.confusion import plain_prediction, weighted_counts
from data.scenes.catalogue import Catalogue
from data.workers import open_executor
from ensemble.objective import objective_of
from features import FeatureSet, build_table, feature_names
from features.settings import ContextSettings, FeatureSettings, RelativeSettings
from terrablend.experiment import load_scene_experiment
from terrablend.run.run_folder import RunFolder
from terrablend.run.scene_run import Run
from trees.held_out import predict_held_out
from trees.settings import TreeSettings

NO_CONTEXT = ContextSettings(of=[])

STATISTICS = (
    "mean std",
    "mean std dob laplacian",
    "mean std min max gradient",
    "mean std min max dob laplacian",
    "mean std min max gradient dob laplacian",
    "mean std min max gradient edges",
    "mean std min max gradient edges coherence",
    "mean std min max gradient edges coherence dob laplacian",
)
"""Choices of context statistics that are compared."""

STEPS = (
    "bands",
    "+ all indices",
    "+ contrasts",
    "+ contrasts + relative",
    "+ contrasts + context",
    "+ contrasts + context, unweighted",
    "+ contrasts + context + relative",
)


def steps_of(settings: FeatureSettings, bands: tuple[str, ...]) -> dict[str, tuple[FeatureSettings, str]]:
    """Return the feature settings and the use of weights of each step."""
    default = ContextSettings()
    around = feature_names(bands, FeatureSettings(indices=[], context=ContextSettings(radii=[1], statistics=["mean"])))
    bases = [name.removesuffix("_mean_r1") for name in around[len(bands) :]]
    relative = RelativeSettings(of=bases, rank=True)

    def made(
        indices: str | list[str], context: ContextSettings, relative: RelativeSettings | None = None
    ) -> FeatureSettings:
        return settings.model_copy(update={"indices": indices, "context": context, "relative": relative})

    def with_statistics(*names: str) -> FeatureSettings:
        return made("contrasts", ContextSettings(statistics=list(names)))

    steps = {
        "bands": made([], NO_CONTEXT),
        "+ all indices": made("all", NO_CONTEXT),
        "+ contrasts": made("contrasts", NO_CONTEXT),
        "+ contrasts + relative": made("contrasts", NO_CONTEXT, relative),
        "+ context": made([], default),
        "+ contrasts + context": made("contrasts", default),
        "+ all indices + context": made("all", default),
        "+ contrasts + context + relative": made("contrasts", default, relative),
        "context to 31 pixels": made("contrasts", ContextSettings(radii=[*default.radii, 31])),
        **{f"statistics {names}": with_statistics(*names.split()) for names in STATISTICS},
    }
    weighted = {name: (made, "design") for name, made in steps.items()}
    return weighted | {f"{name}, unweighted": (made, "none") for name, made in steps.items()}


def official(catalogue: Catalogue) -> Catalogue:
    """Return the catalogue with the validation scenes as the one fold that is held out."""
    scenes = [
        replace(scene, split="train", id=f"{scene.split}-{scene.id}", fold=int(scene.split == "val"))
        for scene in catalogue.scenes
        if scene.split in ("train", "val")
    ]
    return replace(catalogue, scenes=tuple(scenes))


def main() -> None:
    """Run the steps and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--steps", default=";".join(STEPS), help="names as in steps_of, separated by ;")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--official", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    experiment = load_scene_experiment(arguments.experiment, arguments.set)
    name, member = next((n, m) for n, m in experiment.members.items() if isinstance(m, TreeSettings))
    metric = objective_of(experiment.ensemble, experiment.label_classes())
    with tempfile.TemporaryDirectory() as folder, open_executor(arguments.threads) as executor:
        run = Run(experiment, arguments.experiment, RunFolder(Path(folder)), executor=executor)
        run.folder.carry_out(run.check)
        catalogue = run.load_catalogue()
        catalogue = official(catalogue) if arguments.official else catalogue
        folds = [1] if arguments.official else catalogue.folds
        print(f"| {experiment.name} | features | {metric.title} | by fold | table s | training s |")
        print("|---|---|---|---|---|---|")
        steps = steps_of(experiment.features, catalogue.bands)
        for step in arguments.steps.split(";"):
            settings, sample_weight = steps[step.strip()]
            feature_set = FeatureSet(catalogue.bands, feature_names(catalogue.bands, settings), settings.formulas)
            begun = time.perf_counter()
            pixels, directory = Path(folder) / "pixels" / step, Path(folder) / "members" / step
            build_table(
                catalogue,
                feature_set,
                settings.sample,
                pixels,
                experiment=experiment.name,
                seed=experiment.seed,
                executor=executor,
            )
            built = time.perf_counter()
            changed = member.model_copy(update={"sample_weight": sample_weight})
            rows = trees.open_training_rows(name, changed, catalogue, pixels, feature_set, threads=arguments.threads)
            trees.fit_member(rows, directory, seed=experiment.seed, folds=folds)
            trained = time.perf_counter()
            n_labels = len(catalogue.classes.label_names)
            counts = {}
            for fold, table, proba in predict_held_out(
                trees.load_member(directory, arguments.threads), catalogue, pixels
            ):
                weight = table.weight.astype(np.float64)
                counts[fold] = weighted_counts(table.label, plain_prediction(proba), weight, n_labels)
            scores = " ".join(f"{float(metric.score(each)):.3f}" for each in counts.values())
            total = float(metric.score(np.sum(list(counts.values()), axis=0)))
            print(
                f"| {step} | {len(feature_set)} | **{total:.3f}** | {scores} | {built - begun:.0f} | "
                f"{trained - built:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
