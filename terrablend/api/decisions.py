"""Decide on arrays of out-of-fold probabilities, as a run decides on maps: blend, calibrate, tune thresholds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError

from data.errors import EnsembleError
from data.maps.geotiff import dequantise, quantise
from data.records import FileKind, read_record, write_record
from ensemble.ensemble import Ensemble
from ensemble.fitted import FittedEnsemble, fit_rows
from ensemble.rows import LabelledRows, open_rows
from ensemble.score.intervals import Interval
from ensemble.score.scores import OBJECTIVE
from ensemble.settings import EnsembleSettings
from terrablend.api.encoding import Encoding, Label, Proba, classes_of, deal_folds, encode, name_groups

__all__ = ["FittedDecision", "blend", "calibrate", "load_decision", "tune_thresholds"]

MODEL = "model"
"""What the member is called where there is but one."""
DECISION = FileKind("a decision", EnsembleError, "FittedDecision.save", "Ask for the file again, or save it again.")


@dataclass(frozen=True)
class FittedDecision:
    """A blend, calibration or thresholds that were decided on out-of-fold probabilities.

    Parameters
    ----------
    ensemble : Ensemble
    encoding : Encoding
    interval : tuple of float
        Ends of the interval of the score; NaN where there are too few groups.

    Attributes
    ----------
    score_ : float
        Nested: of every row as it was decided without its fold.
    interval_ : (float, float)
    verdict_ : str
        Whether blending pays, in words.
    weights_ : dict
        Member → share.
    thresholds_ : dict
        Class → threshold or, of exclusive classes, what its probability is multiplied by before the greatest wins.
    worths_ : list of str
        What each member is worth, in words.
    oof_ : ndarray
        The nested prediction of each row; None if it was loaded from a file.
    scores_ : DataFrame
        Every candidate by every metric, as in ``scores.parquet`` of a run; None if it was loaded from a file.
    """

    ensemble: Ensemble
    encoding: Encoding
    interval: tuple[float | None, float | None]
    confidence_level: float = 0.95
    oof_: NDArray[Any] | None = field(default=None, compare=False, repr=False)
    scores_: pl.DataFrame | None = field(default=None, compare=False, repr=False)

    @property
    def score_(self) -> float:
        """The nested score."""
        return float(self.ensemble.score_)

    @property
    def interval_(self) -> tuple[float, float]:
        """The ends of its interval over groups."""
        low, high = (math.nan if end is None else end for end in self.interval)
        return low, high

    @property
    def verdict_(self) -> str:
        """Whether blending pays, in words."""
        return self.ensemble.verdict_

    @property
    def weights_(self) -> dict[str, float]:
        """Member → share; they sum to 1."""
        return self.ensemble.weights_

    @property
    def thresholds_(self) -> dict[Label, float]:
        """Class → its threshold, or its multiplier."""
        labels = self.encoding.labels[-len(self.ensemble.thresholds_) :]
        return dict(zip(labels, self.ensemble.thresholds_, strict=True))

    @property
    def worths_(self) -> list[str]:
        """What each member is worth, in words."""
        return [worth.words(self.confidence_level) for worth in self.ensemble.worths_]

    def predict_proba(self, probas: Mapping[str, Proba] | Proba) -> NDArray[np.float32]:
        """Return calibrated probabilities of new rows, in the shape in which they are given.

        Parameters
        ----------
        probas : mapping of str to array, or array of a single member
            As those that were decided on; members without weight may be left out.
        """
        return self.encoding.proba(dequantise(self.ensemble.show(self._blend(probas))).T)

    def predict(self, probas: Mapping[str, Proba] | Proba) -> NDArray[Any]:
        """Return the label of each new row, or of tags (n, K) of 0 and 1."""
        return self.encoding.names(self.ensemble.decide(self._blend(probas)))

    def save(self, path: str | Path) -> None:
        """Write the decision as JSON, without the rows that it was made on."""
        saved = SavedDecision(self.ensemble, self.encoding, self.interval, self.confidence_level)
        write_record(Path(path), saved)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a decision that `save` wrote; raises EnsembleError if there is none or it is damaged."""
        saved = read_record(Path(path), SavedDecision, DECISION)
        return cls(saved.ensemble, saved.encoding, saved.interval, saved.confidence_level)

    def _blend(self, probas: Mapping[str, Proba] | Proba) -> NDArray[np.uint16]:
        given = probas if isinstance(probas, Mapping) else {self.ensemble.members[0]: probas}
        lacking = [name for name in self.ensemble.used if name not in given]
        if lacking or (not isinstance(probas, Mapping) and len(self.ensemble.members) > 1):
            members = ", ".join(self.ensemble.used)
            raise EnsembleError(f"expected probabilities of {members} by name, got {', '.join(map(str, given))}.")
        stored = [quantise(self.encoding.planes(name, given[name]).T) for name in self.ensemble.used]
        return self.ensemble.proba(np.stack(stored))


@dataclass(frozen=True)
class SavedDecision:
    """What a file keeps of a decision."""

    ensemble: Ensemble
    encoding: Encoding
    interval: tuple[float | None, float | None]
    confidence_level: float


def blend(
    probas: Mapping[str, Proba],
    y: Any,
    *,
    groups: Any = None,
    folds: Any = 5,
    sample_weight: Any = None,
    seed: int = 0,
    **settings: Any,
) -> FittedDecision:
    """Blend members on out-of-fold probabilities, tune thresholds, and score both on folds that had no say.

    Parameters
    ----------
    probas : mapping of str to array
        Member → out-of-fold probabilities: (n,) of the positives, (n, 2), (n, K) of classes in sorted order, or of
        tags. NaN where it predicted nothing.
    y : (n,) or (n, K) array
        Labels of any kind, or 0 and 1 of each tag. NaN and None are not looked at.
    groups : (n,) array, optional
        Rows that know much of each other, such as the pixels of a scene. By default each row is by itself.
    folds : int or (n,) array
        How many folds groups are dealt to, or the fold of each row: what is decided without a fold is scored on it.
    sample_weight : (n,) array, optional
    seed : int
    **settings
        As under ``ensemble`` in an experiment file: ``metric="macro_iou"``, ``policy``, ``calibration``, …

    Raises
    ------
    EnsembleError
        If arrays do not fit each other.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.random(600) < 0.3
    >>> noisy = {name: np.clip(0.5 + 0.4 * (y - 0.5) + 0.25 * rng.normal(size=600), 0, 1) for name in ("a", "b")}
    >>> decision = blend(noisy, y, groups=np.arange(600) // 20, metric="dice")
    >>> decision.weights_
    {'a': 0.5, 'b': 0.5}
    >>> decision.predict(noisy)[:3], decision.score_ > 0.8
    (array([False,  True,  True]), True)
    """
    chosen = _settings(settings)
    probas = {str(name): proba for name, proba in probas.items()}
    if not probas:
        raise EnsembleError("expected probabilities of members by name, got none.")
    encoding, label = encode(next(iter(probas.values())), y)
    group = name_groups(groups, folds, len(label), seed)
    rows = LabelledRows(
        {name: encoding.planes(name, proba) for name, proba in probas.items()},
        label,
        group,
        deal_folds(folds, group, seed),
        None if sample_weight is None else np.asarray(sample_weight, np.float64),
    )
    maps, catalogue = open_rows(rows, classes_of(encoding))
    fitted = fit_rows(maps, catalogue, chosen, seed=seed)
    _, label = fitted.decide_rows(maps, rows.fold)
    interval = _interval(fitted)
    return FittedDecision(
        fitted.ensemble,
        encoding,
        (_known(interval.low), _known(interval.high)),
        chosen.confidence_level,
        encoding.names(label),
        fitted.scores,
    )


def tune_thresholds(y: Any, proba: Proba, *, groups: Any = None, **options: Any) -> FittedDecision:
    """Tune the thresholds of one model's out-of-fold probabilities for a metric.

    Parameters
    ----------
    y, proba, groups
        As of `blend`, of one model.
    **options
        As of `blend`: ``metric``, ``folds``, ``sample_weight``, ``seed``, …

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice(["sea", "kelp"], 2000, p=[0.9, 0.1])
    >>> proba = 1 / (1 + np.exp(-(4 * (y == "sea") - 1 + rng.normal(size=2000))))
    >>> tuned = tune_thresholds(y, proba, metric="dice", groups=np.arange(2000) // 50)
    >>> sorted(tuned.thresholds_)
    ['sea']
    """
    return blend({MODEL: proba}, y, groups=groups, **{"calibration": "none", **options})


def calibrate(y: Any, proba: Proba, *, groups: Any = None, method: str = "auto", **options: Any) -> FittedDecision:
    """Calibrate one model's out-of-fold probabilities; `FittedDecision.predict_proba` gives calibrated ones.

    Parameters
    ----------
    y, proba, groups
        As of `blend`, of one model.
    method : {"auto", "none", "temperature", "platt", "beta", "isotonic"}
        By default the one of least log loss on parts left out.
    **options
        As of `blend`.
    """
    return blend({MODEL: proba}, y, groups=groups, **{"calibration": method, "thresholds": "fixed", **options})


def load_decision(path: str | Path) -> FittedDecision:
    """Read a decision that `FittedDecision.save` wrote."""
    return FittedDecision.load(path)


def _settings(values: Mapping[str, Any]) -> EnsembleSettings:
    try:
        return EnsembleSettings.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise EnsembleError(f"{where}: {problem['msg'].removeprefix('Value error, ')}") from error


def _interval(fitted: FittedEnsemble) -> Interval:
    rows = fitted.scores.filter(
        (pl.col("candidate") == fitted.nested.final)
        & (pl.col("metric") == OBJECTIVE)
        & (pl.col("label") == "")
        & pl.col("scope").is_in(["pooled", "scene mean"])
    )
    row = rows.row(0, named=True)
    return Interval(row["value"], row["low"], row["high"])


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
