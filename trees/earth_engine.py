"""Write trees as text that `ee.Classifier.decisionTreeEnsemble` reads: a line a node, as R prints trees.

    1) root 9999 9999 9999
    2) nir<=0.25 9999 9999 9999
    3) nir>0.25 9999 9999 0.75 *

The children of node n are 2 n and 2 n + 1; a leaf ends with its value and an asterisk.
"""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.files import read_json, require_replaceable, require_suffix, write_json
from trees.forest.forest import Trees
from trees.member import TreeMember

__all__ = ["export_trees", "write_trees"]

logger = logging.getLogger(__name__)

DEEPEST = 30
"""Levels below the root: numbers of nodes are 32-bit integers."""

MOST_BYTES = 10 * 2**20
"""Of one request to Earth Engine: a larger file must be uploaded as an asset first."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
FORMAT = "terrablend trees for Earth Engine"


def export_trees(member: TreeMember, path: Path, folds: Sequence[int] | None = None) -> None:
    """Write a member's boosters, what their columns are, and how they are put together, as JSON.

    Parameters
    ----------
    member : TreeMember
        Of pixels.
    path : Path
        Ends in ``.json``.
    folds : sequence of int, optional
        All by default.

    Raises
    ------
    MemberError
        If trees of this kind, or so deep, cannot be written.
    OutputError
        If there is a file of this name that is no earlier export.
    """
    require_suffix(path, ".json")
    require_replaceable(path, _is_ours)
    columns = member.feature_set.describe()
    names = [str(column["name"]) for column in columns]
    odd = [name for name in names if not NAME.fullmatch(name)]
    if odd:
        raise MemberError(
            f"member {member.name}: expected columns of letters, digits and _, as bands of Earth Engine are called, "
            f"got {', '.join(odd[:3])}. Leave them out with features.exclude, or rename them."
        )
    boosters = []
    for fold in member.folds if folds is None else folds:
        trees = _read(member, fold)
        classes = write_trees(trees, names)
        boosters.append({"fold": fold, "base": trees.base.tolist(), "link": trees.link, "trees": classes})
    what = "mean over boosters of link(base + sum of trees), by class"
    write_json(path, {"format": FORMAT, "member": member.name, "columns": columns, "what": what, "boosters": boosters})
    size = path.stat().st_size
    logger.info("member %s: %d boosters of %d columns → %s", member.name, len(boosters), len(names), path)
    if size > MOST_BYTES:
        logger.warning(
            "%s: %.0f MB, more than Earth Engine takes in one request. Upload the trees as an asset, or grow fewer.",
            path,
            size / 1e6,
        )


def write_trees(trees: Trees, names: Sequence[str]) -> list[list[str]]:
    """Return the text of each tree, by class.

    Parameters
    ----------
    trees : Trees
    names : sequence of str
        Of the columns.

    Raises
    ------
    MemberError
        If a tree is deeper than node numbers reach.
    """
    classes: list[list[str]] = [[] for _ in trees.base]
    for root, output in zip(trees.roots.tolist(), trees.outputs.tolist(), strict=True):
        for column in range(trees.leaves.shape[1]):
            lines = _lines(trees, root, trees.leaves[:, column], names)
            classes[output + column].append("\n".join(lines))
    return classes


def _lines(trees: Trees, root: int, leaves: NDArray[np.float64], names: Sequence[str]) -> Iterator[str]:
    left, right, splits = trees.left, trees.right, trees.split
    if root < 0:
        # A tree of one leaf: both sides of any split say the same.
        value = float(leaves[~root])
        yield "1) root 9999 9999 9999"
        yield f"2) {names[0]}<=0 9999 9999 {value!r} *"
        yield f"3) {names[0]}>0 9999 9999 {value!r} *"
        return
    yield "1) root 9999 9999 9999"
    waiting = [(root, 1)]
    while waiting:
        node, number = waiting.pop()
        if number.bit_length() > DEEPEST:
            raise MemberError(
                f"expected trees of at most {DEEPEST} levels, whose nodes Earth Engine can number, got deeper ones. "
                "Grow them with parameters: {max_depth: 12}, or fewer leaves."
            )
        # As a double it is exactly the value that pixels are compared with.
        split, name = float(splits[node]), names[trees.feature[node]]
        for child, sign, place in ((int(left[node]), "<=", 2 * number), (int(right[node]), ">", 2 * number + 1)):
            end = "9999" if child >= 0 else f"{float(leaves[~child])!r} *"
            yield f"{place}) {name}{sign}{split!r} 9999 9999 {end}"
            if child >= 0:
                waiting.append((child, place))


def _read(member: TreeMember, fold: int) -> Trees:
    booster: Any = member.boosters.get(fold)
    if booster is None:
        raise MemberError(f"member {member.name}: expected a booster of fold {fold}, got none. Train it first.")
    trees: Trees | None = booster.read_trees() if hasattr(booster, "read_trees") else None
    if trees is None:
        raise MemberError(
            f"member {member.name}: expected LightGBM or XGBoost on columns of numbers, got other trees, which are not "
            "written as text. Train a member with booster: lightgbm."
        )
    return trees


def _is_ours(path: Path) -> bool:
    try:
        return bool(read_json(path)["format"] == FORMAT)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError):
        return False
