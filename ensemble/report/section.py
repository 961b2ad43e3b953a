"""Sections of the report: a key, a title, a template, and the values that it shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from ensemble.decide.decision.cleaning import Masks, no_masks
from ensemble.fitted import FittedEnsemble
from ensemble.maps import MemberMaps
from ensemble.objective import Objective, objective_of
from ensemble.report.thumbnails import Quicklook
from ensemble.score.evaluation import Evaluation
from ensemble.settings import EnsembleSettings
from features.applicability import Measure
from features.description import TableFacts
from features.explanation import Explanation

__all__ = ["ReportSource", "Row", "RunFacts", "Section"]

Row = dict[str, Any]
"""Values of a template by name: of a section, of a line of a table, of a card."""


@dataclass(frozen=True)
class RunFacts:
    """What the report shows of the run beside the ensemble.

    Parameters
    ----------
    name : str
        Of the experiment.
    quicklook : callable or None
        (scene, window) → picture (H, W, 3) uint8; this package never reads imagery itself. None: there is none.
    unit : str
        What is counted: pixels, scenes or rows.
    notes : sequence of str
        On folds and leakage.
    features : TableFacts, optional
        What the columns of the pixel table are.
    explanations : sequence of Explanation
        How tree members use the columns that ``features`` describes.
    applicability : callable, optional
        (scene, window) → layers of `features.applicability.LAYERS`.
    """

    name: str
    quicklook: Quicklook | None
    unit: str = "px"
    notes: Sequence[str] = ()
    features: TableFacts | None = None
    explanations: Sequence[Explanation] = ()
    applicability: Measure | None = None


@dataclass(frozen=True)
class ReportSource:
    """Everything that sections are made from.

    Parameters
    ----------
    fitted : FittedEnsemble
    run : RunFacts
    maps : MemberMaps
    catalogue : Catalogue
    settings : EnsembleSettings
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    track : Track
    """

    fitted: FittedEnsemble
    run: RunFacts
    maps: MemberMaps
    catalogue: Catalogue
    settings: EnsembleSettings
    masks: Masks = no_masks
    track: Track = untracked

    @property
    def nested(self) -> Evaluation:
        """The evaluation of the training scenes, everything decided without their fold."""
        return self.fitted.nested

    @property
    def classes(self) -> Classes:
        """The classes that are mapped."""
        return self.catalogue.classes

    @cached_property
    def objective(self) -> Objective:
        """The score that was optimised."""
        return objective_of(self.settings, self.classes)


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Parameters
    ----------
    key : str
        Its anchor on the page.
    title : str
        Above it and in the list of contents.
    template : str
        A file of this folder, which reads its values from ``section``.
    values : callable
        Source → values of the template, or None where there is nothing to show.
    about : str
        What it tells, of a section that is folded until it is asked for; "" of one that is shown.
    """

    key: str
    title: str
    template: str
    values: Callable[[ReportSource], Row | None]
    about: str = ""
