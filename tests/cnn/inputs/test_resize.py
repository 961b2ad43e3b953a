import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from cnn.inputs.resize import resize_channels, resize_label, resize_proba, scene_side


def ramp(side: int) -> torch.Tensor:
    """A channel whose value is the place of a pixel's middle, as a share of the side."""
    places = (torch.arange(side) + 0.5) / side
    return (places[:, None] + 2 * places[None, :])[None, None]


@pytest.mark.parametrize(("side", "new"), [(20, 40), (20, 31), (40, 20), (40, 13)])
def test_what_lies_somewhere_lies_there_on_any_scale(side: int, new: int) -> None:
    resized, margin = resize_channels(ramp(side), new, new), 1 + new // 6
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    np.testing.assert_allclose(resized[inner], ramp(new)[inner], atol=2e-3)


def test_channels_without_nodata_are_torchs_bicubic_ones() -> None:
    channels = torch.randn(2, 3, 17, 17, generator=torch.Generator().manual_seed(0))
    for new in (29, 9):
        theirs = interpolate(channels, (new, new), mode="bicubic", antialias=True)
        torch.testing.assert_close(resize_channels(channels, new, new), theirs)
    assert resize_channels(channels, 17, 17) is channels


@pytest.mark.parametrize("new", [50, 41, 12])
def test_nodata_neither_grows_nor_leaks(new: int) -> None:
    channels = torch.full((1, 2, 25, 25), 7.0)
    channels[0, 0, 5:15, 7:20] = torch.nan
    channels[0, 0, 10, 10] = 7.0
    resized = resize_channels(channels, new, new)
    nearest = interpolate(channels, (new, new), mode="nearest-exact")
    assert torch.equal(resized.isnan(), nearest.isnan())
    torch.testing.assert_close(resized[~resized.isnan()], torch.full_like(resized[~resized.isnan()], 7.0))


@pytest.mark.parametrize(("side", "new"), [(6, 12), (6, 13), (12, 5)])
def test_a_label_takes_that_of_the_nearest_pixel(side: int, new: int) -> None:
    label = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, side, side)).astype(np.uint8))
    resized = resize_label(label, new, new)
    assert resized.dtype == torch.uint8
    source = np.floor((np.arange(new) + 0.5) * side / new).astype(int)
    np.testing.assert_array_equal(resized, label.numpy()[:, source][:, :, source])


@pytest.mark.parametrize("new", [40, 7])
def test_probabilities_stay_probabilities(new: int) -> None:
    proba = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).softmax(1)
    resized = resize_proba(proba, new, new)
    torch.testing.assert_close(resized.sum(1), torch.ones(2, new, new))
    assert resized.min() >= proba.min() - 1e-6
    assert resized.max() <= proba.max() + 1e-6


def test_there_and_back_again_is_where_it_was() -> None:
    proba = torch.zeros(1, 1, 32, 32)
    proba[..., 8:16, 12:20] = 1
    for factor in (2.0, 0.5):
        there = resize_channels(proba, round(32 * factor), round(32 * factor))
        back = resize_proba(there, 32, 32)
        rows, cols = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        for axis in (rows, cols):
            before, after = ((axis * mass[0, 0]).sum() / mass.sum() for mass in (proba, back))
            assert after.item() == pytest.approx(before.item(), abs=0.02)


def test_a_square_of_the_network_is_one_of_the_scene() -> None:
    assert scene_side(256, 2) == 128
    assert scene_side(256, 1) == 256
    assert scene_side(256, 0.5) == 512
    assert scene_side(2, 8) == 1
