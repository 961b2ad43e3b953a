"""Blend members: the weighted mean of calibrated probabilities or of their logits, or what one or all of them say."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from ensemble.decide.decision.calibration import LOGIT, STORED

__all__ = ["UNIONS", "Blend", "Space", "Weights", "mix", "spread_out", "to_stored"]

Weights = tuple[float, ...]
"""One a member, summing to 1."""
Space = Literal["probability", "logit", "largest", "smallest", "noisy-or"]

UNIONS: tuple[Space, ...] = ("largest", "smallest", "noisy-or")

LOGS = np.append(np.log(STORED), 0).astype(np.float32)
LOGITS = np.append(LOGIT, 0).astype(np.float32)
VALUES = np.append(np.arange(NODATA), 0).astype(np.float32)

SPARE = np.float32(1e-6)
"""Weight that a class leaves to members of others, for pixels where its own predicted nothing."""


@dataclass(frozen=True)
class Blend:
    """A weighted mean of members, or a union or intersection of them.

    Parameters
    ----------
    weights : tuple of tuple of float
        One row for all classes, or one a class; in each a weight a member, summing to 1.
    space : {"probability", "logit", "largest", "smallest", "noisy-or"}
        Where the mean is taken. Of exclusive classes `logit` is the geometric mean of probabilities. The others take
        the largest or the smallest probability of the members that have weight, however much, or that of at least one
        of them being right, 1 − ∏ (1 − p), if they erred independently (Pearl 1988).
    exclusive : bool
        Whether classes exclude each other: their probabilities then sum to one.
    """

    weights: tuple[Weights, ...]
    space: Space = "probability"
    exclusive: bool = False

    def __post_init__(self) -> None:
        rows = {len(row) for row in self.weights}
        if len(rows) != 1 or not all(0 <= weight < np.inf for row in self.weights for weight in row):
            raise ValueError("expected a weight of each member, 0 or more")

    @property
    def shares(self) -> Weights:
        """The mean weight of each member over the classes."""
        return tuple(float(share) for share in np.mean(self.weights, axis=0))

    def take(self, members: list[int]) -> "Blend":
        """Return the blend of some members alone; the others must have no weight."""
        return Blend(
            tuple(tuple(row[member] for member in members) for row in self.weights), self.space, self.exclusive
        )

    def apply(self, calibrated: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Blend members' maps.

        Parameters
        ----------
        calibrated : (n_members, n_classes, …) uint16
            Probabilities as stored. Where a member predicted nothing the others' weights are raised in proportion.

        Returns
        -------
        blend : (n_classes, …) uint16
            `NODATA` where no member of positive weight predicted anything.
        """
        used = [member for member, share in enumerate(self.shares) if share > 0]
        if len(used) == 1:
            alone: NDArray[np.uint16] = calibrated[used[0]]
            return alone
        if self.space in UNIONS:
            return self._unite(calibrated[used])
        rows = np.array(self.weights, np.float32)
        if len(rows) > 1:
            # A class whose own members predicted nothing falls to those of the other classes.
            rows = rows + SPARE * np.array([share > 0 for share in self.shares], np.float32)
        total = np.zeros(calibrated.shape[1:], np.float32)
        mass = np.zeros((len(rows), *calibrated.shape[2:]), np.float32)
        for member in used:
            weight = rows[:, member].reshape(-1, *[1] * (calibrated.ndim - 2))
            total += weight * spread_out(calibrated[member], self.space, self.exclusive)
            mass += weight * (calibrated[member, :1] != NODATA)
        return mix(total, mass, self.space, self.exclusive, normalise=len(rows) > 1)

    def _unite(self, calibrated: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Return what one or all of the members say, those that predicted nothing left out."""
        seen = calibrated != NODATA
        there = seen.any(axis=0)
        if self.space == "largest":
            united = np.where(seen, calibrated, 0).max(axis=0).astype(np.float32)
        elif self.space == "smallest":
            united = np.where(there, calibrated.min(axis=0), 0).astype(np.float32)
        else:
            united = TOP - TOP * np.where(seen, 1 - calibrated / np.float32(TOP), 1).prod(axis=0)
        if self.exclusive:
            united *= np.float32(TOP) / np.maximum(united.sum(axis=0), 1)
        return to_stored(united, there)


def spread_out(stored: NDArray[np.uint16], space: Space, exclusive: bool) -> NDArray[np.float32]:
    """Return what is averaged of a member: stored values, logits or, of exclusive classes, logarithms; 0 for nodata."""
    table = VALUES if space == "probability" else LOGS if exclusive else LOGITS
    return table[stored]


def mix(
    total: NDArray[np.float32], mass: NDArray[np.float32], space: Space, exclusive: bool, normalise: bool = False
) -> NDArray[np.uint16]:
    """Turn weighted sums of `spread_out` values and sums of weights into probabilities as stored.

    Parameters
    ----------
    total : (n_classes, …) float32
    mass : (1 or n_classes, …) float32
        0 where nothing was predicted.
    space : {"probability", "logit"}
    exclusive : bool
    normalise : bool
        Whether probabilities of exclusive classes may not sum to one yet.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = total / mass
        if space == "logit":
            mean = _softmax(mean) if exclusive else TOP / (1 + np.exp(-mean))
        elif exclusive and normalise:
            mean *= np.float32(TOP) / mean.sum(axis=0)
        return to_stored(mean, mass > 0)


def to_stored(scaled: NDArray[np.float32], there: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Round probabilities in 0 … 65534 to what is stored, `NODATA` where there are none."""
    with np.errstate(invalid="ignore"):
        return np.where(there, np.rint(scaled), NODATA).astype(np.uint16)


def _softmax(logs: NDArray[np.float32]) -> NDArray[np.float32]:
    shares = np.exp(logs - logs.max(axis=0))
    shares *= np.float32(TOP) / shares.sum(axis=0)
    scaled: NDArray[np.float32] = shares
    return scaled
