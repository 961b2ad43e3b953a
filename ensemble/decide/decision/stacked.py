"""Stacking: a logistic regression on the members' logits, with an intercept and coefficients of each class.

Wolpert 1992, "Stacked generalization". It starts from the geometric mean of all members and is pulled towards it, so
that a class of few pixels does not run away.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from data.maps.geotiff import NODATA
from data.scenes.classes import IGNORE
from ensemble.decide.decision.blend import LOGITS, LOGS, Weights, mix
from ensemble.decide.decision.thresholds import is_class

__all__ = ["Stacked", "fit_stacked"]

PULL = 1e-4
"""Strength of the pull, times the weight of all pixels: the loss a deviation of 1 costs in a mean pixel."""
MOST_STEPS = 100


@dataclass(frozen=True)
class Stacked:
    """A logistic regression on members' logits; of exclusive classes a softmax over sums of their logarithms.

    Parameters
    ----------
    coefficients : tuple of tuple of float
        One row a class; in each a coefficient a member.
    intercepts : tuple of float
        One a class.
    exclusive : bool
        Whether classes exclude each other.
    """

    coefficients: tuple[Weights, ...]
    intercepts: tuple[float, ...]
    exclusive: bool = False

    @property
    def shares(self) -> Weights:
        """The share of each member in the absolute coefficients."""
        size = np.abs(self.coefficients).sum(axis=0)
        return tuple(float(share) for share in size / size.sum())

    def take(self, members: list[int]) -> "Stacked":
        """Return the regression on some members alone; the others must have no coefficients."""
        rows = tuple(tuple(row[member] for member in members) for row in self.coefficients)
        return Stacked(rows, self.intercepts, self.exclusive)

    def apply(self, calibrated: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Blend members' maps.

        Parameters
        ----------
        calibrated : (n_members, n_classes, …) uint16
            Probabilities as stored. A member that predicted nothing is taken to say what the others say on average.

        Returns
        -------
        blend : (n_classes, …) uint16
            `NODATA` where no member predicted anything.
        """
        shape = (-1, *[1] * (calibrated.ndim - 2))
        logits, known = member_logits(calibrated, self.exclusive)
        total = np.asarray(self.intercepts, np.float32).reshape(shape) * np.ones_like(logits[0])
        for member, weight in enumerate(np.asarray(self.coefficients, np.float32).T):
            total += weight.reshape(shape) * logits[member]
        return mix(total, known[None].astype(np.float32), "logit", self.exclusive)


def member_logits(calibrated: NDArray[np.uint16], exclusive: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return logits, or logarithms of exclusive classes, of all members, gaps filled; and where anyone predicted."""
    logits = (LOGS if exclusive else LOGITS)[calibrated]
    seen = calibrated[:, :1] != NODATA
    if not seen.all():
        mean = logits.sum(axis=0) / np.maximum(seen.sum(axis=0), 1).astype(np.float32)
        logits = np.where(seen, logits, mean)
    return logits, seen.any(axis=(0, 1))


def fit_stacked(
    calibrated: NDArray[np.uint16], label: NDArray[np.uint8], weight: NDArray[np.float64], exclusive: bool
) -> Stacked:
    """Fit a `Stacked` by maximum likelihood.

    Parameters
    ----------
    calibrated : (n_members, n_classes, n) uint16
    label : (Q, n) uint8
    weight : (n,) float64
    exclusive : bool
    """
    n_members, n_classes = calibrated.shape[:2]
    logits, there = member_logits(calibrated, exclusive)
    known = (label != IGNORE) & there
    share = (weight / max(float((weight * known).sum()), 1e-9)) * known
    truth = is_class(label, n_classes, exclusive)
    start = np.zeros((n_classes, n_members + 1))
    start[:, :-1] = 1 / n_members

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        values = flat.reshape(start.shape)
        total = np.einsum("km,mkn->kn", values[:, :-1].astype(np.float32), logits).astype(np.float64)
        total += values[:, -1:]
        if exclusive:
            peak = total.max(axis=0)
            shares = np.exp(total - peak)
            mass = shares.sum(axis=0)
            worth = share[0] @ (peak + np.log(mass)) - float((share * truth * total).sum())
            wrong = (shares / mass - truth) * share
        else:
            worth = float((share * (np.logaddexp(0, total) - truth * total)).sum())
            wrong = (1 / (1 + np.exp(-total)) - truth) * share
        slope = np.column_stack([np.einsum("kn,mkn->km", wrong, logits), wrong.sum(axis=1)])
        return worth + PULL / 2 * float(((values - start) ** 2).sum()), (slope + PULL * (values - start)).ravel()

    fitted = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS})
    values = fitted.x.reshape(start.shape)
    rows = tuple(tuple(row) for row in values[:, :-1].tolist())
    return Stacked(rows, tuple(values[:, -1].tolist()), exclusive)
