"""The trials of a search for better settings, and its result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ensemble.objective import Objective
from features.branch import Space

__all__ = ["SearchResult", "Trial"]


@dataclass(frozen=True)
class Trial:
    """Settings that were tried.

    Parameters
    ----------
    number : int
        From 1; 0 are the settings as they are written.
    values : mapping of str to value
        By dotted key.
    score : float
        Of all folds, with a threshold that was chosen on the others; where it was stopped, of those that were
        learned, with the best for them; NaN if it failed.
    folds : tuple of float
        Of each fold, if all were learned.
    end : {"done", "stopped early", "failed"}
    """

    number: int
    values: Mapping[str, Any]
    score: float
    folds: tuple[float, ...]
    end: str


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search, and what matters among the settings.

    Parameters
    ----------
    member : str
    metric : Objective
    space : mapping
    as_written : Trial
    trials : tuple of Trial
        In the order in which they were tried.
    importance : mapping of str to float
        Of each key, its share in how much scores differ; empty with too few trials to tell.
    """

    member: str
    metric: Objective
    space: Space
    as_written: Trial
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]

    @property
    def best(self) -> Trial:
        """The trial of all folds that scores best; the settings as they are written where none is better."""
        done = [trial for trial in self.trials if trial.end == "done"]
        return max([self.as_written, *done], key=lambda trial: trial.score)
