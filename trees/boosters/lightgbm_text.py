"""Read LightGBM's text without LightGBM: its own parser trusts sizes and children, and ends the process if they lie."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trees.forest.forest import check_children

__all__ = ["fields_of", "numbers_of", "sound_lightgbm_text", "split_trees"]

END = "end of trees\n"

OBJECTIVE = re.compile(r"(binary|multiclass)( [a-z_0-9]+:[0-9.e+-]+)*", re.ASCII)
"""What LightGBM makes probabilities of, with its options."""

OF_CLASSES = re.compile(r" num_class:(\S+)")

INTEGER = r"-?\d{1,18}"
NUMBER = r"(?:-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|-?inf|-?nan)"
WRITTEN: dict[type[np.number], re.Pattern[str]] = {
    kind: re.compile(f" *(?:{token}(?: +{token})*)? *", re.ASCII)
    for kind, token in ((np.int64, INTEGER), (np.uint32, r"\d{1,10}"), (np.float64, NUMBER))
}
"""Numbers that LightGBM's parser reads as Python does: of ``1_0`` or ``1.0`` it would make another integer."""

OF_NODES: Mapping[str, type[np.number]] = {
    "split_feature": np.int64, "threshold": np.float64, "decision_type": np.int64, "left_child": np.int64,
    "right_child": np.int64,
}  # fmt: skip
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
    # LightGBM takes a carriage return for the end of a line too.
    if "\0" in text or "\r" in text:
        raise ValueError("a text that is none")
    head, bodies = split_trees(text)
    about = fields_of(head)
    names, infos = about["feature_names"].split(" "), about["feature_infos"].split(" ")
    n_features, per_round = _integer(about, "max_feature_idx") + 1, _integer(about, "num_tree_per_iteration")
    if not len(names) == len(infos) == n_features or not 1 <= per_round <= max(len(bodies), 1):
        raise ValueError(f"{n_features} features of {len(names)} names, {per_round} trees a round")
    if _integer(about, "num_class") != per_round or len(bodies) % per_round:
        raise ValueError(f"{len(bodies)} trees of {about['num_class']} classes, {per_round} a round")
    objective = about["objective"]
    if not head.startswith("tree\nversion=v") or not OBJECTIVE.fullmatch(objective):
        raise ValueError("a head of another kind of model")
    if any(classes != str(per_round) for classes in OF_CLASSES.findall(objective)):
        raise ValueError(f"an objective of other classes than {per_round}")
    sizes = [len(f"Tree={number}\n{body}".encode()) for number, body in enumerate(bodies)]
    if _numbers(about, "tree_sizes", np.int64).tolist() != sizes:
        raise ValueError("trees of other sizes than its head says")
    for body in bodies:
        _check_tree(fields_of(body), n_features)
    return text.partition(END)[0] + END


def split_trees(text: str) -> tuple[str, list[str]]:
    """Return the head of a text, and what it says of each tree."""
    model, end, _ = text.partition(END)
    if not end:
        raise ValueError("no end of its trees")
    head, *trees = re.split(r"^Tree=(\d+)\n", model, flags=re.MULTILINE | re.ASCII)
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
    n_leaves, n_categorical = _integer(fields, "num_leaves"), _integer(fields, "num_cat")
    n_nodes, linear = n_leaves - 1, _integer(fields, "is_linear") if "is_linear" in fields else 0
    if n_nodes < 0 or n_categorical < 0 or linear not in (0, 1):
        raise ValueError(f"a tree of {n_leaves} leaves")
    for name in ("leaf_value", *(name for name in OF_LEAVES if fields.get(name))):
        _numbers(fields, name, np.float64, n_leaves)
    _numbers({"shrinkage": "1", **fields}, "shrinkage", np.float64, 1)
    if linear:
        _check_linear(fields, n_leaves, n_features)
    if n_nodes == 0:
        return
    feature, threshold, kind, left, right = (_numbers(fields, name, of, n_nodes) for name, of in OF_NODES.items())
    for name in OPTIONAL:
        if fields.get(name):
            _numbers(fields, name, np.float64, n_nodes)
    if not ((feature >= 0) & (feature < n_features)).all():
        raise ValueError("a split of a feature that is none")
    if not ((kind >= 0) & (kind < 16)).all() or np.isnan(threshold).any():
        raise ValueError("a split of another kind")
    check_children(left, right, n_leaves)
    _check_categories(fields, n_categorical, threshold[kind & CATEGORICAL == CATEGORICAL])


def _check_categories(fields: Mapping[str, str], n_categorical: int, chosen: NDArray[Any]) -> None:
    bounds, words = np.zeros(1, np.int64), np.zeros(0, np.uint32)
    if n_categorical:
        bounds = _numbers(fields, "cat_boundaries", np.int64, n_categorical + 1)
        words = _numbers(fields, "cat_threshold", np.uint32)
    if bounds[0] != 0 or (np.diff(bounds) <= 0).any() or bounds[-1] != len(words):
        raise ValueError("categories of other sizes")
    if not ((chosen >= 0) & (chosen < n_categorical) & (chosen % 1 == 0)).all():
        raise ValueError("categories of a split that are none")


def _check_linear(fields: Mapping[str, str], n_leaves: int, n_features: int) -> None:
    _numbers(fields, "leaf_const", np.float64, n_leaves)
    per_leaf = _numbers(fields, "num_features", np.int64, n_leaves)
    if (per_leaf < 0).any() or (per_leaf > n_features).any():
        raise ValueError("linear leaves of other sizes")
    used = _numbers(fields, "leaf_features", np.int64, int(per_leaf.sum()))
    _numbers(fields, "leaf_coeff", np.float64, int(per_leaf.sum()))
    if not ((used >= 0) & (used < n_features)).all():
        raise ValueError("linear leaves of features that are none")


def _integer(fields: Mapping[str, str], name: str) -> int:
    return int(_numbers(fields, name, np.int64, 1)[0])


def _numbers(fields: Mapping[str, str], name: str, kind: type[np.number], count: int | None = None) -> NDArray[Any]:
    """Return the numbers of a field, as many as there must be."""
    if not WRITTEN[kind].fullmatch(fields[name]):
        raise ValueError(f"numbers of {name} that are none")
    values = numbers_of(fields[name], kind)
    if count is not None and len(values) != count:
        raise ValueError(f"{len(values)} numbers of {name}, not {count}")
    return values
