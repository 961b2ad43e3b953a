"""What labels, probabilities, groups and folds of arrays are to an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.scenes.classes import BACKGROUND, IGNORE, Classes, Task
from data.scenes.colors import PALETTE

__all__ = ["Encoding", "Label", "Proba", "classes_of", "deal_folds", "encode", "name_groups"]

Proba = Any
"""Probabilities (n,), (n, 2) or (n, K): numpy, or anything that numpy makes an array of."""
Label = str | int | float | bool

PARTS = 100
"""Parts that rows are dealt to at random where no groups are given."""


@dataclass(frozen=True)
class Encoding:
    """How labels and probabilities of arrays are those of an ensemble.

    Parameters
    ----------
    labels : tuple
        What the user calls each label index; of tags each tag.
    task : {"binary", "multiclass", "multilabel"}
    columns : int
        Of probabilities: 0 for an array (n,), 2 where a binary task has one for the negatives too.
    """

    labels: tuple[Label, ...]
    task: Task
    columns: int

    def planes(self, name: str, proba: Proba) -> NDArray[np.float32]:
        """Return the probabilities of a member as an ensemble has them, (n, n_classes)."""
        values = np.asarray(proba, np.float32)
        shape = values.shape[1:] if self.columns else (*values.shape[1:], 0)
        if values.ndim != (2 if self.columns else 1) or shape != (self.columns,):
            wanted = f"(n, {self.columns})" if self.columns else "(n,)"
            raise EnsembleError(f"member {name}: expected probabilities {wanted}, got {np.shape(proba)}.")
        if not self.columns:
            return values[:, None]
        return values[:, 1:] if self.task == "binary" and self.columns == 2 else values

    def proba(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (n, n_classes) in the shape in which the user gave them."""
        if not self.columns:
            return planes[:, 0]
        if planes.shape[1] < self.columns:
            return np.column_stack([1 - planes[:, 0], planes[:, 0]])
        if self.task == "multilabel":
            return planes
        # As they are stored they sum to 1 but for 1e-5.
        total = planes.sum(axis=1, keepdims=True)
        return np.asarray(planes / np.maximum(total, 1e-9), np.float32)

    def names(self, index: NDArray[np.uint8]) -> NDArray[Any]:
        """Return labels of label indices (Q, n): (n,), None where nothing is predicted; of tags (n, Q) of 0 and 1."""
        if self.task == "multilabel":
            return np.where(index == IGNORE, 0, index).T.astype(np.uint8)
        named: NDArray[Any] = np.array(self.labels)[np.minimum(index[0], len(self.labels) - 1)]
        if (index[0] == IGNORE).any():
            named = named.astype(object)
            named[index[0] == IGNORE] = None
        return named


def encode(proba: Proba, y: Any) -> tuple[Encoding, NDArray[np.uint8]]:
    """Return how labels are named, and label indices (n,) or (n, K)."""
    shape, values = np.shape(proba), np.asarray(y)
    columns = shape[1] if len(shape) == 2 else 0
    if values.ndim == 2:
        known = _known_labels(values)
        strange = ~np.isin(values[known].astype(float), (0, 1))
        if values.shape[1:] != shape[1:] or strange.any():
            raise EnsembleError(
                f"expected tags (n, {columns}) of 0 and 1, one a column of probabilities, got {values.shape}."
            )
        label = np.where(known, values, 0).astype(np.uint8)
        return Encoding(tuple(range(columns)), "multilabel", columns), np.where(known, label, np.uint8(IGNORE))
    if values.ndim != 1 or len(shape) not in (1, 2) or len(values) != shape[0]:
        raise EnsembleError(f"expected a label for each of the rows of probabilities {shape}, got {values.shape}.")
    known = _known_labels(values)
    try:
        labels, place = np.unique(values[known], return_inverse=True)
    except TypeError:  # Labels of several kinds have an order as text.
        labels, place = np.unique(values[known].astype(str), return_inverse=True)
    binary = columns in (0, 1, 2)
    wanted = 2 if binary else columns
    if len(labels) != wanted:
        raise EnsembleError(
            f"expected labels of {wanted} classes, as there are probabilities, got {len(labels)}: "
            f"{', '.join(map(str, labels[:10]))}. Give a column of probabilities to each class, in sorted order."
        )
    label = np.full(len(values), IGNORE, np.uint8)
    label[known] = place
    return Encoding(tuple(labels.tolist()), "binary" if binary else "multiclass", columns), label


def _known_labels(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where there is a label."""
    if values.dtype.kind == "f":
        return np.asarray(np.isfinite(values), bool)
    if values.dtype == object:
        return np.array([one is not None and one == one for one in values.ravel()], bool).reshape(values.shape)
    return np.ones(values.shape, bool)


def classes_of(encoding: Encoding) -> Classes:
    """Return the classes of an ensemble: the positive one alone of a binary task."""
    names = tuple(map(str, encoding.labels))
    ids = tuple(range(len(names)))
    if encoding.task == "binary":
        names, ids = (names[1] if names[1] != BACKGROUND else "positive",), (1,)
    return Classes(encoding.task, ids, names, tuple(PALETTE[place % len(PALETTE)] for place in range(len(names))))


def name_groups(groups: Any, folds: Any, n: int, seed: int) -> Sequence[str]:
    """Return the group of each row as a name; where none are given rows are dealt to `PARTS` at random, by fold."""
    if groups is not None:
        return [str(group) for group in np.asarray(groups).tolist()]
    fold = np.unique(np.asarray(folds), return_inverse=True)[1] if np.ndim(folds) else np.zeros(n, np.int64)
    if len(fold) != n:
        raise EnsembleError(f"expected the fold of each of {n} rows, got {len(fold)}.")
    per_fold = max(PARTS // (fold.max(initial=0) + 1), 1)
    parts = np.random.default_rng(seed).permutation(n) % min(per_fold, max(n, 1))
    return [f"part {per_fold * of_fold + part:02d}" for of_fold, part in zip(fold, parts, strict=True)]


def deal_folds(folds: Any, group: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return the fold of each row: that given, or groups dealt to so many folds, the largest group first."""
    if np.ndim(folds):
        return np.unique(np.asarray(folds), return_inverse=True)[1]
    names, place = np.unique(group, return_inverse=True)
    if len(names) < 2:
        raise EnsembleError(f"expected at least two groups to decide on some and score on others, got {len(names)}.")
    # The largest first, each to the smallest fold so far.
    sizes = np.bincount(place)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    count = min(int(folds), len(names))
    fold, held = np.zeros(len(names), np.int64), np.zeros(count, np.int64)
    for number in order:
        fold[number] = int(np.argmin(held))
        held[fold[number]] += sizes[number]
    return fold[place]
