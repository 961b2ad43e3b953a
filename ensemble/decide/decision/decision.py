"""A decision: how members' maps become labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import Classes
from ensemble.decide.decision.blend import Blend, Weights
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.cleaning import Cleaning
from ensemble.decide.decision.stacked import Stacked
from ensemble.decide.decision.thresholds import Thresholds, decide

__all__ = ["Decision", "calibrate"]

AT_ONCE = 1 << 22
"""Values of all members that are calibrated and blended at a time; what is made of them takes several times as much."""


@dataclass(frozen=True)
class Decision:
    """Calibrations, blend, thresholds and cleaning that turn members' maps into labels.

    Parameters
    ----------
    calibrations : tuple of Calibration
        One a member.
    blend : Blend or Stacked
    thresholds : tuple of float
        The threshold of each class or, of exclusive ones, its multiplier.
    cleaning : Cleaning
        What is done to the labels of a whole scene.
    shown : Calibration
        Of the blended probabilities, before they are shown to anyone; labels are made without it.
    """

    calibrations: tuple[Calibration, ...]
    blend: Blend | Stacked
    thresholds: Thresholds
    cleaning: Cleaning = field(default_factory=Cleaning)
    shown: Calibration = field(default_factory=Calibration)

    def fits(self, classes: Classes, n_members: int) -> bool:
        """Return whether it is one for so many members' maps of some classes."""
        n_classes, n_labels, blend = len(classes.names), len(classes.label_names), self.blend
        curves = [calibration for calibration in (*self.calibrations, self.shown) if calibration.method != "none"]
        rows = blend.weights if isinstance(blend, Blend) else blend.coefficients
        rules = [index for rule in self.cleaning.rules for index in (rule.label, rule.becomes)]
        # One more than the greatest probability is a class that is never there.
        most = np.inf if classes.exclusive else NODATA / TOP
        return (
            len(self.calibrations) == len(rows[0]) == n_members
            and len(rows) in ({1, n_classes} if isinstance(blend, Blend) else {n_classes})
            and sum(self.weights) > 0
            and len(self.thresholds) == n_classes
            and all(0 <= threshold <= most and np.isfinite(threshold) for threshold in self.thresholds)
            and all(len(calibration.values) == n_classes for calibration in curves)
            and all(part.exclusive == classes.exclusive for part in (blend, *curves))
            and all(0 <= index < n_labels for index in rules)
        )

    @property
    def weights(self) -> Weights:
        """The share that each member has, summing to 1."""
        return self.blend.shares

    @property
    def sharpness(self) -> tuple[float, ...]:
        """What takes the blend's logits as far from 0 as the members' own are: one number, or one a class.

        Members' temperatures are undone; other calibrations stand.
        """
        rows = self.blend.weights if isinstance(self.blend, Blend) else self.blend.coefficients
        slopes = [
            [1 / temperature for (temperature,) in calibration.values] if calibration.method == "temperature" else [1.0]
            for calibration in self.calibrations
        ]
        n_classes = max(len(rows), *map(len, slopes))
        each = np.stack([np.broadcast_to(slope, n_classes) for slope in slopes], axis=-1)
        return tuple((1 / np.maximum((np.array(rows) * each).sum(axis=-1), 0.1)).tolist())

    def take(self, members: Sequence[int]) -> "Decision":
        """Return the decision for the maps of some members alone; the others must have no weight."""
        chosen = list(members)
        calibrations = tuple(self.calibrations[member] for member in chosen)
        return replace(self, calibrations=calibrations, blend=self.blend.take(chosen))

    def proba(self, stored: NDArray[np.uint16], at_once: int = AT_ONCE) -> NDArray[np.uint16]:
        """Calibrate and blend members' maps, (n_members, n_classes, …) → (n_classes, …), so many values at a time."""
        used = [member for member, weight in enumerate(self.weights) if weight > 0]
        some = self.take(used) if len(used) < len(stored) else self
        pixels = stored.reshape(*stored.shape[:2], -1)
        blended = np.empty(pixels.shape[1:], np.uint16)
        step = max(at_once // (pixels.shape[0] * pixels.shape[1]), 1)
        for start in range(0, pixels.shape[2], step):
            part = pixels[:, :, start : start + step]
            members = part if some is self else part[used]
            blended[:, start : start + step] = some.blend.apply(calibrate(some.calibrations, members))
        return blended.reshape(stored.shape[1:])

    def show(self, blended: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Turn a blended map (n_classes, …) into probabilities that hold: of those with 0.9 nine in ten are right."""
        return self.shown.apply(blended)

    def label(self, blended: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Turn a blended map (n_classes, …) into labels (Q, …), not yet cleaned."""
        return decide(blended, self.thresholds, self.blend.exclusive)

    def apply(self, stored: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Turn members' maps (n_members, n_classes, …) into labels (Q, …), not yet cleaned."""
        return self.label(self.proba(stored))


def calibrate(calibrations: Sequence[Calibration], stored: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Calibrate the maps of each member, (n_members, n_classes, …) uint16 as stored."""
    if all(calibration.method == "none" for calibration in calibrations):
        return stored
    return np.stack([calibration.apply(planes) for calibration, planes in zip(calibrations, stored, strict=True)])
