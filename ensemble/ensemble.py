"""The fitted ensemble: a decision that is applied to maps and kept in a JSON file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from data.errors import EnsembleError
from data.files import relative_name
from data.records import FileKind, Number, read_record, write_record
from data.scenes.classes import Classes
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.prediction_sets import PredictionSets
from ensemble.decide.decision.thresholds import Thresholds
from ensemble.decide.sample.choice import Choice
from ensemble.decide.weights.worth import Worth

__all__ = ["Ensemble"]

ENSEMBLE = FileKind("an ensemble", EnsembleError, "terrablend ensemble")


@dataclass(frozen=True)
class Ensemble:
    """The decision that was learned from out-of-fold maps, and its score.

    Parameters
    ----------
    classes : Classes
    members : tuple of str
    metric : str
        What was optimised, in words.
    decision : Decision
        How the members' maps, in that order, become labels.
    score_ : float
        Nested out-of-fold score of the metric.
    verdict_ : str
        Whether blending pays, in words.
    spread_ : tuple of float
        How far each threshold would move with other groups.
    kept_default_ : bool
        Whether no other thresholds were clearly better: they are the metric's own centre, or the plain argmax.
    choices_ : mapping of str to Choice
        Step → what there was to choose from on all folds, and its scores on groups left out.
    worths_ : tuple of Worth
        What each member is worth, where there are others.
    sets_ : PredictionSets, optional
        Which classes cannot be ruled out; none of tags.
    models : mapping of str to str
        By path below the run folder: the SHA-256 of each file of the members whose maps were blended.
    """

    classes: Classes
    members: tuple[str, ...]
    metric: str
    decision: Decision
    score_: Number
    verdict_: str
    spread_: tuple[float, ...] = ()
    kept_default_: bool = False
    choices_: Mapping[str, Choice] = field(default_factory=dict)
    worths_: tuple[Worth, ...] = ()
    sets_: PredictionSets | None = None
    models: Mapping[Annotated[str, AfterValidator(relative_name)], str] = field(default_factory=dict)

    @property
    def weights_(self) -> dict[str, float]:
        """Member → share of the decision; they sum to 1, and a member that adds nothing has 0."""
        return dict(zip(self.members, self.decision.weights, strict=True))

    @property
    def thresholds_(self) -> Thresholds:
        """The threshold of each class or, of exclusive ones, its multiplier before the argmax."""
        return self.decision.thresholds

    @property
    def used(self) -> tuple[str, ...]:
        """The members of positive weight: the only ones whose maps are needed."""
        return tuple(name for name, weight in self.weights_.items() if weight > 0)

    @property
    def prediction_sets(self) -> PredictionSets:
        """The prediction sets; raises EnsembleError if it was fitted without."""
        if self.sets_ is None:
            raise EnsembleError(
                "expected an ensemble with prediction sets, got one that was fitted without. Fit it again: "
                "`terrablend ensemble --overwrite`."
            )
        return self.sets_

    def proba(self, stored: NDArray[np.uint16] | Sequence[NDArray[np.uint16]]) -> NDArray[np.uint16]:
        """Calibrate and blend the maps (n_members, n_classes, H, W) of the members in `used`, in that order."""
        places = [self.members.index(name) for name in self.used]
        return self.decision.take(places).proba(np.asarray(stored))

    def show(self, blended: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Turn a blended map into the probabilities that are shown; see `Decision.show`."""
        return self.decision.show(blended)

    def decide(self, blended: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Turn a blended map into label indices (Q, H, W), 255 where nothing was predicted."""
        return self.decision.label(blended)

    def clean(
        self, label: NDArray[np.uint8], masks: Mapping[str, NDArray[np.bool_]] | None = None
    ) -> NDArray[np.uint8]:
        """Clean the label indices (Q, H, W) of a whole scene; ``masks`` says where the condition of each rule holds."""
        return self.decision.cleaning.apply(label, masks)

    def save(self, path: Path) -> None:
        """Write the ensemble as JSON."""
        write_record(path, self)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an ensemble that `save` wrote.

        Raises
        ------
        EnsembleError
            If there is none, it is of an earlier version, or the file is not one of ours.
        """
        ensemble = read_record(path, cls, ENSEMBLE)
        alone = len(set(ensemble.members)) == len(ensemble.members)
        labels = len(ensemble.classes.label_names)
        sound = alone and (ensemble.sets_ is None or len(ensemble.sets_.levels) == labels)
        if not (sound and ensemble.decision.fits(ensemble.classes, len(ensemble.members))):
            raise ENSEMBLE.damaged(path, "its decision is not one for its members and classes")
        return ensemble
