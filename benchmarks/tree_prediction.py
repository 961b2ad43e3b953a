"""Trees over a full scene: ours against LightGBM's and XGBoost's own prediction of the same scene, in turns.

``python benchmarks/tree_prediction.py [--side 512] [--turns 3]``

A scene of 60 smooth, noisy features is made up with one seed, and models of 63 leaves are learned from 60 000 of its
pixels. Each side starts from the features' planes and is timed to the last probability; the libraries get one row a
pixel, as they read it fastest. Compiling is not counted: it happens once in the life of an installation.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from features.table import Table
from trees.boosters.booster import Booster, predict_proba
from trees.boosters.lightgbm_booster import LightGBMLearner
from trees.boosters.xgboost_booster import XGBoostLearner
from trees.member import in_squares
from trees.settings import TreeSettings

FEATURES = 60
TREES = (300, 1000)


def make_scene(side: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return features (60, side, side) and a label (side, side) that depends on some of them."""
    rng = np.random.default_rng(0)
    hills = [
        cv2.resize(
            rng.normal(size=(side // cell, side // cell)).astype(np.float32),
            (side, side),
            interpolation=cv2.INTER_CUBIC,
        )
        for cell in (8, 16, 32, 64)
        for _ in range(3)
    ]
    planes = np.empty((FEATURES, side, side), np.float32)
    for plane in planes:
        one, two = rng.choice(len(hills), 2, replace=False)
        plane[...] = hills[one] + rng.normal() * hills[two] + rng.normal(0, 0.1, (side, side))
    label = planes[0] + planes[1] * planes[2] + rng.normal(0, 0.5, (side, side)) > 1
    return planes, label.astype(np.uint8)


class Held(NamedTuple):
    """Rows that lie in memory."""

    features: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.features)

    def read(self) -> NDArray[np.float32]:
        """Return them."""
        return self.features


def sample_rows(planes: NDArray[np.float32], label: NDArray[np.uint8], count: int) -> Table:
    """Return some pixels of a scene."""
    drawn = np.random.default_rng(1).choice(label.size, min(count, label.size), replace=False)
    features = planes.reshape(FEATURES, -1)[:, drawn].T.copy()
    names = tuple(f"f{number}" for number in range(FEATURES))
    place = np.arange(len(drawn), dtype=np.int32)
    weight = np.ones(len(drawn), np.float32)
    return Table([Held(features)], names, label.ravel()[drawn], weight, np.zeros_like(place), ("scene",), place)


def by_library(booster: Booster, planes: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
    """Predict a scene pixel after pixel."""
    rows = np.ascontiguousarray(planes.reshape(len(planes), -1).T)
    return booster.predict_proba(rows, threads)[:, 0].reshape(planes.shape[1:])


def by_forest(booster: Booster, planes: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
    """Predict a scene square by square, as a member does."""
    order = in_squares(*planes.shape[1:])
    proba = np.empty(len(order), np.float32)
    proba[order] = predict_proba(booster, np.take(planes.reshape(len(planes), -1), order, axis=1).T, threads)[:, 0]
    return proba.reshape(planes.shape[1:])


def by_forest_shuffled(booster: Booster, planes: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
    """Predict a scene's pixels in no order, the worst there is."""
    order = np.random.default_rng(0).permutation(planes[0].size)
    proba = np.empty(len(order), np.float32)
    proba[order] = predict_proba(booster, np.take(planes.reshape(len(planes), -1), order, axis=1).T, threads)[:, 0]
    return proba.reshape(planes.shape[1:])


WAYS: dict[str, Callable[[Booster, NDArray[np.float32], int], NDArray[np.float32]]] = {
    "library": by_library,
    "forest": by_forest,
    "forest, shuffled pixels": by_forest_shuffled,
}


def main() -> None:
    """Print the speeds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    planes, label = make_scene(arguments.side)
    rows = sample_rows(planes, label, 60_000)
    for kind in (LightGBMLearner, XGBoostLearner):
        for trees in TREES:
            settings = TreeSettings(rounds=trees, colsample=1, subsample=1, min_leaf_rows=20)
            booster = kind(rows, 2, threads=2).fit(settings, np.ones(len(rows), bool))
            predict_proba(booster, rows.read()[:100].T.copy().T)
            for threads in (1, 2):
                times: dict[str, list[float]] = {way: [] for way in WAYS}
                for _ in range(arguments.turns):
                    found = {}
                    for way, predict in WAYS.items():
                        start = time.perf_counter()
                        found[way] = predict(booster, planes, threads)
                        times[way].append(time.perf_counter() - start)
                seconds = {way: statistics.median(each) for way, each in times.items()}
                apart = max(float(np.abs(proba - found["library"]).max()) for proba in found.values())
                print(
                    f"{kind.library}, {trees} trees, {threads} thread(s): "
                    + "; ".join(
                        f"{way} {label.size / seconds[way] / 1e6:.3f} Mpx/s ({seconds['library'] / seconds[way]:.1f} ×)"
                        for way in WAYS
                    )
                    + f"; probabilities {apart:.0e} apart at most",
                    flush=True,
                )


if __name__ == "__main__":
    main()
