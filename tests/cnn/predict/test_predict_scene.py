from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

import cnn.predict.predict_scene
from cnn.inputs.channels import read_channels
from cnn.inputs.normalisation import Normalisation
from cnn.predict.applied import Applied, Mean
from cnn.predict.predict_scene import Tiling, blend_shares, predict_scene, tile_starts
from cnn.predict.runner import Runner
from data.scenes.scene import Scene, read_scene, valid_mask
from data.scenes.windows import Window
from features.feature_set import FeatureSet

INPUTS = ("nir", "red")
NORMALISATION = Normalisation((500.0, 80.0), (50.0, 40.0))
RUNNER = Runner(torch.device("cpu"), torch.float32)


class PixelNetwork(nn.Module):
    """Logits are multiples of the second channel: the simplest translation-equivariant network."""

    def __init__(self, outputs: int, factor: float = 1.0) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.arange(1, outputs + 1) * factor)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.shapes.append(tuple(inputs.shape))
        return inputs[:, 1:] * self.factors[:, None, None]


class BlockNetwork(nn.Module):
    """Sees blocks of 8 × 8 pixels from its corner, as networks that halve their input three times do."""

    def forward(self, inputs: Tensor) -> Tensor:
        return interpolate(avg_pool2d(inputs[:, 1:], 8), scale_factor=8, mode="nearest")


def predict(scene: Scene, network: nn.Module, tiling: Tiling, outputs: int = 1, runner: Runner = RUNNER) -> np.ndarray:
    model = Applied(network, NORMALISATION, tiling.resize, tiling.multiple)
    whole = np.full((outputs, scene.grid.height, scene.grid.width), -1, np.float32)
    for window, proba in predict_scene(scene, FeatureSet(scene.bands, INPUTS), model, outputs, tiling, runner):
        assert proba.dtype == np.float32
        assert (whole[:, *window.slices] == -1).all(), "windows cover the scene once"
        whole[:, *window.slices] = proba
    assert not (whole == -1).any()
    return whole


def by_hand(scene: Scene, outputs: int, factor: float = 1.0) -> np.ndarray:
    red = np.nan_to_num((read_scene(scene, bands=["red"]) - 80) / 40)
    logits = red * (np.arange(1, outputs + 1) * factor)[:, None, None]
    proba = 1 / (1 + np.exp(-logits)) if outputs == 1 else np.exp(logits) / np.exp(logits).sum(0)
    proba[:, ~valid_mask(scene, read_scene(scene))] = np.nan
    return proba


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 33), (95, 70), (64, 200)])
def test_tiles_blend_to_what_a_single_pass_says(
    make_scene: Callable[..., Scene], height: int, width: int, outputs: int
) -> None:
    scene = make_scene("any", height, width)
    proba = predict(scene, PixelNetwork(outputs), Tiling(64, 16, 8, 16), outputs)
    np.testing.assert_allclose(proba, by_hand(scene, outputs), atol=1e-6)
    if outputs > 1:
        np.testing.assert_allclose(np.nansum(proba, 0)[np.isfinite(proba[0])], 1, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(100, 203), (61, 150)])
def test_tiles_of_a_network_that_halves_its_input_blend_to_what_a_single_pass_says(
    make_scene: Callable[..., Scene], height: int, width: int
) -> None:
    scene, whole = make_scene("any", height, width), Tiling(256, 16, 8, 16)
    once = predict(scene, BlockNetwork(), whole)
    np.testing.assert_allclose(predict(scene, BlockNetwork(), Tiling(64, 20, 8, 16)), once, atol=1e-6)

    # A network with a field of view says something else at the edges of its windows, where its share is next to none.
    torch.manual_seed(0)
    blurs = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)).eval()
    once = predict(scene, blurs, whole)
    assert np.nanmax(np.abs(predict(scene, blurs, Tiling(64, 32, 8, 16)) - once)) < 0.01


def test_a_scene_smaller_than_a_tile_is_one_pass_of_a_size_the_network_takes(make_scene: Callable[..., Scene]) -> None:
    network = PixelNetwork(1)
    predict(make_scene("small", 33, 7), network, Tiling(64, 16, 32, 32))
    assert network.shapes == [(1, 2, 64, 32)]


def test_a_network_of_fixed_input_size_gets_that_size_alone(make_scene: Callable[..., Scene]) -> None:
    network, scene = PixelNetwork(1), make_scene("any", 20, 75)
    proba = predict(scene, network, Tiling(32, 16, 16, 32))
    assert {shape[2:] for shape in network.shapes} == {(32, 32)}
    np.testing.assert_allclose(proba, by_hand(scene, 1), atol=1e-6)


def test_windows_without_a_valid_pixel_are_not_computed(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_blank(feature_set: FeatureSet, scene: Scene, window: Window) -> tuple[np.ndarray, np.ndarray]:
        channels, valid = read_channels(feature_set, scene, window)
        channels[:, :, 64:], valid[:, 64:] = np.nan, False
        return channels, valid

    monkeypatch.setattr(cnn.predict.predict_scene, "read_channels", half_blank)
    scene, network = make_scene("wide", 32, 160), PixelNetwork(1)
    proba = predict(scene, network, Tiling(32, 0, 32, 32))
    assert network.shapes == [(1, 2, 32, 32)] * 2, "of five windows"
    assert np.isnan(proba[:, :, 64:]).all()
    np.testing.assert_allclose(proba[:, :, :64], by_hand(scene, 1)[:, :, :64], atol=1e-6)


def test_each_row_is_read_once_and_a_strip_given_out_before_more_are_read(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Window] = []

    def watch(feature_set: FeatureSet, scene: Scene, window: Window) -> tuple[np.ndarray, np.ndarray]:
        read.append(window)
        return read_channels(feature_set, scene, window)

    monkeypatch.setattr(cnn.predict.predict_scene, "read_channels", watch)
    scene = make_scene("tall", 200, 40)
    model = Mean([Applied(PixelNetwork(1, factor), NORMALISATION) for factor in (1.0, 2.0)])
    strips = predict_scene(scene, FeatureSet(scene.bands, INPUTS), model, 1, Tiling(64, 16, 8, 16), RUNNER)
    for number, (strip, _) in enumerate(strips, start=1):
        assert len(read) == number
        assert strip.height <= 64
    rows = [row for window in read for row in range(window.row, window.row + window.height)]
    assert rows == list(range(len(rows)))
    assert max(window.height for window in read) == 64


@pytest.mark.parametrize("resize", [2.0, 0.5, 1.5])
def test_a_resized_scene_comes_back_on_its_own_grid(make_scene: Callable[..., Scene], resize: float) -> None:
    scene, network = make_scene("any", 90, 140), PixelNetwork(1)
    proba = predict(scene, network, Tiling(64, 16, 16, 32, resize))
    assert {side for shape in network.shapes for side in shape[2:]} <= {32, 48, 64}
    wanted = by_hand(scene, 1)
    np.testing.assert_array_equal(np.isnan(proba), np.isnan(wanted))
    once = predict(scene, PixelNetwork(1), Tiling(512, 16, 16, 32, resize))
    assert np.nanmean(np.abs(proba - once)) < 0.004
    # Shrunk and enlarged again a channel loses its noise, not the blobs in it.
    assert np.corrcoef(proba[np.isfinite(proba)], wanted[np.isfinite(wanted)])[0, 1] > (0.9 if resize > 1 else 0.7)


def test_seams_fade_without_a_step(make_scene: Callable[..., Scene]) -> None:
    class Edgy(nn.Module):
        """Says another thing at the left of its window than at the right, as networks do at edges."""

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.linspace(-3, 3, inputs.shape[-1]).expand(len(inputs), 1, *inputs.shape[-2:])

    proba = predict(make_scene("wide", 8, 200), Edgy(), Tiling(64, 32, 8, 8))[0, 6]
    assert np.abs(np.diff(proba)).max() < 0.09, "a hard seam would be a step of 0.9"


@given(st.integers(1, 400), st.sampled_from([16, 32, 64]), st.integers(0, 16), st.sampled_from([1, 8, 32]))
def test_shares_of_all_tiles_add_up_to_one(length: int, side: int, half_overlap: int, step: int) -> None:
    overlap = min(half_overlap * 2, side // 2)
    starts = tile_starts(length, side, overlap, step)
    shares = blend_shares(length, starts, side, overlap)
    total = np.zeros(starts[-1] + side)
    for start, share in zip(starts, shares, strict=True):
        total[start : start + side] += share
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    assert len(total) >= length
    assert all(before + side - after >= overlap for before, after in pairwise(starts))
    if step <= side - overlap:
        assert all(start % step == 0 for start in starts)
        assert starts[-1] + side < length + step or len(starts) == 1
    else:
        assert length <= side or starts[-1] + side == length
