"""The tree branch's members: one booster a fold, learned from the pixel table, applied to whole scenes."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.catalogue import Catalogue
from data.errors import MemberError
from data.files import read_json, replacing, write_json
from data.hold_out import hold_out_groups
from data.progress import Track, untracked
from data.scene import Scene
from data.windows import Window, tile_windows
from features.feature_set import FeatureSet
from features.table import Table, read_table
from trees.booster import Booster, Rows, predict_proba
from trees.catboost_booster import CatBoostBooster
from trees.lightgbm_booster import LightGBMBooster
from trees.settings import BoosterName, DeviceName, TreeSettings
from trees.sklearn_boosters import HistGradientBoostingBooster, RandomForestBooster
from trees.xgboost_booster import XGBoostBooster

__all__ = ["BOOSTERS", "TreeMember", "fit_member", "in_squares", "load_member"]

logger = logging.getLogger(__name__)

BOOSTERS: dict[BoosterName, type[Booster]] = {
    "lightgbm": LightGBMBooster, "xgboost": XGBoostBooster, "catboost": CatBoostBooster,
    "random_forest": RandomForestBooster, "hist_gradient_boosting": HistGradientBoostingBooster,
}  # fmt: skip

WINDOW = 512
"""Pixels on a side of the windows that are predicted at a time."""

SQUARE = 8
"""Pixels on a side of the squares in which a window's pixels follow each other."""


@dataclass(frozen=True)
class TreeMember:
    """A trained member: a booster for each fold, and the features that they take.

    Parameters
    ----------
    name : str
    boosters : mapping of int to Booster
        By fold; that of fold k has never seen a scene of fold k.
    feature_set : FeatureSet
    n_classes : int
        Probability bands.
    threads : int
    """

    name: str
    boosters: Mapping[int, Booster]
    feature_set: FeatureSet
    n_classes: int
    threads: int = 1

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that there is a booster for."""
        return tuple(sorted(self.boosters))

    def predict_proba(self, scene: Scene, folds: Sequence[int]) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Yield the mean probability of some folds' boosters; see `data.members.Member`."""
        opened = self.feature_set.open(scene)
        for window in tile_windows(scene.grid.height, scene.grid.width, WINDOW):
            proba = np.full((self.n_classes, window.height, window.width), np.nan, np.float32)
            valid = opened.valid(window)
            if valid.any():
                # Neighbours follow each other, which is what makes a forest fast.
                order = in_squares(window.height, window.width)
                pixels = order[valid.ravel()[order]]
                features = np.take(opened.compute(window).reshape(len(self.feature_set), -1), pixels, axis=1).T
                mean = np.zeros((len(features), self.n_classes), np.float32)
                for fold in folds:
                    mean += predict_proba(self.boosters[fold], features, self.threads)
                proba.reshape(self.n_classes, -1)[:, pixels] = mean.T / np.float32(len(folds))
            yield window, proba


def fit_member(
    name: str,
    settings: TreeSettings,
    catalogue: Catalogue,
    pixels: Path,
    feature_set: FeatureSet,
    directory: Path,
    *,
    seed: int,
    threads: int = 1,
    device: DeviceName = "auto",
    folds: Sequence[int] | None = None,
    track: Track = untracked,
) -> None:
    """Train a member's boosters; those that exist are kept.

    Parameters
    ----------
    name : str
    settings : TreeSettings
    catalogue : Catalogue
        With folds.
    pixels : Path
        Folder of the pixel table.
    feature_set : FeatureSet
        Of the table.
    directory : Path
        Gets ``member.json`` and, for each fold, the booster and ``fold<K>.json``.
    seed, threads : int
    device : {"auto", "cpu", "cuda"}
    folds : sequence of int, optional
        Those to train; all by default.
    track : Track

    Raises
    ------
    MemberError
        If the training rows lack a class altogether, or the settings do not suit the library.
    FeatureError
        If ``settings.features`` names a column that the table does not have.
    """
    names = feature_set.names if settings.features is None else tuple(settings.features)
    unknown = [column for column in names if column not in feature_set.names]
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
    if settings.monotone and len(catalogue.classes.label_names) > 2:
        raise MemberError(
            f"member {name}: expected no monotone columns with more than two classes, "
            f"got {', '.join(settings.monotone)}. Leave monotone out."
        )
    if settings.stop_by in ("iou", "average_precision") and len(catalogue.classes.label_names) > 2:
        raise MemberError(
            f"member {name}: expected stop_by macro_iou, accuracy or log_loss with more than two classes, "
            f"got {settings.stop_by}. Change it, or leave it out."
        )
    kind = BOOSTERS[settings.booster]
    write_json(
        directory / "member.json",
        {
            "name": name,
            "settings": settings.model_dump(mode="json"),
            "bands": catalogue.bands,
            "features": names,
            "formulas": feature_set.formulas,
            "classes": asdict(catalogue.classes),
            "made_with": {"terrablend": version("terrablend"), kind.library: _version(kind.library, name)},
        },
    )
    todo = [
        fold
        for fold in (catalogue.folds if folds is None else folds)
        if not _path(directory, fold, kind.suffix).exists()
    ]
    for fold in track(todo, f"{name}: folds", len(todo)):
        start = time.perf_counter()
        table = read_table(pixels, catalogue.outside_fold(fold), names)
        _require_labels(table, catalogue, name, fold)
        booster, stop_rounds = _fit_fold(kind, table, catalogue, fold, settings, seed, threads, device)
        facts: dict[str, Any] = {
            "rows": len(table),
            "rounds": booster.rounds,
            "chosen_by_groups_held_out": stop_rounds,
            "importance": dict(booster.importance()),
        }
        write_json(directory / f"fold{fold}.json", facts)
        with replacing(_path(directory, fold, kind.suffix)) as temporary:
            booster.save(temporary)
        seconds = time.perf_counter() - start
        logger.info("%s, fold %d: %d rounds on %d rows in %.0f s", name, fold, booster.rounds, len(table), seconds)


def load_member(directory: Path, threads: int = 1) -> TreeMember:
    """Load a member that `fit_member` trained, with a booster for each fold that it has.

    Raises
    ------
    MemberError
        If there is none, or a file of it does not fit the others.
    """
    if not (directory / "member.json").exists():
        raise MemberError(f"{directory}: expected a trained member, got none. Run `terrablend trees` first.")
    about = read_json(directory / "member.json")
    kind = BOOSTERS[TreeSettings.model_validate(about["settings"]).booster]
    boosters: dict[int, Booster] = {}
    for path in sorted(directory.glob(f"fold*{kind.suffix}")):
        booster = kind.load(path)
        if list(booster.importance()) != about["features"]:
            raise MemberError(f"{path}: expected a booster of the features in member.json, got others. Train it again.")
        boosters[int(path.stem.removeprefix("fold"))] = booster
    feature_set = FeatureSet(about["bands"], about["features"], about["formulas"])
    return TreeMember(about["name"], boosters, feature_set, len(about["classes"]["names"]), threads)


@lru_cache(maxsize=8)
def in_squares(height: int, width: int) -> NDArray[np.intp]:
    """Return the places of a raster's pixels square by square, of 8 pixels on a side."""
    down, right = -(-height // SQUARE), -(-width // SQUARE)
    places = np.full((down * SQUARE, right * SQUARE), -1)
    places[:height, :width] = np.arange(height * width).reshape(height, width)
    squares = places.reshape(down, SQUARE, right, SQUARE).swapaxes(1, 2).ravel()
    return squares[squares >= 0]


def _version(library: str, name: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError as error:
        raise MemberError(
            f"member {name}: expected {library}, it is not installed. Install `terrablend[{library}]`."
        ) from error


def _fit_fold(
    kind: type[Booster],
    table: Table,
    catalogue: Catalogue,
    fold: int,
    settings: TreeSettings,
    seed: int,
    threads: int,
    device: DeviceName,
) -> tuple[Booster, bool]:
    weight = table.weight / table.weight.mean() if settings.weights == "design" else np.ones(len(table), np.float32)
    rows = Rows(table.features, table.label, weight)
    options: dict[str, Any] = {"seed": seed, "threads": threads, "device": device}
    n_labels = len(catalogue.classes.label_names)
    group_of = {scene.id: scene.group for scene in catalogue.split("train")}
    groups = np.array([group_of[scene] for scene in table.scenes])[table.scene]
    if not kind.stops:
        return kind.fit(rows, table.names, n_labels, settings, **options), False
    held = hold_out_groups(groups, table.label, weight, settings.holdout, np.random.default_rng([seed, fold]))
    if not held.any():
        if settings.holdout > 0:
            logger.warning("fold %d: a single group to learn from, so all %d rounds are used", fold, settings.rounds)
        return kind.fit(rows, table.names, n_labels, settings, **options), False
    chosen = kind.fit(rows.take(~held), table.names, n_labels, settings, stop=rows.take(held), **options)
    if not settings.refit:
        return chosen, True
    return kind.fit(rows, table.names, n_labels, settings, rounds=chosen.rounds, **options), True


def _require_labels(table: Table, catalogue: Catalogue, name: str, fold: int) -> None:
    counts = np.bincount(table.label, minlength=len(catalogue.classes.label_names))
    if np.count_nonzero(counts) < 2:
        found = ", ".join(
            f"{count} {label}" for label, count in zip(catalogue.classes.label_names, counts, strict=True)
        )
        raise MemberError(
            f"member {name}, fold {fold}: expected rows of at least two classes to learn from, got {found}. "
            "Lower folds.count, or label more scenes."
        )
    absent = [label for label, count in zip(catalogue.classes.label_names, counts, strict=True) if count == 0]
    if absent:
        logger.warning("%s, fold %d: no row of %s outside this fold", name, fold, ", ".join(absent))


def _path(directory: Path, fold: int, suffix: str) -> Path:
    return directory / f"fold{fold}{suffix}"
