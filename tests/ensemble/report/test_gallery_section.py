import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from data.scenes.blocks import split_scene
from data.scenes.classes import Classes
from ensemble.decide.decision.cleaning import Cleaning
from ensemble.maps import open_maps
from ensemble.report.gallery_section import draw_gallery, errors_text, rank_scenes, showing_order
from ensemble.report.thumbnails import draw_thumbnails
from ensemble.score.evaluation import BLEND, Evaluation

from ..conftest import KELP, LAND, quicklook

TAGS = Classes("multilabel", (0, 1, 2), ("haze", "road", "water"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))


NONE = Cleaning()


@dataclass(frozen=True)
class Cut:
    """A decision that takes the first member at a half."""

    cleaning: Cleaning = NONE

    def apply(self, stored):
        return (stored[0] >= 32_767).astype(np.uint8)


class Nothing(Cut):
    """A decision that takes all for background."""

    def apply(self, stored):
        return np.zeros_like(stored[0], np.uint8)


def evaluate(catalogue, counts):
    """Return a nested evaluation of given counts."""
    folds = {scene.id: scene.fold for scene in catalogue.scenes}
    groups = {scene.id: scene.group for scene in catalogue.scenes}
    decisions = {fold: {BLEND: Cut()} for fold in catalogue.folds}
    return Evaluation("train", {BLEND: counts}, groups, BLEND, folds, decisions)


def draw(catalogue, directories, scores, counts=None, **options):
    counts = counts or {scene.id: np.array([[[5, 1, 0], [2, 3, 0]]]) for scene in catalogue.scenes}
    maps = open_maps(directories, catalogue.classes)
    return draw_gallery(evaluate(catalogue, counts), scores, maps, catalogue, quicklook, **options)


@pytest.fixture
def coast(make_catalogue, make_members):
    catalogue = make_catalogue(n_scenes=9)
    return catalogue, make_members(catalogue, a=(3, 0), b=(1, 1))


def test_of_equally_many_wrong_the_worse_score_comes_first_and_scenes_without_one_not_at_all(coast):
    scores = {f"s{number}": [0.5, 0.1, 0.9, np.nan, 0.3, 0.2, 0.8, 0.7, 0.6][number] for number in range(9)}
    shown = draw(*coast, scores)
    assert [scene.id for scene in shown] == ["s1", "s5", "s4", "s0", "s8", "s7", "s6", "s2"]
    assert [scene.folds for scene in shown] == [(int(scene.id[1:]) % 3,) for scene in shown]
    assert {len(scene.pictures) for scene in shown} == {6}


def test_the_scene_with_more_wrong_comes_first_whatever_its_score(coast):
    counts = {f"s{number}": np.array([[[50, number % 5, 0], [number // 5, 0, 0]]]) for number in range(9)}
    shown = draw(*coast, {name: 0.1 * int(name[1:]) for name in counts}, counts)
    wrong = [int(counts[scene.id].sum() - np.trace(counts[scene.id][0])) for scene in shown]
    assert wrong == sorted(wrong, reverse=True)


def test_no_more_is_drawn_than_the_file_can_hold(coast):
    scores = {f"s{number}": number / 10 for number in range(9)}
    whole = sum(len(picture) for scene in draw(*coast, scores) for picture in scene.pictures)
    shown = draw(*coast, scores, budget=whole // 2)
    assert 2 <= len(shown) < 9
    assert sum(len(picture) for scene in shown for picture in scene.pictures) <= whole // 2
    assert [scene.id for scene in shown] == sorted(scene.id for scene in shown)
    assert {shown[0].id, shown[-1].id} == {"s0", "s8"}, "the worst and the best are among them"


@pytest.mark.parametrize("n", [1, 2, 7, 100, 1000])
def test_every_scene_has_its_turn_once_and_early_turns_are_spread_over_all_ranks(n):
    order = list(showing_order(range(n)))
    assert sorted(order) == list(range(n))
    early = np.sort(order[: n // 5])
    if n >= 100:
        assert set(range(n // 10)) <= set(early.tolist()), "half of the turns are for the worst"
        assert np.diff(early).max() <= n // 6


def test_scenes_with_most_wrong_of_what_was_predicted_come_first():
    counts = {"few": [[90, 4, 0], [6, 0, 0]], "blank": [[20, 1, 70], [0, 9, 0]], "many": [[60, 20, 0], [20, 0, 0]]}
    tables = {scene: np.array([table]) for scene, table in counts.items()}
    scores = {"few": 0.0, "blank": 0.9, "many": 0.0, "nothing": math.nan}
    assert rank_scenes(scores, tables) == ["many", "few", "blank"]


def test_errors_of_a_scene_are_put_in_words():
    assert errors_text(np.array([[[90, 4, 0], [6, 0, 0]]]), KELP) == "10% of the predicted pixels wrong, mostly missed"
    assert (
        errors_text(np.array([[[90, 8, 0], [1, 1, 0]]]), KELP)
        == "9.0% of the predicted pixels wrong, mostly false alarms"
    )
    assert errors_text(np.array([[[9, 0, 0], [0, 1, 0]]]), KELP) == "nothing wrong"
    blank = np.array([[[80, 5, 10], [0, 5, 0]]])
    assert (
        errors_text(blank, KELP) == "5.6% of the predicted pixels wrong, mostly false alarms; 10% without a prediction"
    )
    several = np.array([[[8, 0, 0, 0], [0, 8, 2, 0], [1, 0, 0, 1]]])
    assert errors_text(several, LAND) == (
        "16% of the predicted pixels wrong, mostly rock taken for kelp; 5.0% without a prediction"
    )
    tags = np.array([[[1, 1, 0], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]], [[1, 0, 0], [0, 0, 1]]])
    assert errors_text(tags, TAGS) == "2 missed, 1 false alarm"
    assert errors_text(np.array([[[1, 0, 0], [0, 0, 0]]]), TAGS) == "0 missed, 0 false alarms"


def test_the_blocks_of_a_scene_are_one_picture_each_by_the_decision_of_its_fold(coast):
    catalogue, directories = coast
    first, second = catalogue.scenes[:2]
    blocks = [replace(block, fold=fold) for fold, block in enumerate(split_scene(first, 20))]
    assert len(blocks) > 1
    parts = [*blocks, second]
    blocked = replace(catalogue, scenes=tuple(parts))
    counts = {scene.id: np.array([[[5, 1, 0], [2, 3, 0]]]) for scene in parts}
    shown = draw(blocked, directories, {first.id: 0.2, second.id: 0.7}, counts)
    assert [(scene.id, scene.folds) for scene in shown] == [(first.id, tuple(range(len(blocks)))), (second.id, (1,))]
    # The whole scene is drawn as it is when it is no blocks.
    [whole, _] = draw(replace(catalogue, scenes=(first, second)), directories, {first.id: 0.2, second.id: 0.7})
    assert whole.pictures == shown[0].pictures


def test_every_block_is_drawn_by_the_decision_of_its_fold(coast):
    catalogue, directories = coast
    first = catalogue.scenes[0]
    left, *others = split_scene(first, 20)
    maps = open_maps(directories, catalogue.classes)

    def drawn(other):
        decided = [(left, Cut()), *((block, other) for block in others)]
        return draw_thumbnails(decided, maps, catalogue.classes, quicklook, 256)

    assert drawn(Cut()) != drawn(Nothing())
    assert drawn(Cut())[:-2] == drawn(Nothing())[:-2]
