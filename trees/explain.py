"""Explain a member: which columns its boosters use, what happens without them, and in which direction they push.

All of it is seen on rows held out, each by the booster of its own fold.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from data.metrics.confusion import plain_prediction, weighted_counts
from data.metrics.metric import CLASS_METRICS
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from features.description import weighted_quantiles
from features.explanation import ClassUse, ColumnUse, Dependence, Explanation, Spread, Swarm
from features.stacked import open_channel_rows
from features.subsample import sample_by_weight, sample_rows
from trees.boosters.booster import Booster, class_contributions, predict_classes
from trees.member import TreeMember

__all__ = ["Budget", "explain_member"]

logger = logging.getLogger(__name__)

REPEATS = 5
"""How often a column is shuffled."""

POINTS = 20
"""Values of a column at which dependence is looked at."""

SWARMS, DEPENDENCES = 15, 6
"""Columns of each class that are shown row by row, and whose dependence is shown."""

EPSILON = 1e-7
"""Probabilities are kept so far from 0 and 1, else one sure mistake would be an infinite loss."""


@dataclass(frozen=True)
class Budget:
    """How many rows are looked at.

    Parameters
    ----------
    work : float
        Predictions, in rows times trees.
    fewest, most : int
        Rows, whatever the work.
    """

    work: float
    fewest: int
    most: int

    def rows(self, trees: int) -> int:
        """Return the number of rows, of which each is predicted by so many trees."""
        return int(min(max(self.work / trees, self.fewest), self.most))


SHUFFLING, SHAP = Budget(8e8, 1000, 4000), Budget(3e5, 200, 400)
"""With trees of 63 leaves a quarter and a tenth of a minute of one core."""


class _Scores(NamedTuple):
    """Of some predictions, by class on the last axis."""

    log_loss: NDArray[np.float64]
    iou: NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """Sampled rows of one fold, and the booster that has never seen them; labels (n,), or tags (n, n_classes)."""

    booster: Booster
    features: NDArray[np.float32]
    label: NDArray[np.uint8]
    weight: NDArray[np.float64]

    def take(self, places: NDArray[np.intp], weight: NDArray[np.float64]) -> "_Part":
        return _Part(self.booster, self.features[places], self.label[places], weight)


def explain_member(
    member: TreeMember,
    catalogue: Catalogue,
    pixels: Path,
    *,
    seed: int,
    track: Track = untracked,
    shuffle_budget: Budget = SHUFFLING,
    shap_budget: Budget = SHAP,
) -> Explanation:
    """Explain which columns the boosters of a member use, and how.

    Columns are shuffled in a sample of the rows, see `features.subsample.sample_rows`, where scenes with tags are drawn
    by the rarest tag that they have: each row gets the value of a row of its fold that is drawn by weight (Breiman
    2001, doi:10.1023/A:1010933404324). SHAP values are the library's own.
    The more trees and columns there are, the smaller the sample, so that the work is bounded.

    Parameters
    ----------
    member : TreeMember
        With a booster for each fold.
    catalogue : Catalogue
        With folds.
    pixels : Path
        Folder of the table.
    seed : int
    track : Track
    shuffle_budget, shap_budget : Budget
        Of the rows in which columns are shuffled, and of those whose SHAP values are computed.
    """
    labels, names = catalogue.classes.label_names, member.feature_set.names
    trees = member.n_classes * max(booster.rounds for booster in member.boosters.values())
    rows = shuffle_budget.rows(trees * REPEATS * len(names))
    rng = np.random.default_rng(seed)
    parts = _read_parts(member, catalogue, pixels, rows, rng)
    few = _take_few(parts, shap_budget.rows(trees), len(labels), rng)

    before, changes = _shuffle_columns(parts, len(labels), names, member, seed, track)
    shap = _shap_values(few, member)
    size = np.full((member.n_classes, len(names)), np.nan)
    if shap is not None:
        size = np.average(np.abs(shap), axis=0, weights=np.concatenate([part.weight for part in few]))
    # A class that is never predicted has no IoU to lose. Of ties, as of columns unused, the table's order decides.
    losses, ious = (change.mean(axis=1).T for change in (changes.log_loss, changes.iou))
    ranked = [np.lexsort((-loss, iou)).tolist() for loss, iou in zip(losses, ious, strict=True)]
    depended = sorted({column for order in ranked for column in order[:DEPENDENCES]})
    dependences = {column: _dependences(parts, few, column, member) for column in depended}
    gains = [member.boosters[fold].importance() for fold in member.folds]
    values = np.concatenate([part.features for part in few])
    classes = []
    for output, order in enumerate(ranked):
        uses = tuple(
            ColumnUse(
                name=names[column],
                gain=_spread([gain[names[column]] for gain in gains]),
                log_loss=_spread(changes.log_loss[column, :, output]),
                iou=_spread(0 - changes.iou[column, :, output]),
                shap=float(size[output, column]),
                swarm=None if shap is None or place >= SWARMS else _swarm(shap[:, output, column], values[:, column]),
                dependence=dependences[column][output] if place < DEPENDENCES else None,
            )
            for place, column in enumerate(order)
        )
        label = labels[output + len(labels) - member.n_classes]
        classes.append(ClassUse(label, float(before.log_loss[output]), float(before.iou[output]), uses))
    sampled = sum(len(part.label) for part in parts)
    logger.info("%s: explained by %d rows held out", member.name, sampled)
    return Explanation(member.name, sampled, len(values), REPEATS, shap is not None, tuple(classes))


def _read_parts(
    member: TreeMember, catalogue: Catalogue, pixels: Path, rows: int, rng: np.random.Generator
) -> list[_Part]:
    table = open_channel_rows(pixels, catalogue, member.feature_set, member.folds)
    places, weight = _draw(table.label, table.weight, rows, len(catalogue.classes.label_names), rng)
    chosen = np.zeros(len(table), bool)
    chosen[places] = True
    drawn = table.read(chosen), table.label[places]
    fold = {scene.id: scene.fold for scene in catalogue.split("train")}
    fold_of = np.array([fold[scene] for scene in table.scenes])[table.scene[places]]
    rows_of = {fold: fold_of == fold for fold in member.folds}
    return [
        _Part(member.boosters[fold], drawn[0][rows], drawn[1][rows], weight[rows])
        for fold, rows in rows_of.items()
        if rows.any()
    ]


def _take_few(parts: Sequence[_Part], rows: int, n_labels: int, rng: np.random.Generator) -> list[_Part]:
    label, weight = (np.concatenate([getattr(part, name) for part in parts]) for name in ("label", "weight"))
    places, standing = _draw(label, weight, rows, n_labels, rng)
    ends = np.cumsum([len(part.label) for part in parts])
    bounds = np.searchsorted(places, ends)
    few = []
    for part, end, start, stop in zip(parts, ends, [0, *bounds[:-1]], bounds, strict=True):
        if stop > start:
            few.append(part.take(places[start:stop] - (end - len(part.label)), standing[start:stop]))
    return few


def _draw(
    label: NDArray[np.uint8], weight: NDArray[np.floating], rows: int, n_labels: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    if label.ndim == 2:
        scenes = np.where(label == 1, label.sum(axis=0, dtype=np.int64), len(label) + 1)
        rarest = np.where(label.any(axis=1), scenes.argmin(axis=1), n_labels)
        return sample_rows(rarest.astype(np.uint8), weight, rows, n_labels + 1, rng)
    return sample_rows(label, weight, rows, n_labels, rng)


def _predict_changed(part: _Part, column: int, values: NDArray[np.float32], member: TreeMember) -> NDArray[np.float32]:
    """Return the probabilities (V, n, n_classes) of rows that get other values (V, n) or (V, 1) in a column."""
    changed = np.repeat(part.features[None], len(values), axis=0)
    changed[:, :, column] = values
    rows = changed.reshape(-1, changed.shape[2])
    proba = predict_classes(part.booster, rows, member.n_classes, member.threads)
    return proba.reshape(*changed.shape[:2], -1)


def _shuffle_columns(
    parts: Sequence[_Part], n_labels: int, names: Sequence[str], member: TreeMember, seed: int, track: Track
) -> tuple[_Scores, _Scores]:
    """Return the scores (n_classes,), and how they change with each column shuffled (F, repeats, n_classes)."""
    label, weight = (np.concatenate([getattr(part, name) for part in parts]) for name in ("label", "weight"))

    def score(proba: NDArray[np.float32]) -> _Scores:
        return _Scores(_log_losses(label, proba, weight), _ious(label, proba, weight, n_labels))

    before = score(
        np.concatenate(
            [predict_classes(part.booster, part.features, member.n_classes, member.threads) for part in parts]
        )
    )
    after = []
    for column in track(range(len(names)), f"{member.name}: columns shuffled", len(names)):
        rng = np.random.default_rng([seed, column])
        shuffled = [_predict_changed(part, column, _shuffled(part, column, rng), member) for part in parts]
        after.append([score(proba) for proba in np.concatenate(shuffled, axis=1)])
    changed = (
        np.array([[getattr(scores, name) for scores in repeats] for repeats in after]) for name in _Scores._fields
    )
    return before, _Scores(*(new - old for new, old in zip(changed, before, strict=True)))


def _shuffled(part: _Part, column: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return values (repeats, n) of a column, drawn by weight and in any order."""
    count = len(part.weight)
    drawn = [rng.permutation(sample_by_weight(part.weight, count, rng)) for _ in range(REPEATS)]
    values: NDArray[np.float32] = part.features[np.array(drawn), column]
    return values


def _log_losses(
    label: NDArray[np.uint8], proba: NDArray[np.float32], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the log loss of each class against the rest."""
    n_classes = proba.shape[1]
    first = 1 if n_classes == 1 else 0
    is_class = label == 1 if label.ndim == 2 else label[:, None] == np.arange(first, first + n_classes)
    right = np.where(is_class, proba, 1 - proba).clip(EPSILON, 1)
    return np.asarray(np.average(-np.log(right, dtype=np.float64), axis=0, weights=weight))


def _ious(
    label: NDArray[np.uint8], proba: NDArray[np.float32], weight: NDArray[np.float64], n_labels: int
) -> NDArray[np.float64]:
    """Return the IoU of each class in the plain map, or of each tag with a threshold of 0.5."""
    if label.ndim == 2:
        told, has = proba >= 0.5, label == 1
        hits, either = weight @ (told & has), weight @ (told | has)
        iou: NDArray[np.float64] = np.divide(hits, either, out=np.full(len(hits), np.nan), where=either > 0)
        return iou
    counts = weighted_counts(label, plain_prediction(proba), weight, n_labels)
    return np.asarray(CLASS_METRICS["iou"].score(counts)[-proba.shape[1] :])


def _shap_values(few: Sequence[_Part], member: TreeMember) -> NDArray[np.float32] | None:
    """Return the SHAP values (n, n_classes, F) of the rows of all folds; None if the library gives none."""
    found = [class_contributions(part.booster, part.features, member.n_classes, member.threads) for part in few]
    given = [values[:, :, :-1] for values in found if values is not None]
    return np.concatenate(given) if len(given) == len(few) else None


def _dependences(
    parts: Sequence[_Part], few: Sequence[_Part], column: int, member: TreeMember
) -> list[Dependence | None]:
    """Return how each class depends on a column; None if it has no value at all."""
    weight = np.concatenate([part.weight for part in parts])
    values = np.concatenate([part.features[:, column] for part in parts])
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    if not len(order):
        return [None] * member.n_classes
    points = np.unique(weighted_quantiles(values[order], weight[order], ((np.arange(POINTS) + 0.5) / POINTS).tolist()))
    proba = [_predict_changed(part, column, points[:, None], member) for part in few]
    curves = np.array([np.average(rows, axis=1, weights=part.weight) for rows, part in zip(proba, few, strict=True)])
    mean = np.average(curves, axis=0, weights=[part.weight.sum() for part in few])
    return [
        Dependence(_rounded(points), _rounded(mean[:, output]), tuple(map(_rounded, curves[:, :, output])))
        for output in range(mean.shape[1])
    ]


def _swarm(shap: NDArray[np.float32], values: NDArray[np.float32]) -> Swarm:
    rank: NDArray[np.float64] = np.asarray(rankdata(values, nan_policy="omit")) - 0.5
    return Swarm(_rounded(shap), _rounded(rank / np.maximum(np.count_nonzero(~np.isnan(values)), 1)))


def _rounded(values: NDArray[np.floating]) -> tuple[float, ...]:
    """Return numbers with as many digits as a plot can show."""
    return tuple(float(f"{value:.4g}") for value in values)


def _spread(values: Sequence[float] | NDArray[np.float64]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values)))
