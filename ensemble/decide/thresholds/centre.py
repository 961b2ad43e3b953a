"""The metric's own centre: the thresholds that would be best if the probabilities were true.

Half the best F1 for F1 (Lipton et al. 2014, arXiv:1402.1892), a half for accuracy, and so on for any score of counts:
with true probabilities the expected counts of every threshold are known without a label. Two numbers of a logistic
calibration would make them true of the groups that there are, and move from group to group more than they mend. So
probabilities are sharpened where labels say that they are too soft, and else taken at their members' word: these seem
too sure because of the groups where they fail, while a score of pooled counts is made of the others.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA
from data.scenes.classes import IGNORE
from ensemble.decide.calibration.curve_fitting import BIN_OF, BINS, MIDDLES, fit_curve
from ensemble.decide.decision.thresholds import HALF, best_choice, histogram_counts
from ensemble.objective import Objective

__all__ = ["centre_levels", "logit_counts"]

Floats = NDArray[np.float64]

SWEEPS = 4
"""Rounds over tags whose counts are pooled; they settle after two or three."""
FIRST = np.searchsorted(BIN_OF[:NODATA], np.arange(BINS + 1))
"""The least stored value of each bin; of the last, those without a prediction."""


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


def centre_levels(counts: Floats, objective: Objective, sharpness: Sequence[float] = ()) -> list[int]:
    """Return the stored value of the metric's own centre for each question; a half for one that is nowhere, or all.

    Parameters
    ----------
    counts : (K, 2, BINS + 1) float64
        As `logit_counts` counts them.
    objective : Objective
        Of the mean over scenes that of their pooled counts is taken.
    sharpness : sequence of float
        What logits are multiplied by, one number or one a question, as `Decision.sharpness` has it; by default 1.
    """
    pooled = replace(objective, by_scene=False, empty=None)
    scored = range(len(counts)) if pooled.pooled else pooled.questions
    learned = [question for question in scored if counts[question, :, :BINS].any(axis=1).all()]
    slopes = np.broadcast_to(sharpness or 1.0, len(counts))
    every = {question: histogram_counts(_expected(counts[question], slopes[question])) for question in learned}
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


def _expected(counts: Floats, sharpness: float) -> Floats:
    """Return what counts (2, BINS + 1) of one class would be if its probabilities, made so sharp, were true."""
    (temperature,) = fit_curve("temperature", counts[:, :BINS])
    true = 1 / (1 + np.exp(-np.clip(max(sharpness, 1 / temperature) * MIDDLES, -60, 60)))
    expected = counts.copy()
    expected[:, :BINS] = counts[:, :BINS].sum(axis=0) * np.stack([1 - true, true])
    return expected
