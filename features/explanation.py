"""Feature importance of a tree member: gain, permutation importance, SHAP values and partial dependence."""

from dataclasses import dataclass
from pathlib import Path

from data.errors import MemberError
from data.records import FileKind, Number, read_record, write_record

__all__ = ["ClassUse", "ColumnUse", "Dependence", "Explanation", "Spread", "Swarm", "load_explanation"]

EXPLANATION = FileKind("an explanation", MemberError, "terrablend explain")


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of repeated measurements."""

    mean: Number
    deviation: Number


@dataclass(frozen=True)
class Swarm:
    """SHAP values of a column, row by row, and the ranks of its values.

    Parameters
    ----------
    shap : tuple of float
    rank : tuple of float in (0, 1)
        Of the column's value among the rows; NaN where a row has no value.
    """

    shap: tuple[float, ...]
    rank: tuple[Number, ...]


@dataclass(frozen=True)
class Dependence:
    """Partial dependence: the weighted mean probability if every row had the same value of a column.

    Parameters
    ----------
    values : tuple of float
        Rising; quantiles of the column by weight.
    mean : tuple of float in [0, 1]
        For each value, over all rows.
    folds : tuple of tuple of float in [0, 1]
        The same for the rows of each fold, by its own booster.
    """

    values: tuple[float, ...]
    mean: tuple[float, ...]
    folds: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ColumnUse:
    """Importance of a column for a class.

    Parameters
    ----------
    name : str
    gain : Spread
        Share of the total gain in [0, 1], over the folds' boosters; of all classes together.
    log_loss : Spread
        Rise of the log loss of the class against the rest when the column is shuffled; over the repeats.
    iou : Spread
        Fall of the IoU of the class in the map by plain thresholds when the column is shuffled; over the repeats.
    shap : float
        Weighted mean of the absolute SHAP values; NaN where the library has none.
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
    """Importance of all columns for a class.

    Parameters
    ----------
    label : str
    log_loss, iou : float
        Of the sample without shuffling, weighted.
    columns : tuple of ColumnUse
        Ordered by the fall of the IoU, then by the rise of the log loss. SHAP values and gain of a rare class mostly
        reflect where it does not occur.
    """

    label: str
    log_loss: Number
    iou: Number
    columns: tuple[ColumnUse, ...]


@dataclass(frozen=True)
class Explanation:
    """Importance of the columns for a member, measured on rows that its boosters were not trained on.

    Parameters
    ----------
    member : str
    rows : int
        Size of the sample in which columns were shuffled.
    few : int
        Size of the smaller sample of SHAP values and partial dependences.
    repeats : int
        How often each column was shuffled.
    has_shap : bool
        Whether the library has SHAP values.
    classes : tuple of ClassUse
        Of two classes only the second, since the first is its mirror image.
    """

    member: str
    rows: int
    few: int
    repeats: int
    has_shap: bool
    classes: tuple[ClassUse, ...]

    def save(self, path: Path) -> None:
        """Write JSON, NaN as null."""
        write_record(path, self)


def load_explanation(path: Path) -> Explanation:
    """Read what `Explanation.save` wrote; raises MemberError if it is missing or damaged."""
    return read_record(path, Explanation, EXPLANATION)
