"""Fitted trees as plain arrays, which predict neighbouring pixels much faster than the library that grew them."""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from data.archives import read_array
from trees.forest.packets import PACKET, add_trees, bin_rows, find_cell

__all__ = ["Forest", "Link", "Tree", "Trees", "build_forest", "check_children", "floor_float32", "number_nodes"]

Link = Literal["sigmoid", "softmax", "identity"]

KINDS: Mapping[str, tuple[type[np.generic], int]] = {
    "feature": (np.int32, 1), "split": (np.float32, 1), "missing": (np.bool_, 1), "left": (np.int32, 1),
    "right": (np.int32, 1), "leaves": (np.float64, 2), "roots": (np.int32, 1), "outputs": (np.int32, 1),
    "base": (np.float64, 1), "n_features": (np.int64, 0), "link": (np.str_, 0),
}  # fmt: skip
"""Of the arrays of a file, with their dimensions."""

CELLS = 512
"""Equal parts of a feature's range, by which its split values are found."""


class Tree(NamedTuple):
    """One tree of a library; node 0 is its root, or leaf 0 where it has no node.

    Parameters
    ----------
    feature : (N,) int
    split : (N,) float32
        Values up to it go left.
    missing : (N,) bool
        Whether NaN goes left.
    left, right : (N,) int
        Node, or ~leaf.
    leaves : (L, W) float
        What is added to W outputs.
    output : int
        The first of them.
    """

    feature: NDArray[np.integer]
    split: NDArray[np.float32]
    missing: NDArray[np.bool_]
    left: NDArray[np.integer]
    right: NDArray[np.integer]
    leaves: NDArray[np.floating]
    output: int = 0


@dataclass(frozen=True)
class Trees:
    """All trees of a model: what a library learned, in a form that needs no library.

    Parameters
    ----------
    feature, left, right : (N,) int32
    split : (N,) float32
    missing : (N,) bool
        As in `Tree`, numbered through.
    leaves : (L, W) float64
    roots, outputs : (T,) int32
        Node or ~leaf that each tree begins with, and the first of the outputs that it adds to.
    base : (K,) float64
        What the trees' sum is added to.
    n_features : int
    link : {"sigmoid", "softmax", "identity"}
        Of the sum to a probability.
    """

    feature: NDArray[np.int32]
    split: NDArray[np.float32]
    missing: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    leaves: NDArray[np.float64]
    roots: NDArray[np.int32]
    outputs: NDArray[np.int32]
    base: NDArray[np.float64]
    n_features: int
    link: Link

    def save(self, path: Path) -> None:
        """Write a zip of arrays in numpy's format, each named as above."""
        with path.open("wb") as stream:
            np.savez_compressed(stream, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, archive: zipfile.ZipFile) -> Self:
        """Read what `save` wrote, from its open zip; raises ValueError or KeyError for anything else."""
        values: dict[str, Any] = {name: read_array(archive, name, *kind) for name, kind in KINDS.items()}
        trees = cls(**values | {"n_features": int(values["n_features"]), "link": str(values["link"])})
        trees.check()
        return trees

    def check(self) -> None:
        """Refuse trees that compiled code would not survive, or never come to the end of; raises ValueError."""
        nodes = (self.feature, self.split, self.missing, self.left, self.right)
        if len({len(values) for values in nodes}) > 1 or len(self.roots) != len(self.outputs) or self.leaves.ndim != 2:
            raise ValueError("arrays of other sizes")
        if not ((self.feature >= 0) & (self.feature < self.n_features)).all() or self.link not in get_args(Link):
            raise ValueError("features that are none")
        if np.isnan(self.split).any():
            raise ValueError("split values that are none")
        # Not in 32 bits, in which the greatest number and 1 more is the least.
        width, last = self.leaves.shape[1], len(self.base) - self.leaves.shape[1]
        if width < 1 or not ((self.outputs >= 0) & (self.outputs <= last)).all():
            raise ValueError("outputs that are none")
        check_children(self.left, self.right, len(self.leaves), self.roots)

    @classmethod
    def of(cls, trees: Sequence[Tree], base: NDArray[np.floating], n_features: int, link: Link) -> Self:
        """Number the nodes and leaves of single trees through."""
        nodes = np.cumsum([0, *(len(tree.feature) for tree in trees)])
        leaves = np.cumsum([0, *(len(tree.leaves) for tree in trees)])

        def through(children: Iterable[NDArray[np.integer]]) -> NDArray[np.int32]:
            moved = [
                np.where(child >= 0, child + node, child - leaf)
                for child, node, leaf in zip(children, nodes, leaves, strict=False)
            ]
            return np.concatenate(moved).astype(np.int32)

        return cls(
            np.concatenate([tree.feature for tree in trees]).astype(np.int32),
            np.concatenate([tree.split for tree in trees]).astype(np.float32),
            np.concatenate([tree.missing for tree in trees]).astype(bool),
            through(tree.left for tree in trees),
            through(tree.right for tree in trees),
            np.concatenate([tree.leaves for tree in trees]).astype(np.float64),
            np.array(
                [node if len(tree.feature) else ~leaf for tree, node, leaf in zip(trees, nodes, leaves, strict=False)],
                np.int32,
            ),
            np.array([tree.output for tree in trees], np.int32),
            np.asarray(base, np.float64),
            n_features,
            link,
        )

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return probabilities (n, K) of rows (n, F), tree by tree: slowly, but with any number of split values."""
        total = np.tile(self.base, (len(features), 1))
        for root, output in zip(self.roots, self.outputs, strict=True):
            at = np.full(len(features), root)
            while (on := at >= 0).any():
                node = at[on]
                value = features[np.flatnonzero(on), self.feature[node]]
                left = (value <= self.split[node]) | (np.isnan(value) & self.missing[node])
                at[on] = np.where(left, self.left[node], self.right[node])
            total[:, output : output + self.leaves.shape[1]] += self.leaves[~at]
        return _linked(total, self.link)


@dataclass(frozen=True)
class SplitValues:
    """The values that a forest compares features with, and how to find a value among them; see `bin_rows`.

    Parameters
    ----------
    values : (F, S) float32
    low, scale : (F,) float32
    below : (F, cells) int32
    steps : (F,) int32
    """

    values: NDArray[np.float32]
    low: NDArray[np.float32]
    scale: NDArray[np.float32]
    below: NDArray[np.int32]
    steps: NDArray[np.int32]


@dataclass(frozen=True)
class Forest:
    """Trees whose nodes compare one feature with one value each.

    Parameters
    ----------
    nodes : (N, 5) int32
    leaves : (L, W) float64
    roots, outputs : (T,) int32
        See `trees.forest.packets.add_trees`.
    bin_kind : dtype
        uint8 or uint16; the smaller that can number all split values of a feature.
    splits : SplitValues
    base : (K,) float64
    link : {"sigmoid", "softmax", "identity"}
        As in `Trees`.
    batch_rows : int
        Rows worked on at a time: their bins fit into a processor's cache.
    """

    nodes: NDArray[np.int32]
    leaves: NDArray[np.float64]
    roots: NDArray[np.int32]
    outputs: NDArray[np.int32]
    bin_kind: np.dtype[np.unsignedinteger]
    splits: SplitValues
    base: NDArray[np.float64]
    link: Link
    batch_rows: int = 256 * PACKET

    @property
    def used(self) -> NDArray[np.int32]:
        """The features that any node looks at, in order."""
        return np.unique(self.nodes[:, 0])

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return probabilities of rows; the nearer to each other rows alike lie, the faster.

        Parameters
        ----------
        features : (n, F) float32
            NaN where a feature has no value. Columns may be contiguous as well as rows.
        threads : int

        Returns
        -------
        proba : (n, K) float32
            The same bits for any number of threads and any order of the rows.
        """
        if features.shape[1] != len(self.splits.values):
            raise ValueError(f"expected {len(self.splits.values)} features, got {features.shape[1]}")
        proba = np.empty((len(features), len(self.base)), np.float32)
        size = min(self.batch_rows, max(PACKET, -(-len(features) // threads)))

        def fill(start: int) -> None:
            part = slice(start, start + size)
            proba[part] = self._proba(features[part])

        starts = range(0, len(features), size)
        if threads == 1 or len(starts) == 1:
            for start in starts:
                fill(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(fill, starts):
                    pass
        return proba

    def _proba(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        packets, n_outputs = -(-len(rows) // PACKET), len(self.base)
        bins = np.empty((packets, rows.shape[1], PACKET), self.bin_kind)
        splits = self.splits
        bin_rows(rows, splits.values, splits.low, splits.scale, splits.below, splits.steps, bins)
        total = np.zeros((packets, n_outputs, PACKET))
        add_trees(bins, len(rows), self.nodes, self.leaves, self.roots, self.outputs, total)
        total += self.base[:, None]
        return _linked(total.transpose(0, 2, 1).reshape(-1, n_outputs)[: len(rows)], self.link)


def number_nodes(split: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number the nodes of a tree, and its leaves as ~leaf, where a library numbers both together.

    Examples
    --------
    >>> number_nodes(np.array([True, False, True, False, False]))
    array([ 0, -1,  1, -2, -3])
    """
    return np.where(split, split.cumsum() - 1, -(~split).cumsum())


def check_children(left: NDArray[Any], right: NDArray[Any], n_leaves: int, roots: NDArray[Any] | None = None) -> None:
    """Refuse children (N,), node or ~leaf, unless each place is a root or the child of one node before it; ValueError.

    Examples
    --------
    >>> check_children(np.array([1, -1]), np.array([-3, -2]), 3)
    """
    if roots is None:
        roots = np.array([0 if len(left) else -1])
    children, parents = np.concatenate([left, right]).astype(np.int64), np.tile(np.arange(len(left)), 2)
    places = np.sort(np.concatenate([children, roots]))
    if (
        not np.array_equal(places, np.arange(-n_leaves, len(left)))
        or (children[children >= 0] <= parents[children >= 0]).any()
    ):
        raise ValueError("children that are not those of a tree")


def floor_float32(value: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the greatest float32 up to each value: the same float32 values are up to either."""
    with np.errstate(over="ignore"):
        last = value.astype(np.float32)
    return np.where(last > value, np.nextafter(last, np.float32(-np.inf)), last)


def build_forest(trees: Trees) -> Forest | None:
    """Return trees as a forest; None if a feature has more split values than 16 bits can number.

    Raises
    ------
    ValueError
        If they are no trees; see `Trees.check`.
    """
    trees.check()
    splits = [np.unique(trees.split[trees.feature == index]) for index in range(trees.n_features)]
    most = max(map(len, splits), default=0)
    # The greatest number is NaN's, and one more than a split value's must not reach it.
    kind = next((kind for kind in (np.uint8, np.uint16) if most < np.iinfo(kind).max), None)
    if kind is None:
        return None
    number = np.zeros(len(trees.feature), np.int32)
    for index, values in enumerate(splits):
        nodes = trees.feature == index
        number[nodes] = np.searchsorted(values, trees.split[nodes])
    # A bin of NaN, moved on by one, turns over to 0 and goes left with the least.
    shift = trees.missing.astype(np.int32)
    nodes = np.stack([trees.feature, shift, number + shift, trees.left, trees.right], axis=1).astype(np.int32)
    return Forest(
        nodes, trees.leaves, trees.roots, trees.outputs, np.dtype(kind), _tabulate(splits), trees.base, trees.link
    )


def _linked(total: NDArray[np.float64], link: Link) -> NDArray[np.float32]:
    """Return the probabilities of sums (n, K)."""
    if link == "softmax":
        total = np.exp(total - total.max(axis=1, keepdims=True))
        total /= total.sum(axis=1, keepdims=True)
    elif link == "sigmoid":
        total = 1 / (1 + np.exp(-total))
    return total.astype(np.float32)


def _tabulate(splits: list[NDArray[np.float32]]) -> SplitValues:
    low, scale = np.zeros(len(splits), np.float32), np.zeros(len(splits), np.float32)
    below, steps = np.zeros((len(splits), CELLS), np.int32), np.zeros(len(splits), np.int32)
    for index, values in enumerate(splits):
        if len(values) == 0:
            continue
        with np.errstate(all="ignore"):
            width = CELLS / (values[-1] - values[0])
        low[index], scale[index] = values[0], width if np.isfinite(width) else 0
        cells = [find_cell(value, low[index], scale[index], CELLS) for value in values]
        counts = np.bincount(cells, minlength=CELLS)
        below[index] = counts.cumsum() - counts
        steps[index] = 2 ** (int(counts.max()).bit_length() - 1)
    longest = max(map(len, splits), default=0)
    table = np.full((len(splits), longest + 2 * int(steps.max(initial=0))), np.inf, np.float32)
    for row, values in zip(table, splits, strict=True):
        row[: len(values)] = values
    return SplitValues(table, low, scale, below, steps)
