"""Deciding: the members' weights and the thresholds, from out-of-fold pixels of some folds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.classes import Classes
from ensemble.blend import Weights, blend_stored, candidate_weights, select_greedily
from ensemble.maps import PixelPool
from ensemble.metrics import Metric
from ensemble.settings import EnsembleSettings
from ensemble.thresholds import best_threshold, decide, pool_counts, score_histogram, tune_multipliers

__all__ = ["Decision", "find_thresholds", "find_weights", "plain_thresholds"]

Thresholds = tuple[float, ...]


@dataclass(frozen=True)
class Decision:
    """How maps become labels.

    Parameters
    ----------
    weights : tuple of float
        One a member, summing to 1.
    thresholds : tuple of float
        Binary: the threshold. Multiclass: a multiplier a class.
    """

    weights: Weights
    thresholds: Thresholds

    def apply(self, stored: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Turn members' maps (n_members, n_classes, …) into labels (…)."""
        return decide(blend_stored(stored, self.weights), self.thresholds)


def plain_thresholds(classes: Classes) -> Thresholds:
    """Return what is used without tuning: 0.5, or the plain argmax.

    Raises nothing.
    """
    return (0.5,) if classes.task == "binary" else (1.0,) * len(classes.names)


def find_weights(pool: PixelPool, classes: Classes, metric: Metric, settings: EnsembleSettings) -> Weights:
    """Choose the members' weights by the metric on sampled pixels.

    Of equal scores the simplest wins: the best member alone, then equal weights, then found ones.
    """
    n_members = pool.stored.shape[1]

    def score(weights: Weights) -> float:
        blended = blend_stored(pool.stored.transpose(1, 0, 2), weights)
        if classes.task == "binary":
            return best_threshold(score_histogram(blended[:, 0], pool.label, pool.weight), metric)[1]
        return float(metric.of(pool_counts(blended, pool.label, pool.weight, np.ones(len(classes.names)))))

    candidates = list(candidate_weights(n_members, settings.blend))
    if settings.blend == "greedy" and n_members > 1:
        candidates.append(select_greedily(n_members, score))
    scores = [score(weights) for weights in candidates]
    return candidates[int(np.argmax(np.round(scores, 6)))]


def find_thresholds(pool: PixelPool, weights: Weights, classes: Classes, metric: Metric) -> Thresholds:
    """Choose multipliers of a multiclass blend on sampled pixels, and only if they gain on folds left out.

    For each fold in turn they are tuned without it and scored on it. Unless that beats the plain argmax, tuning
    stays its hand: what is gained on the fitting folds alone is luck.
    """
    blended = blend_stored(pool.stored.transpose(1, 0, 2), weights)
    plain = np.ones(len(classes.names))
    counts = {"plain": np.zeros((len(plain), len(plain) + 1)), "tuned": np.zeros((len(plain), len(plain) + 1))}
    for fold in np.unique(pool.fold):
        out = pool.fold == fold
        if out.all():
            return tuple(plain.tolist())
        tuned = tune_multipliers(blended[~out], pool.label[~out], pool.weight[~out], metric)
        for name, multipliers in (("plain", plain), ("tuned", tuned)):
            counts[name] += pool_counts(blended[out], pool.label[out], pool.weight[out], multipliers)
    if not float(metric.of(counts["tuned"])) > float(metric.of(counts["plain"])):
        return tuple(plain.tolist())
    return tuple(tune_multipliers(blended, pool.label, pool.weight, metric).tolist())
