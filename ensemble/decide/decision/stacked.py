"""Stacking: a logistic regression on the members' logits, with an intercept and coefficients of each class.

Wolpert 1992, "Stacked generalization".
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA
from ensemble.decide.decision.blend import LOGITS, LOGS, Weights, mix

__all__ = ["Stacked", "member_logits"]


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

    def __post_init__(self) -> None:
        if len({len(row) for row in self.coefficients}) != 1 or len(self.coefficients) != len(self.intercepts):
            raise ValueError("expected a coefficient of each member and an intercept for each class")
        if not np.isfinite([*self.intercepts, *(value for row in self.coefficients for value in row)]).all():
            raise ValueError("expected finite coefficients and intercepts")

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
