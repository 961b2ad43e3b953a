import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.crops.placement import CropPlan, Placement
from cnn.inputs.settings import AugmentSettings
from data.scenes.image import ImageFile
from data.scenes.scene import Scene
from data.scenes.windows import Grid, Window


def scene(name: str, height: int, width: int) -> Scene:
    return Scene(name, "train", (ImageFile(f"{name}.tif", ("red",)),), Grid(height, width))


STILL, WARPED = AugmentSettings(), AugmentSettings(rotate=180, scale=2)


def placement(
    scenes: list[Scene],
    spots: list[dict[int, np.ndarray]],
    side: int,
    share: float,
    *,
    augment: AugmentSettings = STILL,
    resize: float = 1.0,
    scene_weights: np.ndarray | None = None,
) -> Placement:
    plan = CropPlan(side, 1, 10, 0, augment, resize, share, {1: 1.0}, scene_weights)
    return Placement(scenes, spots, plan)


def in_view(pixel: np.ndarray, window: Window, matrix: np.ndarray, scale: float) -> np.ndarray:
    """Return where the network sees a pixel of the scene: offsets from the middle of what it sees."""
    middle = np.array([window.row + window.height / 2, window.col + window.width / 2])
    return np.linalg.solve(matrix, (pixel + 0.5 - middle) * scale)


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    angle=st.floats(-180, 180),
    zoom=st.floats(0.5, 2),
    resize=st.sampled_from([0.5, 1.0, 1.7, 3.0]),
    side=st.sampled_from([8, 32]),
    number=st.integers(0, 30),
    corner=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_the_pixel_that_a_crop_is_placed_on_is_seen_however_it_is_warped(
    shape: tuple[int, int],
    angle: float,
    zoom: float,
    resize: float,
    side: int,
    number: int,
    corner: tuple[float, float],
) -> None:
    spot = (np.array(corner) * shape).astype(np.int32)
    cosine, sine = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    squares = placement([scene("one", *shape)], [{1: spot[None]}], side, 1.0, augment=WARPED, resize=resize)
    _, window = squares.place(number, matrix)
    assert window.height == window.width == squares.read_side
    assert np.abs(in_view(spot, window, matrix, squares.scale)).max() <= side / 2


@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    resize=st.sampled_from([0.5, 1.0, 2.0]),
    share=st.sampled_from([0.0, 1.0]),
    number=st.integers(0, 30),
)
def test_what_is_not_warped_lies_in_the_scene_or_begins_at_its_corner(
    height: int, width: int, resize: float, share: float, number: int
) -> None:
    squares = placement([scene("one", height, width)], [{1: np.array([[height - 1, 0]])}], 16, share, resize=resize)
    _, window = squares.place(number, np.eye(2))
    for start, length, whole in ((window.row, window.height, height), (window.col, window.width, width)):
        assert start >= 0
        assert start + length <= whole or start == 0


def test_every_square_of_a_scene_is_a_crop() -> None:
    squares = placement([scene("one", 20, 19)], [{1: np.array([[3, 3]])}], 16, 0.0)
    windows = {squares.place(number, np.eye(2))[1] for number in range(400)}
    assert windows == {Window(row, col, 16, 16) for row in range(5) for col in range(4)}


def test_a_zoomed_crop_shows_all_parts_of_a_scene() -> None:
    squares = placement([scene("one", 64, 64)], [{1: np.array([[3, 3]])}], 16, 0.0, augment=WARPED)
    matrix = np.eye(2) * 2
    seen = np.zeros((64, 64), int)
    for number in range(200):
        _, window = squares.place(number, matrix)
        rows, cols = (np.arange(64) + 0.5, np.arange(64) + 0.5)
        middle = window.row + window.height / 2, window.col + window.width / 2
        seen += (np.abs(rows - middle[0]) < 16)[:, None] & (np.abs(cols - middle[1]) < 16)
        assert min(middle) >= 16
        assert max(middle) <= 48
    assert seen.max(axis=0).min() > 0
    assert seen.max(axis=1).min() > 0
    assert seen[32, 32] == pytest.approx(seen.max(), rel=0.3)


def test_spots_of_scenes_without_weight_are_not_chosen() -> None:
    scenes = [scene("one", 30, 30), scene("two", 30, 30)]
    spots = [{1: np.array([[5, 5]])}, {1: np.array([[5, 5]])}]
    squares = placement(scenes, spots, 8, 0.5, scene_weights=np.array([0.0, 2.0]))
    assert {squares.place(number, np.eye(2))[0].id for number in range(60)} == {"two"}
