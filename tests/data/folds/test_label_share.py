from itertools import pairwise

import numpy as np
import pytest

from data.errors import FoldError
from data.folds.given import read_folds
from data.folds.label_share import learned_groups
from data.scenes.scene import Scene
from data.scenes.windows import Grid


def groups_of(n_groups=60, folds=3, classes=4):
    rng = np.random.default_rng(0)
    group = np.repeat([f"g{number:02}" for number in range(n_groups)], 2)
    fold = np.repeat(np.arange(n_groups) % folds, 2)
    counts = rng.integers(0, 50, (2 * n_groups, classes)) * (rng.random((2 * n_groups, classes)) < 0.4)
    counts[:6] = 0
    return group.tolist(), fold.tolist(), counts


def test_a_share_of_the_labelled_groups_of_each_fold_is_chosen():
    group, fold, counts = groups_of()
    labelled = {name for name, row in zip(group, counts, strict=True) if row.any()}
    fold_of = dict(zip(group, fold, strict=True))
    for share in (0.05, 0.1, 0.5, 1.0):
        learned = learned_groups(group, fold, counts, share, seed=1)
        assert learned <= labelled
        for number in range(3):
            of_fold = {name for name in labelled if fold_of[name] == number}
            assert len(learned & of_fold) == max(1, np.rint(share * len(of_fold)))


def test_fewer_labels_are_among_more_of_them_and_every_class_is_learned():
    group, fold, counts = groups_of()
    chosen = [learned_groups(group, fold, counts, share, seed=2) for share in (0.1, 0.2, 0.6, 1.0)]
    assert all(small <= large for small, large in pairwise(chosen))
    rows = np.array([name in chosen[0] for name in group])
    assert (counts[rows].sum(axis=0) > 0).all()
    assert chosen[0] == learned_groups(group, fold, counts, 0.1, seed=2)


def test_folds_that_are_given_are_read_and_gaps_are_named(tmp_path):
    scenes = [Scene(name, "train", (), Grid(4, 4)) for name in ("a", "b", "c")]
    path = tmp_path / "folds.csv"
    path.write_text("id;fold;note\na;10;x\nb;2;\nc;10;\nd;7;\n")
    assert read_folds(scenes, path) == {"a": 1, "b": 0, "c": 1}
    for text, message in (
        ("id,fold\na,1\nb,2\n", "expected a fold for each of 3 training scenes, got none for c"),
        ("id,fold\na,1\nb,2\nc,1\na,2\n", "expected one fold for a, got 2"),
        ("id,fold\na,1\nb,1\nc,1\n", "expected at least two folds, got 1"),
        ("id,part\na,1\n", "expected the columns id and fold, got id, part"),
    ):
        path.write_text(text)
        with pytest.raises(FoldError, match=message):
            read_folds(scenes, path)
