"""How many labels are needed where the next ones are suggested, against places drawn at random.

usage: python benchmarks/suggest.py [--worlds 3] [--seed 0]

A world is 60 scenes of 4 classes in 4 bands. Land differs from region to region, one region is rare, and so is one
class. Labels start with three squares of one region; rounds of four squares are added, chosen by
`terrablend.deliver.suggest.choose_places` from what two boosters say, or at random, until all of the pool is labelled.
Macro IoU is that of other scenes. The last line says with which share of the labels the score of all is reached, less
half a point; the exit status is 1 if that is more than a half.
"""

import argparse
import sys

import lightgbm as lgb
import numpy as np
from scipy import ndimage

from data.maps.geotiff import quantise
from data.scenes.windows import Window
from ensemble.uncertainty import measure_uncertainty
from features.applicability import _compare
from terrablend.deliver.suggest import Place, choose_places

SIDE, SCENES, CLASSES, BANDS = 32, 60, 4, 4
START, STEP, SLACK = 3, 4, 0.005
PARAMETERS = {
    "objective": "multiclass",
    "num_class": CLASSES,
    "num_leaves": 15,
    "min_data_in_leaf": 10,
    "learning_rate": 0.2,
    "verbosity": -1,
    "num_threads": 1,
    "feature_fraction": 0.7,
}


def make_scene(rng: np.random.Generator, looks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bands (B, H, W) and the label (H, W) of a scene of some region."""
    fields = np.stack([ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 4) for _ in range(CLASSES)])
    fields /= fields.std(axis=(1, 2), keepdims=True)
    fields[-1] -= 1.2  # The last class is rare.
    label = fields.argmax(axis=0)
    bands = looks[label].transpose(2, 0, 1) + rng.normal(0, 0.6, (BANDS, SIDE, SIDE))
    return bands.astype(np.float32), label


def make_world(seed: int) -> tuple[list, list, list]:
    """Return the scenes to label from, the region of each, and other scenes to be scored on."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 1.5, (CLASSES, BANDS))
    regions = [base + rng.normal(0, 0.9, (CLASSES, BANDS)) for _ in range(5)]
    share = np.array([0.5, 0.25, 0.12, 0.08, 0.05])
    of = rng.choice(5, SCENES, p=share)
    of[:START] = 0
    pool = [make_scene(rng, regions[region]) for region in of]
    others = [make_scene(rng, regions[region]) for region in rng.choice(5, 60, p=share)]
    return pool, of.tolist(), others


def learn(scenes: list, seed: int) -> list[lgb.Booster]:
    """Return two boosters that saw the pixels of some scenes, each with another seed."""
    rows = np.concatenate([bands.reshape(BANDS, -1).T for bands, _ in scenes])
    label = np.concatenate([label.ravel() for _, label in scenes])
    return [
        lgb.train(
            {**PARAMETERS, "seed": seed + k, "bagging_fraction": 0.6, "bagging_freq": 1}, lgb.Dataset(rows, label), 30
        )
        for k in (0, 1)
    ]


def predict(boosters: list[lgb.Booster], bands: np.ndarray) -> np.ndarray:
    """Return the probabilities (2, K, H, W) of two boosters."""
    rows = bands.reshape(BANDS, -1).T
    return np.stack([booster.predict(rows).T.reshape(CLASSES, SIDE, SIDE) for booster in boosters])


def macro_iou(boosters: list[lgb.Booster], scenes: list) -> float:
    """Return the macro IoU of scenes."""
    hits, union = np.zeros(CLASSES), np.zeros(CLASSES)
    for bands, label in scenes:
        found = predict(boosters, bands).mean(axis=0).argmax(axis=0)
        for index in range(CLASSES):
            hits[index] += ((found == index) & (label == index)).sum()
            union[index] += ((found == index) | (label == index)).sum()
    return float((hits / np.maximum(union, 1)).mean())


def suggest(boosters: list[lgb.Booster], pool: list, labelled: list[int], left: list[int]) -> list[int]:
    """Return the scenes to label next."""
    rows = np.concatenate([pool[scene][0].reshape(BANDS, -1).T[::7] for scene in labelled]).astype(np.float64)
    folds = np.repeat(np.arange(len(labelled)), len(rows) // len(labelled))
    area = _compare(rows, folds, dict.fromkeys("abcd", 1.0))
    counts = np.sum([np.bincount(pool[scene][1].ravel(), minlength=CLASSES) for scene in labelled], axis=0) + 1.0
    places = []
    for scene in left:
        proba = predict(boosters, pool[scene][0])
        blended = proba.mean(axis=0)
        entropy, _, disagreement = measure_uncertainty(
            quantise(blended.astype(np.float32)), quantise(proba.astype(np.float32))
        )
        outside = 1 - area.measure(pool[scene][0])[2].mean()
        rare = float((blended.mean(axis=(1, 2)) / (counts / counts.sum())).sum())
        window = Window(0, 0, SIDE, SIDE)
        places.append(
            Place(str(scene), window, float(entropy.mean()), float(disagreement.mean()), float(outside), rare, "")
        )
    return [int(place.scene) for _, place in choose_places(places, STEP)]


def run_world(seed: int, suggested: bool) -> list[float]:
    """Return the score after each round."""
    pool, _, others = make_world(seed)
    rng = np.random.default_rng([seed, 1])
    labelled, left, scores = list(range(START)), list(range(START, SCENES)), []
    while True:
        boosters = learn([pool[scene] for scene in labelled], seed)
        scores.append(macro_iou(boosters, others))
        if not left:
            return scores
        new = suggest(boosters, pool, labelled, left) if suggested else rng.permutation(left)[:STEP].tolist()
        labelled += new
        left = [scene for scene in left if scene not in new]


def main() -> int:
    """Print the scores and the share of the labels that is needed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    needed: dict[str, list[float]] = {"suggested": [], "random": []}
    for world in range(options.worlds):
        for how, shares in needed.items():
            scores = run_world(options.seed + world, how == "suggested")
            enough = next(place for place, score in enumerate(scores) if score >= scores[-1] - SLACK)
            shares.append(min(START + enough * STEP, SCENES) / SCENES)
            told = " ".join(f"{score:.3f}" for score in scores)
            print(f"world {world}, {how:>9}: {told}; {shares[-1]:.0%} of the labels")
    means = {how: float(np.mean(shares)) for how, shares in needed.items()}
    met = means["suggested"] <= 0.5
    print(
        f"{'met' if met else 'missed'}: the score of all labels takes {means['suggested']:.0%} of them where places "
        f"are suggested, {means['random']:.0%} at random"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
