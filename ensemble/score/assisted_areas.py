"""Estimate class areas from a design sample with the help of a map's probabilities.

Points tell what is there, probabilities where it may be: of pixels mapped alike, some are surer than others. The
model-assisted estimate of a class's share of a mapped class is that of the points plus λ times what the probabilities
of all its pixels differ from those of its points (the difference estimator of survey sampling, Breidt and Opsomer 2017,
doi:10.1214/16-STS589; with the λ of least variance it is prediction-powered inference, Angelopoulos et al. 2023,
doi:10.1126/science.adi6000 and arXiv:2311.01453). It is right whatever the probabilities are worth: those that say
nothing have a λ of 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.score.intervals import Interval

__all__ = ["AssistedAreas", "SoftSample", "assist_areas"]

Floats = NDArray[np.float64]

FEWEST = 5
"""Points of a mapped class that must have a label, and others that must not, for probabilities to be listened to."""

DRAWS = 20_000


@dataclass(frozen=True)
class SoftSample:
    """Points of a design sample, and the probabilities of a map there and everywhere.

    Parameters
    ----------
    stratum, label : (n,) int64
        Mapped class and true label of each point.
    proba : (n, n_labels) float64
        Of each label, at each point.
    mean : (n_labels, n_labels) float64
        Mean probability of each label (columns) over all pixels of each mapped class (rows).
    """

    stratum: NDArray[np.int64]
    label: NDArray[np.int64]
    proba: Floats
    mean: Floats


@dataclass(frozen=True)
class AssistedAreas:
    """Class areas that a map's probabilities helped to estimate.

    Parameters
    ----------
    area : tuple of Interval
        Of each label, in the unit of the mapped areas.
    saved : tuple of float
        Points that would be needed besides for an estimate of each label as good without the probabilities.
    """

    area: tuple[Interval, ...]
    saved: tuple[float, ...]


def assist_areas(sample: SoftSample, mapped: Floats, confidence_level: float) -> AssistedAreas:
    """Estimate the area of each label.

    Where a mapped class has points both of a label and not, enough of each, its share is the model-assisted one, and
    the points count as many as it would take to be as good without probabilities: the ratio of the variances of what
    is left, each point predicted by the others. All else is as without probabilities: a label that was seldom or never
    seen in a mapped class keeps Jeffreys' interval (see `ensemble.score.area_estimates.areas_of_sample`).

    Parameters
    ----------
    sample : SoftSample
        With two points at least in every class that is mapped.
    mapped : (n_labels,) float64
        m² or pixels of each mapped class.
    confidence_level : float
    """
    weights = mapped / mapped.sum()
    rng = np.random.default_rng(0)
    areas, saved = [], []
    for label in range(len(mapped)):
        share, drawn, plain, assisted = 0.0, np.zeros(DRAWS), 0.0, 0.0
        for stratum in np.flatnonzero(weights):
            inside = sample.stratum == stratum
            here = (sample.label[inside] == label).astype(np.float64)
            value, worth = _assist(here, sample.proba[inside, label], float(sample.mean[stratum, label]))
            weight, n = float(weights[stratum]), len(here)
            share += weight * value
            drawn += weight * rng.beta(*_posterior(value, n * worth), DRAWS)
            plain += weight**2 * _variance(*_posterior(float(here.mean()), n))
            assisted += weight**2 * _variance(*_posterior(value, n * worth))
        low, high = np.quantile(drawn, ((1 - confidence_level) / 2, (1 + confidence_level) / 2))
        ends = np.array([share, min(low, share), max(high, share)]) * mapped.sum()
        areas.append(Interval(*map(float, ends)))
        saved.append(len(sample.label) * max(plain / assisted - 1, 0.0))
    return AssistedAreas(tuple(areas), tuple(saved))


def _assist(here: Floats, proba: Floats, mean: float) -> tuple[float, float]:
    """Return the share of a label in a mapped class, and how many points without probabilities each point is worth."""
    n, hits = len(here), here.sum()
    spread = ((proba - proba.mean()) ** 2).sum()
    if min(hits, n - hits) < FEWEST or spread <= 0:
        return float(here.mean()), 1.0
    slope = max(float(((here - here.mean()) * (proba - proba.mean())).sum() / spread), 0.0)
    # Each point by a line through the others: 1 - leverage, as for any least squares.
    left = here - here.mean() - slope * (proba - proba.mean())
    predicted = left / (1 - 1 / n - (proba - proba.mean()) ** 2 / spread)
    alone = (here - here.mean()) / (1 - 1 / n)
    worth = float((alone**2).sum() / (predicted**2).sum())
    if slope == 0 or worth <= 1:
        return float(here.mean()), 1.0
    return float(np.clip(here.mean() + slope * (mean - proba.mean()), 0, 1)), worth


def _posterior(share: float, n: float) -> tuple[float, float]:
    return n * share + 0.5, n * (1 - share) + 0.5


def _variance(hits: float, misses: float) -> float:
    total = hits + misses
    return hits * misses / (total**2 * (total + 1))
