"""Tune thresholds that promise a class's recall with confidence, and among these take the most precise."""

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import Classes
from ensemble.decide.calibration.curve_fitting import BIN_OF, BINS
from ensemble.decide.decision.thresholds import plain_thresholds
from ensemble.decide.sample.pool import PixelPool
from ensemble.decide.thresholds.centre import FIRST
from ensemble.decide.thresholds.risk_control import count_groups, fewest_groups, promised_bins
from ensemble.decide.thresholds.threshold_tuning import TunedThresholds
from ensemble.objective import Objective, Promise

__all__ = ["promise_recall"]

Floats = NDArray[np.float64]

LEADS = np.linspace(-12, 12, BINS + 1)[:-1]
"""Lower ends of bins of the logarithm of a class's probability over the largest of the others."""


def promise_recall(
    pool: PixelPool, blended: NDArray[np.uint16], group: NDArray[np.integer], classes: Classes, objective: Objective
) -> TunedThresholds:
    """Find, for each class that is scored, the most precise threshold or multiplier that keeps the promise.

    A sample of a group's pixels has the same recall in the mean as all of them, and so the promise holds as it would
    if every pixel were counted. The others' multipliers stay 1, since a class that excludes others is scored alone.

    Parameters
    ----------
    pool : PixelPool
    blended : (n_classes, n) uint16
        Of its pixels.
    group : (n_scenes,) int64
        The group of each scene, by the pool's ``scene``.
    classes : Classes
    objective : Objective
        With a promise.

    Raises
    ------
    EnsembleError
        If a class lies in too few groups, or pixels without a prediction alone are more than may be missed.
    """
    assert objective.promise is not None
    _, of_scene = np.unique(group, return_inverse=True)
    of_pixel = of_scene[pool.scene]
    thresholds = list(plain_thresholds(classes))
    every = [(question, 1) for question in range(classes.n_questions)]
    for question, label in every if objective.pooled else objective.places or every:
        place = label if classes.exclusive else question
        bins, values = _rank(blended, place, classes.exclusive)
        positive = pool.label[question] == label
        labelled = pool.label[question] < classes.n_labels
        counts = count_groups(bins[positive], pool.weight[positive], of_pixel[positive], len(of_scene), BINS)
        others = np.bincount(bins[labelled & ~positive], pool.weight[labelled & ~positive], BINS + 1).astype(np.float64)
        found = _choose(counts, others, objective.promise, classes.names[place])
        thresholds[place] = float(values[found])
    # What other groups would change is in the promise.
    return TunedThresholds(tuple(thresholds), (0.0,) * len(thresholds), kept_default=False)


def _rank(blended: NDArray[np.uint16], place: int, exclusive: bool) -> tuple[NDArray[np.integer], Floats]:
    """Return the bin of each pixel, BINS without a prediction, and the threshold or multiplier of each bin.

    A pixel has a class at the thresholds of all bins up to its own.
    """
    if not exclusive:
        return BIN_OF[blended[place]], FIRST[:BINS] / TOP
    best = np.delete(blended, place, axis=0).max(axis=0)
    lead = np.log(blended[place] + 0.5) - np.log(best + 0.5)
    bins = np.searchsorted(LEADS, lead, side="right") - 1
    return np.where(blended[place] == NODATA, BINS, bins), np.exp(-LEADS)


def _choose(counts: Floats, others: Floats, promise: Promise, name: str) -> int:
    """Return the bin of the most precise threshold that keeps the promise, the lowest of equals."""
    needed = fewest_groups(1 - promise.recall, promise.confidence)
    advice = "Label more groups, raise folds.count, or lower at_least or confidence."
    if len(counts) < needed:
        raise EnsembleError(
            f"ensemble.metric: expected {name} in at least {needed} groups outside each fold, which a {promise.words} "
            f"needs even where nothing is missed, got {len(counts)}. {advice}"
        )
    n_kept = promised_bins(counts, 1 - promise.recall, promise.confidence)
    if not n_kept:
        missed = float((counts[:, -1] / counts.sum(axis=1)).mean())
        raise EnsembleError(
            f"ensemble.metric: expected a threshold of {name} with a {promise.words}, got none: {missed:.0%} of it has "
            f"no prediction at all, in the mean over {len(counts)} groups. {advice}"
        )
    right, wrong = (np.cumsum(some[-2::-1])[::-1][:n_kept] for some in (counts.sum(axis=0), others))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(right / (right + wrong))
    return int(np.argmax(precision))
