import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from data.errors import FoldError
from data.folds.anchors import WINDOW, find_anchors, hash_windows
from data.folds.groups import connected_components
from data.folds.plan import plan_folds
from data.folds.shared_ground import default_bands, find_shared_ground
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.image import ImageFile
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from data.settings import FoldSettings

KELP = Classes("binary", (1,), ("kelp",), ((0, 0, 9),))
SIDE = 96


def mosaic(seed, shape=(260, 300)):
    """Return ground with hills of several sizes, int16."""
    rng = np.random.default_rng(seed)
    field = sum(scale * gaussian_filter(rng.normal(size=shape), scale) for scale in (1.5, 4, 12))
    return (1000 + 400 * field / field.std()).astype(np.int16)


@pytest.fixture
def scene_of(write_raster):
    """Return a function that writes a plane and returns the scene."""

    def write(name, plane, split="train", bands=("dem",)):
        planes = plane if plane.ndim == 3 else plane[None]
        path = write_raster(f"{name}.tif", planes, nodata=-1)
        return Scene(name, split, (ImageFile(str(path), bands),), Grid(*planes.shape[1:]))

    return write


def crop(plane, row, col, side=SIDE):
    return plane[row : row + side, col : col + side]


def test_a_window_has_the_same_hash_wherever_it_lies_in_a_scene():
    plane = mosaic(0).astype(np.float32)
    whole, part = hash_windows(plane), hash_windows(np.ascontiguousarray(plane[37:180, 101:240]))
    np.testing.assert_array_equal(part, whole[37 : 180 - WINDOW + 1, 101 : 240 - WINDOW + 1])
    assert (whole > 0).mean() > 0.02
    assert hash_windows(plane[: WINDOW - 1]).size == 0


def test_what_is_read_in_parts_has_the_anchors_of_the_whole(scene_of):
    scene = scene_of("a", mosaic(1))
    whole = find_anchors(scene, "dem", 0.05)
    parts = find_anchors(scene, "dem", 0.05, side=70)
    assert set(zip(parts.hashes, parts.rows, parts.cols, strict=True)) == set(
        zip(whole.hashes, whole.rows, whole.cols, strict=True)
    )


def test_scenes_of_shifted_ground_are_found_with_their_offset_and_share(scene_of):
    ground, other = mosaic(2), mosaic(3)
    scenes = [
        scene_of("a", crop(ground, 0, 0)),
        scene_of("b", crop(ground, 41, 23)),
        scene_of("c", crop(ground, 150, 200)),
        scene_of("d", crop(other, 0, 0)),
        scene_of("e", crop(ground, 130, 180)),
    ]
    found = find_shared_ground(scenes, ["dem"])
    assert [(pair.first, pair.second, pair.rows, pair.cols) for pair in found.pairs] == [
        (0, 1, 41, 23),
        (2, 4, -20, -20),
    ]
    assert found.pairs[0].share == pytest.approx((SIDE - 41) * (SIDE - 23) / SIDE**2)
    assert found.looked == 5


def test_a_little_noise_and_gaps_do_not_hide_shared_ground(scene_of):
    ground, rng = mosaic(4), np.random.default_rng(0)
    again = crop(ground, 30, 50) + rng.normal(0, 8, (SIDE, SIDE)).round().astype(np.int16)
    again[:, :30] = -1
    found = find_shared_ground([scene_of("a", crop(ground, 20, 40)), scene_of("b", again)], ["dem"])
    assert [(pair.rows, pair.cols) for pair in found.pairs] == [(10, 10)]


def test_scenes_that_tell_no_place_are_never_joined(scene_of):
    rows, cols = np.mgrid[:SIDE, :SIDE]
    rng = np.random.default_rng(0)
    sea = [(20 + (rng.random((SIDE, SIDE)) < 0.5)).astype(np.int16) for _ in range(2)]
    half = [np.where(cols < 40, 255, rng.integers(0, 200, (SIDE, SIDE))).astype(np.int16) for _ in range(2)]
    planes = [
        *[np.zeros((SIDE, SIDE), np.int16)] * 2,
        *[np.full((SIDE, SIDE), -1, np.int16)] * 2,
        *[np.full((SIDE, SIDE), 255, np.int16)] * 2,
        *sea,
        *half,
        # Slopes, stripes, waves and tiles that repeat, at other offsets.
        *[(7 * rows + 3 * cols + shift).astype(np.int16) for shift in (0, 70)],
        *[(100 * np.sin((rows + shift) / 5)).astype(np.int16) for shift in (0, 4)],
        *[(100 * np.sin((rows + shift) / 3) + 90 * np.cos(cols / 4)).astype(np.int16) for shift in (0, 4)],
        *[np.tile(crop(mosaic(5), 0, 0, 24), (4, 4)), np.tile(crop(mosaic(5), 6, 9, 24), (4, 4))],
        *[np.where(((rows + shift) // 8 + cols // 8) % 2, 200, 10).astype(np.int16) for shift in (0, 3)],
    ]
    scenes = [scene_of(f"s{number:02}", plane) for number, plane in enumerate(planes)]
    assert find_shared_ground(scenes, ["dem"]).pairs == ()


def test_places_of_their_own_are_never_joined(scene_of):
    scenes = [scene_of(f"s{seed}", crop(mosaic(100 + seed, (SIDE, SIDE)), 0, 0)) for seed in range(30)]
    assert find_shared_ground(scenes, ["dem"]).pairs == ()


def test_the_same_mark_on_pictures_of_other_places_joins_nothing(scene_of):
    mark = crop(mosaic(6), 0, 0, 40)
    planes = [crop(mosaic(seed), 0, 0).copy() for seed in (7, 8)]
    for plane in planes:
        plane[:40, :40] = mark
    assert find_shared_ground([scene_of("a", planes[0]), scene_of("b", planes[1])], ["dem"]).pairs == ()


def test_a_place_seen_very_often_is_one_chain(scene_of):
    ground = mosaic(9)
    scenes = [scene_of(f"s{number:02}", crop(ground, number % 4, 3 * (number % 5))) for number in range(12)]
    found = find_shared_ground(scenes, ["dem"])
    assert connected_components(12, found.positions).tolist() == [0] * 12


def test_the_band_that_stays_the_same_is_taken(scene_of):
    planes = np.stack([crop(mosaic(seed), 0, 0) for seed in (1, 2, 3)])
    scene = scene_of("a", planes, bands=("qa", "red", "DEM"))
    assert default_bands([scene]) == ("DEM",)
    masked = Scene("b", "train", scene.images, scene.grid, invalid=(("qa", ()),))
    renamed = ImageFile(scene.images[0].path, ("qa", "red", "nir"))
    assert default_bands([Scene("c", "train", (renamed,), scene.grid, invalid=masked.invalid)]) == ("red",)


def test_shared_ground_is_joined_or_reported(scene_of, tmp_path):
    ground = mosaic(10)
    scenes = [scene_of("a", crop(ground, 0, 0)), scene_of("b", crop(ground, 30, 30))]
    scenes += [scene_of(f"other{seed}", crop(mosaic(20 + seed), 0, 0)) for seed in range(3)]
    scenes += [scene_of("new", crop(ground, 10, 0), "test")]
    statistics = {("train", scene.id): SceneStatistics(9, (8, 1)) for scene in scenes[:-1]}
    catalogue = Catalogue(KELP, ("dem",), tuple(scenes), statistics)
    shared = find_shared_ground(scenes, ["dem"])
    assert len(shared.pairs) == 3

    def plan(content, count=2):
        settings = FoldSettings.model_validate({"count": count, "group": {"content": content}})
        return plan_folds(catalogue, settings, tmp_path, 0, shared=shared)

    planned, report = plan("join")
    assert [scene.group for scene in planned.scenes[:2]] == ["a", "a"]
    assert report.shared_across == ()
    assert not report.leaks
    assert "scene pairs that show the same ground, by dem: 3 (a–new 90%" in "\n".join(report.lines())
    assert "1 of 1 test scenes show ground of a training scene (new)" in "\n".join(report.lines())
    with pytest.raises(FoldError, match=r"got 4 \(5 scenes\).*1 pairs of scenes were joined because they show"):
        plan("join", count=5)
    apart, report = plan("report", count=5)
    assert [scene.group for scene in apart.scenes[:2]] == ["a", "b"]
    assert report.shared_across == (("a", "b"),)
    assert report.leaks
    assert "1 pair of training scenes in different folds show the same ground (a–b)" in report.warnings[0]
