"""Read CatBoost's binary format without CatBoost: its own parser trusts sizes and indices, and ends the process.

The file is a FlatBuffer (https://flatbuffers.dev/internals/) of CatBoost's ``model.fbs``, then the tables by which
categories become numbers, if there are any.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_catboost_model"]

MAGIC = b"CBM1"

TREES, INFO, PARTS = 1, 2, 3
"""Fields of the model."""

(DIMENSION, SPLITS, SIZES, STARTS, CATEGORIES, FLOATS, ONE_HOT, COUNTERS, LEAVES, WEIGHTS, STEPS, LEAF_OF, TEXTS,
 ESTIMATED, _, _, BIAS, BINS, EMBEDDINGS) = range(19)  # fmt: skip
"""Fields of its trees."""

INDEX, FLAT_INDEX = 1, 2
"""Fields of a feature that is a number; of one that is a category they are the first two."""

BORDERS, CATEGORY_INDEX, VALUES, COUNTER_BORDERS = 3, 0, 1, 1
"""Of a number, a one-hot category (twice), a counter of categories."""

BUCKET = 254
"""Comparisons of one feature that CatBoost numbers in a byte."""

NO_LEAF = 2**32 - 1

DEEPEST = 16


def check_catboost_model(data: bytes) -> bool:
    """Refuse a model that CatBoost would not survive; raises ValueError, IndexError or struct.error.

    Sizes agree, comparisons, features and leaves are there, and each node of a tree leads to one behind it.

    Returns
    -------
    whole : bool
        Whether that is all that the file holds; else it has tables of categories, which are CatBoost's alone.
    """
    if data[:4] != MAGIC:
        raise ValueError("no beginning of a model")
    size = int.from_bytes(data[4:8], "little")
    if size > len(data) - 8:
        raise ValueError(f"a model of {size} bytes in {len(data)}")
    core = _Table.root(data[8 : 8 + size])
    trees = core.table(TREES)
    if any(trees.count(field) for field in (TEXTS, ESTIMATED, EMBEDDINGS)):
        raise ValueError("features of texts or of others")
    dimension, leaves, splits = trees.number(DIMENSION), trees.array(LEAVES, "<f8"), trees.array(SPLITS, "<i4")
    if not 1 <= dimension <= max(len(leaves), 1) or trees.count(BIAS) not in (0, 1, dimension):
        raise ValueError(f"{dimension} outputs of {len(leaves)} leaves")
    comparisons, buckets = _count_comparisons(trees)
    bins = trees.array(BINS, "u1", 4).reshape(-1, 4)
    if not ((splits >= 0) & (splits < comparisons)).all() or len(bins) not in (0, len(splits)):
        raise ValueError("comparisons that are none")
    if len(bins) and (bins[:, :2].copy().view("<u2") >= buckets).any():
        raise ValueError("comparisons of features that are none")
    sizes, starts = trees.array(SIZES, "<i4").astype(np.int64), trees.array(STARTS, "<i4").astype(np.int64)
    if (sizes < 0).any() or len(starts) not in (0, len(sizes)) or sizes.sum() != len(splits):
        raise ValueError("trees of other sizes")
    if len(starts) and (starts != sizes.cumsum() - sizes).any():
        raise ValueError("trees that are not one after the other")
    steps = trees.array(STEPS, "<u2", 2).reshape(-1, 2).astype(np.int64)
    if len(steps):
        _check_steps(steps, trees.array(LEAF_OF, "<u4").astype(np.int64), sizes, len(leaves) - dimension)
    elif (sizes > DEEPEST).any() or (1 << sizes).sum() * dimension != len(leaves) or trees.count(LEAF_OF):
        raise ValueError(f"{len(leaves)} leaves of trees of other sizes")
    if trees.count(WEIGHTS) not in (0, len(leaves) // dimension):
        raise ValueError("weights of other leaves")
    return not (trees.count(CATEGORIES) or core.count(PARTS) or size != len(data) - 8)


def _count_comparisons(trees: "_Table") -> tuple[int, int]:
    """Return how many comparisons features have, and in how many bytes CatBoost numbers them."""
    numbers, kinds = trees.tables(FLOATS), trees.tables(CATEGORIES)
    places = [feature.number(FLAT_INDEX) for feature in numbers] + [feature.number(INDEX) for feature in kinds]
    if sorted(places) != list(range(len(places))):
        raise ValueError("features that are not numbered through")
    for features, field in ((numbers, INDEX), (kinds, CATEGORY_INDEX)):
        if [feature.number(field) for feature in features] != list(range(len(features))):
            raise ValueError("features that are not in order")
    one_hot = trees.tables(ONE_HOT)
    if any(not 0 <= feature.number(CATEGORY_INDEX) < len(kinds) for feature in one_hot):
        raise ValueError("categories that are none")
    counts = [feature.count(BORDERS) for feature in numbers] + [feature.count(VALUES) for feature in one_hot]
    counts += [feature.count(COUNTER_BORDERS) for feature in trees.tables(COUNTERS)]
    return sum(counts), sum(-(-count // BUCKET) for count in counts)


def _check_steps(steps: NDArray[np.int64], leaf: NDArray[np.int64], sizes: NDArray[np.int64], last: int) -> None:
    """Refuse trees, not of levels alike but of nodes, that lead out of themselves or end where no leaf is."""
    if not len(steps) == len(leaf) == sizes.sum() or (sizes < 1).any():
        raise ValueError("trees of other sizes")
    ends = np.repeat(sizes.cumsum(), sizes)
    if (np.arange(len(steps))[:, None] + steps >= ends[:, None]).any():
        raise ValueError("nodes that lead out of their tree")
    may_end = (steps == 0).any(axis=1)
    if (leaf[may_end] > last).any() or not ((leaf <= last) | (leaf == NO_LEAF)).all():
        raise ValueError("leaves that are none")


class _Table:
    """A table of a FlatBuffer: fields by number, each at an offset that its first bytes lead to."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._vtable = place - self._read("<i", place)

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, struct.unpack_from("<I", data)[0])

    def number(self, field: int) -> int:
        """Return a whole number, -1 where it is left out."""
        at = self._at(field)
        return self._read("<i", at) if at else -1

    def table(self, field: int) -> "_Table":
        """Return the table of a field."""
        if not (at := self._at(field)):
            raise ValueError("no trees")
        return _Table(self._data, at + self._read("<I", at))

    def count(self, field: int) -> int:
        """Return how many elements a field has."""
        return self._vector(field)[1]

    def array(self, field: int, kind: str, width: int = 1) -> NDArray[Any]:
        """Return numbers of a field, some in each element."""
        begin, count = self._vector(field)
        if count * width * np.dtype(kind).itemsize > len(self._data) - begin:
            raise ValueError(f"{count} values behind the end")
        return np.frombuffer(self._data, kind, count * width, begin) if count else np.empty(0, kind)

    def tables(self, field: int) -> "list[_Table]":
        """Return the tables of a field."""
        begin, _ = self._vector(field)
        offsets = self.array(field, "<u4").tolist()
        return [_Table(self._data, begin + 4 * place + offset) for place, offset in enumerate(offsets)]

    def _at(self, field: int) -> int:
        known = 4 + 2 * field < self._read("<H", self._vtable)
        offset = self._read("<H", self._vtable + 4 + 2 * field) if known else 0
        return self._place + offset if offset else 0

    def _vector(self, field: int) -> tuple[int, int]:
        if not (at := self._at(field)):
            return 0, 0
        begin = at + self._read("<I", at)
        return begin + 4, self._read("<I", begin)

    def _read(self, form: str, place: int) -> int:
        if place < 0:
            raise ValueError("a place before the beginning")
        value: int = struct.unpack_from(form, self._data, place)[0]
        return value
