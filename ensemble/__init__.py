"""Out-of-fold maps → weights, thresholds, honest scores, report, submission."""

from ensemble.ensemble import Ensemble
from ensemble.fit import fit_ensemble
from ensemble.score.evaluation import BLEND, MAP, Evaluation, evaluate_class_maps
from ensemble.score.scores import score_table, write_scores
from ensemble.settings import EnsembleSettings, SubmissionSettings
from ensemble.submit.submission import write_submission

__all__ = [
    "BLEND",
    "MAP",
    "Ensemble",
    "EnsembleSettings",
    "Evaluation",
    "SubmissionSettings",
    "evaluate_class_maps",
    "fit_ensemble",
    "score_table",
    "write_scores",
    "write_submission",
]
