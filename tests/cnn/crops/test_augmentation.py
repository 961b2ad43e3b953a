import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage
from torch import Tensor
from torch.utils.data import default_collate

from cnn.crops.augmentation import Augmentation, blur, inside, mix, warp
from cnn.crops.augmentation_params import reach, sample_params
from cnn.inputs.d4 import apply_d4, d4_matrix
from cnn.inputs.settings import AugmentSettings
from cnn.losses.pixel_losses import label_shares
from cnn.settings import CnnSettings
from data.scenes.classes import IGNORE

SIDE, CHANNELS, LABELS = 24, 3, 4


def scenery(side: int = SIDE, count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Channels with holes of nodata, one channel of its own, and labels of blocks."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(0, 1, (count, CHANNELS, side, side)).astype(np.float32)
    label = rng.integers(0, LABELS, (count, side // 8, side // 8)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    label[:, 2:5, 3:9] = IGNORE
    inputs[:, :, 2:6, 3:9] = np.nan
    inputs[:, 1, 10:14, 10:20] = np.nan
    return torch.from_numpy(inputs), torch.from_numpy(label)


def alter(augment: AugmentSettings, inputs: Tensor, label: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    side = next(side for side in range(label.shape[-1], 0, -1) if reach(augment, side) <= label.shape[-1])
    start = (label.shape[-1] - reach(augment, side)) // 2
    end = start + reach(augment, side)
    params = [
        sample_params(augment, np.random.default_rng([seed, number]), CHANNELS, side) for number in range(len(label))
    ]
    torch.manual_seed(seed)
    batch = inputs[..., start:end, start:end], label[..., start:end, start:end], default_collate(params)
    return Augmentation(augment, side, LABELS)(batch)


def test_a_crop_that_nothing_is_switched_on_for_is_as_it_was() -> None:
    inputs, label = scenery()
    seen, truth = alter(AugmentSettings(), inputs, label)
    assert torch.equal(seen, inputs.nan_to_num())
    assert torch.equal(truth, label)


@pytest.mark.parametrize("element", range(8))
def test_a_warp_by_a_quarter_turn_is_that_turn(element: int) -> None:
    inputs, label = scenery()
    matrices = torch.from_numpy(d4_matrix(element)).float().expand(2, 2, 2)
    warped, moved = warp(inputs, label, matrices, 14)
    middle = slice(5, 19)
    torch.testing.assert_close(warped, apply_d4(inputs, element)[..., middle, middle], equal_nan=True)
    assert torch.equal(moved, apply_d4(label, element)[..., middle, middle])


@pytest.mark.parametrize(("angle", "zoom"), [(30.0, 1.0), (-100.0, 1.7), (0.0, 0.6)])
def test_a_warp_is_what_a_loop_over_pixels_computes(angle: float, zoom: float) -> None:
    inputs, label = scenery()
    cosine, sine = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    side = 22
    warped, moved = warp(inputs, label, torch.tensor(matrix, dtype=torch.float32).expand(2, 2, 2), side)
    for image, row, col in np.ndindex(2, side, side):
        source = matrix @ (np.array([row, col]) + 0.5 - side / 2) + SIDE / 2 - 0.5
        corner, part = np.floor(source).astype(int), source % 1
        near = np.round(source).astype(int)
        if np.abs(source % 1 - 0.5).min() < 1e-3:
            continue  # The nearest pixel is a matter of rounding.
        within = ((near >= 0) & (near < SIDE)).all()
        assert moved[image, row, col] == (label[image, *near] if within else IGNORE)
        for channel in range(CHANNELS):
            total = weight = 0.0
            for down, right in np.ndindex(2, 2):
                place = corner + np.array([down, right])
                share = float(np.prod(np.where([down, right], part, 1 - part)))
                if ((place >= 0) & (place < SIDE)).all() and not inputs[image, channel, *place].isnan():
                    total += share * float(inputs[image, channel, *place])
                    weight += share
            there = within and not inputs[image, channel, *near].isnan()
            expected = total / weight if there else np.nan
            np.testing.assert_allclose(warped[image, channel, row, col], expected, atol=1e-4)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_image_and_label_stay_in_step_whatever_is_drawn(seed: int) -> None:
    _, label = scenery(64, seed=seed)
    shown = label.float()
    shown[label == IGNORE] = torch.nan
    augment = AugmentSettings(rotate=180, scale=1.5)
    seen, truth = alter(augment, shown[:, None].repeat(1, CHANNELS, 1, 1), label, seed)
    assert set(truth.unique().tolist()) <= {*range(LABELS), IGNORE}
    assert (seen[:, 0][truth == IGNORE] == 0).all()
    # Away from where labels meet, which images are interpolated across.
    around = [extreme(truth.numpy(), (1, 5, 5)) for extreme in (ndimage.minimum_filter, ndimage.maximum_filter)]
    inner = torch.from_numpy(around[0] == around[1])[:, 2:-2, 2:-2] & (truth[:, 2:-2, 2:-2] != IGNORE)
    seen, truth = seen[:, :, 2:-2, 2:-2], truth[:, 2:-2, 2:-2]
    torch.testing.assert_close(seen[:, 0][inner], truth[inner].float(), atol=1e-4, rtol=0)


def test_what_comes_in_from_outside_is_nodata_and_ignored() -> None:
    inputs, label = torch.ones(1, CHANNELS, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    warped, moved = warp(inputs, label, torch.eye(2)[None], 12)
    assert (moved[0, 2:10, 2:10] == 0).all()
    assert (warped[0, :, 2:10, 2:10] == 1).all()
    assert (moved == IGNORE).sum() == 144 - 64
    assert warped.isnan().sum() == CHANNELS * (144 - 64)


def test_a_square_reaches_as_far_as_its_corners_may_be_turned() -> None:
    for rotate, scale in ((10.0, 1.0), (45.0, 1.2), (180.0, 2.0), (0.0, 1.5)):
        augment = AugmentSettings(rotate=rotate, scale=scale)
        for seed in range(50):
            matrix = sample_params(augment, np.random.default_rng(seed), 1, 100)["warp"].numpy()
            corners = np.abs(matrix @ np.array([[49.5, 49.5, -49.5], [49.5, -49.5, 49.5]]))
            assert corners.max() <= reach(augment, 100) / 2 - 1
        assert reach(augment, 100) <= 100 * scale * math.sqrt(2) + 6


@pytest.mark.parametrize(
    "augment",
    [
        AugmentSettings(brightness=0.5),
        AugmentSettings(contrast=0.5),
        AugmentSettings(noise=1),
        AugmentSettings(blur=2),
        AugmentSettings(band_dropout=0.5),
        AugmentSettings(coarse_dropout=4),
    ],
)
def test_colour_changes_data_alone_and_leaves_labels(augment: AugmentSettings) -> None:
    inputs, label = scenery(count=6)
    seen, truth = alter(augment, inputs, label)
    assert torch.equal(truth, label)
    assert (seen[inputs.isnan()] == 0).all()
    assert (seen != inputs.nan_to_num()).any()
    assert seen.isfinite().all()
    other, _ = alter(augment, inputs, label, seed=1)
    again, _ = alter(augment, inputs, label)
    assert torch.equal(seen, again)
    assert not torch.equal(seen, other)


def test_brightness_and_contrast_are_drawn_for_each_channel_within_bounds() -> None:
    sampled = [
        sample_params(AugmentSettings(brightness=0.3, contrast=0.2), np.random.default_rng(seed), 3, SIDE)
        for seed in range(100)
    ]
    gain, bias = (np.array([one[name].tolist() for one in sampled]) for name in ("gain", "bias"))
    assert len(np.unique(gain)) == len(np.unique(bias)) == 300
    assert 0.28 < np.abs(bias).max() <= 0.3
    assert 0.18 < np.abs(gain - 1).max() <= 0.2
    inputs, label = scenery(count=1)
    seen, _ = alter(AugmentSettings(brightness=0.3, contrast=0.2), inputs, label)
    own = sample_params(AugmentSettings(brightness=0.3, contrast=0.2), np.random.default_rng([0, 0]), CHANNELS, SIDE)
    expected = inputs * own["gain"][:, None, None] + own["bias"][:, None, None]
    torch.testing.assert_close(seen, expected.nan_to_num())


def test_noise_has_the_deviation_drawn() -> None:
    inputs, label = torch.zeros(40, CHANNELS, 32, 32), torch.zeros(40, 32, 32, dtype=torch.uint8)
    seen, _ = alter(AugmentSettings(noise=0.5), inputs, label)
    sampled = [
        float(sample_params(AugmentSettings(noise=0.5), np.random.default_rng([0, number]), CHANNELS, 32)["noise"])
        for number in range(40)
    ]
    assert 0.4 < max(sampled) <= 0.5
    np.testing.assert_allclose(seen.std(dim=(1, 2, 3)), sampled, rtol=0.1)
    assert (seen[:, 0] * seen[:, 1]).mean().abs() < 1e-3, "channels have noise of their own"


def test_blur_is_that_of_scipy_over_what_data_there_is() -> None:
    inputs, _ = scenery()
    deviations = torch.tensor([0.7, 2.0])
    smooth = blur(inputs, deviations, 6)
    for image, channel in np.ndindex(2, CHANNELS):
        values, known = inputs[image, channel].nan_to_num().numpy(), (~inputs[image, channel].isnan()).numpy()
        options: dict[str, Any] = {"sigma": float(deviations[image]), "mode": "constant", "radius": 6}
        total = ndimage.gaussian_filter(values.astype(float), **options)
        weight = ndimage.gaussian_filter(known.astype(float), **options)
        expected = np.where(known, total / weight, np.nan)
        np.testing.assert_allclose(smooth[image, channel], expected, atol=1e-5)
    torch.testing.assert_close(blur(inputs, torch.zeros(2), 6), inputs, equal_nan=True)


def test_band_dropout_takes_channels_by_chance_but_never_all() -> None:
    augment = AugmentSettings(band_dropout=0.6)
    lost = np.array(
        [sample_params(augment, np.random.default_rng(seed), 3, SIDE)["lost"].tolist() for seed in range(400)]
    )
    assert not lost.all(axis=1).any()
    # Of three channels one comes back in 0.6³ of the crops.
    assert lost.mean() == pytest.approx(0.6 - 0.6**3 / 3, abs=0.03)
    assert np.ptp(lost.mean(axis=0)) < 0.1
    inputs, label = scenery(count=8)
    seen, _ = alter(augment, inputs, label)
    gone = (seen == 0).all(dim=(2, 3))
    assert gone.any()
    assert torch.equal(seen[~gone], inputs.nan_to_num()[~gone])


def test_coarse_dropout_lays_up_to_so_many_rectangles() -> None:
    augment = AugmentSettings(coarse_dropout=3, hole=0.5)
    counts = set()
    for seed in range(100):
        holes = sample_params(augment, np.random.default_rng(seed), CHANNELS, SIDE)["holes"].numpy()
        assert holes.shape == (3, 4)
        assert (holes >= 0).all()
        assert (holes <= SIDE).all()
        sides = holes[:, 2:] - holes[:, :2]
        assert (sides <= SIDE / 2 + 1e-4).all()
        counts.add(int((sides > 1e-6).all(axis=1).sum()))
    assert counts == {0, 1, 2, 3}


def test_boxes_hold_the_pixels_whose_centres_lie_in_them() -> None:
    boxes = torch.tensor([[0.6, 1.4, 3.0, 4.6], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 6.0, 6.0]])
    masks = inside(boxes, 6)
    for box, row, col in np.ndindex(masks.shape):
        top, left, bottom, right = boxes[box].tolist()
        assert masks[box, row, col] == (top <= row + 0.5 < bottom and left <= col + 0.5 < right)


def test_mixup_mixes_a_crop_with_the_next_by_its_share() -> None:
    inputs, label = scenery(count=3)
    inputs = inputs.nan_to_num()
    shares, truth = torch.tensor([0.25, 1.0, 0.6]), label_shares(label, LABELS)
    mixed, soft = mix(inputs, truth, {"mixup": shares})
    for one, following, share in ((0, 1, 0.25), (1, 2, 1.0), (2, 0, 0.6)):
        torch.testing.assert_close(mixed[one], share * inputs[one] + (1 - share) * inputs[following])
        known = label[one] != IGNORE
        if share < 1:
            known &= label[following] != IGNORE
        expected = share * truth[one] + (1 - share) * truth[following]
        torch.testing.assert_close(soft[one], torch.where(known, expected, 0))
    sums = soft.sum(1)
    assert (((sums - 1).abs() < 1e-6) | (sums == 0)).all()


def test_cutmix_pastes_a_rectangle_of_the_next_crop_with_its_labels() -> None:
    inputs, label = scenery(count=3)
    inputs = inputs.nan_to_num()
    boxes = torch.tensor([[3.0, 2.0, 9.0, 12.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, SIDE, SIDE]])
    mixed, soft = mix(inputs, label_shares(label, LABELS), {"cutmix": boxes})
    expected, pasted = inputs.clone(), label.clone()
    for values, source in ((expected, inputs), (pasted, label)):
        values[0, ..., 3:9, 2:12] = source[1, ..., 3:9, 2:12]
        values[2] = source[0]
    assert torch.equal(mixed, expected)
    assert torch.equal(soft, label_shares(pasted, LABELS))


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_so_many_crops_are_mixed_as_was_asked_for(mixup: float, cutmix: float) -> None:
    augment = AugmentSettings(mixup=mixup, cutmix=cutmix, mix_share=0.3)
    sampled = [sample_params(augment, np.random.default_rng(seed), CHANNELS, SIDE) for seed in range(600)]
    none = torch.tensor(1.0), torch.zeros(4)
    mixed = np.array([float(one.get("mixup", none[0])) < 1 for one in sampled])
    pasted = np.array([bool(one.get("cutmix", none[1]).any()) for one in sampled])
    assert not (mixed & pasted).any()
    assert (mixed | pasted).mean() == pytest.approx(0.3, abs=0.05)
    if mixup and cutmix:
        assert mixed.mean() == pytest.approx(0.15, abs=0.04)
    if cutmix:
        boxes = np.array([one["cutmix"].tolist() for one in sampled])[pasted]
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / SIDE**2
        assert area.mean() == pytest.approx(0.5, abs=0.1), "Beta(1, 1) is uniform"
        assert boxes.min() >= 0
        assert boxes.max() <= SIDE


def test_settings_beyond_reason_are_refused() -> None:
    for wrong in ({"rotate": 200}, {"scale": 0.5}, {"contrast": 1.0}, {"band_dropout": 1.0}, {"mix_share": 2}):
        with pytest.raises(ValidationError):
            AugmentSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="batches to mix crops of"):
        CnnSettings(batch_size=1, augment={"mixup": 0.2})  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_gpu_shows_what_a_cpu_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    augment = AugmentSettings(
        rotate=180,
        scale=1.5,
        brightness=0.3,
        contrast=0.2,
        blur=1,
        band_dropout=0.3,
        coarse_dropout=3,
        mixup=0.3,
        cutmix=1,
    )
    inputs, label = scenery(64, count=4)
    side = 28
    params = default_collate(
        [sample_params(augment, np.random.default_rng(number), CHANNELS, side) for number in range(4)]
    )
    show = Augmentation(augment, side, LABELS)
    seen, truth = show((inputs, label, params))
    there = show((inputs.cuda(), label.cuda(), {name: values.cuda() for name, values in params.items()}))
    close = ((there[0].cpu() - seen).abs() < 1e-3).float().mean()
    assert close > 0.99, "up to pixels on the edge between two nearest ones"
    assert ((there[1].cpu() - truth).abs() < 1e-3).float().mean() > 0.99
