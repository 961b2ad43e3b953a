"""Trees applied to packets of 64 pixels: neighbours mostly go the same way, and one comparison decides it for all.

Features are first turned into bins: how many of the values that the trees split a feature at are exceeded. A model
splits nowhere else, so nothing is lost. What 64 pixels do at a node is then one comparison of 64 small whole numbers,
whose outcome is a mask of 64 bits. Source of the idea: ray packets (Wald et al. 2001), for trees QuickScorer (Lucchese
et al. 2015).
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.extending import intrinsic
from numpy.typing import NDArray

from data.compiled import compiled

__all__ = ["PACKET", "add_trees", "bin_rows"]

PACKET = 64
"""Pixels that pass a node together: as many as a mask of 64 bits can tell apart."""

BLOCK = 16
"""Packets that meet a tree one after the other: their bins stay in the second cache, the tree in the first."""

SPARSE = 8
"""A leaf that at most this many pixels of a packet reach is added to one after the other."""


def built_in(function: Callable[..., tuple[Any, Callable[..., Any]]]) -> Callable[..., Any]:
    """Make a function for compiled code of one that returns its signature and what writes its instructions."""
    return cast(Callable[..., Any], intrinsic(function))


@built_in
def _left(context: Any, bins: Any, at: Any, shift: Any, split: Any) -> tuple[Any, Callable[..., Any]]:
    """Return which of 64 bins from ``at`` on, plus ``shift``, are at most ``split``, as a mask of 64 bits."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = target.make_array(signature.args[0])(target, builder, arguments[0])
        kind = ir.IntType(signature.args[0].dtype.bitwidth)
        many = ir.VectorType(kind, PACKET)

        def spread(value: Any) -> Any:
            first = builder.insert_element(
                ir.Constant(many, ir.Undefined), builder.trunc(value, kind), ir.IntType(32)(0)
            )
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), PACKET), [0] * PACKET)
            return builder.shuffle_vector(first, first, lanes)

        pointer = builder.bitcast(builder.gep(array.data, [arguments[1]]), many.as_pointer())
        values = builder.load(pointer, align=1)
        left = builder.icmp_unsigned("<=", builder.add(values, spread(arguments[2])), spread(arguments[3]))
        return builder.bitcast(left, ir.IntType(PACKET))

    return types.uint64(bins, types.int64, types.int64, types.int64), code


@built_in
def _lowest(context: Any, mask: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the place of a mask's lowest bit."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.uint64), code


@built_in
def _count(context: Any, mask: Any) -> tuple[Any, Callable[..., Any]]:
    """Return how many bits of a mask are set."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), code


@compiled
def find_cell(value: float, low: float, scale: float, cells: int) -> int:
    """Return the cell of a value, of those that a feature's range is divided into; never falls as the value grows."""
    place = (value - low) * scale
    if not place > 0:
        return 0
    return int(place) if place < cells - 1 else cells - 1


@compiled
def bin_rows(
    rows: NDArray[np.float32],
    splits: NDArray[np.float32],
    low: NDArray[np.float32],
    scale: NDArray[np.float32],
    below: NDArray[np.int32],
    steps: NDArray[np.int32],
    bins: NDArray[Any],
) -> None:
    """Fill in the bins of rows: find a value's cell, then the split value among the few in the cell.

    Parameters
    ----------
    rows : (n, F) float32
        NaN where a feature has no value.
    splits : (F, S) float32
        Split values in order, then +inf, as far as a step of the search may look.
    low, scale : (F,) float32
        See `find_cell`.
    below : (F, cells) int32
        Split values in lower cells.
    steps : (F,) int32
        First step of the search in a cell, a power of 2.
    bins : (ceil(n / 64), F, 64) uint8 or uint16
        Filled: how many split values lie below each value; the type's greatest number for NaN. Past the last row
        anything.
    """
    packets, width, _ = bins.shape
    n, cells = len(rows), below.shape[1]
    value, found = np.empty(PACKET, np.float32), np.empty(PACKET, np.int32)
    for start in range(0, packets, BLOCK):
        for feature in range(width):
            values, under = splits[feature], below[feature]
            for packet in range(start, min(start + BLOCK, packets)):
                first = packet * PACKET
                if first + PACKET <= n:
                    for i in range(PACKET):
                        value[i] = rows[first + i, feature]
                else:
                    for i in range(PACKET):
                        value[i] = rows[min(first + i, n - 1), feature]
                for i in range(PACKET):
                    found[i] = find_cell(value[i], low[feature], scale[feature], cells)
                for i in range(PACKET):
                    found[i] = under[found[i]]
                step = steps[feature]
                while step:
                    for i in range(PACKET):
                        found[i] += step if values[found[i] + step - 1] < value[i] else 0
                    step //= 2
                for i in range(PACKET):
                    bins[packet, feature, i] = -1 if np.isnan(value[i]) else found[i]


@compiled
def add_trees(
    bins: NDArray[Any],
    n: int,
    nodes: NDArray[np.int32],
    leaves: NDArray[np.float64],
    roots: NDArray[np.int32],
    outputs: NDArray[np.int32],
    total: NDArray[np.float64],
) -> None:
    """Add the leaf that each row ends in, of every tree.

    Parameters
    ----------
    bins : (ceil(n / 64), F, 64) uint8 or uint16
    n : int
        Rows.
    nodes : (N, 5) int32
        Feature, shift, split, left, right: a row goes left if its bin + shift, modulo the bins' type, is at most the
        split's number. What is negative is a leaf, ~leaf.
    leaves : (L, W) float64
    roots, outputs : (T,) int32
        Node or ~leaf that each tree begins with, and the first of the W outputs that it adds to.
    total : (ceil(n / 64), K, 64) float64
        Added to.
    """
    packets, width, _ = bins.shape
    flat = bins.reshape(-1)
    waiting = np.empty(len(nodes) + 1, np.int32)
    waiting_masks = np.empty(len(nodes) + 1, np.uint64)
    everyone = ~np.uint64(0)
    for start in range(0, packets, BLOCK):
        for tree in range(len(roots)):
            output = outputs[tree]
            for packet in range(start, min(start + BLOCK, packets)):
                rows = n - packet * PACKET
                mask = everyone if rows >= PACKET else (np.uint64(1) << np.uint64(rows)) - np.uint64(1)
                node = roots[tree]
                depth = 0
                base = packet * width * PACKET
                while True:
                    while node >= 0:
                        fields = nodes[node]
                        left = mask & _left(flat, base + fields[0] * PACKET, fields[1], fields[2])
                        if left == mask:
                            node = fields[3]
                        elif left == 0:
                            node = fields[4]
                        else:
                            waiting[depth] = fields[4]
                            waiting_masks[depth] = mask ^ left
                            depth += 1
                            node = fields[3]
                            mask = left
                    few = _count(mask) <= SPARSE
                    for which in range(leaves.shape[1]):
                        leaf = leaves[~node, which]
                        sums = total[packet, output + which]
                        if few:
                            rest = mask
                            while rest:
                                sums[_lowest(rest)] += leaf
                                rest &= rest - np.uint64(1)
                        else:
                            for i in range(PACKET):
                                sums[i] += leaf if (mask >> np.uint64(i)) & np.uint64(1) else 0.0
                    if depth == 0:
                        break
                    depth -= 1
                    node = waiting[depth]
                    mask = waiting_masks[depth]
