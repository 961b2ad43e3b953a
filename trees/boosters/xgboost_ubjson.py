"""Read XGBoost's UBJSON without XGBoost: its own parser trusts sizes and children, and ends the process if they lie."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trees.forest.forest import check_children, number_nodes

__all__ = ["check_xgboost_ubjson", "read_ubjson"]

NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
WORDS = {"Z": None, "T": True, "F": False}

DEEPEST = 20

OF_NODES = ("base_weights", "default_left", "left_children", "loss_changes", "parents", "right_children",
            "split_conditions", "split_indices", "split_type", "sum_hessian")  # fmt: skip
KINDS = frozenset({"c", "float", "i", "int", "q"})
"""Of features, as XGBoost calls them."""

CATEGORIES = ("categories_nodes", "categories_segments", "categories_sizes")


def check_xgboost_ubjson(data: bytes) -> None:
    """Refuse a model that XGBoost would not survive; raises ValueError, KeyError or TypeError.

    Sizes agree, features are known, and each node is the child of one node before it.
    """
    learner = read_ubjson(data)["learner"]
    about, booster = learner["learner_model_param"], learner["gradient_booster"]
    # That of "dart" is what "gbtree" is, with weights beside it.
    weights, booster = booster.get("weight_drop"), booster.get("gbtree", booster)
    if booster["name"] != "gbtree":
        raise ValueError(f"a booster {booster['name']}")
    model, n_features = booster["model"], int(about["num_feature"])
    n_outputs = max(int(about["num_class"]), int(about.get("num_target", "1")), 1)
    n_trees, parallel = (int(model["gbtree_model_param"][key]) for key in ("num_trees", "num_parallel_tree"))
    for names in (learner["feature_names"], learner["feature_types"]):
        if len(names) not in (0, n_features) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{len(names)} names of {n_features} features")
    if not KINDS.issuperset(learner["feature_types"]):
        raise ValueError("features of kinds that are none")
    np.array(str(about["base_score"]).strip("[]").split(","), np.float64)
    outputs, rounds = np.asarray(model["tree_info"]), np.asarray(model["iteration_indptr"])
    if not len(model["trees"]) == len(outputs) == n_trees or not ((outputs >= 0) & (outputs < n_outputs)).all():
        raise ValueError(f"{len(model['trees'])} trees, not {n_trees}, of {n_outputs} outputs")
    if rounds[0] != 0 or rounds[-1] != n_trees or (np.diff(rounds) < 1).any() or not 1 <= parallel <= n_trees:
        raise ValueError("rounds of other trees")
    if weights is not None and len(weights) != n_trees:
        raise ValueError("weights of other trees")
    if any(len(values) for values in model.get("cats", {}).values()):
        raise ValueError("names of categories")
    for number, tree in enumerate(model["trees"]):
        if tree["id"] != number:
            raise ValueError("trees that are not numbered through")
        _check_tree(tree, n_features)


def read_ubjson(data: bytes) -> Any:
    """Return what an UBJSON file holds; raises ValueError, KeyError or TypeError where it is none.

    Examples
    --------
    >>> read_ubjson(b"{U" + bytes([1]) + b"a[$U#U" + bytes([2, 5, 6]) + b"}")
    {'a': array([5, 6], dtype=uint8)}
    """
    reader = _Reader(data)
    value = reader.value(reader.mark())
    if reader.left:
        raise ValueError("bytes after its end")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._level = memoryview(data), 0, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= self.left:
            raise ValueError(f"{count} bytes where {self.left} are left")
        self._at += count
        return self._data[self._at - count : self._at]

    def mark(self) -> str:
        return self.take(1).tobytes().decode("ascii")

    def next_is(self, mark: str) -> bool:
        found = self._data[self._at : self._at + 1] == mark.encode()
        self._at += found
        return found

    def size(self) -> int:
        size = self.value(self.mark())
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"the size {size}")
        return size

    def text(self) -> str:
        return self.take(self.size()).tobytes().decode("utf-8")

    def value(self, mark: str) -> Any:
        if mark in WORDS:
            return WORDS[mark]
        if mark == "S":
            return self.text()
        if mark == "{":
            return self.nested(self.members)
        if mark == "[":
            return self.nested(self.elements)
        kind = np.dtype(NUMBERS[mark])
        return np.frombuffer(self.take(kind.itemsize), kind)[0].item()

    def nested(self, read: Any) -> Any:
        self._level += 1
        if self._level > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
        value = read()
        self._level -= 1
        return value

    def members(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while not self.next_is("}"):
            name = self.text()
            if name in members:
                raise ValueError(f"{name} twice")
            members[name] = self.value(self.mark())
        return members

    def elements(self) -> Any:
        if self.next_is("$"):
            kind = np.dtype(NUMBERS[self.mark()])
            if not self.next_is("#"):
                raise ValueError("an array without its size")
            count = self.size()
            return np.frombuffer(self.take(count * kind.itemsize), kind).astype(kind.newbyteorder("="))
        if self.next_is("#"):
            count = self.size()
            if count > self.left:
                raise ValueError(f"an array of {count} values where {self.left} bytes are left")
            return [self.value(self.mark()) for _ in range(count)]
        elements = []
        while not self.next_is("]"):
            elements.append(self.value(self.mark()))
        return elements


def _check_tree(tree: Mapping[str, Any], n_features: int) -> None:
    about = tree["tree_param"]
    n_nodes = int(about["num_nodes"])
    if int(about["num_feature"]) != n_features or int(about.get("size_leaf_vector", "1")) not in (0, 1) or n_nodes < 1:
        raise ValueError(f"a tree of {about['num_feature']} features and {n_nodes} nodes")
    if int(about["num_deleted"]) != 0:
        raise ValueError("a tree with nodes that were removed")
    values: dict[str, NDArray[Any]] = {name: np.asarray(tree[name]) for name in OF_NODES}
    for name, nodes in values.items():
        if nodes.shape != (n_nodes,):
            raise ValueError(f"{nodes.shape} values of {name}, not {n_nodes}")
    left, right = values["left_children"].astype(np.int64), values["right_children"].astype(np.int64)
    split, feature, kind = left >= 0, values["split_indices"], values["split_type"]
    if (left[~split] != -1).any() or (right[~split] != -1).any() or (right[split] < 0).any():
        raise ValueError("nodes of one child")
    if max(left.max(), right.max()) >= n_nodes:
        raise ValueError("children that are none")
    parents = np.full(n_nodes, -1)
    parents[left[split]] = parents[right[split]] = np.flatnonzero(split)
    # XGBoost writes its root's parent as the greatest number.
    if (parents[1:] != values["parents"][1:]).any():
        raise ValueError("children of other parents")
    number = number_nodes(split)
    check_children(number[left[split]], number[right[split]], int((~split).sum()))
    if not ((feature[split] >= 0) & (feature[split] < n_features)).all() or not np.isin(kind, (0, 1)).all():
        raise ValueError("a split of a feature that is none")
    _check_categories(tree, np.flatnonzero(kind == 1))


def _check_categories(tree: Mapping[str, Any], nodes: NDArray[np.intp]) -> None:
    found, starts, sizes = (np.asarray(tree[name], np.int64) for name in CATEGORIES)
    categories = np.asarray(tree["categories"], np.int64)
    if not np.array_equal(found, nodes) or not len(starts) == len(sizes) == len(nodes):
        raise ValueError("categories of other nodes")
    if (sizes < 1).any() or not np.array_equal(starts, np.cumsum(sizes) - sizes) or sizes.sum() != len(categories):
        raise ValueError("categories of other sizes")
    if ((categories < 0) | (categories >= 2**24)).any():
        raise ValueError("categories that are none")
