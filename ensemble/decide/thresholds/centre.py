"""The metric's own centre: the thresholds that would be best if the probabilities were true.

Half the best F1 for F1 (Lipton et al. 2014, arXiv:1402.1892), a half for accuracy, and so on for any score of counts:
with calibrated probabilities the expected counts of every threshold are known without a label. Only the two numbers of
a logistic calibration are learned from labels, by log loss, and these are known long before the best threshold is.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA
from data.scenes.classes import IGNORE
from ensemble.decide.calibration.curve_fitting import BIN_OF, BINS, fit_curve
from ensemble.decide.decision.calibration import LOGIT
from ensemble.decide.decision.thresholds import HALF, best_choice, histogram_counts
from ensemble.objective import Objective

__all__ = ["centre_levels", "logit_counts"]

Floats = NDArray[np.float64]

SWEEPS = 4
"""Rounds over tags whose counts are pooled; they settle after two or three."""
FIRST = np.searchsorted(BIN_OF[:NODATA], np.arange(BINS + 1))
"""The least stored value of each bin; of the last, those without a prediction."""
TRUE_LOGITS = 2 * LOGIT[-1] * ((np.arange(BINS) + 0.5) / BINS - 0.5)


def logit_counts(
    stored: NDArray[np.uint16], label: NDArray[np.uint8], weight: NDArray[np.float64] | None = None
) -> Floats:
    """Count the pixels of each class by label and logit, (K, 2, BINS + 1), those without a prediction last.

    Parameters
    ----------
    stored : (K, n) uint16
    label : (K, n) uint8
    weight : (n,) float64, optional
    """
    size, planes = 2 * (BINS + 1), []
    for values, truth in zip(stored, label, strict=True):
        known = truth != IGNORE
        cell = truth[known].astype(np.int64) * (BINS + 1) + BIN_OF[values[known]]
        planes.append(np.bincount(cell, None if weight is None else weight[known], size).reshape(2, BINS + 1))
    return np.stack(planes).astype(np.float64)


def centre_levels(counts: Floats, objective: Objective) -> list[int]:
    """Return the stored value of the metric's own centre for each question; a half where nothing is to be learned.

    Parameters
    ----------
    counts : (K, 2, BINS + 1) float64
        As `logit_counts` counts them.
    objective : Objective
        Of the mean over scenes that of their pooled counts is taken.
    """
    pooled = replace(objective, by_scene=False, empty=None)
    scored = range(len(counts)) if pooled.pooled else pooled.questions
    learned = [question for question in scored if counts[question, :, :BINS].any(axis=1).all()]
    every = {question: histogram_counts(_expected(counts[question])) for question in learned}
    middle = int(BIN_OF[HALF])
    bins = dict.fromkeys(learned, middle)
    for _ in range(SWEEPS if pooled.pooled else 1):
        before = dict(bins)
        for question in learned:
            tried = every[question]
            if pooled.pooled:
                tried = tried + sum(every[other][bins[other]] for other in learned if other != question)
            bins[question] = best_choice(pooled.of_question(question).score(tried[:, None]), middle)
        if bins == before:
            break
    levels = [HALF] * len(counts)
    for question, chosen in bins.items():
        levels[question] = HALF if chosen == middle else int(FIRST[chosen])
    return levels


def _expected(counts: Floats) -> Floats:
    """Return what counts (2, BINS + 1) of one class would be if its calibrated probabilities were true."""
    slope, offset = fit_curve("platt", counts[:, :BINS])
    true = 1 / (1 + np.exp(-np.clip(slope * TRUE_LOGITS + offset, -60, 60)))
    expected = counts.copy()
    expected[:, :BINS] = counts[:, :BINS].sum(axis=0) * np.stack([1 - true, true])
    return expected
