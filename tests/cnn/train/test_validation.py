from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cnn.crops.crops import SceneStore
from cnn.inputs.normalisation import Normalisation
from cnn.train.prediction_grid import PIXEL_PANELS, choose_scenes, render_grid
from cnn.train.validation import PixelTally, Tiles, Validation, infer, label_indices, validate
from data.metrics.confusion import confusion_counts
from data.pages.quicklook import ERROR_COLORS
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene, read_label, read_scene, valid_mask
from features.feature_set import FeatureSet

CPU = {"device": torch.device("cpu"), "precision": torch.float32}


class Scale(nn.Module):
    """Logits are the first channel, brighter than 100; binary, or with its opposite for two classes."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs: Tensor) -> Tensor:
        logits = inputs[:, :1] / 10
        return logits if self.outputs == 1 else torch.cat([-logits, logits], dim=1)


def error_share(logits: Tensor, label: Tensor) -> Tensor:
    """A loss that is easy to compute by hand: the mean of |logit| over the labelled pixels."""
    known = label != IGNORE
    return torch.where(known, logits.abs().mean(1), 0).sum() / known.sum().clamp(min=1)


def tiles_of(scenes: list[Scene], side: int, resize: float = 1.0) -> Tiles:
    store = SceneStore(FeatureSet(("red", "nir", "qa"), ("red", "nir")), scenes, (1,), 1e9, seed=0)
    plain = Normalisation((100.0, 0.0), (1.0, 1.0))
    return Tiles(store, scenes, {scene.id: plain for scene in scenes}, side, resize)


def known_label(scene: Scene) -> np.ndarray:
    return np.where(valid_mask(scene, read_scene(scene)), read_label(scene), IGNORE).astype(np.uint8)


def test_tiles_cover_each_scene_exactly_once_and_do_not_look_over_its_edge(make_scene: Callable[..., Scene]) -> None:
    scenes = [make_scene("first", 40, 48), make_scene("second", 16, 70), make_scene("small", 9, 16)]
    tiles = tiles_of(scenes, 16)
    seen = [np.zeros((scene.grid.height, scene.grid.width), int) for scene in scenes]
    for place in range(len(tiles)):
        inputs, label, number = tiles[place]
        window, grid = tiles.window(place), scenes[number].grid
        assert inputs.shape == (2, 16, 16)
        assert label.shape == (16, 16)
        assert (label[inputs[0].isnan()] == IGNORE).all()
        assert window.meet(grid.window).height == min(16, grid.height)
        assert window.meet(grid.window).width == 16
        rows, cols = np.nonzero((label != IGNORE).numpy())
        seen[number][rows + window.row, cols + window.col] += 1
    for count, scene in zip(seen, scenes, strict=True):
        np.testing.assert_array_equal(count, known_label(scene) != IGNORE)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("parts", [1, 3])
def test_counts_and_losses_are_those_of_a_loop_whoever_has_which_part(
    make_scene: Callable[..., Scene], outputs: int, parts: int
) -> None:
    scenes = [make_scene("first", 40, 48), make_scene("second", 16, 70)]
    tiles = tiles_of(scenes, 16)
    sums: list[Tensor] = []

    def keep(total: Tensor) -> Tensor:
        sums.append(total)
        return torch.stack(sums).sum(dim=0)

    network = Scale(outputs)
    for part in range(parts):
        batches = DataLoader(torch.utils.data.Subset(tiles, range(part, len(tiles), parts)), 1)
        found = validate(network, batches, tiles, PixelTally(2), error_share, total=keep, **CPU)  # type: ignore[arg-type]
    assert not network.training

    counts, losses = np.zeros((2, 3), np.int64), []
    for scene in scenes:
        red, label = read_scene(scene, bands=["red"])[0], known_label(scene)
        counts += confusion_counts(label, (np.nan_to_num(red) >= 100).astype(np.uint8), 2)
        losses.append(np.abs(red[label != IGNORE] - 100) / 10)
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.scene_losses, [loss.mean() for loss in losses], rtol=1e-5)
    assert found.loss == pytest.approx(float(np.concatenate(losses).mean()), rel=1e-5)


def test_resized_scenes_are_scored_on_their_own_grid(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene("first", 40, 48)
    counts = [
        validate(Scale(), DataLoader(tiles, 2), tiles, PixelTally(2), error_share, **CPU).counts  # type: ignore[arg-type]
        for tiles in (tiles_of([scene], 16), tiles_of([scene], 32, 2.0))
    ]
    assert counts[0].sum() == counts[1].sum() == (known_label(scene) != IGNORE).sum()
    assert np.abs(counts[0] - counts[1]).sum() < 0.2 * counts[0].sum()


def test_a_probability_of_a_half_is_the_positive_class_and_the_likeliest_wins() -> None:
    assert label_indices(torch.tensor([[[[-1e-3, 0.0], [1e-3, -9.0]]]]), 2).tolist() == [[[0, 1], [1, 0]]]
    several = torch.tensor([[[[1.0]], [[3.0]], [[2.0]]]])
    assert label_indices(several, 1).tolist() == [[[1]]]


def test_scenes_without_a_label_have_no_loss(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene("first", 16, 16)
    tiles = tiles_of([scene], 16)
    blank = [(tiles[0][0][None], torch.full((1, 16, 16), IGNORE, dtype=torch.uint8), torch.tensor([0]))]
    found = validate(Scale(), blank, tiles, PixelTally(2), error_share, **CPU)  # type: ignore[arg-type]
    assert np.isnan(found.scene_losses[0])
    assert found.loss == 0
    assert found.counts.sum() == 0


def test_the_worst_scenes_are_chosen_besides_those_spread_over_all() -> None:
    spread, worst = choose_scenes(np.array([0.5, 9.0, np.nan]))
    assert spread == [0, 1, 2]
    assert worst == []
    losses = np.arange(20.0)
    spread, worst = choose_scenes(losses)
    assert spread == [0, 5, 10, 15]
    assert worst == [19, 18, 17, 16]


def test_a_grid_shows_hits_misses_and_false_alarms_of_the_telling_tile(
    make_scene: Callable[..., Scene], tmp_path: Path
) -> None:
    scene = make_scene("first", 80, 80)
    tiles = tiles_of([scene], 40)
    ones = [int((tiles[number][1] == 1).sum()) for number in range(len(tiles))]
    assert ones[tiles.shown(0)] == max(ones)

    def shifted(inputs: Tensor) -> np.ndarray:
        return np.roll(label_indices(infer(Scale(), inputs, 40, torch.float32), 40), 4, axis=2)

    classes = Classes("binary", (1,), ("bright",), ((230, 159, 0),))
    found = Validation(0.1, np.zeros((2, 3), np.int64), np.array([0.1]))
    render_grid(tmp_path / "grid.png", tiles, found, shifted, classes, PIXEL_PANELS)
    with Image.open(tmp_path / "grid.png") as grid:
        colors = {color: count for count, color in grid.getcolors(2**24)}
    for name in ("hit", "miss", "false alarm"):
        assert colors[ERROR_COLORS[name]] > 50, name
    assert colors[(230, 159, 0)] > 100
