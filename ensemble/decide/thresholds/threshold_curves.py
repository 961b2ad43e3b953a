"""Score every threshold of a class, of pooled pixels or as the mean over scenes, and over scenes drawn again."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA
from data.scenes.classes import IGNORE
from ensemble.decide.decision.thresholds import histogram_counts
from ensemble.decide.thresholds.one_standard_error import resample
from ensemble.objective import Objective

__all__ = ["PooledCurves", "SceneCurves", "ThresholdCurves", "block_histograms", "coarsen"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTH = 64
"""Stored values in a bin where histograms are many."""
COARSE = (NODATA + 1) // WIDTH


class ThresholdCurves(Protocol):
    """Scores of every threshold of each of several questions, beside those chosen of the others."""

    n_questions: int

    def at(self, question: int, level: int) -> Floats:
        """Return the counts of a question at a stored threshold, (n, 2, 3), which add up over questions."""
        ...

    def scores(self, question: int, others: Floats | float) -> Floats:
        """Return the score of each threshold of a question, (65536,), beside the counts of the others."""
        ...

    def resampled(self, question: int, others: Floats | float) -> Floats:
        """Return the same over blocks of scenes drawn again, (resamples, 1025): of every 64th threshold."""
        ...

    def has_positives(self, question: int) -> bool:
        """Return whether there is anything to learn a threshold from."""
        ...


class PooledCurves:
    """Scores of pooled counts: exact for each threshold, over resamples those of every 64th.

    Parameters
    ----------
    histograms : (K, 2, 65536) float64
    blocks : (n_blocks, K, 2, 1025) float64
        As `coarsen` or `block_histograms` make them.
    objective : Objective
        Of the questions.
    """

    def __init__(self, histograms: Floats, blocks: Floats, objective: Objective) -> None:
        self.n_questions = len(histograms)
        self._histograms, self._objective = histograms, objective
        draws = resample(len(blocks))
        self._drawn = (draws @ blocks.reshape(len(blocks), -1)).reshape(len(draws), *blocks.shape[1:])

    def at(self, question: int, level: int) -> Floats:
        """Return the counts of all pixels, then those of each resample."""
        total = histogram_counts(self._histograms[question])[level]
        drawn = histogram_counts(self._drawn[:, question])[:, round(level / WIDTH)]
        return np.concatenate([total[None], drawn])

    def scores(self, question: int, others: Floats | float) -> Floats:
        """Return the score of each threshold."""
        beside = others if isinstance(others, float) else others[0]
        return score_question(self._objective, question, histogram_counts(self._histograms[question]) + beside)

    def resampled(self, question: int, others: Floats | float) -> Floats:
        """Return the scores over resamples."""
        beside = others if isinstance(others, float) else others[1:, None]
        return score_question(self._objective, question, histogram_counts(self._drawn[:, question]) + beside)

    def has_positives(self, question: int) -> bool:
        """Return whether any pixel is positive."""
        return bool(self._histograms[question, 1].any())


class SceneCurves:
    """The mean of scenes' own scores: exact for each threshold of these pixels, over resamples those of every 64th.

    A scene's score changes only at the values that occur in it. What it changes by there is added up by value, over
    the scenes and over blocks of them, and a sum from above is then the score of every threshold.

    Parameters
    ----------
    stored : (K, n) uint16
    label : (K, n) uint8
    weight : (n,) float64
    scene : (n,) int
        From 0 to n_scenes - 1.
    block : (n_scenes,) int
        From 0 to n_blocks - 1.
    objective : Objective
        Of the questions.
    """

    def __init__(
        self,
        stored: NDArray[np.uint16],
        label: NDArray[np.uint8],
        weight: Floats,
        scene: NDArray[np.integer],
        block: NDArray[np.integer],
        objective: Objective,
    ) -> None:
        self.n_questions = len(stored)
        self._stored, self._label, self._weight = stored, label, weight
        self._scene, self._block, self._objective = scene, block, objective
        self._draws = resample(int(block.max()) + 1)
        self._steps = [self._step(question) for question in range(self.n_questions)]

    def at(self, question: int, level: int) -> Floats:
        """Return the counts of each scene."""
        stored, label = self._stored[question], self._label[question]
        column = np.where(stored == NODATA, 2, stored >= level)
        known = label != IGNORE
        cell = (self._scene[known] * 2 + label[known].astype(np.int64)) * 3 + column[known]
        counts = np.bincount(cell, self._weight[known], minlength=len(self._block) * 6)
        return counts.reshape(-1, 2, 3).astype(np.float64)

    def scores(self, question: int, others: Floats | float) -> Floats:
        """Return the mean score of each threshold."""
        values, _, changes, alone = self._changes(question, others)
        gains = np.bincount(values, changes, minlength=NODATA + 1)
        with np.errstate(invalid="ignore"):
            mean: Floats = (_from_above(gains) + np.nansum(alone)) / np.isfinite(alone).sum()
        return mean

    def resampled(self, question: int, others: Floats | float) -> Floats:
        """Return the mean scores over resampled blocks."""
        values, scenes, changes, alone = self._changes(question, others)
        n_blocks = self._draws.shape[1]
        cell = self._block[scenes].astype(np.int64) * (COARSE + 1) + values // WIDTH
        gains = np.bincount(cell, changes, minlength=n_blocks * (COARSE + 1)).reshape(n_blocks, -1)
        start = np.bincount(self._block, np.nan_to_num(alone), minlength=n_blocks)
        seen = np.bincount(self._block, np.isfinite(alone), minlength=n_blocks).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means: Floats = self._draws @ (_from_above(gains) + start[:, None]) / (self._draws @ seen)[:, None]
        return means

    def has_positives(self, question: int) -> bool:
        """Return whether any pixel is positive."""
        return bool((self._label[question] == 1).any())

    def _changes(self, question: int, others: Floats | float) -> tuple[Ints, Ints, Floats, Floats]:
        """Return at which value of which scene its score changes by how much, and what each scores above them all."""
        values, scenes, split = self._steps[question]
        own = self.at(question, NODATA)
        nothing, counts = own + others, own[scenes]
        counts[:, :, :2] = split
        counts += others if isinstance(others, float) else others[scenes]
        alone, scores = (score_question(self._objective, question, some) for some in (nothing, counts))
        before = np.where(np.diff(scenes, prepend=-1) != 0, alone[scenes], np.concatenate([[0.0], scores])[:-1])
        return values, scenes, np.nan_to_num(scores - before), alone

    def _step(self, question: int) -> tuple[Ints, Ints, Floats]:
        """Return the values that occur in each scene, from above, and the pixels by label below and from each on."""
        known = (self._label[question] != IGNORE) & (self._stored[question] != NODATA)
        stored, scene = self._stored[question][known].astype(np.int64), self._scene[known].astype(np.int64)
        order = np.lexsort((-stored, scene))
        stored, scene, label = stored[order], scene[order], self._label[question][known][order]
        taken = np.zeros((len(order), 2))
        taken[np.arange(len(order)), label] = self._weight[known][order]
        taken = np.cumsum(taken, axis=0)
        first = np.flatnonzero(np.diff(scene, prepend=-1))
        before = np.concatenate([np.zeros((1, 2)), taken])[first]
        size = np.diff(first, append=len(scene))
        taken -= np.repeat(before, size, axis=0)
        # Both ends of the same sums, so that where nothing is left there is 0, and not what rounding leaves.
        left = np.repeat(taken[first + size - 1], size, axis=0) - taken
        last = np.flatnonzero((np.diff(scene, append=-1) != 0) | (np.diff(stored, append=-1) != 0))
        return stored[last], scene[last], np.stack([left, taken], axis=-1)[last]


def score_question(objective: Objective, question: int, counts: Floats) -> Floats:
    """Score the counts (…, 2, 3) of one question or, where an objective pools them, of all of them added up."""
    return objective.of_question(question).score(counts[..., None, :, :])


def coarsen(histograms: Floats) -> Floats:
    """Return histograms (…, 65536) in bins of 64 values, (…, 1025), those without a prediction last."""
    seen = histograms.copy()
    seen[..., NODATA] = 0
    return np.concatenate([seen.reshape(*seen.shape[:-1], COARSE, WIDTH).sum(axis=-1), histograms[..., NODATA:]], -1)


def block_histograms(
    stored: NDArray[np.uint16], label: NDArray[np.uint8], weight: Floats, block: NDArray[np.integer]
) -> Floats:
    """Count the pixels of each block of scenes, in bins of 64 values.

    Parameters
    ----------
    stored : (K, n) uint16
    label : (K, n) uint8
    weight : (n,) float64
    block : (n,) int
        From 0 to n_blocks - 1.

    Returns
    -------
    histograms : (n_blocks, K, 2, 1025) float64
    """
    n_blocks = int(block.max()) + 1
    planes = []
    for values, truth in zip(stored, label, strict=True):
        known = truth != IGNORE
        column = np.where(values == NODATA, COARSE, values // WIDTH).astype(np.int64)
        cell = (block[known].astype(np.int64) * 2 + truth[known]) * (COARSE + 1) + column[known]
        counts = np.bincount(cell, weight[known], minlength=n_blocks * 2 * (COARSE + 1))
        planes.append(counts.reshape(n_blocks, 2, COARSE + 1))
    return np.stack(planes, axis=1).astype(np.float64)


def _from_above(gains: NDArray[Any]) -> Floats:
    return np.cumsum(gains[..., ::-1], axis=-1)[..., ::-1]
