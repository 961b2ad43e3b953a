"""Fitted trees as plain arrays, which predict neighbouring pixels much faster than the library that grew them."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trees.forest.packets import PACKET, add_trees, bin_rows, find_cell

__all__ = ["Forest", "Link", "Tree", "Trees", "last_up_to", "number_apart", "plant"]

Link = Literal["sigmoid", "softmax", "identity"]

CELLS = 512
"""Equal parts of a feature's range, by which its cuts are found."""

ROWS = 256 * PACKET
"""Rows worked on at a time: their bins fit into a processor's cache."""


class Tree(NamedTuple):
    """One tree of a library; node 0 is its root, or leaf 0 where it has no node.

    Parameters
    ----------
    feature : (N,) int
    cut : (N,) float32
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
    cut: NDArray[np.float32]
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
    cut : (N,) float32
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
    cut: NDArray[np.float32]
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
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises ValueError, OSError, KeyError or BadZipFile for anything else."""
        with np.load(path, allow_pickle=False) as arrays:
            values = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**values | {"n_features": int(values["n_features"]), "link": str(values["link"])})

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
            np.concatenate([tree.cut for tree in trees]).astype(np.float32),
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
        """Return probabilities (n, K) of rows (n, F), tree by tree: slowly, and with as many cuts as there may be."""
        total = np.tile(self.base, (len(features), 1))
        for root, output in zip(self.roots, self.outputs, strict=True):
            at = np.full(len(features), root)
            while (on := at >= 0).any():
                node = at[on]
                value = features[np.flatnonzero(on), self.feature[node]]
                left = (value <= self.cut[node]) | (np.isnan(value) & self.missing[node])
                at[on] = np.where(left, self.left[node], self.right[node])
            total[:, output : output + self.leaves.shape[1]] += self.leaves[~at]
        return _linked(total, self.link)


@dataclass(frozen=True)
class Cuts:
    """The values that a forest compares features with, and how to find a value among them; see `bin_rows`.

    Parameters
    ----------
    cuts : (F, C) float32
    low, scale : (F,) float32
    below : (F, cells) int32
    steps : (F,) int32
    """

    cuts: NDArray[np.float32]
    low: NDArray[np.float32]
    scale: NDArray[np.float32]
    below: NDArray[np.int32]
    steps: NDArray[np.int32]


@dataclass(frozen=True)
class Forest:
    """Trees whose turns are comparisons of one feature with one cut.

    Parameters
    ----------
    nodes : (N, 5) int32
    leaves : (L, W) float64
    roots, outputs : (T,) int32
        See `trees.forest.packets.add_trees`.
    bin_kind : dtype
        uint8 or uint16; the smaller that tells all of a feature's cuts apart.
    cuts : Cuts
    base : (K,) float64
    link : {"sigmoid", "softmax", "identity"}
        As in `Trees`.
    """

    nodes: NDArray[np.int32]
    leaves: NDArray[np.float64]
    roots: NDArray[np.int32]
    outputs: NDArray[np.int32]
    bin_kind: np.dtype[np.unsignedinteger]
    cuts: Cuts
    base: NDArray[np.float64]
    link: Link

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
        proba = np.empty((len(features), len(self.base)), np.float32)
        size = min(ROWS, max(PACKET, -(-len(features) // threads)))

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
        cuts = self.cuts
        bin_rows(rows, cuts.cuts, cuts.low, cuts.scale, cuts.below, cuts.steps, bins)
        total = np.zeros((packets, n_outputs, PACKET))
        add_trees(bins, len(rows), self.nodes, self.leaves, self.roots, self.outputs, total)
        total += self.base[:, None]
        return _linked(total.transpose(0, 2, 1).reshape(-1, n_outputs)[: len(rows)], self.link)


def number_apart(split: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number the nodes of a tree, and its leaves as ~leaf, where a library numbers both together.

    Examples
    --------
    >>> number_apart(np.array([True, False, True, False, False]))
    array([ 0, -1,  1, -2, -3])
    """
    return np.where(split, split.cumsum() - 1, -(~split).cumsum())


def last_up_to(cut: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the greatest float32 that is at most each cut, so that a float32 is up to the one if to the other."""
    with np.errstate(over="ignore"):
        last = cut.astype(np.float32)
    return np.where(last > cut, np.nextafter(last, np.float32(-np.inf)), last)


def plant(trees: Trees) -> Forest | None:
    """Make a forest of trees; None if a feature has more cuts than a whole number of 16 bits can tell apart."""
    own = [np.unique(trees.cut[trees.feature == index]) for index in range(trees.n_features)]
    most = max((len(cuts) for cuts in own), default=0)
    # The greatest number is NaN's, and one more than a cut's place must not reach it.
    kind = next((kind for kind in (np.uint8, np.uint16) if most < np.iinfo(kind).max), None)
    if kind is None:
        return None
    place = np.zeros(len(trees.feature), np.int32)
    for index, cuts in enumerate(own):
        here = trees.feature == index
        place[here] = np.searchsorted(cuts, trees.cut[here])
    # A bin of NaN, moved on by one, turns over to 0 and goes left with the least.
    shift = trees.missing.astype(np.int32)
    nodes = np.stack([trees.feature, shift, place + shift, trees.left, trees.right], axis=1).astype(np.int32)
    return Forest(
        nodes, trees.leaves, trees.roots, trees.outputs, np.dtype(kind), _tabulate(own), trees.base, trees.link
    )


def _linked(total: NDArray[np.float64], link: Link) -> NDArray[np.float32]:
    """Turn sums (n, K) into probabilities."""
    if link == "softmax":
        total = np.exp(total - total.max(axis=1, keepdims=True))
        total /= total.sum(axis=1, keepdims=True)
    elif link == "sigmoid":
        total = 1 / (1 + np.exp(-total))
    return total.astype(np.float32)


def _tabulate(cuts: list[NDArray[np.float32]]) -> Cuts:
    low, scale = np.zeros(len(cuts), np.float32), np.zeros(len(cuts), np.float32)
    below, steps = np.zeros((len(cuts), CELLS), np.int32), np.zeros(len(cuts), np.int32)
    for index, own in enumerate(cuts):
        if len(own) == 0:
            continue
        with np.errstate(all="ignore"):
            width = CELLS / (own[-1] - own[0])
        low[index], scale[index] = own[0], width if np.isfinite(width) else 0
        cells = [find_cell(value, low[index], scale[index], CELLS) for value in own]
        counts = np.bincount(cells, minlength=CELLS)
        below[index] = counts.cumsum() - counts
        steps[index] = 2 ** (int(counts.max()).bit_length() - 1)
    longest = max(map(len, cuts), default=0)
    table = np.full((len(cuts), longest + 2 * int(steps.max(initial=0))), np.inf, np.float32)
    for row, own in zip(table, cuts, strict=True):
        row[: len(own)] = own
    return Cuts(table, low, scale, below, steps)
