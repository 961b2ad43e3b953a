import re

import numpy as np
import pytest

from data.pages.curves import HEIGHT, LINE, Curve, draw_curves


def marks_of(svg):
    """Return the height of each mark at the end of a curve."""
    return {mark: float(y) for y, mark in re.findall(r'<text x="[\d.]+" y="([\d.-]+)">([^<]+)</text>', svg)}


@pytest.mark.parametrize("ends", [(0.8, 0.801, 0.802), (0.0, 0.001, 1.0), (0.1, 0.5, 0.9)])
def test_marks_at_the_ends_of_curves_do_not_overlap_and_keep_their_order(ends):
    curves = [Curve(name, "#123456", [(0, 0.0), (5, end)], mark=name) for name, end in zip("abc", ends, strict=True)]
    marks = marks_of(draw_curves([*curves, Curve("scale", "#123456", [(0, 0.0), (5, 1.0)])], 5))
    assert sorted(marks, key=marks.get) == ["c", "b", "a"], "up is low"
    assert np.diff(sorted(marks.values())).min() >= LINE - 0.11
    assert max(marks.values()) < HEIGHT


def test_more_marks_than_fit_stay_within_the_chart():
    curves = [Curve(f"c{number}", "#123456", [(0, 0.0), (5, 1.0)], mark=f"c{number}") for number in range(40)]
    heights = list(marks_of(draw_curves(curves, 5)).values())
    assert len(heights) == 40
    assert 0 < min(heights) < max(heights) < HEIGHT


def test_a_curve_is_broken_where_it_has_no_value():
    svg = draw_curves([Curve("loss", "#123456", [(0, 1.0), (1, float("nan")), (2, 0.5)])], 2)
    assert svg.count("M") == 2 + svg.count('class="grid" d="M')
    assert "nan" not in svg
