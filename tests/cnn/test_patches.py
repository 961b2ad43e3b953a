from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cnn.channels import Normalisation
from cnn.patches import Crops, CropSampler, SceneStore
from cnn.turns import TURNS, turn, unturn
from data.classes import IGNORE
from data.errors import MemberError
from data.scene import Scene, read_label, read_scene
from features.feature_set import FeatureSet

INPUTS = ("nir", "red")
PLAIN = Normalisation((0.0, 0.0), (1.0, 1.0))


def store(scenes: Sequence[Scene], cache_bytes: float = 1e9, targets: Sequence[int] = (1,)) -> SceneStore:
    return SceneStore(FeatureSet(("red", "nir", "qa"), INPUTS), scenes, targets, cache_bytes, seed=0)


def crops(
    scenes: Sequence[Scene], side: int = 16, share: float = 0.5, *, flips: bool = True, cache_bytes: float = 1e9,
    targets: Sequence[int] = (1,), count: int = 12,
) -> Crops:  # fmt: skip
    held = store(scenes, cache_bytes, targets)
    return Crops(held, scenes, PLAIN, side=side, count=count, positive_share=share, flips=flips, seed=5)


def test_the_eight_turns_differ_and_can_be_undone() -> None:
    image = torch.arange(12).reshape(1, 3, 4)
    assert len({(tuple(turn(image, way).shape), tuple(turn(image, way).flatten().tolist())) for way in TURNS}) == 8
    for way in TURNS:
        assert torch.equal(unturn(turn(image, way), way), image)


def test_image_and_mask_stay_in_step(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene("one", 24, 24)
    planes, truth = read_scene(scene, bands=INPUTS), read_label(scene)
    meaning = {tuple(planes[:, row, col]): truth[row, col] for row, col in np.ndindex(truth.shape)}
    ways = set()
    for number in range(24):
        image, label = crops([scene])[number]
        ways.add(tuple(label.flatten().tolist()))
        for row, col in np.ndindex(16, 16):
            if label[row, col] != IGNORE:
                assert meaning[tuple(image[:, row, col].tolist())] == label[row, col]
    assert len(ways) > 12


def test_crops_do_not_depend_on_the_number_of_workers_or_on_memory(make_scene: Callable[..., Scene]) -> None:
    scenes = [make_scene(f"s{number}", 20 + 9 * number, 31) for number in range(3)]
    batches = []
    for workers, cache_bytes in ((0, 1e9), (2, 1e9), (0, 0)):
        source = crops(scenes, cache_bytes=cache_bytes)
        sampler = CropSampler(len(source))
        sampler.set_epoch(3)
        batches.append(list(DataLoader(source, 4, sampler=sampler, num_workers=workers)))
    for other in batches[1:]:
        for (image, label), (same_image, same_label) in zip(batches[0], other, strict=True):
            assert torch.equal(image, same_image)
            assert torch.equal(label, same_label)


def test_epochs_show_other_crops(make_scene: Callable[..., Scene]) -> None:
    source = crops([make_scene("one")])
    assert not torch.equal(source[0][0], source[len(source)][0])


def test_a_scene_smaller_than_the_crop_is_continued_without_data(make_scene: Callable[..., Scene]) -> None:
    image, label = crops([make_scene("small", 9, 16)], flips=False)[0]
    assert image.shape == (2, 16, 16)
    assert (image[:, 9:] == 0).all()
    assert (label[9:] == IGNORE).all()
    assert (label[:4, :4] == IGNORE).all(), "labels on nodata are not learned"
    assert (label[:9] != IGNORE).sum() == 9 * 16 - 16


def test_a_share_of_the_crops_holds_a_positive_pixel(make_scene: Callable[..., Scene]) -> None:
    scenes = [make_scene("first", 90, 90), make_scene("second", 90, 90)]
    positive = [
        sum(bool((source[number][1] == 1).any()) for number in range(40))
        for source in (crops(scenes, 8, share, count=40) for share in (0.0, 1.0))
    ]
    assert positive[0] < 25
    assert positive[1] == 40


def test_an_epoch_shows_every_scene_its_due(make_scene: Callable[..., Scene]) -> None:
    scenes = [make_scene(f"s{number}", shift=1000.0 * number) for number in range(6)]
    source = crops(scenes, 16, 0.0, count=12)
    seen = [round(float(source[number][0][1].max()) / 1000) for number in range(12)]
    assert sorted(seen) == sorted([*range(6), *range(6)])
    assert seen != sorted(seen)


def test_training_scenes_without_a_class_to_learn_are_refused(make_scene: Callable[..., Scene]) -> None:
    with pytest.raises(MemberError, match="labelled pixel of a class to learn"):
        crops([make_scene("one")], targets=(7,))


def test_moments_are_those_of_the_valid_pixels_of_the_scenes_asked_for(make_scene: Callable[..., Scene]) -> None:
    scenes = [make_scene("one"), make_scene("two", shift=500.0), make_scene("odd", 1030, 5)]
    for cache_bytes in (1e9, 0):
        moments = store(scenes, cache_bytes).moments([scenes[0], scenes[2]])
        pixels = np.concatenate([read_scene(scene, bands=INPUTS).reshape(2, -1) for scene in (scenes[0], scenes[2])], 1)
        np.testing.assert_allclose(moments.mean, np.nanmean(pixels, 1, dtype=np.float64), rtol=1e-6)
        np.testing.assert_allclose(moments.deviation, np.nanstd(pixels, 1, dtype=np.float64), rtol=1e-5)


def test_normalised_planes_are_zero_where_there_is_no_data() -> None:
    normal = Normalisation((10.0,), (2.0,)).apply(np.array([[[np.nan, 12.0]]], np.float32))
    assert normal.tolist() == [[[0.0, 1.0]]]
