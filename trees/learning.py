"""Fit the boosters of a fold on the rows outside it, and predict the rows that it holds out."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.folds.hold_out import hold_out_groups
from data.names import named_weights
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.taught import Taught
from features.feature_set import FeatureSet
from features.scene_table import open_rows
from features.stacked import input_channels, inside_fold, open_channel_rows, stacked_names
from features.table import Columns, Table, join_tables
from trees.boosters.booster import Booster, Learner, predict_proba
from trees.boosters.catboost_booster import CatBoostLearner
from trees.boosters.lightgbm_booster import LightGBMLearner
from trees.boosters.sklearn_boosters import HistGradientBoostingLearner, RandomForestLearner
from trees.boosters.xgboost_booster import XGBoostLearner
from trees.settings import BoosterName, DeviceName, TreeSettings

__all__ = ["LEARNERS", "PixelRows", "TrainingRows", "fit_part"]

logger = logging.getLogger(__name__)

LEARNERS: dict[BoosterName, type[Learner]] = {
    "lightgbm": LightGBMLearner,
    "xgboost": XGBoostLearner,
    "catboost": CatBoostLearner,
    "random_forest": RandomForestLearner,
    "hist_gradient_boosting": HistGradientBoostingLearner,
}


class TrainingRows(ABC):
    """All rows that a member learns from, fold by fold: of pixels, or of tagged scenes.

    Parameters
    ----------
    name : str
        Of the member, for messages.
    settings : TreeSettings
    catalogue : Catalogue
        With folds.
    pixels : Path
        Folder of the table.
    feature_set : Columns
        Of the table.
    members : Path, optional
        Holds the folders of the members that it is stacked on; ``members`` beside the table by default.
    threads : int
    device : {"auto", "cpu", "cuda"}

    Attributes
    ----------
    learner : Learner
    labels : tuple of str
        Name of each label index, or tag.
    made_with : mapping of str to str
        Library → its version.

    Raises
    ------
    MemberError
        If the settings do not suit the table or the classes.
    """

    def __init__(
        self,
        name: str,
        settings: TreeSettings,
        catalogue: Catalogue,
        pixels: Path,
        feature_set: Columns,
        *,
        members: Path | None = None,
        threads: int = 1,
        device: DeviceName = "auto",
    ) -> None:
        self.name, self.settings, self.catalogue, self.formulas = name, settings, catalogue, feature_set.formulas
        self.labels = catalogue.classes.label_names
        stacked = stacked_names(settings.stack, catalogue.classes.names)
        columns = _check_columns(name, settings, feature_set.names, stacked)
        _check_settings(name, settings, catalogue.classes)
        if stacked:
            own = FeatureSet(catalogue.bands, columns, feature_set.formulas)
            folders = pixels.parent / "members" if members is None else members
            channels = input_channels(own, settings.stack, catalogue.classes.names, folders)
            table = open_channel_rows(pixels, catalogue, channels)
            self._inside: Callable[[int], Table] = lambda fold: open_channel_rows(
                pixels, catalogue, inside_fold(channels, fold)
            )
        else:
            table = open_rows(pixels, catalogue, columns)
        kind = LEARNERS[settings.booster]
        self.made_with: Mapping[str, str] = {kind.library: _library_version(kind.library, name)}
        self._learner_on: Callable[[Table], Learner] = lambda table: kind(
            table, catalogue.classes.n_labels, threads, device
        )
        self._given = _given_weights(settings, self.labels)
        self._open(table, catalogue)

    def besides(self, taught: Taught) -> Self:
        """Return these rows and those of scenes that other models labelled."""
        table, other = self.learner.table, copy(self)
        rows = open_rows(taught.pixels, taught.alone(self.catalogue), table.names)
        other._open(join_tables(table, rows), taught.beside(self.catalogue))
        return other

    def _open(self, table: Table, catalogue: Catalogue) -> None:
        self.learner: Learner = self._learner_on(table)
        self._weight = table.weight.astype(np.float64)
        scenes = {scene.id: scene for scene in catalogue.split("train")}
        self._fold = np.array([scenes[name].fold for name in table.scenes])[table.scene]
        self._group = np.array([scenes[name].group for name in table.scenes])[table.scene]

    def learner_of(self, fold: int) -> Learner:
        """Return the learner of a fold's booster: the one of all folds, unless the stack is strict."""
        if not self.settings.inner:
            return self.learner
        return self._learner_on(self._inside(fold))

    @property
    def suffix(self) -> str:
        """Suffix of the file that what `fit` returns is saved in."""
        return self.learner.booster.suffix

    @abstractmethod
    def fit(self, settings: TreeSettings, fold: int, seed: int) -> tuple[Booster, dict[str, Any]]:
        """Learn from the rows outside a fold.

        Parameters
        ----------
        settings : TreeSettings
            Those of before, or others with the same booster, features and weights.
        fold, seed : int

        Returns
        -------
        booster : Booster
        facts : dict
            Rows learned from, rounds, and whether these were chosen by groups held out; of tags for each.

        Raises
        ------
        MemberError
            If there is nothing to learn from, or the settings do not suit the library.
        """

    def predict_held_out(
        self, booster: Booster, fold: int
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float32]]]:
        """Yield label (n,), design weight (n,) and probability (n, n_classes) of a fold's rows, some at a time."""
        table = self.learner.table
        for places, features in table.batches(self._fold == fold):
            yield table.label[places], self._weight[places], predict_proba(booster, features, self.learner.threads)


class PixelRows(TrainingRows):
    """The rows of the pixel table: one booster predicts all classes."""

    def fit(self, settings: TreeSettings, fold: int, seed: int) -> tuple[Booster, dict[str, Any]]:
        """Learn from the rows outside a fold; raises MemberError if they lack a class altogether."""
        learner, outside = self.learner_of(fold), self._fold != fold
        self._require_labels(outside, fold)
        learner.relabel(learner.table.label, self._weigh(settings, outside))
        held = np.zeros(len(outside), bool)
        if learner.stops and settings.validation_fraction > 0:
            rng = np.random.default_rng([seed, fold])
            label, weight = learner.label[outside], learner.weight[outside]
            held[outside] = hold_out_groups(self._group[outside], label, weight, settings.validation_fraction, rng)
            if not held.any():
                logger.warning(
                    "fold %d: a single group to learn from, so all %d rounds are used", fold, settings.rounds
                )
        booster = fit_part(learner, settings, outside, held, seed)
        facts = {
            "rows": int(np.count_nonzero(outside)),
            "rounds": booster.rounds,
            "chosen_by_groups_held_out": bool(held.any()),
        }
        return booster, facts

    def _require_labels(self, chosen: NDArray[np.bool_], fold: int) -> None:
        counts = np.bincount(self.learner.table.label[chosen], minlength=len(self.labels))
        if np.count_nonzero(counts) < 2:
            found = ", ".join(f"{count} {label}" for label, count in zip(self.labels, counts, strict=True))
            raise MemberError(
                f"member {self.name}, fold {fold}: expected rows of at least two classes to learn from, got {found}. "
                "Lower folds.count, or label more scenes."
            )
        absent = [label for label, count in zip(self.labels, counts, strict=True) if count == 0]
        if absent:
            logger.warning("%s, fold %d: no row of %s outside this fold", self.name, fold, ", ".join(absent))

    def _weigh(self, settings: TreeSettings, outside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the weight of each row in learning, by the labels of those outside the fold; 1 in their mean."""
        label, whole = self.learner.table.label, settings.sample_weight == "none"
        weight = np.ones(len(label)) if whole else self._weight
        by_label = self._given
        if by_label is None:
            totals = np.bincount(label[outside], weight[outside], len(self.labels))
            by_label = np.divide(totals.sum(), totals, out=np.zeros(len(totals)), where=totals > 0)
        weight = weight * np.asarray(by_label)[label]
        relative: NDArray[np.float32] = (weight / weight[outside].mean()).astype(np.float32)
        return relative


def fit_part(
    learner: Learner, settings: TreeSettings, chosen: NDArray[np.bool_], held: NDArray[np.bool_], seed: int
) -> Booster:
    """Fit a booster on some of the rows (n,); if some of these are held out, they choose the number of rounds first."""
    settings = settings.suit_rows(learner.label[chosen])
    if not held.any():
        return learner.fit(settings, chosen, seed=seed)
    booster = learner.fit(settings, chosen & ~held, held, seed)
    if not settings.refit:
        return booster
    return learner.fit(settings.model_copy(update={"rounds": booster.rounds}), chosen, seed=seed)


def _check_columns(
    name: str, settings: TreeSettings, columns: Sequence[str], stacked: Sequence[str]
) -> tuple[str, ...]:
    """Return the names of the table's columns to learn from; raises MemberError if there are no such columns."""
    names = tuple(columns if settings.features is None else settings.features)
    unknown = [column for column in names if column not in columns]
    if unknown:
        raise MemberError(
            f"member {name}: expected columns of the pixel table, got {', '.join(unknown)}. "
            "Add them under features, or take them out of the member's features."
        )
    unused = [column for column in (*settings.categorical, *settings.monotone) if column not in (*names, *stacked)]
    if unused:
        raise MemberError(
            f"member {name}: expected columns that it learns from under categorical and monotone, "
            f"got {', '.join(unused)}. Add them to the features, or take them out there."
        )
    return names


def _library_version(library: str, name: str) -> str:
    """Return the version of a library; raises MemberError, which names the member, if it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError as error:
        raise MemberError(
            f"member {name}: expected {library}, it is not installed. Install `terrablend[{library}]`."
        ) from error


def _check_settings(name: str, settings: TreeSettings, classes: Classes) -> None:
    several = "tags" if classes.n_questions > 1 else "more than two classes" if classes.n_labels > 2 else None
    if settings.monotone and several is not None:
        raise MemberError(
            f"member {name}: expected no monotone columns with {several}, got {', '.join(settings.monotone)}. "
            "Leave monotone out."
        )
    if settings.stack and classes.task == "multilabel":
        raise MemberError(
            f"member {name}: expected no stack with the task multilabel, got {', '.join(settings.stacked_on)}. "
            "Leave it out."
        )
    if settings.monitor in ("iou", "average_precision") and classes.n_labels > 2:
        raise MemberError(
            f"member {name}: expected monitor macro_iou, accuracy or log_loss with more than two classes, "
            f"got {settings.monitor}. Change it, or leave it out."
        )


def _given_weights(settings: TreeSettings, labels: Sequence[str]) -> tuple[float, ...] | None:
    """Return the weight of each label, or of a row that has a tag; None if balanced, by the rows that are learned."""
    if settings.class_weights == "balanced":
        return None
    given = {} if settings.class_weights == "none" else settings.class_weights
    return named_weights("class_weights", given, labels, [1.0] * len(labels))
