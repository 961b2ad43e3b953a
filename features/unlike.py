"""Tell, before anything is trained, how much of the scenes to be mapped is unlike the training scenes.

It is the area of applicability of `features.applicability` as far as it can be known then: of columns that look at a
single pixel, and without weights, since nothing has shown which of them matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.files import scene_rng
from data.pages.numbers import format_percent
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, Split
from data.scenes.windows import Window
from features.applicability import compare_rows
from features.feature_set import FeatureSet

__all__ = ["Unlike", "find_unlike"]

Floats = NDArray[np.float64]

TRAIN_PIXELS, PIXELS = 2000, 250
"""Pixels of all training scenes, and of each scene to be mapped, that are compared."""

TRAIN_SCENES, SCENES = 400, 40
"""Scenes that are looked at, evenly through them: of training scenes, and of each other split."""

SIDE = 128
"""Side of the two squares of a scene that its pixels are drawn in, all of it if it is small."""

MUCH = 0.1
"""Share of the pixels of a split from which on it is a warning."""

NAMED = 3
"""Scenes that a sentence names."""


@dataclass(frozen=True)
class Unlike:
    """How much of the scenes of a split lies outside of the area of applicability.

    Parameters
    ----------
    split : {"val", "test"}
    shares : mapping of str to float
        Scene → share of its pixels, the largest first.
    n_scenes : int
        Of the split; those in ``shares`` were looked at.
    """

    split: Split
    shares: Mapping[str, float]
    n_scenes: int

    @property
    def whole(self) -> float:
        """The mean share."""
        return float(np.mean([*self.shares.values()]))

    @property
    def warns(self) -> bool:
        """Whether it is so much that whoever maps should know."""
        return self.whole >= MUCH

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        worst = [f"{scene} {format_percent(share)}" for scene, share in [*self.shares.items()][:NAMED] if share >= MUCH]
        meaning = (
            "scores out of fold do not hold there" if self.warns else "scores out of fold hold for nearly all of them"
        )
        return (
            f"{format_percent(self.whole)} of the pixels of {self.split} scenes are farther from all training pixels "
            f"than folds are from each other: {meaning}{', least in ' + ', '.join(worst) if worst else ''}."
        )


def find_unlike(catalogue: Catalogue, columns: FeatureSet, *, seed: int, track: Track = untracked) -> list[Unlike]:
    """Compare sampled pixels of val and test scenes with sampled training pixels.

    Parameters
    ----------
    catalogue : Catalogue
        With folds.
    columns : FeatureSet
        Those that look at more than a pixel, at a scene as a whole or at where a pixel lies are left out.
    seed : int
    track : Track

    Returns
    -------
    unlike : list of Unlike
        Of the splits that there are; empty where nothing can be compared.
    """
    names = [feature.name for feature in columns.features if feature.operation == "value"]
    splits: tuple[Split, ...] = ("val", "test")
    others = {split: catalogue.split(split) for split in splits if catalogue.split(split)}
    if not names or not others or len(catalogue.folds) < 2:
        return []
    pointwise = FeatureSet(columns.scene_bands, names, columns.formulas)
    train = _evenly(catalogue.split("train"), TRAIN_SCENES)
    chosen = [(scene, -(-TRAIN_PIXELS // len(train))) for scene in train]
    chosen += [(scene, PIXELS) for scenes in others.values() for scene in _evenly(scenes, SCENES)]
    with keep_open():
        drawn = {
            (scene.split, scene.id): _draw_pixels(scene, pointwise, count, seed)
            for scene, count in track(chosen, "pixels compared", len(chosen))
        }
    rows = np.concatenate([drawn["train", scene.id] for scene in train])
    folds = np.concatenate([np.full(len(drawn["train", scene.id]), scene.fold) for scene in train])
    if len(np.unique(folds)) < 2:
        return []
    applicability = compare_rows(rows, folds, dict.fromkeys(names, 1.0))
    found = []
    for split, scenes in others.items():
        shares = {
            scene.id: float((applicability.measure(drawn[split, scene.id].T.astype(np.float32))[2] == 0).mean())
            for scene in _evenly(scenes, SCENES)
            if len(drawn[split, scene.id])
        }
        if shares:
            ranked = dict(sorted(shares.items(), key=lambda share: (-share[1], share[0])))
            found.append(Unlike(split, ranked, len(scenes)))
    return found


def _draw_pixels(scene: Scene, columns: FeatureSet, count: int, seed: int) -> Floats:
    """Return columns (n, n_columns) of pixels of a scene that have data, at most ``count``."""
    opened, parts = columns.open(scene), []
    for window in _squares(scene):
        valid = opened.valid(window)
        parts.append(opened.compute(window)[:, valid].T)
    pixels = np.concatenate(parts).astype(np.float64)
    pixels = pixels[np.isfinite(pixels).any(axis=1)]
    chosen = scene_rng(seed, scene.id).permutation(len(pixels))[:count]
    return pixels[np.sort(chosen)]


def _squares(scene: Scene) -> Iterator[Window]:
    height, width = scene.grid.height, scene.grid.width
    if height * width <= 2 * SIDE**2:
        yield scene.grid.window
        return
    for third in (1, 2):
        row, col = max(third * height // 3 - SIDE // 2, 0), max(third * width // 3 - SIDE // 2, 0)
        yield Window(row, col, min(SIDE, height - row), min(SIDE, width - col))


def _evenly(scenes: Sequence[Scene], most: int) -> list[Scene]:
    places = np.unique(np.linspace(0, len(scenes) - 1, min(most, len(scenes))).round().astype(int))
    return [scenes[place] for place in places]
