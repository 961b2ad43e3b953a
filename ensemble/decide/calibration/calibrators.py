"""Choose and fit each member's calibration, by log loss on parts left out."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.scenes.classes import IGNORE
from ensemble.decide.calibration.curve_fitting import (
    Bins,
    best_temperature,
    fit_curve,
    logit_histogram,
    temperature_losses,
)
from ensemble.decide.decision.calibration import METHODS, Calibration, Method, log_loss
from ensemble.decide.decision.thresholds import is_class
from ensemble.decide.sample.choice import Choice, choose, jackknife_mean
from ensemble.decide.sample.inner_folds import InnerFolds, Parts

__all__ = ["Calibrator"]


@dataclass
class Calibrator:
    """Fits the calibration of one member to any parts, from what is counted of each part once.

    Parameters
    ----------
    inner : InnerFolds
    member : int
    """

    inner: InnerFolds
    member: int
    _histograms: dict[int, Bins] = field(init=False)
    _losses: dict[int, NDArray[np.float64]] = field(init=False)
    _fitted: dict[tuple[Method, Parts], Calibration] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        pool, inner = self.inner.pool, self.inner
        stored = pool.stored[self.member]
        self._histograms, self._losses = {}, {}
        for part in np.unique(pool.fold).tolist():
            inside = pool.fold == part
            label, weight = pool.label[:, inside], pool.weight[inside]
            known = np.broadcast_to(label != IGNORE, (len(stored), len(weight)))
            self._histograms[part] = np.stack(
                [
                    logit_histogram(plane, positive, weight * seen)
                    for plane, positive, seen in zip(
                        stored[:, inside], is_class(label, len(stored), inner.classes.exclusive), known, strict=True
                    )
                ]
            )
            if inner.classes.exclusive:
                self._losses[part] = temperature_losses(stored[:, inside], label[0], weight)

    def fit(self, method: Method, parts: Parts) -> Calibration:
        """Return the calibration of a method, fitted to the pixels of some parts."""
        if method == "none":
            return Calibration()
        key = method, parts
        if key not in self._fitted:
            self._fitted[key] = self._fit(method, parts)
        return self._fitted[key]

    def choose(self, allowed: str, parts: Parts) -> tuple[Method, Choice | None]:
        """Choose a method by log loss on parts left out, the simplest of those that are indistinguishable.

        Parameters
        ----------
        allowed : {"auto", "none", …}
            ``auto``, or the one method.
        parts : tuple of int
        """
        for method in METHODS:
            if method == allowed:
                return method, None
        if len(parts) < 2:
            return "none", None
        chosen = self.inner.where(parts)
        pool = self.inner.pool.take(chosen)
        blocks = self.inner.blocks[pool.scene]
        replicates = []
        for method in METHODS:
            loss = np.zeros(len(pool.weight))
            for part in parts:
                inside = pool.fold == part
                calibration = self.fit(method, tuple(other for other in parts if other != part))
                stored = calibration.apply(pool.stored[self.member][:, inside])
                loss[inside] = log_loss(stored, pool.label[:, inside], self.inner.classes.exclusive)
            replicates.append(jackknife_mean(-loss, pool.weight, blocks))
        choice = choose(METHODS, np.stack(replicates), [method != "none" for method in METHODS])
        return METHODS[choice.chosen], choice

    def _fit(self, method: Method, parts: Parts) -> Calibration:
        exclusive = self.inner.classes.exclusive
        total: Bins = np.sum([self._histograms[part] for part in parts if part in self._histograms], axis=0)
        if exclusive and method == "temperature":
            losses = np.sum([self._losses[part] for part in parts if part in self._losses], axis=0)
            return Calibration(method, ((best_temperature(losses),),) * len(total), exclusive)
        return Calibration(method, tuple(fit_curve(method, histogram) for histogram in total), exclusive)
