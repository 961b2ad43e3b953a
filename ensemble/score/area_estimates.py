"""Estimate class areas: mapped areas, corrected by a reference for the errors of the map.

Olofsson et al. 2014, "Good practices for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148, doi:10.1016/j.rse.2014.02.015; the strata are the classes of the map, and equations are theirs.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from data.metrics.metric import CLASS_METRICS, METRICS
from data.scenes.classes import Classes
from data.scenes.windows import Grid
from ensemble.score.areas import Areas, mapped_area
from ensemble.score.evaluation import Evaluation
from ensemble.score.intervals import Interval, Resampled, Score
from ensemble.settings import EnsembleSettings

__all__ = ["adjust_counts", "areas_of_evaluation", "areas_of_groups", "areas_of_sample"]

Floats = NDArray[np.float64]


def adjust_counts(counts: NDArray[np.integer] | Floats, mapped: Floats) -> Floats:
    """Turn reference counts into shares of the mapped area (equation 4).

    Parameters
    ----------
    counts : (…, n_labels, n_labels + 1)
        Reference by label and mapped class. The last column, where nothing was mapped, is no part of the mapped area.
    mapped : (n_labels,) float64
        Area of each mapped class, in any unit.

    Returns
    -------
    shares : (…, n_labels, n_labels + 1) float64
        They sum to 1, the last column is 0; NaN in a mapped class of which there is no reference. All 0 where nothing
        is mapped.

    Examples
    --------
    Half of the points lie on water, which is a tenth of the map; so an error there weighs a fifth of its number:

    >>> adjust_counts(np.array([[50, 10, 0], [0, 40, 0]]), np.array([900, 100])).round(2).tolist()
    [[0.9, 0.02, 0.0], [0.0, 0.08, 0.0]]
    """
    seen = counts[..., :-1].astype(np.float64)
    drawn = seen.sum(axis=-2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = mapped / mapped.sum()
        shares = np.where(weights > 0, weights * seen / drawn, 0)
    return np.concatenate([shares, np.zeros((*shares.shape[:-1], 1))], axis=-1)


def areas_of_sample(
    counts: NDArray[np.int64], mapped: Floats, labels: Sequence[str], confidence_level: float, *, metric: bool
) -> Areas:
    """Estimate from a design sample: pixels drawn at random within each mapped class.

    Parameters
    ----------
    counts : (n_labels, n_labels + 1) int64
        Points by label and mapped class; at least two in every class that is mapped.
    mapped : (n_labels,) float64
        m² or pixels of each mapped class.
    labels : sequence of str
    confidence_level : float
        Of the intervals, such as 0.95; they are symmetric (equation 13), but cut off at nothing and at all there is.
    metric : bool
        Whether ``mapped`` is in m².
    """
    shares = adjust_counts(counts, mapped)
    drawn = counts[:, :-1].sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = mapped / mapped.sum()
        rate = counts[:, :-1] / drawn
        # Variance of the rate of each label among the points of each mapped class.
        variance = np.where(weights > 0, rate * (1 - rate) / (drawn - 1), 0)
        right = np.diagonal(variance)
        area = shares.sum(axis=1)
        producer = CLASS_METRICS["recall"].score(shares)
        of_area = weights**2 * variance
        others = of_area.sum(axis=1) - np.diagonal(of_area)
        # Equations 5, 6, 7 and 10; in 7 numbers of pixels cancel to shares.
        overall_variance = np.diagonal(of_area).sum()
        producer_variance = ((1 - producer) ** 2 * np.diagonal(of_area) + producer**2 * others) / area**2
    z = NormalDist().inv_cdf((1 + confidence_level) / 2)
    total = mapped.sum()

    def intervals(values: Floats, variances: Floats, most: float = 1.0) -> tuple[Interval, ...]:
        halves = z * np.sqrt(variances)
        ends = np.clip([values - halves, values + halves], 0, most)
        return tuple(Interval(*map(float, three)) for three in np.vstack([values, ends]).T)

    return Areas(
        labels=tuple(labels),
        mapped=tuple(mapped.tolist()),
        area=intervals(area * total, of_area.sum(axis=1) * total**2, total),
        user=intervals(CLASS_METRICS["precision"].score(shares), right),
        producer=intervals(producer, producer_variance),
        overall=intervals(np.atleast_1d(METRICS["accuracy"].score(shares)), np.atleast_1d(overall_variance))[0],
        metric=metric,
    )


def areas_of_groups(
    counts: Resampled, mapped: Floats, labels: Sequence[str], confidence_level: float, *, metric: bool
) -> Areas:
    """Estimate from labelled scenes, taken as a sample of the mapped area.

    Pixels of a scene resemble each other and are no independent draws, so the intervals are not those of equations 5
    to 10 but a bootstrap over groups of scenes. It is taken for granted that the map errs on the mapped area as often,
    class by class, as on the labelled pixels.

    Parameters
    ----------
    counts : Resampled
        Of the labelled scenes, of one question.
    mapped : (n_labels,) float64
        m² or pixels of each mapped class.
    labels : sequence of str
    confidence_level : float
    metric : bool
        Whether ``mapped`` is in m².
    """

    def estimate(score: Score) -> tuple[Interval, ...]:
        return tuple(
            counts.pooled(lambda some: score(adjust_counts(some[..., 0, :, :], mapped))).intervals(confidence_level)
        )

    return Areas(
        labels=tuple(labels),
        mapped=tuple(mapped.tolist()),
        area=estimate(lambda shares: mapped.sum() * shares.sum(axis=-1)),
        user=estimate(CLASS_METRICS["precision"].score),
        producer=estimate(CLASS_METRICS["recall"].score),
        overall=estimate(METRICS["accuracy"].score)[0],
        metric=metric,
    )


def areas_of_evaluation(
    evaluation: Evaluation,
    mapped: Mapping[str, NDArray[np.int64]],
    grids: Mapping[str, Grid],
    classes: Classes,
    settings: EnsembleSettings,
    seed: int,
) -> Areas:
    """Estimate the areas of mapped scenes from an evaluation of the map's errors.

    Parameters
    ----------
    evaluation : Evaluation
        Its labelled pixels are the reference. Out-of-fold counts serve scenes mapped by the same decision.
    mapped : mapping
        Scene → pixels of each label that its map shows, such as ``evaluation.mapped[evaluation.final]``.
    grids : mapping
        Mapped scene → its grid.
    classes : Classes
        Not of a multilabel task: tags have no area.
    settings : EnsembleSettings
    seed : int
    """
    area, metric = mapped_area(mapped, grids)
    counts = evaluation.pool(settings.n_resamples, seed)[evaluation.final]
    return areas_of_groups(counts, area, classes.label_names, settings.confidence_level, metric=metric)
