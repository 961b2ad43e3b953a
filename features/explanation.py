"""What the boosters of a member look at, as numbers that are kept beside it."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter

from data.files import read_json, write_json

__all__ = ["ClassUse", "ColumnUse", "Dependence", "Explanation", "Spread", "Swarm", "load_explanation"]

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A float; NaN is null in files."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of something that was found several times."""

    mean: Number
    deviation: Number


@dataclass(frozen=True)
class Swarm:
    """Rows one by one: what a column says of each, and how its value ranks.

    Parameters
    ----------
    shap : tuple of float
    rank : tuple of float in (0, 1)
        Of the column's value among the rows; NaN where it has none.
    """

    shap: tuple[float, ...]
    rank: tuple[Number, ...]


@dataclass(frozen=True)
class Dependence:
    """The mean probability, by weight, of rows that all have the same value of a column.

    Parameters
    ----------
    values : tuple of float
        Rising; quantiles of the column by weight.
    mean : tuple of float in [0, 1]
        For each value, over all rows.
    folds : tuple of tuple of float in [0, 1]
        Those of each fold by its own booster.
    """

    values: tuple[float, ...]
    mean: tuple[float, ...]
    folds: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ColumnUse:
    """How much a column matters to a class.

    Parameters
    ----------
    name : str
    gain : Spread
        Share of the total gain in [0, 1], over the folds' boosters; of all classes together.
    log_loss : Spread
        What the log loss of the class, it against the rest, rises by when the column is shuffled; over the repeats.
    iou : Spread
        What the IoU of the class in the plain map falls by, likewise.
    shap : float
        Mean absolute SHAP value by weight; NaN where the library gives none.
    swarm : Swarm or None
        Of the first columns, where there are SHAP values.
    dependence : Dependence or None
        Of the first columns.
    """

    name: str
    gain: Spread
    log_loss: Spread
    iou: Spread
    shap: Number
    swarm: Swarm | None
    dependence: Dependence | None


@dataclass(frozen=True)
class ClassUse:
    """How much the columns matter to a class.

    Parameters
    ----------
    label : str
    log_loss, iou : float
        Of the sample as it is, by weight.
    columns : tuple of ColumnUse
        Those first without which most IoU is lost, then most log loss gained. SHAP values and gain of a rare class
        are mostly about where it is not.
    """

    label: str
    log_loss: Number
    iou: Number
    columns: tuple[ColumnUse, ...]


@dataclass(frozen=True)
class Explanation:
    """What the boosters of a member look at, seen on rows that none of them has learned from.

    Parameters
    ----------
    member : str
    rows : int
        Of the sample that columns were shuffled in.
    few : int
        Of the smaller sample that SHAP values and dependences are of.
    repeats : int
        How often each column was shuffled.
    has_shap : bool
        Whether the library gives SHAP values.
    classes : tuple of ClassUse
        Of two classes the second alone: the first is its mirror image.
    """

    member: str
    rows: int
    few: int
    repeats: int
    has_shap: bool
    classes: tuple[ClassUse, ...]

    def save(self, path: Path) -> None:
        """Write JSON, NaN as null."""
        write_json(path, asdict(self))


def load_explanation(path: Path) -> Explanation:
    """Read what `Explanation.save` wrote."""
    adapter: TypeAdapter[Any] = TypeAdapter(Explanation)
    explanation: Explanation = adapter.validate_python(read_json(path))
    return explanation
