from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cnn.crops.crops import Crops, CropSampler, SceneStore
from cnn.crops.placement import CropPlan
from cnn.inputs.d4 import D4, apply_d4, d4_matrix, invert_d4
from cnn.inputs.normalisation import Normalisation
from cnn.inputs.settings import AugmentSettings
from data.errors import MemberError
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene, read_label, read_scene
from features.feature_set import FeatureSet

from ..conftest import write

INPUTS = ("nir", "red")
PLAIN = Normalisation((0.0, 0.0), (1.0, 1.0))
STILL = AugmentSettings(flips=False)


def store(
    scenes: Sequence[Scene], cache_bytes: float = 1e9, targets: Sequence[int] = (1,), *, quantiles: bool = False
) -> SceneStore:
    feature_set = FeatureSet(("red", "nir", "qa"), INPUTS)
    return SceneStore(feature_set, scenes, targets, cache_bytes, seed=0, quantiles=quantiles)


def crops(
    scenes: Sequence[Scene],
    side: int = 16,
    share: float = 0.5,
    *,
    augment: AugmentSettings | None = None,
    cache_bytes: float = 1e9,
    targets: Sequence[int] = (1,),
    count: int = 12,
    **options: Any,
) -> Crops:
    plan = CropPlan(
        side,
        1,
        count,
        seed=5,
        augment=augment or AugmentSettings(),
        positive_share=share,
        **{"target_weights": dict.fromkeys(targets, 1.0), **options},
    )
    return Crops(store(scenes, cache_bytes, targets), scenes, {scene.id: PLAIN for scene in scenes}, plan, labels=3)


def seen(source: Crops, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return crop ``number`` as the network sees it."""
    batch = next(iter(DataLoader(source, 1, sampler=[number])))
    inputs, truth = source.augmentation(batch)
    return inputs[0], truth[0]


def test_the_eight_flips_and_turns_differ_and_can_be_undone() -> None:
    image = torch.arange(12).reshape(1, 3, 4)
    images = [apply_d4(image, element) for element in D4]
    assert len({(tuple(moved.shape), tuple(moved.flatten().tolist())) for moved in images}) == 8
    for element in D4:
        assert torch.equal(invert_d4(apply_d4(image, element), element), image)


@pytest.mark.parametrize("element", D4)
def test_matrices_of_d4_say_where_pixels_come_from(element: int) -> None:
    image = torch.arange(25).reshape(5, 5)
    turned = apply_d4(image, element)
    for row, col in np.ndindex(5, 5):
        source = d4_matrix(element) @ [row - 2, col - 2] + 2
        assert turned[row, col] == image[tuple(source)]


def test_image_and_mask_stay_in_step(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene("one", 24, 24)
    pixels, truth = read_scene(scene, bands=INPUTS), read_label(scene)
    meaning = {tuple(pixels[:, row, col]): truth[row, col] for row, col in np.ndindex(truth.shape)}
    elements = set()
    for number in range(24):
        image, label, _ = crops([scene])[number]
        elements.add(tuple(label.flatten().tolist()))
        for row, col in np.ndindex(16, 16):
            if label[row, col] != IGNORE:
                assert meaning[tuple(image[:, row, col].tolist())] == label[row, col]
    assert len(elements) > 12


EVERYTHING = AugmentSettings(
    rotate=180,
    scale=1.5,
    brightness=0.3,
    contrast=0.2,
    noise=0.2,
    blur=1,
    band_dropout=0.3,
    coarse_dropout=3,
    mixup=0.3,
    cutmix=1,
)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
@pytest.mark.parametrize("augment", [AugmentSettings(), EVERYTHING])
def test_crops_do_not_depend_on_the_number_of_workers_or_on_memory(
    make_scene: Callable[..., Scene], augment: AugmentSettings
) -> None:
    scenes = [make_scene(f"s{number}", 20 + 9 * number, 31) for number in range(3)]
    batches: list[list[Any]] = []
    for workers, cache_bytes in ((0, 1e9), (2, 1e9), (0, 0)):
        source = crops(scenes, cache_bytes=cache_bytes, augment=augment, resize=1.5)
        sampler = CropSampler(len(source))
        sampler.set_epoch(3)
        torch.manual_seed(1)
        cut = list(DataLoader(source, 4, sampler=sampler, num_workers=workers, generator=torch.Generator()))
        torch.manual_seed(2)
        batches.append([source.augmentation(batch) for batch in cut])
    for other in batches[1:]:
        for (image, label), (same_image, same_label) in zip(batches[0], other, strict=True):
            assert torch.equal(image, same_image)
            assert torch.equal(label, same_label)


def test_parts_of_an_epoch_are_the_epoch() -> None:
    parts = [CropSampler(12, part, 3) for part in range(3)]
    for part in parts:
        part.set_epoch(2)
        assert len(part) == 4
    assert sorted(number for part in parts for number in part) == list(range(24, 36))


def test_epochs_show_other_crops(make_scene: Callable[..., Scene]) -> None:
    source = crops([make_scene("one")])
    assert not torch.equal(source[0][0].nan_to_num(), source[len(source)][0].nan_to_num())


def test_a_scene_smaller_than_the_crop_is_continued_without_data(make_scene: Callable[..., Scene]) -> None:
    image, label = seen(crops([make_scene("small", 9, 16)], augment=STILL), 0)
    assert image.shape == (2, 16, 16)
    assert (image[:, 9:] == 0).all()
    assert (label[9:] == IGNORE).all()
    assert (label[:4, :4] == IGNORE).all(), "labels on nodata are not learned"
    assert (label[:9] != IGNORE).sum() == 9 * 16 - 16


@pytest.mark.parametrize("cache_bytes", [1e9, 0])
def test_a_turned_scene_smaller_than_the_crop_lies_in_the_middle(
    make_scene: Callable[..., Scene], cache_bytes: float
) -> None:
    source = crops([make_scene("small", 20, 20)], 32, 0.0, augment=AugmentSettings(rotate=180), cache_bytes=cache_bytes)
    for number in range(6):
        _, label = seen(source, number)
        assert (label != IGNORE).sum() == pytest.approx(400 - 16, rel=0.1)


@pytest.mark.parametrize(
    ("augment", "resize"),
    [
        (AugmentSettings(), 1.0),
        (AugmentSettings(rotate=30), 1.0),
        (AugmentSettings(rotate=180, scale=2), 1.0),
        (AugmentSettings(scale=1.4), 2.5),
        (AugmentSettings(), 0.7),
    ],
)
def test_a_share_of_the_crops_shows_a_positive_pixel(
    make_scene: Callable[..., Scene], augment: AugmentSettings, resize: float
) -> None:
    scenes = [make_scene("first", 90, 90), make_scene("second", 90, 90)]
    positive = [
        sum(
            bool((seen(source, number)[1] == 1).any()) and source.placement.scale == pytest.approx(resize, rel=0.1)
            for number in range(40)
        )
        for source in (crops(scenes, 12, share, augment=augment, resize=resize, count=40) for share in (0.0, 1.0))
    ]
    assert positive[0] < 25
    # Where pixels are skipped, a lone one at the edge may be.
    assert positive[1] >= (40 if augment.scale == 1 and resize >= 1 else 38)


def test_the_pixel_that_a_crop_is_placed_on_lies_anywhere_in_it(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene("one", 300, 300)
    augment = AugmentSettings(rotate=180, scale=1.5)
    source = crops([scene], 16, 1.0, augment=augment, resize=2)
    spot = np.array([150, 140])
    source.placement.spots = ({1: spot[None].astype(np.int32)},)
    found = []
    for number in range(200):
        rng = np.random.default_rng([source.plan.seed, 3, number])
        element = int(rng.integers(8))
        _, window = source.placement.place(number, d4_matrix(element) @ np.eye(2) * 0.8)
        middle = np.array([window.row + window.height / 2, window.col + window.width / 2])
        found.append(np.linalg.solve(d4_matrix(element) * 0.8, (spot + 0.5 - middle) * source.placement.scale))
    offsets = np.array(found)
    assert np.abs(offsets).max() <= 8
    assert (offsets.min(0) < -5).all()
    assert (offsets.max(0) > 5).all()
    assert np.abs(offsets.mean(0)).max() < 1.2


def test_a_pixel_in_the_corner_of_the_scene_is_seen_by_a_turned_crop(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene("one", 60, 60)
    augment = AugmentSettings(rotate=180, scale=1.3)
    source = crops([scene], 16, 1.0, augment=augment)
    source.placement.spots = ({1: np.array([[59, 59]], np.int32)},)
    shares = []
    for number in range(30):
        _, label = seen(source, number)
        shares.append((label != IGNORE).float().mean().item())
        params = source[number][2]
        element = int(np.random.default_rng([source.plan.seed, 3, number]).integers(8))
        matrix = d4_matrix(element) @ params["warp"].double().numpy()
        _, window = source.placement.place(number, matrix)
        offset = np.array([59.5, 59.5]) - [window.row + window.height / 2, window.col + window.width / 2]
        assert np.abs(np.linalg.solve(matrix, offset)).max() <= 8
    assert min(shares) > 0.4, "no more of what lies around the scene than it takes"


def test_an_epoch_shows_every_scene_in_proportion_to_its_area(make_scene: Callable[..., Scene]) -> None:
    scenes = [make_scene(f"s{number}", shift=1000.0 * number) for number in range(6)]
    source = crops(scenes, 16, 0.0, count=12)
    shown = [round(float(source[number][0][1].nan_to_num().max()) / 1000) for number in range(12)]
    assert sorted(shown) == sorted([*range(6), *range(6)])
    assert shown != sorted(shown)


def scenes_of(source: Crops) -> list[int]:
    return [round(float(source[number][0][1].nan_to_num().max()) / 1000) for number in range(len(source))]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_scenes_are_shown_by_their_weights(make_scene: Callable[..., Scene], share: float) -> None:
    scenes = [make_scene(f"s{number}", shift=1000.0 * number) for number in range(3)]
    source = crops(scenes, 16, share, count=120, scene_weights=np.array([1.0, 3.0, 0.0]))
    shown = np.bincount(scenes_of(source), minlength=3)
    assert shown[2] == 0
    assert shown[1] / 120 == pytest.approx(0.75, abs=0.01 if share == 0 else 0.1)


def test_crops_are_placed_on_classes_by_their_weights(make_scene: Callable[..., Scene]) -> None:
    scenes = [make_scene("one", 200, 200, multiclass=True)]
    counts = []
    for weights in ((1.0, 1.0, 1.0), (1.0, 0.0, 1.0), (0.0, 0.0, 1.0)):
        by_label = dict(enumerate(weights))
        source = crops(scenes, 2, 1.0, targets=(0, 1, 2), target_weights=by_label, count=60, augment=STILL)
        labels = [source[number][1] for number in range(60)]
        counts.append([sum(bool((label == index).any()) for label in labels) for index in range(3)])
    assert counts[0][1] >= 12
    assert counts[0][2] >= 12
    assert counts[1][1] < counts[0][1]
    assert counts[2][2] == 60


def test_training_scenes_without_a_class_to_learn_are_refused(make_scene: Callable[..., Scene]) -> None:
    with pytest.raises(MemberError, match="labelled pixel of a class to learn"):
        crops([make_scene("one")], targets=(7,))
    with pytest.raises(MemberError, match="labelled pixel of a class to learn"):
        crops([make_scene("one")], scene_weights=np.zeros(1))


@pytest.mark.parametrize("cache_bytes", [1e9, 0])
def test_a_survey_measures_the_valid_pixels_of_a_scene(make_scene: Callable[..., Scene], cache_bytes: float) -> None:
    scenes = [make_scene("one"), make_scene("two", shift=500.0), make_scene("odd", 1030, 5)]
    held = store(scenes, cache_bytes, quantiles=True)
    counts: Mapping[int, int] = {0: 0, 1: 0}
    for scene in scenes:
        pixels, label = read_scene(scene, bands=INPUTS), read_label(scene)
        flat, moments = pixels.reshape(2, -1), held.spread(scene).moments
        np.testing.assert_allclose(moments.mean, np.nanmean(flat, 1, dtype=np.float64), rtol=1e-6)
        np.testing.assert_allclose(moments.deviation, np.nanstd(flat, 1, dtype=np.float64), rtol=1e-5)
        shares = np.linspace(0, 1, 257)
        np.testing.assert_allclose(held.spread(scene).quantiles, np.nanquantile(flat, shares, axis=1).T, rtol=1e-5)
        valid = np.isfinite(pixels).any(0)
        counts = {index: counts[index] + int((label[valid] == index).sum()) for index in counts}
    assert held.label_counts(scenes, 2).tolist() == list(counts.values())


@pytest.mark.parametrize("cache_bytes", [1e9, 0])
def test_what_lies_around_a_scene_is_nodata(make_scene: Callable[..., Scene], cache_bytes: float) -> None:
    scene = make_scene("one", 20, 30)
    held = store([scene], cache_bytes)
    inner, label = held.read(scene, scene.grid.window)
    wide, wide_label = held.read(scene, scene.grid.window.grow(3))
    np.testing.assert_array_equal(wide[:, 3:-3, 3:-3], inner)
    np.testing.assert_array_equal(wide_label[3:-3, 3:-3], label)
    assert np.isnan(wide).sum() == np.isnan(inner).sum() + 2 * (26 * 36 - 20 * 30)
    assert (wide_label != IGNORE).sum() == (label != IGNORE).sum()


@pytest.mark.parametrize("cache_bytes", [1e9, 0])
def test_every_crop_is_labelled_by_one_annotator_and_what_is_scored_stays_what_most_say(
    make_scene: Callable[..., Scene], tmp_path: Path, cache_bytes: float
) -> None:
    scene = make_scene("a")
    label = read_label(scene)
    labels = np.stack([label, *(np.where(label == IGNORE, IGNORE, said) for said in range(3))]).astype(np.uint8)
    write(tmp_path / "soft.tif", labels)
    assert scene.label is not None
    values = tuple((value, value) for value in (0, 1, 2, IGNORE))
    soft = replace(scene, label=replace(scene.label, path=str(tmp_path / "soft.tif"), values=values, opinions=3))
    source, plain = crops([soft], cache_bytes=cache_bytes, augment=STILL, count=60), store([scene])
    said = [set(source.read(number)[2].unique().tolist()) - {IGNORE} for number in range(60)]
    assert max(map(len, said)) == 1
    assert min(said.count({label}) for label in range(3)) > 10
    scored, wanted = source.store.read(soft, soft.grid.window)[1], plain.read(scene, scene.grid.window)[1]
    np.testing.assert_array_equal(scored, wanted)
    assert source.store.label_counts([soft], 3).tolist() == plain.label_counts([scene], 3).tolist()
