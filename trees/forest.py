"""Fitted trees as plain arrays, which predict neighbouring pixels much faster than the library that grew them."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trees.packets import PACKET, add_trees, bin_rows, find_cell

__all__ = ["Forest", "Link", "plant"]

Link = Literal["sigmoid", "softmax"]

CELLS = 512
"""Equal parts of a feature's range, by which its cuts are found."""

ROWS = 256 * PACKET
"""Rows worked on at a time: their bins fit into a processor's cache."""


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
    leaves : (L,) float64
    roots, outputs : (T,) int32
        See `trees.packets.add_trees`.
    bin_kind : dtype
        uint8 or uint16; the smaller that tells all of a feature's cuts apart.
    cuts : Cuts
    base : (K,) float64
        What the trees' sum is added to.
    link : {"sigmoid", "softmax"}
        Of the sum to a probability.
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

        def fill(start: int) -> None:
            part = slice(start, start + ROWS)
            proba[part] = self._proba(features[part])

        starts = range(0, len(features), ROWS)
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
        if self.link == "softmax":
            total = np.exp(total - total.max(axis=1, keepdims=True))
            total /= total.sum(axis=1, keepdims=True)
        else:
            total = 1 / (1 + np.exp(-total))
        return total.transpose(0, 2, 1).reshape(-1, n_outputs)[: len(rows)].astype(np.float32)


def plant(
    nodes: Mapping[str, NDArray[np.generic]],
    leaves: NDArray[np.floating],
    roots: NDArray[np.integer],
    outputs: NDArray[np.integer],
    n_features: int,
    base: NDArray[np.floating],
    link: Link,
) -> Forest | None:
    """Make a forest of the trees of a library.

    Parameters
    ----------
    nodes : mapping to (N,) arrays
        ``feature``; ``cut`` float32: values up to it go left; ``missing`` bool: so does NaN; ``left`` and ``right``:
        a node, or ~leaf.
    leaves : (L,) float
    roots, outputs : (T,) int
        Node or ~leaf that a tree begins with, and the output that it adds to.
    n_features : int
    base : (K,) float
    link : {"sigmoid", "softmax"}

    Returns
    -------
    forest : Forest or None
        None if a feature has more cuts than a whole number of 16 bits can tell apart.
    """
    feature, cut = np.asarray(nodes["feature"], np.int32), np.asarray(nodes["cut"], np.float32)
    own = [np.unique(cut[feature == index]) for index in range(n_features)]
    most = max((len(cuts) for cuts in own), default=0)
    # The greatest number is NaN's, and one more than a cut's place must not reach it.
    kind = next((kind for kind in (np.uint8, np.uint16) if most < np.iinfo(kind).max), None)
    if kind is None:
        return None
    place = np.zeros(len(feature), np.int32)
    for index, cuts in enumerate(own):
        here = feature == index
        place[here] = np.searchsorted(cuts, cut[here])
    # A bin of NaN, moved on by one, turns over to 0 and goes left with the least.
    missing = np.asarray(nodes["missing"], np.int32)
    table = np.stack([feature, missing, place + missing, nodes["left"], nodes["right"]], axis=1)
    return Forest(
        np.ascontiguousarray(table, np.int32).reshape(-1, 5), np.asarray(leaves, np.float64),
        np.asarray(roots, np.int32), np.asarray(outputs, np.int32), np.dtype(kind), _tabulate(own),
        np.asarray(base, np.float64), link,
    )  # fmt: skip


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
