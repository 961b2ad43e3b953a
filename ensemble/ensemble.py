"""The fitted ensemble: weights and thresholds, applied to maps and kept in a JSON file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data.classes import Classes
from data.errors import EnsembleError
from data.files import read_json, write_json
from data.metrics import MetricName
from ensemble.blend import blend_stored
from ensemble.thresholds import decide

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble:
    """What was learned from out-of-fold maps.

    Parameters
    ----------
    classes : Classes
    members : tuple of str
    metric : str
        What was optimised.
    weights_ : dict
        Member → weight; they sum to 1, and a member that adds nothing has 0.
    thresholds_ : tuple of float
        Binary: the threshold. Multiclass: what each class's probability is multiplied by before the argmax.
    score_ : float
        Nested out-of-fold score of the metric.
    verdict_ : str
        Whether blending pays, in words.
    """

    classes: Classes
    members: tuple[str, ...]
    metric: MetricName
    weights_: dict[str, float]
    thresholds_: tuple[float, ...]
    score_: float
    verdict_: str

    @property
    def used(self) -> tuple[str, ...]:
        """The members of positive weight: the only ones whose maps are needed."""
        return tuple(name for name in self.members if self.weights_[name] > 0)

    def blend(self, stored: Sequence[NDArray[np.uint16]]) -> NDArray[np.uint16]:
        """Blend the maps of the members in `used`, in that order: (n_classes, H, W) uint16 each, as stored."""
        return blend_stored(np.stack(stored), tuple(self.weights_[name] for name in self.used))

    def decide(self, blended: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Turn a blended map into label indices (H, W), 255 where nothing was predicted."""
        return decide(blended, self.thresholds_)

    def save(self, path: Path) -> None:
        """Write the ensemble as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an ensemble that `save` wrote.

        Raises
        ------
        EnsembleError
            If there is none, or the file is not one of ours.
        """
        if not path.exists():
            raise EnsembleError(f"{path}: expected an ensemble, got no such file. Run `terrablend ensemble` first.")
        try:
            values = read_json(path)
            return cls(
                Classes.from_dict(values["classes"]),
                tuple(values["members"]),
                values["metric"],
                values["weights_"],
                tuple(values["thresholds_"]),
                values["score_"],
                values["verdict_"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise EnsembleError(
                f"{path}: expected an ensemble, got another file ({error!r}). Run `terrablend ensemble`."
            ) from error
