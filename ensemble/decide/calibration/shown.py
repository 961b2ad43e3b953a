"""Calibrate what is shown as probability, whatever the labels are made of."""

from dataclasses import replace

from ensemble.decide.calibration.calibrators import Calibrator
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.decide.sample.inner_folds import InnerFolds, Parts

__all__ = ["fit_shown"]


def fit_shown(inner: InnerFolds, decision: Decision, parts: Parts) -> Calibration:
    """Return the calibration of a decision's blended probabilities that has the least log loss on parts left out.

    Members are calibrated, or not, as serves the metric. A reader of a probability map wants another thing: that of the
    pixels with 0.9 nine in ten are right.

    Parameters
    ----------
    inner : InnerFolds
    decision : Decision
        Learned from the same parts.
    parts : tuple of int
        Whose pixels are looked at.
    """
    blended = decision.proba(inner.pool.stored)[None]
    calibrator = Calibrator(replace(inner, pool=replace(inner.pool, stored=blended)), 0)
    method, _ = calibrator.choose("auto", parts)
    return calibrator.fit(method, parts)
