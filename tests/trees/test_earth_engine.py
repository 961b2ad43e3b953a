"""Trees as text say what the library says, by an interpreter of that text."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from data.errors import MemberError, OutputError
from data.files import read_json
from trees.boosters.lightgbm_booster import LightGBMLearner
from trees.boosters.xgboost_booster import XGBoostLearner
from trees.earth_engine import export_trees, write_trees
from trees.forest.forest import Tree, Trees
from trees.settings import TreeSettings

from ..conftest import learn, table_of

NAMES = ("red", "nir", "NDVI")
LINE = re.compile(r"(\d+)\) (?:root|(\w+)(<=|>)(\S+)) 9999 9999 (\S+)( \*)?")


def read_text(text):
    """Return the nodes of a tree by their numbers: column, sign, value, and the value of a leaf or None."""
    nodes = {}
    for line in text.split("\n"):
        number, name, sign, split, value, leaf = LINE.fullmatch(line).groups()
        nodes[int(number)] = (name, sign, split and float(split), float(value) if leaf else None)
    assert nodes.pop(1) == (None, None, None, None)
    assert max(nodes) < 2**31
    return nodes


def follow(nodes, row):
    """Return the value of the leaf that a row, a mapping of column to value, comes to."""
    number = 1
    while True:
        children = [
            child
            for child in (2 * number, 2 * number + 1)
            if (row[nodes[child][0]] <= nodes[child][2]) == (nodes[child][1] == "<=")
        ]
        [number] = children
        if nodes[number][3] is not None:
            return nodes[number][3]


def interpret(boosters, features):
    """Return probabilities (n, K) of rows, as the file says that they are put together."""
    total = 0
    for booster in boosters:
        trees = [[read_text(text) for text in texts] for texts in booster["trees"]]
        rows = [dict(zip(NAMES, row, strict=True)) for row in features.tolist()]
        sums = np.array([[sum(follow(tree, row) for tree in one) for one in trees] for row in rows]) + booster["base"]
        if booster["link"] == "softmax":
            sums = np.exp(sums - sums.max(axis=1, keepdims=True))
            total = total + sums / sums.sum(axis=1, keepdims=True)
        else:
            total = total + 1 / (1 + np.exp(-sums))
    return total / len(boosters)


def member_of(boosters, names=NAMES):
    columns = [{"name": name, "definition": name} for name in names]
    return SimpleNamespace(
        name="trees", boosters=boosters, folds=tuple(boosters), feature_set=SimpleNamespace(describe=lambda: columns)
    )


@pytest.mark.parametrize("kind", [LightGBMLearner, XGBoostLearner])
@pytest.mark.parametrize("n_labels", [2, 3])
def test_the_text_says_what_the_library_says(kind, n_labels, tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3)).astype(np.float32).round(2)
    label = (features[:, 0] + features[:, 1] ** 2 > 0.7).astype(np.uint8) + (n_labels == 3) * (features[:, 2] > 1)
    rows = table_of(features, label.astype(np.uint8), names=NAMES)
    settings = TreeSettings(rounds=12, learning_rate=0.2, leaves=15, min_leaf_rows=5)
    boosters = {fold: learn(kind, rows, n_labels, settings, seed=fold) for fold in (0, 1)}
    path = tmp_path / "trees.json"
    export_trees(member_of(boosters), path)
    written = read_json(path)
    assert [column["name"] for column in written["columns"]] == [*NAMES]
    wanted = np.mean([booster.predict_proba(features) for booster in boosters.values()], axis=0)
    np.testing.assert_allclose(interpret(written["boosters"], features), wanted, rtol=0, atol=1e-6)

    export_trees(member_of(boosters), path, [1])
    assert [booster["fold"] for booster in read_json(path)["boosters"]] == [1]
    path.write_text('{"mine": 1}')
    with pytest.raises(OutputError):
        export_trees(member_of(boosters), path)
    assert path.read_text() == '{"mine": 1}'


def chain_of(levels):
    """Return one tree in which each node's right child is the next node."""
    left, right = -np.arange(levels) - 1, np.append(np.arange(1, levels), -levels - 1)
    tree = Tree(np.zeros(levels, int), np.arange(levels, dtype=np.float32), np.zeros(levels, bool), left, right,
                np.arange(levels + 1.0)[:, None])  # fmt: skip
    return Trees.of([tree], np.zeros(1), 1, "sigmoid")


def test_trees_that_are_too_deep_to_number_are_refused():
    [[text]] = write_trees(chain_of(30), ["red"])
    assert follow(read_text(text), {"red": 28.5}) == 29
    with pytest.raises(MemberError, match="expected trees of at most 30 levels"):
        write_trees(chain_of(31), ["red"])


def test_a_tree_of_one_leaf_says_the_same_everywhere():
    empty = np.empty(0)
    stump = Tree(empty, empty, empty, empty, empty, np.array([[0.25]]))
    [[text]] = write_trees(Trees.of([stump], np.zeros(1), 1, "sigmoid"), ["red"])
    assert [follow(read_text(text), {"red": value}) for value in (-1.0, 1.0)] == [0.25, 0.25]


def test_what_earth_engine_cannot_read_is_refused(tmp_path):
    with pytest.raises(MemberError, match=r"a file name that ends in \.json"):
        export_trees(member_of({}), tmp_path / "trees.txt")
    with pytest.raises(MemberError, match=r"expected columns of letters, digits and _, .* got nir − red"):
        export_trees(member_of({}, ("red", "nir − red")), tmp_path / "trees.json")
    with pytest.raises(MemberError, match="expected LightGBM or XGBoost"):
        export_trees(member_of({0: SimpleNamespace()}), tmp_path / "trees.json")
