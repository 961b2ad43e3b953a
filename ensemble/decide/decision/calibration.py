"""Calibrate a member's probabilities, by out-of-fold pixels at their natural frequencies."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import IGNORE

__all__ = ["METHODS", "Calibration", "Method", "log_loss"]

Method = Literal["none", "temperature", "platt", "beta", "isotonic"]
METHODS: tuple[Method, ...] = get_args(Method)
"""Simplest first."""

LENGTHS: dict[Method, int] = {"temperature": 1, "platt": 2, "beta": 3}
"""Numbers of a curve; an isotonic one has as many knots as it takes."""

STORED = np.clip(np.arange(NODATA), 0.5, TOP - 0.5) / TOP
"""Probability of each stored value; the first and the last lie half a step inside, where a logarithm is finite."""
LOGIT = np.log(STORED) - np.log1p(-STORED)


@dataclass(frozen=True)
class Calibration:
    """A curve that each class's probability of one member goes through.

    Parameters
    ----------
    method : {"none", "temperature", "platt", "beta", "isotonic"}
        `temperature`: logits divided by T (Guo et al. 2017). `platt`: a logit + b (Platt 1999). `beta`:
        a ln p - b ln(1 - p) + c (Kull et al. 2017). `isotonic`: a rising step function with straight lines between its
        knots (Zadrozny and Elkan 2002).
    values : tuple of tuple of float
        The curve of each class: T; a, b; a, b, c; or the knots, probabilities before and then after.
    exclusive : bool
        Whether classes exclude each other: then they are brought back to a sum of one.
    """

    method: Method = "none"
    values: tuple[tuple[float, ...], ...] = ()
    exclusive: bool = False

    def __post_init__(self) -> None:
        if (self.method == "none") != (not self.values):
            raise ValueError(f"expected a curve of each class for the method {self.method}")
        for curve in self.values:
            length, least = len(curve), LENGTHS.get(self.method)
            if not np.isfinite(curve).all() or (length != least if least else length < 2 or length % 2):
                raise ValueError(f"expected the numbers of a curve of the method {self.method}, got {length}")
            if self.method == "temperature" and curve[0] <= 0:
                raise ValueError(f"expected a temperature above 0, got {curve[0]}")

    def apply(self, stored: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Calibrate a member's map.

        Parameters
        ----------
        stored : (n_classes, …) uint16
            Probabilities as stored.

        Returns
        -------
        calibrated : (n_classes, …) uint16
            `NODATA` stays `NODATA`.
        """
        if self.method == "none":
            return stored
        tables = _tables(self)
        if not self.exclusive:
            return np.stack([table[plane] for table, plane in zip(tables, stored, strict=True)])
        shares = np.stack([table[plane] for table, plane in zip(tables, stored, strict=True)])
        shares *= np.float32(TOP) / shares.sum(axis=0)
        return np.where(stored == NODATA, NODATA, np.rint(shares)).astype(np.uint16)

    def curve(self, position: int, proba: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what probabilities of one class become, before classes are brought to a sum of one."""
        if self.method == "none":
            return proba
        values = self.values[position]
        if self.method == "isotonic":
            before, after = np.split(np.array(values), 2)
            risen: NDArray[np.float64] = np.clip(np.interp(proba, before, after), 0.5 / TOP, 1 - 0.5 / TOP)
            return risen
        log, rest = np.log(proba), np.log1p(-proba)
        if self.method == "temperature":
            if self.exclusive:
                power: NDArray[np.float64] = np.exp(log / values[0])
                return power
            logit = (log - rest) / values[0]
        elif self.method == "platt":
            logit = values[0] * (log - rest) + values[1]
        else:
            logit = values[0] * log - values[1] * rest + values[2]
        sigmoid: NDArray[np.float64] = 1 / (1 + np.exp(-logit))
        return sigmoid


@lru_cache(maxsize=512)
def _tables(calibration: Calibration) -> NDArray[Any]:
    """Return what each stored value becomes, (n_classes, 65536): uint16, or float32 shares of exclusive classes."""
    curves = np.stack([calibration.curve(position, STORED) for position in range(len(calibration.values))])
    if calibration.exclusive:
        # A pixel without a prediction has the same share of everything, and is left out afterwards.
        return np.pad(curves, ((0, 0), (0, 1)), constant_values=1).astype(np.float32)
    return np.pad(np.rint(curves * TOP), ((0, 0), (0, 1)), constant_values=NODATA).astype(np.uint16)


def log_loss(stored: NDArray[np.uint16], label: NDArray[np.uint8], exclusive: bool) -> NDArray[np.float64]:
    """Return the log loss of each pixel, 0 where nothing is labelled or predicted.

    Parameters
    ----------
    stored : (K, n) uint16
    label : (Q, n) uint8
    exclusive : bool
        Whether classes exclude each other; otherwise the loss is the mean over the classes of each by itself.
    """
    scored = (label != IGNORE) & (stored[0] != NODATA)
    if exclusive:
        losses = LOSS[1][np.take_along_axis(stored, np.where(scored, label, 0).astype(np.int64), axis=0)]
    else:
        losses = np.where(label == 1, LOSS[1][stored], LOSS[0][stored])
    mean: NDArray[np.float64] = np.where(scored, losses, 0).mean(axis=0)
    return mean


LOSS = -np.stack([np.append(np.log1p(-STORED), 0), np.append(np.log(STORED), 0)])
"""Log loss of each stored value where the label is 0 and where it is 1; 0 without a prediction."""
