"""Trees on a GPU against the same on the CPU: time to learn and to predict a scene, and how far the scores are apart.

``python benchmarks/tree_gpu.py [--rows 500000] [--rounds 300] [--threads 16]``

The made-up scene of ``tree_prediction.py``: boosters learn from pixels of its upper half and are scored, by AUC, on its
lower half. Says so and ends where there is no GPU; what a library cannot do there is left out.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from tree_prediction import FEATURES, Held, make_scene, sample_rows

from data.errors import MemberError
from data.gpus import count_gpus
from data.workers import cores
from trees.boosters.booster import predict_proba
from trees.learning import LEARNERS
from trees.settings import TreeSettings

SIDE = 1024


def main() -> None:
    """Print a line a library and device."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int, default=cores())
    arguments = parser.parse_args()
    if count_gpus() == 0:
        print("no CUDA device: nothing to compare")
        return
    planes, label = make_scene(SIDE)
    upper = slice(None), slice(0, SIDE // 2)
    rows = sample_rows(planes[upper], label[: SIDE // 2], arguments.rows)
    scene, truth = planes[:, SIDE // 2 :].reshape(FEATURES, -1).T.copy(), label[SIDE // 2 :].ravel()
    chosen = np.ones(len(rows), bool)
    print(f"{len(rows)} rows × {FEATURES}, {arguments.rounds} rounds; a scene of {len(scene)} pixels")
    print("| library | device | learn, s | predict, Mpx/s | AUC |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name in ("lightgbm", "xgboost", "catboost"):
        for device in ("cpu", "cuda"):
            settings = TreeSettings(booster=name, rounds=arguments.rounds, colsample=1)
            learner = LEARNERS[name](replace(rows, blocks=[Held(rows.read())]), 2, arguments.threads, device)
            try:
                # The first time on a device its libraries are loaded and its code is compiled.
                learner.fit(settings.model_copy(update={"rounds": 2}), chosen)
                start = time.perf_counter()
                booster = learner.fit(settings, chosen)
            except MemberError as error:
                print(f"| {name} | {device} | {error} | | |")
                continue
            learned = time.perf_counter() - start
            with tempfile.TemporaryDirectory() as folder:
                booster.save(Path(folder) / "booster")
                loaded = learner.booster.load(Path(folder) / "booster", device)
            predict_proba(loaded, scene[:1000], arguments.threads)
            start = time.perf_counter()
            proba = predict_proba(loaded, scene, arguments.threads)
            speed = len(scene) / (time.perf_counter() - start) / 1e6
            print(f"| {name} | {device} | {learned:.1f} | {speed:.2f} | {roc_auc_score(truth, proba[:, 0]):.5f} |")


if __name__ == "__main__":
    main()
