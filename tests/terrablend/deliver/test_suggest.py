import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.scenes.windows import Window
from terrablend.deliver.suggest import Place, choose_places


def place(scene="a", row=0, col=0, entropy=0.5, disagreement=0.1, outside=0.0, rare=2.0):
    return Place(scene, Window(row, col, 10, 10), entropy, disagreement, outside, rare, "kelp")


def test_the_most_doubtful_strange_and_rare_places_come_first():
    places = [place(str(number), 0, 0, number / 10, number / 20, number / 10, number) for number in range(10)]
    chosen = choose_places(places, 3)
    assert [one.scene for _, one in chosen] == ["9", "8", "7"]
    assert [worth for worth, _ in chosen] == sorted((worth for worth, _ in chosen), reverse=True)
    assert all(0 < worth < 1 for worth, _ in chosen)


def test_what_is_the_same_everywhere_has_no_say():
    places = [place(str(number), entropy=number / 10) for number in range(5)]
    assert choose_places(places, 1)[0][1].scene == "4"
    same = [place(str(number)) for number in range(5)]
    assert [one.scene for _, one in choose_places(same, 2)] == ["0", "1"]
    assert choose_places([], 3) == []


def test_places_are_spread_over_scenes_and_do_not_touch():
    places = [place("a", 10 * number, 0, 0.9 - number / 1000) for number in range(20)]
    places += [place("b", 0, 30 * number, 0.895 - number / 1000) for number in range(5)]
    chosen = [one for _, one in choose_places(places, 8)]
    assert {one.scene for one in chosen[:3]} == {"a", "b"}, (
        "a second scene is worth more than a third place in the first"
    )
    rows = sorted(one.window.row for one in chosen if one.scene == "a")
    assert min(np.diff(rows)) > 10


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.floats(0, 1)), max_size=30), st.integers(1, 9))
def test_no_place_comes_twice_and_no_more_than_are_asked_for(rows, count):
    places = [place(scene, 30 * row, 0, value) for scene, row, value in rows]
    chosen = [(one.scene, one.window.row) for _, one in choose_places(places, count)]
    assert len(chosen) == len(set(chosen)) == min(count, len({(scene, row) for scene, row, _ in rows}))


@pytest.mark.parametrize("count", [1, 4])
def test_the_order_of_the_reasons_scale_does_not_matter(count):
    rng = np.random.default_rng(0)
    rows = rng.random((40, 4))
    plain = [place(str(number), 0, 0, *row) for number, row in enumerate(rows)]
    scaled = [place(str(number), 0, 0, *(row * [1, 0.01, 1, 1000])) for number, row in enumerate(rows)]
    names = [[one.scene for _, one in choose_places(places, count)] for places in (plain, scaled)]
    assert names[0] == names[1]
