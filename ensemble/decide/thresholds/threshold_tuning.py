"""Tune thresholds: find the best ones, and shrink them as far as they cannot be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import Classes
from ensemble.decide.calibration.curve_fitting import BIN_OF, BINS
from ensemble.decide.decision.thresholds import HALF, Thresholds, best_choice, plain_thresholds, score_histogram
from ensemble.decide.sample.pool import PixelPool
from ensemble.decide.sample.trial import Trial
from ensemble.decide.thresholds.centre import centre_levels
from ensemble.decide.thresholds.multipliers import shrink_multipliers, tune_multipliers
from ensemble.decide.thresholds.one_standard_error import BLOCKS, CAUTION, shrink_to_plain, spread_of
from ensemble.decide.thresholds.threshold_curves import (
    PooledCurves,
    SceneCurves,
    ThresholdCurves,
    block_histograms,
    coarsen,
)
from ensemble.objective import Objective

__all__ = ["TunedThresholds", "tune_binary", "tune_pool"]

SWEEPS = 20
"""Most rounds over classes whose thresholds depend on each other; two or three are usual."""


@dataclass(frozen=True)
class TunedThresholds:
    """Thresholds that were found.

    Parameters
    ----------
    thresholds : tuple of float
    spread : tuple of float
        One a class: how far the best one moves (standard deviation) when blocks of scenes are drawn again; of
        multipliers, of their logarithm, the standard error by the jackknife over folds.
    kept_default : bool
        No other thresholds are clearly better: they are the metric's own centre, or the plain argmax.
    """

    thresholds: Thresholds
    spread: tuple[float, ...]
    kept_default: bool


def tune_binary(
    histograms: NDArray[np.float64],
    objective: Objective,
    groups: NDArray[np.float64] | None = None,
    caution: float = CAUTION,
    centred: bool = True,
    sharpness: Sequence[float] = (),
) -> TunedThresholds:
    """Find the thresholds of classes that do not exclude each other, from the counts of all pixels.

    The best are exact: among all 65 536 of a single class or, of scores that are means over tags, of each tag. Where
    the counts of all tags are pooled, that of one tag is sought beside those of the others, in turn. For a ratio of
    sums, such as F-beta, IoU and accuracy, the end of that is the best of all combinations: if no single threshold can
    raise the ratio beyond λ, each maximises its tag's share in numerator − λ denominator, and so they maximise the sum
    (Dinkelbach 1967). From the best each is shrunk towards the metric's own centre, see `one_standard_error`. A class
    without positives keeps 0.5.

    Parameters
    ----------
    histograms : (n_folds, K, 2, 65536) float64
        As `ensemble.decide.decision.thresholds.score_histogram` counts each class of each fold.
    objective : Objective
        Of pooled counts.
    groups : (n_blocks, K, 2, 1025) float64, optional
        The same, or a sample of it, by blocks of scenes, as `block_histograms` of `threshold_curves`
        counts it: how far the score can be trusted. By default blocks are the folds, which are few.
    caution : float
        Standard errors that a threshold may be worse than the best.
    centred : bool
        Whether it is shrunk towards the metric's own centre; else towards 0.5.
    sharpness : sequence of float
        Of the centre, see `centre_levels`.
    """
    blocks = coarsen(histograms) if groups is None else groups
    whole = histograms.sum(axis=0)
    return _climb(
        PooledCurves(whole, blocks, objective), objective, caution, _centre(whole, objective, centred, sharpness)
    )


def tune_pool(
    pool: PixelPool,
    blended: NDArray[np.uint16],
    objective: Objective,
    classes: Classes,
    block: NDArray[np.integer] | None = None,
    caution: float = CAUTION,
    centred: bool = True,
    sharpness: Sequence[float] = (),
) -> TunedThresholds:
    """Find thresholds or multipliers on sampled pixels, exactly for these.

    Parameters
    ----------
    pool : PixelPool
        Its ``fold`` is what is left out in turn where multipliers are tried on pixels that they were not found on.
    blended : (n_classes, n) uint16
        Of the pool's pixels.
    objective : Objective
    classes : Classes
    block : (n_scenes,) int, optional
        The block of each scene, by its index in ``pool.scene``: scenes of a group in one. By default scenes are dealt
        out to as many as 200.
    caution : float
        Standard errors that a threshold may be worse than the best.
    centred : bool
        Whether thresholds are shrunk towards the metric's own centre, and multipliers by halves of the groups; else
        towards 0.5, and by folds.
    sharpness : sequence of float
        Of the centre, see `centre_levels`.
    """
    scenes, scene = np.unique(pool.scene, return_inverse=True)
    _, of_scene = np.unique(scenes % BLOCKS if block is None else block[scenes], return_inverse=True)
    if classes.exclusive:
        multipliers, spread = (
            shrink_multipliers(blended, Trial(pool, scene, of_scene, classes, objective))
            if centred
            else tune_multipliers(
                blended, pool.label[0], pool.weight, objective, scene=scene, block=of_scene, fold=pool.fold
            )
        )
        thresholds = tuple(multipliers.tolist())
        return TunedThresholds(thresholds, tuple(spread.tolist()), thresholds == plain_thresholds(classes))
    exact = np.stack([score_histogram(*pair, pool.weight) for pair in zip(blended, pool.label, strict=True)])
    if objective.by_scene:
        curves = SceneCurves(blended, pool.label, pool.weight, scene, of_scene, objective)
        return _climb(curves, objective, caution, _centre(exact, objective, centred, sharpness))
    blocks = block_histograms(blended, pool.label, pool.weight, of_scene[scene])
    return tune_binary(exact[None], objective, blocks, caution, centred, sharpness)


def _centre(
    histograms: NDArray[np.float64], objective: Objective, centred: bool, sharpness: Sequence[float]
) -> list[int]:
    if not centred:
        return [HALF] * len(histograms)
    counts = [[np.bincount(BIN_OF, row, BINS + 1) for row in histogram] for histogram in histograms]
    return centre_levels(np.array(counts), objective, sharpness)


def _climb(curves: ThresholdCurves, objective: Objective, caution: float, centre: Sequence[int]) -> TunedThresholds:
    """Raise one question's threshold after the other to its best, then shrink each towards its centre."""
    chosen = list(centre)
    scored = range(curves.n_questions) if objective.pooled else objective.questions
    questions = [question for question in scored if curves.has_positives(question)]
    counts = (
        np.stack([curves.at(question, centre[question]) for question in scored]) if objective.pooled else np.empty(0)
    )

    def others(question: int) -> NDArray[np.float64] | float:
        return counts.sum(axis=0) - counts[question] if objective.pooled else 0.0

    def choose(question: int, level: int) -> None:
        chosen[question] = level
        if objective.pooled:
            counts[question] = curves.at(question, level)

    for _ in range(SWEEPS if objective.pooled else 1):
        before = list(chosen)
        for question in questions:
            choose(question, best_choice(curves.scores(question, others(question)), centre[question]))
        if chosen == before:
            break
    spread = [0.0] * curves.n_questions
    for question in questions:
        scores = curves.scores(question, others(question))
        resampled = curves.resampled(question, others(question))
        choose(question, shrink_to_plain(scores, resampled, chosen[question], centre[question], caution))
        spread[question] = spread_of(resampled, np.linspace(0, NODATA, resampled.shape[1]) / TOP)
    return TunedThresholds(tuple(level / TOP for level in chosen), tuple(spread), chosen == list(centre))
