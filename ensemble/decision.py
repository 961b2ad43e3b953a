"""Deciding: the members' weights and the thresholds, from out-of-fold pixels of some folds."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from data.classes import Classes
from data.confusion import weighted_counts
from data.metrics import Metric
from ensemble.blend import Weights, blend_stored, candidate_weights, select_greedily
from ensemble.maps import PixelPool
from ensemble.settings import EnsembleSettings
from ensemble.thresholds import best_threshold, decide, score_histogram, tune_multipliers

__all__ = ["Decision", "Thresholds", "find_thresholds", "find_weights", "plain_thresholds"]

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
    """Return what is used without tuning: 0.5, or the plain argmax."""
    return (0.5,) if classes.task == "binary" else (1.0,) * len(classes.names)


def find_weights(pool: PixelPool, classes: Classes, metric: Metric, settings: EnsembleSettings) -> Weights:
    """Choose the members' weights by the metric on sampled pixels.

    Of equal scores the simplest wins: the best member alone, then equal weights, then found ones.
    """
    n_members = len(pool.stored)

    @cache
    def score(weights: Weights) -> float:
        blended = blend_stored(pool.stored, weights)
        if classes.task == "multiclass" or settings.thresholds == "fixed":
            return _pool_score(pool, blended, plain_thresholds(classes), metric)
        return best_threshold(score_histogram(blended[0], pool.label, pool.weight), metric)[1]

    candidates = list(candidate_weights(n_members, settings.blend))
    if settings.blend == "greedy" and n_members > 1:
        candidates.append(select_greedily(n_members, score))
    scores = [score(weights) for weights in candidates]
    return candidates[int(np.argmax(np.nan_to_num(np.round(scores, 6), nan=-np.inf)))]


def find_thresholds(pool: PixelPool, weights: Weights, classes: Classes, metric: Metric) -> Thresholds:
    """Choose multipliers of a multiclass blend on sampled pixels, and only if they gain on folds left out.

    For each fold in turn they are tuned without it and scored on it. Unless that beats the plain argmax, tuning
    stays its hand: what is gained on the fitting folds alone is luck.
    """
    blended = blend_stored(pool.stored, weights)
    plain, n = plain_thresholds(classes), len(classes.names)
    prediction = np.empty_like(pool.label)
    for fold in np.unique(pool.fold):
        out = pool.fold == fold
        if out.all():
            return plain
        tuned = tune_multipliers(blended[:, ~out], pool.label[~out], pool.weight[~out], metric)
        prediction[out] = decide(blended[:, out], tuned.tolist())
    left_out = float(metric.of(weighted_counts(pool.label, prediction, pool.weight, n)))
    if not left_out > _pool_score(pool, blended, plain, metric):
        return plain
    return tuple(tune_multipliers(blended, pool.label, pool.weight, metric).tolist())


def _pool_score(pool: PixelPool, blended: NDArray[np.uint16], thresholds: Thresholds, metric: Metric) -> float:
    n_labels = max(len(blended), 2)
    return float(metric.of(weighted_counts(pool.label, decide(blended, thresholds), pool.weight, n_labels)))
