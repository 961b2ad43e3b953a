"""Fit weights of members' logits by maximum likelihood: one a member, one a member and class, or with intercepts.

All start from given weights and are pulled towards them, so that a class of few pixels does not run away.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from data.scenes.classes import IGNORE
from ensemble.decide.decision.stacked import Stacked, member_logits
from ensemble.decide.decision.thresholds import is_class

__all__ = ["Kind", "LogitSample", "fit_stacked"]

Kind = Literal["shared", "by class", "with intercepts"]
"""Whether classes have the same weights, their own, or their own and intercepts."""

PULL = 1e-4
"""Strength of the pull, times the weight of all pixels: the loss a deviation of 1 costs in a mean pixel."""
MOST_STEPS = 100
STILL = 1e-7
"""Part of the loss below which a step ends the descent."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LogitSample:
    """Members' logits and what is labelled.

    Parameters
    ----------
    logits : (n_members, n_classes, n) float32
        Of exclusive classes logarithms of probabilities.
    truth : (n_classes, n) bool
    share : (1 or n_classes, n) float64
        Of each pixel in the loss.
    exclusive : bool
    """

    logits: NDArray[np.float32]
    truth: NDArray[np.bool_]
    share: Floats
    exclusive: bool

    @classmethod
    def of(
        cls, calibrated: NDArray[np.uint16], label: NDArray[np.uint8], weight: Floats, exclusive: bool
    ) -> "LogitSample":
        """Return a sample of members' maps (n_members, n_classes, n) as stored, with labels (Q, n)."""
        logits, there = member_logits(calibrated, exclusive)
        known = (label != IGNORE) & there
        return cls(logits, is_class(label, calibrated.shape[1], exclusive), weight * known, exclusive)

    def take(self, chosen: NDArray[np.bool_]) -> "LogitSample":
        """Return some of the pixels."""
        return LogitSample(self.logits[:, :, chosen], self.truth[:, chosen], self.share[:, chosen], self.exclusive)

    def fit(self, kind: Kind, start: Floats, warm: Floats | None = None) -> Floats:
        """Return the likeliest weights and intercepts, (n_classes, n_members + 1), the intercepts last.

        Parameters
        ----------
        kind : {"shared", "by class", "with intercepts"}
            Of shared weights only those of the first class are looked at in ``start``.
        start : (n_classes, n_members + 1) float64
            What they are pulled towards.
        warm : (n_classes, n_members + 1) float64, optional
            Where the descent begins; by default at ``start``.
        """
        share = self.share / max(float(self.share.sum()), 1e-9)

        def expand(flat: Floats) -> Floats:
            if kind == "shared":
                return np.tile(np.append(flat, 0), (len(start), 1))
            if kind == "by class":
                return np.column_stack([flat.reshape(len(start), -1), start[:, -1]])
            return flat.reshape(start.shape)

        def gather(slope: Floats) -> Floats:
            if kind == "shared":
                return np.asarray(slope[:, :-1].sum(axis=0))
            return (slope[:, :-1] if kind == "by class" else slope).ravel()

        def pick(values: Floats) -> Floats:
            return values[0, :-1] if kind == "shared" else gather(values)

        origin = pick(start)

        def loss(flat: Floats) -> tuple[float, Floats]:
            worth, slope = self._loss(expand(flat), share)
            return worth + PULL / 2 * float(((flat - origin) ** 2).sum()), gather(slope) + PULL * (flat - origin)

        fitted = minimize(
            loss,
            pick(start if warm is None else warm),
            jac=True,
            method="L-BFGS-B",
            tol=STILL,
            options={"maxiter": MOST_STEPS},
        )
        return expand(np.asarray(fitted.x))

    def change(self, differences: Floats) -> Floats:
        """Return the mean square of what differences of weights and intercepts (…, n_values) do to the blend's logits.

        Members know much of the same, so that their weights vary together: what is shrunk is what they do.
        """
        n_members, n_classes = self.logits.shape[:2]
        moved = differences.reshape(*differences.shape[:-1], n_classes, n_members + 1)[..., :-1]
        squares: Floats = np.einsum("...km,kml,...kl->...", moved, self._moments, moved)
        return squares

    @cached_property
    def _moments(self) -> Floats:
        """Mean products of members' logits, (n_classes, n_members, n_members)."""
        # What all exclusive classes have in common changes nothing.
        logits = self.logits - self.logits.mean(axis=1, keepdims=True) if self.exclusive else self.logits
        moments: Floats = np.einsum("mkn,lkn->kml", logits, logits).astype(np.float64) / logits.shape[2]
        return moments

    def losses(self, values: Floats) -> Floats:
        """Return the log loss of each pixel at given weights and intercepts, (n,); 0 where nothing is known."""
        total = np.einsum("km,mkn->kn", values[:, :-1].astype(np.float32), self.logits) + values[:, -1:]
        if self.exclusive:
            peak = total.max(axis=0)
            each = (peak + np.log(np.exp(total - peak).sum(axis=0)) - (self.truth * total).sum(axis=0))[None]
        else:
            each = np.logaddexp(0, total) - self.truth * total
        mean: Floats = np.where(self.share > 0, each, 0).mean(axis=0)
        return mean

    def _loss(self, values: Floats, share: Floats) -> tuple[float, Floats]:
        """Return the log loss and its slope by each of the values."""
        total = np.einsum("km,mkn->kn", values[:, :-1].astype(np.float32), self.logits).astype(np.float64)
        total += values[:, -1:]
        if self.exclusive:
            peak = total.max(axis=0)
            shares = np.exp(total - peak)
            mass = shares.sum(axis=0)
            worth = float(share[0] @ (peak + np.log(mass)) - (share * self.truth * total).sum())
            wrong = (shares / mass - self.truth) * share
        else:
            worth = float((share * (np.logaddexp(0, total) - self.truth * total)).sum())
            wrong = (1 / (1 + np.exp(-total)) - self.truth) * share
        slope = np.einsum("kn,mkn->km", wrong.astype(np.float32), self.logits).astype(np.float64)
        return worth, np.column_stack([slope, wrong.sum(axis=1)])


def fit_stacked(calibrated: NDArray[np.uint16], label: NDArray[np.uint8], weight: Floats, exclusive: bool) -> Stacked:
    """Fit a `Stacked` by maximum likelihood, from the geometric mean of all members.

    Parameters
    ----------
    calibrated : (n_members, n_classes, n) uint16
    label : (Q, n) uint8
    weight : (n,) float64
    exclusive : bool
    """
    n_members, n_classes = calibrated.shape[:2]
    start = np.tile(np.append(np.full(n_members, 1 / n_members), 0), (n_classes, 1))
    values = LogitSample.of(calibrated, label, weight, exclusive).fit("with intercepts", start)
    rows = tuple(tuple(row) for row in values[:, :-1].tolist())
    return Stacked(rows, tuple(values[:, -1].tolist()), exclusive)
