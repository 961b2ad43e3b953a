"""Choose the edges of histogram bins: quantiles of the training scenes, so that all bins are of use."""

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.files import scene_rng
from data.scenes.scene import Scene
from data.workers import map_ordered
from features.feature_set import FeatureSet
from features.scene_features import compute_lattice

__all__ = ["measure_edges"]

MOST_SCENES, MOST_PIXELS = 512, 4096
"""Scenes that are looked at, and pixels of each."""


def measure_edges(
    scenes: Sequence[Scene], feature_set: FeatureSet, bins: int, *, seed: int, executor: Executor | None = None
) -> dict[str, tuple[float, ...]]:
    """Return between which values some features of pixels fall into bins that are alike in pixels.

    Labels are not looked at, and the edges are numbers of four digits: they tell a model nothing of the scenes that
    it must not have seen.

    Parameters
    ----------
    scenes : sequence of Scene
        Training scenes; the edges are of a few of them.
    feature_set : FeatureSet
    bins : int
    seed : int
        Scenes and pixels looked at depend on it.
    executor : Executor, optional

    Returns
    -------
    edges : dict of str to tuple of float
        By feature, at most ``bins`` - 1 of them, rising; fewer where a feature has few values, none where it has one.
    """
    order = np.random.default_rng(seed).permutation(len(scenes))[:MOST_SCENES]
    work = partial(_draw_values, feature_set=feature_set, seed=seed)
    drawn = np.concatenate(list(map_ordered(work, [scenes[place] for place in sorted(order)], executor)), axis=1)
    shares = np.arange(1, bins) / bins
    return {
        name: _edges(values[np.isfinite(values)], shares) for name, values in zip(feature_set.names, drawn, strict=True)
    }


def _draw_values(scene: Scene, feature_set: FeatureSet, seed: int) -> NDArray[np.float32]:
    values = compute_lattice(scene, feature_set)
    count = values.shape[1]
    chosen = scene_rng(seed, scene.id).choice(count, min(count, MOST_PIXELS), replace=False)
    return values[:, chosen]


def _edges(values: NDArray[np.float32], shares: NDArray[np.float64]) -> tuple[float, ...]:
    if not len(values):
        return ()
    edges = {float(f"{edge:.4g}") for edge in np.quantile(values, shares)}
    # Below the least value there is nothing to count.
    return tuple(sorted(edge for edge in edges if edge > values.min()))
