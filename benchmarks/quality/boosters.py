"""What each booster reaches on the same rows and folds, with its defaults and otherwise: a table for docs/results.md.

``python benchmarks/quality/boosters.py benchmarks/quality/naip.yaml [--try 'lightgbm;lightgbm leaves=15']``

The pixel table is built once. Each candidate learns in a process of its own, so that its memory is its own, and is
scored on the rows held out at a plain threshold of 0.5, or by the likeliest class.
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import trees
from data.files import read_json
from data.scenes.catalogue import Catalogue
from data.workers import open_executor
from ensemble.objective import objective_of
from ensemble.score.row_scores import RowScores, score_rows
from features.feature_set import FeatureSet
from terrablend.experiment import Experiment, load_experiment
from terrablend.run.run_folder import RunFolder
from terrablend.run.scene_run import Run
from terrablend.run.table_run import TableRun
from trees.held_out import predict_held_out
from trees.settings import TreeSettings

KINDS = ("lightgbm", "xgboost", "catboost", "hist_gradient_boosting", "random_forest")


def learn(
    settings: TreeSettings, catalogue: Catalogue, pixels: Path, feature_set: FeatureSet, directory: Path, threads: int
) -> dict[str, Any]:
    """Learn from all folds but one, each in turn, and score the rows of that one."""
    begun = time.perf_counter()
    rows = trees.open_training_rows("one", settings, catalogue, pixels, feature_set, threads=threads)
    trees.fit_member(rows, directory, seed=0)
    learned = time.perf_counter()
    parts = list(predict_held_out(trees.load_member(directory, threads), catalogue, pixels))
    predicted = time.perf_counter()
    scores = score_rows(
        np.concatenate([table.label for _, table, _ in parts]),
        np.concatenate([proba for _, _, proba in parts]),
        np.concatenate([table.weight for _, table, _ in parts]),
        np.concatenate([np.full(len(table), fold) for fold, table, _ in parts]),
        catalogue.classes,
    )
    status = Path("/proc/self/status").read_text().splitlines()
    return {
        "scores": scores,
        "rounds": [read_json(directory / f"fold{fold}.json")["rounds"] for fold in catalogue.folds],
        "learning": learned - begun,
        "predicting": predicted - learned,
        "peak": int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024,
    }


def main() -> None:
    """Run the candidates and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--try", default=";".join(KINDS), help="boosters, each with settings, separated by ;")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment, arguments.set)
    if isinstance(experiment, Experiment):
        score = objective_of(experiment.ensemble, experiment.label_classes()).title
    else:
        score = "AUC" if experiment.task == "binary" else "accuracy"
    with tempfile.TemporaryDirectory() as folder, open_executor(arguments.threads) as executor:
        kind = Run if isinstance(experiment, Experiment) else TableRun
        run: Any = kind(experiment, arguments.experiment, RunFolder(Path(folder)), executor=executor)
        for stage in (run.check, run.features):
            run.folder.carry_out(stage)
        catalogue = run.load_catalogue()
        print(f"| {experiment.name} | {score} | by fold | rounds | learning s | predicting s | peak MiB |")
        print("| --- | ---: | --- | --- | ---: | ---: | ---: |")
        for number, candidate in enumerate(vars(arguments)["try"].split(";")):
            booster, *changes = candidate.split()
            values = {name: yaml.safe_load(value) for name, value in (change.split("=", 1) for change in changes)}
            settings = TreeSettings(booster=booster, **values)
            context = get_context("spawn")
            with ProcessPoolExecutor(1, context) as process:
                found = process.submit(
                    learn,
                    settings,
                    catalogue,
                    run.pixels,
                    run.feature_set(catalogue),
                    Path(folder) / str(number),
                    arguments.threads,
                ).result()
            scores: RowScores = found["scores"]
            folds = " ".join(f"{each[score]:.3f}" for each in scores.by_fold.values())
            print(
                f"| {candidate} | **{scores.pooled[score]:.4f}** | {folds} | {' '.join(map(str, found['rounds']))} | "
                f"{found['learning']:.0f} | {found['predicting']:.1f} | {found['peak']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
