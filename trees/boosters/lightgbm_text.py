"""Read LightGBM's text without LightGBM: its own parser trusts sizes and children, and ends the process if they lie."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trees.forest.forest import check_children

__all__ = ["fields_of", "numbers_of", "sound_lightgbm_text", "split_trees"]

END = "end of trees\n"

OBJECTIVE = re.compile(r"[a-z_0-9]+( [a-z_0-9]+:[0-9.e+-]+)*")

SPLITS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
"""Of each node of a tree; LightGBM does without the others."""

OPTIONAL = ("split_gain", "internal_value", "internal_weight", "internal_count")
OF_LEAVES = ("leaf_weight", "leaf_count")

CATEGORICAL = 1
"""Of bit 1 of LightGBM's ``decision_type``."""


def sound_lightgbm_text(text: str) -> str:
    """Return what LightGBM survives reading: the head and the trees; raises ValueError or KeyError without it.

    Sizes agree, numbers are numbers, features are known, and each node and leaf is the child of one node before it.
    The parameters, which predict nothing and which its parser trusts no less, are left out.
    """
    if "\0" in text:
        raise ValueError("a text that is none")
    head, bodies = split_trees(text)
    about = fields_of(head)
    names, infos = about["feature_names"].split(" "), about["feature_infos"].split(" ")
    n_features, per_round = int(about["max_feature_idx"]) + 1, int(about["num_tree_per_iteration"])
    if not len(names) == len(infos) == n_features or not 1 <= per_round <= max(len(bodies), 1):
        raise ValueError(f"{n_features} features of {len(names)} names, {per_round} trees a round")
    if int(about["num_class"]) != per_round or len(bodies) % per_round:
        raise ValueError(f"{len(bodies)} trees of {about['num_class']} classes, {per_round} a round")
    if not head.startswith("tree\nversion=v") or not OBJECTIVE.fullmatch(about.get("objective", "none")):
        raise ValueError("a head of another kind of model")
    sizes = [len(f"Tree={number}\n{body}".encode()) for number, body in enumerate(bodies)]
    if [int(size) for size in about["tree_sizes"].split()] != sizes:
        raise ValueError("trees of other sizes than its head says")
    for body in bodies:
        _check_tree(fields_of(body), n_features)
    return text.partition(END)[0] + END


def split_trees(text: str) -> tuple[str, list[str]]:
    """Return the head of a text, and what it says of each tree."""
    model, end, _ = text.partition(END)
    if not end:
        raise ValueError("no end of its trees")
    head, *trees = re.split(r"^Tree=(\d+)\n", model, flags=re.MULTILINE)
    if trees[::2] != [str(number) for number in range(len(trees) // 2)]:
        raise ValueError("trees that are not numbered through")
    return head, trees[1::2]


def fields_of(text: str) -> dict[str, str]:
    """Return the values of lines such as ``num_leaves=7``; a name that stands twice is a KeyError."""
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if equals and name in fields:
            raise KeyError(f"{name} twice")
        if equals:
            fields[name] = value
    return fields


def numbers_of(text: str, kind: type[np.number]) -> NDArray[Any]:
    """Return numbers with spaces between them."""
    return np.array(text.split(), kind)


def _check_tree(fields: Mapping[str, str], n_features: int) -> None:
    n_leaves, n_categorical = int(fields["num_leaves"]), int(fields["num_cat"])
    n_nodes = n_leaves - 1
    if n_nodes < 0 or n_categorical < 0 or int(fields.get("is_linear", "0")) not in (0, 1):
        raise ValueError(f"a tree of {n_leaves} leaves")
    _count(fields, "leaf_value", np.float64, n_leaves)
    for name in OF_LEAVES:
        if fields.get(name):
            _count(fields, name, np.float64, n_leaves)
    float(fields.get("shrinkage", "1"))
    if int(fields.get("is_linear", "0")):
        _check_linear(fields, n_leaves, n_features)
    if n_nodes == 0:
        return
    feature, threshold, kind, left, right = (_count(fields, name, np.float64, n_nodes) for name in SPLITS)
    for name in OPTIONAL:
        if fields.get(name):
            _count(fields, name, np.float64, n_nodes)
    if not ((feature >= 0) & (feature < n_features) & (feature % 1 == 0)).all():
        raise ValueError("a split of a feature that is none")
    if not ((kind >= 0) & (kind < 16) & (kind % 1 == 0)).all() or np.isnan(threshold).any():
        raise ValueError("a split of another kind")
    check_children(left, right, n_leaves)
    _check_categories(fields, n_categorical, threshold[kind.astype(int) & CATEGORICAL == CATEGORICAL])


def _check_categories(fields: Mapping[str, str], n_categorical: int, chosen: NDArray[Any]) -> None:
    bounds = words = np.zeros(1)
    if n_categorical:
        bounds = _count(fields, "cat_boundaries", np.float64, n_categorical + 1)
        words = numbers_of(fields["cat_threshold"], np.uint32)
    rises = bounds[0] == 0 and (np.diff(bounds) > 0).all() and (not n_categorical or bounds[-1] == len(words))
    if not rises or not ((chosen >= 0) & (chosen < n_categorical) & (chosen % 1 == 0)).all():
        raise ValueError("categories of a split that are none")


def _check_linear(fields: Mapping[str, str], n_leaves: int, n_features: int) -> None:
    _count(fields, "leaf_const", np.float64, n_leaves)
    per_leaf = _count(fields, "num_features", np.int64, n_leaves)
    total = int(per_leaf.sum())
    used = _count(fields, "leaf_features", np.int64, total)
    _count(fields, "leaf_coeff", np.float64, total)
    if (per_leaf < 0).any() or not ((used >= 0) & (used < n_features)).all():
        raise ValueError("linear leaves of features that are none")


def _count(fields: Mapping[str, str], name: str, kind: type[np.number], count: int) -> NDArray[Any]:
    values = numbers_of(fields[name], kind)
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers of {name}, not {count}")
    return values
