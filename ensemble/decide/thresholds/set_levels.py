"""Find from which probability on a label belongs into prediction sets, by groups."""

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from ensemble.decide.calibration.curve_fitting import BIN_OF, BINS
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.prediction_sets import PredictionSets, label_planes
from ensemble.decide.sample.inner_folds import InnerFolds, Parts
from ensemble.decide.thresholds.centre import FIRST
from ensemble.decide.thresholds.risk_control import count_groups, expected_bin

__all__ = ["find_levels", "fit_sets", "measure_sets"]

Floats = NDArray[np.float64]


def fit_sets(inner: InnerFolds, decision: Decision, parts: Parts, coverage: float) -> PredictionSets:
    """Find the levels of prediction sets on the pixels of some parts, which the decision was learned from too.

    Parameters
    ----------
    inner : InnerFolds
    decision : Decision
        Of exclusive labels; with the calibration of what is shown.
    parts : tuple of int
    coverage : float
    """
    pool = inner.pool.take(inner.where(parts))
    blended = decision.proba(pool.stored)
    shown, [mapped] = decision.show(blended), decision.label(blended)
    _, group = np.unique(inner.groups[pool.scene], return_inverse=True)
    return find_levels(shown, mapped, pool.label[0], pool.weight, group, coverage)


def find_levels(
    shown: NDArray[np.uint16],
    mapped: NDArray[np.uint8],
    label: NDArray[np.uint8],
    weight: Floats,
    group: NDArray[np.integer],
    coverage: float,
) -> PredictionSets:
    """Return the highest level of each label at which a further group's expected coverage is as asked for.

    It is conformal risk control by groups and within each label, see `risk_control`: what was found of exchangeable
    groups holds of another such group, in the mean over all that could have been seen. What is mapped is in the set at
    any rate, so none is empty. Pixels without a prediction have no set.

    Parameters
    ----------
    shown : (n_classes, n) uint16
    mapped, label : (n,) uint8
    weight : (n,) float64
    group : (n,) int
        From 0.
    coverage : float
    """
    levels, sure = [], []
    values = np.append(FIRST[:BINS], TOP + 1)
    for place, plane in enumerate(label_planes(shown)):
        chosen = (label == place) & (plane != NODATA)
        # Of what is mapped no level takes its pixels: they lie above all.
        bins = np.where(mapped[chosen] == place, BINS, BIN_OF[plane[chosen]])
        n_groups = int(group.max()) + 1 if len(group) else 1
        counts = count_groups(bins, weight[chosen], group[chosen], n_groups, BINS + 1)
        levels.append(int(values[expected_bin(counts, 1 - coverage)]) if len(counts) else 0)
        sure.append(1 / (len(counts) + 1) <= 1 - coverage)
    return PredictionSets(coverage, tuple(levels), tuple(sure))


def measure_sets(inner: InnerFolds, fitted: dict[int, tuple[Decision, PredictionSets]]) -> tuple[Floats, float]:
    """Measure sets on the folds without which they were fitted.

    Parameters
    ----------
    inner : InnerFolds
    fitted : dict of int to (Decision, PredictionSets)
        By fold.

    Returns
    -------
    held : (n_labels,) float64
        Share of each label's pixels whose set holds it: the mean over groups; 1 of a label that is nowhere.
    size : float
        Mean number of labels in a set.
    """
    n_labels, n_groups = inner.classes.n_labels, int(inner.groups.max()) + 1
    inside, total = np.zeros((2, n_labels, n_groups))
    sizes = weights = 0.0
    for fold, (decision, sets) in fitted.items():
        pool = inner.pool.take(inner.where(inner.parts[fold]))
        blended = decision.proba(pool.stored)
        [mapped] = decision.label(blended)
        found = sets.apply(decision.show(blended), mapped)
        seen = (blended[0] != NODATA) & (pool.label[0] < n_labels)
        group, label, weight = inner.groups[pool.scene][seen], pool.label[0][seen], pool.weight[seen]
        held = found[:, seen][label, np.arange(len(label))]
        np.add.at(inside, (label, group), weight * held)
        np.add.at(total, (label, group), weight)
        sizes += float((found[:, seen].sum(axis=0) * weight).sum())
        weights += float(weight.sum())
    shares = [
        (held[seen > 0] / seen[seen > 0]).mean() if seen.any() else 1.0
        for held, seen in zip(inside, total, strict=True)
    ]
    return np.array(shares), sizes / max(weights, 1e-9)
