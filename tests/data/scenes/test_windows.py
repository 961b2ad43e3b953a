import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.scenes.windows import Window

windows = st.builds(Window, st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 9), st.integers(0, 9))


@given(windows, windows)
def test_what_two_windows_share_is_the_window_where_they_meet(one, other):
    def pixels(window):
        rows, cols = range(window.row, window.row + window.height), range(window.col, window.col + window.width)
        return {(row, col) for row in rows for col in cols}

    assert pixels(one.meet(other)) == pixels(one) & pixels(other)


@given(windows, st.integers(1, 5))
def test_blocks_cover_a_window_and_no_more_than_they_must(window, block):
    area = window.cover(block)
    assert area.row % block == area.col % block == area.height % block == area.width % block == 0
    assert area.meet(window) == window or 0 in (window.height, window.width)
    assert area.height < window.height + 2 * block
    assert area.width < window.width + 2 * block


@given(windows)
def test_a_window_is_cut_from_an_array_of_a_wider_one(window):
    wide = window.grow(3)
    rows, cols = np.mgrid[wide.row : wide.row + wide.height, wide.col : wide.col + wide.width]
    own = rows[window.within(wide)], cols[window.within(wide)]
    expected = np.mgrid[window.row : window.row + window.height, window.col : window.col + window.width]
    np.testing.assert_array_equal(own, expected)
