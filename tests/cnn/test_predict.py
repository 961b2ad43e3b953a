import dataclasses
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import cnn.predict
from cnn.channels import Normalisation, read_channels
from cnn.predict import Fitted, Tiling, blend_shares, predict_scene, tile_starts
from data.scene import Scene, read_scene, valid_mask
from data.windows import Window
from features.feature_set import FeatureSet

INPUTS = ("nir", "red")
NORMALISATION = Normalisation((500.0, 80.0), (50.0, 40.0))


class PixelNetwork(nn.Module):
    """Logits are multiples of the second plane: the simplest translation-equivariant network."""

    def __init__(self, outputs: int, factor: float = 1.0) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.arange(1, outputs + 1) * factor)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.shapes.append(tuple(inputs.shape))
        return inputs[:, 1:] * self.factors[:, None, None]


def predict(
    scene: Scene, networks: list[nn.Module], tiling: Tiling, outputs: int = 1, turns: bool = False
) -> np.ndarray:
    models = [Fitted(network, NORMALISATION) for network in networks]
    whole = np.full((outputs, scene.grid.height, scene.grid.width), -1, np.float32)
    for window, proba in predict_scene(
        scene, FeatureSet(scene.bands, INPUTS), models, outputs, tiling, device=torch.device("cpu"),
        precision=torch.float32, turns=turns,
    ):  # fmt: skip
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
@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 33), (95, 70), (64, 200)])
def test_tiles_blend_to_what_a_single_pass_says(
    make_scene: Callable[..., Scene], height: int, width: int, outputs: int, turns: bool
) -> None:
    scene = make_scene("any", height, width)
    proba = predict(scene, [PixelNetwork(outputs)], Tiling(64, 16, 8, 16, batch=2), outputs, turns)
    np.testing.assert_allclose(proba, by_hand(scene, outputs), atol=1e-6)
    if outputs > 1:
        np.testing.assert_allclose(np.nansum(proba, 0)[np.isfinite(proba[0])], 1, atol=1e-5)


def test_several_models_are_averaged_each_with_its_own_normalisation(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene("any", 40, 100)
    other = Fitted(PixelNetwork(1, 3.0), dataclasses.replace(NORMALISATION, mean=(500.0, 100.0)))
    models = [Fitted(PixelNetwork(1), NORMALISATION), other]
    options = {"device": torch.device("cpu"), "precision": torch.float32, "turns": False}
    tiling, feature_set = Tiling(64, 16, 8, 16), FeatureSet(scene.bands, INPUTS)

    def run(some: list[Fitted]) -> np.ndarray:
        return np.concatenate([p for _, p in predict_scene(scene, feature_set, some, 1, tiling, **options)], 1)  # type: ignore[arg-type]

    np.testing.assert_allclose(run(models), (run(models[:1]) + run(models[1:])) / 2, atol=1e-6)


def test_a_scene_smaller_than_a_tile_is_one_pass_of_a_size_the_network_takes(make_scene: Callable[..., Scene]) -> None:
    network = PixelNetwork(1)
    predict(make_scene("small", 33, 7), [network], Tiling(64, 16, 32, 32))
    assert network.shapes == [(1, 2, 64, 32)]


def test_a_network_of_fixed_input_size_gets_that_size_alone(make_scene: Callable[..., Scene]) -> None:
    network, scene = PixelNetwork(1), make_scene("any", 20, 75)
    proba = predict(scene, [network], Tiling(32, 16, 16, 32))
    assert {shape[2:] for shape in network.shapes} == {(32, 32)}
    np.testing.assert_allclose(proba, by_hand(scene, 1), atol=1e-6)


def test_tiles_go_through_in_batches_and_empty_ones_not_at_all(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, tiling = make_scene("wide", 32, 160), Tiling(32, 0, 32, 32, batch=2)
    network = PixelNetwork(1)
    predict(scene, [network], tiling)
    assert [shape[0] for shape in network.shapes] == [2, 2, 1]

    network.shapes.clear()
    blank = np.full((2, 32, 160), np.nan, np.float32), np.zeros((32, 160), bool)
    monkeypatch.setattr(cnn.predict, "read_channels", lambda *_: blank)
    assert np.isnan(predict(scene, [network], tiling)).all()
    assert network.shapes == []


def test_a_strip_is_given_out_before_the_next_row_of_tiles_is_read(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Window] = []

    def watch(feature_set: FeatureSet, scene: Scene, window: Window) -> tuple[np.ndarray, np.ndarray]:
        read.append(window)
        return read_channels(feature_set, scene, window)

    monkeypatch.setattr(cnn.predict, "read_channels", watch)
    scene = make_scene("tall", 200, 40)
    strips = predict_scene(
        scene, FeatureSet(scene.bands, INPUTS), [Fitted(PixelNetwork(1), NORMALISATION)], 1, Tiling(64, 16, 8, 16),
        device=torch.device("cpu"), precision=torch.float32, turns=False,
    )  # fmt: skip
    for number, (strip, _) in enumerate(strips, start=1):
        assert len(read) == number
        assert strip.height <= 64
    assert {window.height for window in read} == {64}


def test_seams_fade_without_a_step(make_scene: Callable[..., Scene]) -> None:
    class Edgy(nn.Module):
        """Says another thing at the left of its window than at the right, as networks do at edges."""

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.linspace(-3, 3, inputs.shape[-1]).expand(len(inputs), 1, *inputs.shape[-2:])

    proba = predict(make_scene("wide", 8, 200), [Edgy()], Tiling(64, 32, 8, 8))[0, 6]
    assert np.abs(np.diff(proba)).max() < 0.09, "a hard seam would be a step of 0.9"


@given(st.integers(1, 400), st.sampled_from([16, 32, 64]), st.integers(0, 16))
def test_shares_of_all_tiles_add_up_to_one(length: int, side: int, half_overlap: int) -> None:
    overlap = min(half_overlap * 2, side // 2)
    starts = tile_starts(length, side, overlap)
    shares = blend_shares(length, starts, side, overlap)
    total = np.zeros(starts[-1] + side)
    for start, share in zip(starts, shares, strict=True):
        total[start : start + side] += share
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    assert len(total) >= length
    assert all(before + side - after >= overlap for before, after in pairwise(starts))
    assert length <= side or starts[-1] + side == length
