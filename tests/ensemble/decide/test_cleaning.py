from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter
from scipy import ndimage

from data.errors import EnsembleError
from data.scenes.classes import Classes
from ensemble.decide.decision.cleaning import Cleaning, Rule, candidate_cleanings
from ensemble.decide.decision.label_filters import majority
from ensemble.settings import EnsembleSettings

KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
LAND = Classes("multiclass", (0, 1, 5), ("water", "rock", "kelp"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
TAGS = Classes("multilabel", (0, 1), ("haze", "road"), ((0, 0, 255), (90, 90, 90)))

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
binary = arrays(np.uint8, shapes, elements=st.sampled_from([0, 1, 1, 255]))
multiclass = arrays(np.uint8, shapes, elements=st.sampled_from([0, 1, 2, 255]))
sizes = st.builds(Cleaning, st.integers(0, 6), st.integers(0, 6), st.integers(0, 2), background=st.just(False))


def around(shape, row, col, radius=1):
    """Yield the pixels of a square within an array, its centre too."""
    for near in range(max(row - radius, 0), min(row + radius + 1, shape[0])):
        for beside in range(max(col - radius, 0), min(col + radius + 1, shape[1])):
            yield near, beside


def flood(label, row, col, belongs, diagonal):
    """Return the connected pixels around one that belong with it."""
    found, waiting = set(), [(row, col)]
    while waiting:
        here = waiting.pop()
        if here in found:
            continue
        found.add(here)
        for place in around(label.shape, *here):
            straight = place[0] == here[0] or place[1] == here[1]
            if (diagonal or straight) and belongs(label[place]):
                waiting.append(place)
    return found


def parts(label, belongs, diagonal):
    left, found = set(np.ndindex(label.shape)), []
    for row, col in np.ndindex(label.shape):
        if (row, col) in left and belongs(label[row, col]):
            found.append(flood(label, row, col, belongs, diagonal))
            left -= found[-1]
    return found


def slow_majority(label, radius):
    cleaned = label.copy()
    for row, col in np.ndindex(label.shape):
        votes = Counter(int(label[place]) for place in around(label.shape, row, col, radius) if label[place] != 255)
        own = int(label[row, col])
        if own != 255 and votes[own] < max(votes.values()):
            cleaned[row, col] = min(votes, key=lambda value: (-votes[value], value))
    return cleaned


def slow_fill(label, most, background):
    label = label.copy()
    for value in sorted(set(label.ravel().tolist()) - {255} - ({0} if background else set())):
        for hole in parts(label, lambda one, value=value: one != value, diagonal=False):
            inside = all(0 < row < label.shape[0] - 1 and 0 < col < label.shape[1] - 1 for row, col in hole)
            if len(hole) <= most and inside and all(label[place] != 255 for place in hole):
                for place in hole:
                    label[place] = value
    return label


def slow_specks(label, least, background):
    label = label.copy()
    values = set(label.ravel().tolist()) - {255} - ({0} if background else set())
    waiting = [
        part
        for value in values
        for part in parts(label, lambda one, value=value: one == value, diagonal=True)
        if len(part) < least
    ]
    while waiting:
        unsettled = set().union(*waiting)
        decided = []
        for part in waiting:
            votes = Counter(
                int(label[place])
                for pixel in part
                for place in around(label.shape, *pixel)
                if place not in unsettled and label[place] != 255
            )
            if votes:
                decided.append((part, min(votes, key=lambda value: (-votes[value], value))))
        if not decided:
            break
        for part, value in decided:
            for place in part:
                label[place] = value
            waiting.remove(part)
    return label


@given(multiclass, st.integers(1, 3))
def test_the_vote_is_that_of_a_slow_loop(label, radius):
    np.testing.assert_array_equal(Cleaning(smooth=radius).apply(label[None])[0], slow_majority(label, radius))


@given(st.one_of(binary, multiclass), st.integers(1, 8), st.booleans())
def test_filled_are_the_holes_that_a_slow_loop_fills(label, most, background):
    found = Cleaning(fill=most, background=background).apply(label[None])[0]
    np.testing.assert_array_equal(found, slow_fill(label, most, background))


@given(st.one_of(binary, multiclass), st.integers(2, 8), st.booleans())
def test_specks_go_to_whom_a_slow_loop_gives_them(label, least, background):
    found = Cleaning(min_size=least, background=background).apply(label[None])[0]
    np.testing.assert_array_equal(found, slow_specks(label, least, background))


@given(st.one_of(binary, multiclass), sizes)
def test_what_was_not_predicted_is_never_changed_nor_invented(label, clean):
    np.testing.assert_array_equal(clean.apply(label[None])[0] == 255, label == 255)


@given(st.one_of(binary, multiclass), st.integers(0, 8), st.booleans())
def test_taking_specks_twice_is_taking_them_once(label, least, background):
    clean = Cleaning(min_size=least, background=background)
    once = clean.apply(label[None])
    np.testing.assert_array_equal(clean.apply(once), once)


@given(binary, st.integers(0, 8))
def test_filling_holes_of_one_class_twice_is_filling_them_once(label, most):
    clean = Cleaning(fill=most)
    once = clean.apply(label[None])
    np.testing.assert_array_equal(clean.apply(once), once)


@given(arrays(np.bool_, shapes), st.integers(1, 8), st.integers(1, 8))
def test_no_object_is_left_that_is_too_small_and_no_hole_that_is_to_be_filled(label, least, most):
    cleaned = Cleaning(least, most).apply(np.pad(label, 1).astype(np.uint8)[None])[0]
    objects, _ = ndimage.label(cleaned, np.ones((3, 3)))
    assert (np.bincount(objects.ravel())[1:] >= least).all()
    # The first gap is the frame, what is shut in is a hole.
    gaps, _ = ndimage.label(cleaned == 0)
    assert (np.bincount(gaps.ravel())[2:] > most).all()


@given(multiclass, st.integers(0, 2), st.sampled_from([3, 4, 7]))
def test_windows_of_any_size_give_the_same_labels(label, radius, side):
    np.testing.assert_array_equal(majority(label, radius, side), majority(label, radius))


@given(multiclass, multiclass, sizes)
def test_what_lies_beyond_pixels_without_prediction_has_no_say(left, right, clean):
    # Of a width that no vote reaches across.
    height = max(len(left), len(right))
    scenes = [np.pad(half, ((0, height - len(half)), (0, 2)), constant_values=255)[None] for half in (left, right)]
    together = clean.apply(np.concatenate(scenes, axis=2))
    np.testing.assert_array_equal(together, np.concatenate([clean.apply(scene) for scene in scenes], axis=2))


def test_a_rule_holds_where_its_condition_does_and_nothing_fills_it_again():
    label = np.ones((5, 5), np.uint8)
    land = np.zeros((5, 5), bool)
    land[2, 2] = True
    clean = Cleaning(fill=4, rules=(Rule(1, "dem > 0", 0),))
    np.testing.assert_array_equal(clean.apply(label[None], {"dem > 0": land})[0], ~land)


def test_what_a_rule_cuts_off_may_be_a_speck():
    label = np.ones((3, 8), np.uint8)
    land = np.zeros((3, 8), bool)
    land[:, 2] = True
    cleaned = Cleaning(min_size=7, rules=(Rule(1, "dem > 0", 0),)).apply(label[None], {"dem > 0": land})[0]
    np.testing.assert_array_equal(cleaned, np.repeat([[0, 0, 0, 1, 1, 1, 1, 1]], 3, axis=0))


def test_a_rule_without_its_mask_is_refused():
    with pytest.raises(EnsembleError, match="expected a mask of the rule where dem > 0, got none"):
        Cleaning(rules=(Rule(1, "dem > 0", 0),)).apply(np.ones((1, 2, 2), np.uint8))


def test_cleaning_nothing_gives_the_labels_back():
    label = np.uint8([[0, 1, 255]])
    assert Cleaning().idle
    assert Cleaning(min_size=1).idle
    assert Cleaning().apply(label) is label


def test_a_cleaning_comes_back_from_json():
    clean = Cleaning(8, 4, 1, (Rule(1, "dem > 0", 0), Rule(0, "NDVI > 0.6", 1)), background=True)
    adapter = TypeAdapter(Cleaning)
    assert adapter.validate_json(adapter.dump_json(clean)) == clean


def test_candidates_begin_with_nothing_and_the_simpler_come_first():
    rules = [{"label": "kelp", "where": "dem > 0"}, {"label": "kelp", "where": "nir < 0"}]
    found = candidate_cleanings(EnsembleSettings(rules=rules), KELP)
    assert found[0] == Cleaning()
    steps = [sum(map(bool, (one.min_size, one.fill, one.smooth))) + len(one.rules) for one in found]
    assert steps == sorted(steps)
    assert len(set(found)) == len(found)
    land, dark = Rule(1, "dem > 0", 0), Rule(1, "nir < 0", 0)
    assert {one.rules for one in found} == {(), (land,), (dark,), (land, dark)}


def test_rules_always_hold_unless_cleaning_is_auto():
    rules = [{"label": "kelp", "where": "dem > 0"}]
    assert candidate_cleanings(EnsembleSettings(cleaning="none", rules=rules), KELP) == [
        Cleaning(rules=(Rule(1, "dem > 0", 0),))
    ]
    found = candidate_cleanings(EnsembleSettings(cleaning={"min_size": [0, 9]}, rules=rules), KELP)
    assert [(one.min_size, len(one.rules)) for one in found] == [(0, 1), (9, 1)]


def test_every_class_of_a_multiclass_task_has_objects():
    assert not any(one.background for one in candidate_cleanings(EnsembleSettings(), LAND))
    assert all(one.background for one in candidate_cleanings(EnsembleSettings(), KELP))


def test_tags_are_not_cleaned():
    assert candidate_cleanings(EnsembleSettings(), TAGS) == [Cleaning()]
    with pytest.raises(EnsembleError, match="multilabel"):
        candidate_cleanings(EnsembleSettings(cleaning={"fill": [3]}), TAGS)


def test_a_rule_of_many_classes_says_what_the_label_becomes():
    with pytest.raises(EnsembleError, match=r"expected what kelp becomes where dem > 0.*water, rock, kelp"):
        candidate_cleanings(EnsembleSettings(rules=[{"label": "kelp", "where": "dem > 0"}]), LAND)
    rules = [{"label": "kelp", "where": "dem > 0", "becomes": "rock"}]
    assert candidate_cleanings(EnsembleSettings(cleaning="none", rules=rules), LAND)[0].rules == (
        Rule(2, "dem > 0", 1),
    )


def test_a_rule_of_an_unknown_class_names_the_nearest():
    with pytest.raises(EnsembleError, match=r"got kelb\. Nearest: kelp"):
        candidate_cleanings(EnsembleSettings(rules=[{"label": "kelb", "where": "dem > 0", "becomes": "kelp"}]), KELP)


def test_a_cleaning_says_what_it_does():
    assert Cleaning().words == ""
    assert Cleaning(8, 4, 1, (Rule(1, "dem > 0", 0),)).words == (
        "objects under 8 pixels removed, holes of up to 4 pixels filled, a majority vote of radius 1, a rule where "
        "dem > 0"
    )
