"""Out-of-fold maps → weights, thresholds, honest scores, report, submission."""

from ensemble.ensemble import Ensemble
from ensemble.fit import BLEND, Evaluation, fit_ensemble
from ensemble.scores import score_table, write_scores
from ensemble.settings import EnsembleSettings, SubmissionSettings
from ensemble.submission import write_submission

__all__ = [
    "BLEND",
    "Ensemble",
    "EnsembleSettings",
    "Evaluation",
    "SubmissionSettings",
    "fit_ensemble",
    "score_table",
    "write_scores",
    "write_submission",
]
