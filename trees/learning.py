"""The rows that a member learns from, with their folds and groups."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.folds.hold_out import hold_out_groups
from data.names import named_weights
from data.scenes.catalogue import Catalogue
from features.table import Columns, Table, open_table
from trees.boosters.booster import Booster, Learner, predict_proba
from trees.boosters.catboost_booster import CatBoostLearner
from trees.boosters.lightgbm_booster import LightGBMLearner
from trees.boosters.sklearn_boosters import HistGradientBoostingLearner, RandomForestLearner
from trees.boosters.xgboost_booster import XGBoostLearner
from trees.settings import BoosterName, DeviceName, TreeSettings

__all__ = ["LEARNERS", "MemberRows", "check_columns", "fit_part", "library_version"]

logger = logging.getLogger(__name__)

LEARNERS: dict[BoosterName, type[Learner]] = {
    "lightgbm": LightGBMLearner,
    "xgboost": XGBoostLearner,
    "catboost": CatBoostLearner,
    "random_forest": RandomForestLearner,
    "hist_gradient_boosting": HistGradientBoostingLearner,
}


class MemberRows:
    """All rows that a member learns from, fold by fold.

    Parameters
    ----------
    name : str
        Of the member, for messages.
    settings : TreeSettings
    catalogue : Catalogue
        With folds.
    pixels : Path
        Folder of the pixel table.
    feature_set : Columns
        Of the table.
    threads : int
    device : {"auto", "cpu", "cuda"}

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
        threads: int = 1,
        device: DeviceName = "auto",
    ) -> None:
        self.name = name
        self.labels = catalogue.classes.label_names
        names = check_columns(name, settings, feature_set.names)
        _check_settings(name, settings, len(self.labels))
        scenes = catalogue.split("train")
        table = open_table(pixels, scenes, names)
        weight = _weigh(table, settings, self.labels)
        kind = LEARNERS[settings.booster]
        self.booster = kind.booster
        self.learner = kind(replace(table, weight=weight), len(self.labels), threads, device)
        self.made_with: Mapping[str, str] = {kind.library: library_version(kind.library, name)}
        self._weight = table.weight.astype(np.float64)
        self._fold = np.array([scene.fold for scene in scenes])[table.scene]
        self._group = np.array([scene.group for scene in scenes])[table.scene]

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
            Rows learned from, rounds, and whether these were chosen by groups held out.

        Raises
        ------
        MemberError
            If the rows lack a class altogether, or the settings do not suit the library.
        """
        learner, outside = self.learner, self._fold != fold
        self._require_labels(outside, fold)
        held = np.zeros(len(outside), bool)
        if learner.stops and settings.validation_fraction > 0:
            rng = np.random.default_rng([seed, fold])
            label, weight = learner.table.label[outside], learner.table.weight[outside]
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

    def predict_held_out(
        self, booster: Booster, fold: int
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float32]]]:
        """Yield label (n,), design weight (n,) and probability (n, n_classes) of a fold's rows, some at a time."""
        table = self.learner.table
        for places, features in table.batches(self._fold == fold):
            yield table.label[places], self._weight[places], predict_proba(booster, features, self.learner.threads)

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


def fit_part(
    learner: Learner, settings: TreeSettings, chosen: NDArray[np.bool_], held: NDArray[np.bool_], seed: int
) -> Booster:
    """Learn from some of the rows (n,); if any of them are held, those tell first how many rounds serve best."""
    if not held.any():
        return learner.fit(settings, chosen, seed=seed)
    booster = learner.fit(settings, chosen & ~held, held, seed)
    if not settings.refit:
        return booster
    return learner.fit(settings.model_copy(update={"rounds": booster.rounds}), chosen, seed=seed)


def check_columns(name: str, settings: TreeSettings, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns to learn from; raises MemberError if there are no such columns."""
    names = tuple(columns if settings.features is None else settings.features)
    unknown = [column for column in names if column not in columns]
    if unknown:
        raise MemberError(
            f"member {name}: expected columns of the pixel table, got {', '.join(unknown)}. "
            "Add them under features, or take them out of the member's features."
        )
    unused = [column for column in (*settings.categorical, *settings.monotone) if column not in names]
    if unused:
        raise MemberError(
            f"member {name}: expected columns that it learns from under categorical and monotone, "
            f"got {', '.join(unused)}. Add them to the features, or take them out there."
        )
    return names


def library_version(library: str, name: str) -> str:
    """Return the version of a library; raises MemberError, which names the member, if it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError as error:
        raise MemberError(
            f"member {name}: expected {library}, it is not installed. Install `terrablend[{library}]`."
        ) from error


def _check_settings(name: str, settings: TreeSettings, n_labels: int) -> None:
    if settings.monotone and n_labels > 2:
        raise MemberError(
            f"member {name}: expected no monotone columns with more than two classes, "
            f"got {', '.join(settings.monotone)}. Leave monotone out."
        )
    if settings.monitor in ("iou", "average_precision") and n_labels > 2:
        raise MemberError(
            f"member {name}: expected monitor macro_iou, accuracy or log_loss with more than two classes, "
            f"got {settings.monitor}. Change it, or leave it out."
        )


def _weigh(table: Table, settings: TreeSettings, labels: Sequence[str]) -> NDArray[np.float32]:
    """Return what each row counts in learning, 1 in the mean."""
    weight = np.ones(len(table)) if settings.sample_weight == "none" else table.weight.astype(np.float64)
    totals = np.bincount(table.label, weight, len(labels))
    if settings.class_weights == "balanced":
        by_label = np.divide(totals.sum(), totals, out=np.zeros(len(labels)), where=totals > 0)
    else:
        given = {} if settings.class_weights == "none" else settings.class_weights
        by_label = np.array(named_weights("class_weights", given, labels, [1.0] * len(labels)))
    weight = weight * by_label[table.label]
    relative: NDArray[np.float32] = (weight / weight.mean()).astype(np.float32)
    return relative
