"""Fit calibration curves to pixels counted by label and logit, or to log losses that add up over folds."""

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA
from data.scenes.classes import IGNORE
from ensemble.decide.decision.calibration import LOGIT, STORED, Method

__all__ = [
    "BINS",
    "BIN_OF",
    "HOTTEST",
    "MIDDLES",
    "Bins",
    "best_temperature",
    "fit_curve",
    "logit_histogram",
    "temperature_losses",
]

Bins = NDArray[np.float64]
"""(2, BINS): the weight of pixels by label (0, 1) and logit."""

BINS = 1024
"""Curves are fitted to pixels that are counted by logit, in bins of 0.023."""
EDGE = float(LOGIT[-1])
MIDDLES = (np.arange(BINS) + 0.5) / BINS * 2 * EDGE - EDGE
BIN_OF = np.append(np.clip((LOGIT + EDGE) / (2 * EDGE) * BINS, 0, BINS - 1).astype(np.uint16), np.uint16(BINS))
HOTTEST = 50.0
"""Temperature at which logits count for nothing."""
TEMPERATURES = np.exp(np.linspace(np.log(0.2), np.log(HOTTEST), 41))
"""Tried where classes exclude each other; between them a parabola is laid through the loss."""
STEPS = 25


def logit_histogram(stored: NDArray[np.uint16], positive: NDArray[np.bool_], weight: NDArray[np.float64]) -> Bins:
    """Sum the weights of one class's pixels by label and logit, (2, BINS); those without a prediction are left out.

    Parameters
    ----------
    stored : (n,) uint16
    positive : (n,) bool
        Whether a pixel is of the class.
    weight : (n,) float64
        0 where it is not labelled.
    """
    cells = positive * (BINS + 1) + BIN_OF[stored]
    return np.bincount(cells, weight, minlength=2 * (BINS + 1)).reshape(2, BINS + 1)[:, :BINS].astype(np.float64)


def fit_curve(method: Method, histogram: Bins) -> tuple[float, ...]:
    """Fit the curve of one class, by maximum likelihood or, isotonic, by least squares.

    Parametric curves are pulled towards "leave it as it is" with the strength of one pixel, so that they exist where
    a class is separated perfectly, or absent. None of them falls.

    Parameters
    ----------
    method : {"temperature", "platt", "beta", "isotonic"}
    histogram : (2, BINS) float64
        As `logit_histogram` counts it.

    Returns
    -------
    values : tuple of float
        As in `Calibration.values`.
    """
    proba = 1 / (1 + np.exp(-MIDDLES))
    if method == "isotonic":
        return _fit_isotonic(proba, histogram)
    if method == "temperature":
        (slope,) = _fit_logistic(MIDDLES[:, None], histogram, np.ones(1))
        return (min(1 / max(slope, 1e-9), HOTTEST),)
    if method == "platt":
        slope, offset = _fit_logistic(np.stack([MIDDLES, np.ones(BINS)], axis=1), histogram, np.array([1.0, 0]))
        return (max(slope, 0.0), offset)
    design = np.stack([np.log(proba), -np.log1p(-proba), np.ones(BINS)], axis=1)
    start, free = np.array([1.0, 1, 0]), np.ones(3, bool)
    values = _fit_logistic(design, histogram, start)
    if min(values[:2]) < 0:
        # Kull et al.: a curve that falls is refitted without the part that makes it fall.
        free[int(np.argmin(values[:2]))] = False
        rest = _fit_logistic(design[:, free], histogram, start[free])
        values = [0.0, *rest] if not free[0] else [rest[0], 0.0, rest[1]]
    return (max(values[0], 0.0), max(values[1], 0.0), values[2])


def _fit_logistic(design: Bins, histogram: Bins, start: NDArray[np.float64]) -> list[float]:
    """Fit a logistic regression to counted pixels by Newton's method, pulled towards its start by one pixel's worth."""
    found, total, positive = start.copy(), histogram.sum(axis=0), histogram[1]

    def loss(values: NDArray[np.float64]) -> float:
        logit = design @ values
        return float(total @ np.logaddexp(0, logit) - positive @ logit + ((values - start) ** 2).sum() / 2)

    current = loss(found)
    for _ in range(STEPS):
        proba = 1 / (1 + np.exp(-np.clip(design @ found, -60, 60)))
        slope = design.T @ (total * proba - positive) + (found - start)
        curvature = (design * (total * proba * (1 - proba))[:, None]).T @ design + np.eye(len(found))
        step = np.linalg.solve(curvature, slope)
        while (reached := loss(found - step)) > current and np.abs(step).max() > 1e-9:
            step /= 2
        if not current - reached > 1e-9 * abs(current):
            break
        found, current = found - step, reached
    return [float(value) for value in found]


def _fit_isotonic(proba: NDArray[np.float64], histogram: Bins) -> tuple[float, ...]:
    seen = histogram.sum(axis=0)
    filled = seen > 0
    if not filled.any():
        return (0.0, 1.0, 0.0, 1.0)
    # Imported late, as all of scikit-learn here: it takes a second, which a worker that predicts need not wait for.
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    model.fit(proba[filled], (histogram[1][filled] / seen[filled]), sample_weight=seen[filled])
    return (*model.X_thresholds_.tolist(), *model.y_thresholds_.tolist())


def temperature_losses(
    stored: NDArray[np.uint16], label: NDArray[np.uint8], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the log loss of exclusive classes, summed over pixels, at each of `TEMPERATURES`.

    Sums of several folds add up. `best_temperature` finds the best of a sum.

    Parameters
    ----------
    stored : (K, n) uint16
    label : (n,) uint8
    weight : (n,) float64
    """
    known = (stored[0] != NODATA) & (label != IGNORE)
    logs = np.log(STORED).astype(np.float32)[stored[:, known]]
    labelled = np.take_along_axis(logs, label[None, known].astype(np.int64), axis=0)[0]
    losses = []
    for temperature in TEMPERATURES.astype(np.float32):
        whole = np.log(np.exp(logs / temperature).sum(axis=0))
        losses.append(float(weight[known] @ (whole - labelled / temperature)))
    return np.array(losses)


def best_temperature(losses: NDArray[np.float64]) -> float:
    """Return the temperature of the least loss, on a parabola through the best of `TEMPERATURES` and its neighbours."""
    best = int(np.argmin(losses))
    logs = np.log(TEMPERATURES)
    if not 0 < best < len(losses) - 1:
        return float(TEMPERATURES[best])
    before, least, after = losses[best - 1 : best + 2]
    bend = before - 2 * least + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(np.exp(logs[best] + shift * (logs[1] - logs[0])))
