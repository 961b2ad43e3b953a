"""What a network makes of the scenes that are held out while it learns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from cnn.crops.crops import SceneStore
from cnn.inputs.normalisation import Normalisation
from cnn.inputs.resize import resize_label, resize_planes, resize_proba, scene_side
from cnn.losses.pixel_losses import Loss
from data.metrics.confusion import confusion_counts
from data.pages.quicklook import richest_window
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene
from data.scenes.windows import Grid, Window, tile_windows

__all__ = ["Tiles", "Validation", "infer", "label_indices", "tile_places", "validate"]


class Tiles(Dataset[tuple[Tensor, Tensor, int]]):
    """Squares that cover some scenes exactly once, as large as those that the network learns from.

    Those at the lower and right edge of a scene reach back over their neighbours, so that the network sees what is
    there; the labels of what they share belong to the neighbour.

    Parameters
    ----------
    store : SceneStore
    scenes : sequence of Scene
        Of the store.
    normalisations : mapping of str to Normalisation
        By scene id.
    side : int
        Of what the network sees, pixels.
    resize : float
        Pixels that the network sees a pixel of a scene.
    """

    def __init__(
        self,
        store: SceneStore,
        scenes: Sequence[Scene],
        normalisations: Mapping[str, Normalisation],
        side: int,
        resize: float = 1.0,
    ) -> None:
        self.store, self.scenes, self.normalisations, self.side = store, tuple(scenes), normalisations, side
        self.cut = cut = scene_side(side, resize)
        self._telling: dict[int, int] = {}
        self.places = [
            (number, own) for number, scene in enumerate(self.scenes) for own, _ in tile_places(scene.grid, cut)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def window(self, number: int) -> Window:
        """Return what is seen of tile ``number``: within the scene as far as that is large enough."""
        scene, own = self.places[number]
        return _seen_around(own, self.scenes[scene].grid)

    def telling(self, scene: int) -> int:
        """Return the number of the tile that is shown of a scene; see `data.pages.quicklook.richest_window`."""
        if scene not in self._telling:
            shown = richest_window(self.scenes[scene], self.cut)
            self._telling[scene] = next(
                number
                for number, (other, window) in enumerate(self.places)
                if (other, window.row, window.col) == (scene, shown.row, shown.col)
            )
        return self._telling[scene]

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        """Cut tile ``number``.

        Returns
        -------
        inputs : (C, cut, cut) float32
            Normalised, NaN where there is no data.
        label : (cut, cut) uint8
            `IGNORE` where there is no data, outside the scene, and where it is that of another tile.
        scene : int
            Its number.
        """
        scene, own = self.places[number]
        window = self.window(number)
        channels, label = self.store.read(self.scenes[scene], window)
        label = label.copy()
        label[: own.row - window.row], label[:, : own.col - window.col] = IGNORE, IGNORE
        normal = self.normalisations[self.scenes[scene].id].rescale(channels)
        return torch.from_numpy(normal), torch.from_numpy(label), scene


@dataclass(frozen=True)
class Validation:
    """What came out.

    Parameters
    ----------
    loss : float
        Mean over the labelled pixels of the loss of the batch that each is part of.
    counts : (n_labels, n_labels + 1) or, of tags, (K, 2, 3) int64
        Labelled pixels by label and prediction; see `data.metrics.confusion.confusion_counts`.
    scene_losses : (n_scenes,) float64
        Mean over the labelled pixels of a scene of the loss of the tile that each is part of; NaN without any.
    """

    loss: float
    counts: NDArray[np.int64]
    scene_losses: NDArray[np.float64]


def validate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    tiles: Tiles,
    n_labels: int,
    loss: Loss,
    *,
    device: torch.device,
    precision: torch.dtype,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Validation:
    """Apply a network, as it is when it predicts, to tiles.

    Parameters
    ----------
    network : nn.Module
        On ``device``; it is left in evaluation mode.
    batches : iterable of (inputs, label, scene)
        Of the tiles.
    tiles : Tiles
    n_labels : int
    loss : callable
        (logits, label) → scalar.
    device : torch.device
    precision : torch.dtype
    total : callable
        Adds up sums over all processes that have a part of the batches each.
    """
    network.eval()
    n_scenes, side = len(tiles.scenes), tiles.side
    pixels, losses = torch.zeros(n_scenes, dtype=torch.float64), torch.zeros(n_scenes, dtype=torch.float64)
    pooled, counts = 0.0, np.zeros((n_labels, n_labels + 1), np.int64)
    with torch.inference_mode():
        for inputs, label, scenes in batches:
            logits = infer(network, inputs.to(device, non_blocking=True), side, precision)
            there = resize_label(label.to(device, non_blocking=True), side, side)
            known = (label != IGNORE).sum(dim=(1, 2)).double()
            pooled += loss(logits, there).item() * known.sum().item()
            each = torch.stack([loss(logits[one : one + 1], there[one : one + 1]) for one in range(len(label))])
            pixels.index_add_(0, scenes, known)
            losses.index_add_(0, scenes, each.cpu().double() * known)
            counts += confusion_counts(label.numpy(), label_indices(logits, label.shape[-1]), n_labels)
    parts = [torch.tensor([pooled], dtype=torch.float64), pixels, losses, torch.from_numpy(counts).double().ravel()]
    sums = total(torch.cat(parts).to(device)).cpu()
    pixels, losses, cells = sums[1 : n_scenes + 1], sums[n_scenes + 1 :][:n_scenes], sums[2 * n_scenes + 1 :]
    return Validation(
        (sums[0] / pixels.sum().clamp(min=1)).item(),
        cells.round().long().numpy().reshape(counts.shape),
        torch.where(pixels > 0, losses / pixels.clamp(min=1), torch.nan).numpy(),
    )


def tile_places(grid: Grid, side: int) -> Iterator[tuple[Window, Window]]:
    """Yield the tiles of a scene: the square of ``side`` pixels that is its own, and the one that is seen for it."""
    for window in tile_windows(grid.height, grid.width, side):
        own = Window(window.row, window.col, side, side)
        yield own, _seen_around(own, grid)


def _seen_around(own: Window, grid: Grid) -> Window:
    """Move a square back into the scene as far as that is large enough."""
    row, col = max(0, min(own.row, grid.height - own.height)), max(0, min(own.col, grid.width - own.width))
    return Window(row, col, own.height, own.width)


def infer(network: nn.Module, inputs: Tensor, side: int, precision: torch.dtype) -> Tensor:
    """Return the logits (N, K, side, side), or of tags (N, K), float32 of inputs (N, C, h, w), NaN without data."""
    seen = resize_planes(inputs, side, side).nan_to_num(nan=0.0)
    with torch.autocast(inputs.device.type, precision, enabled=precision != torch.float32):
        logits: Tensor = network(seen.contiguous(memory_format=torch.channels_last))
    return logits.float()


def label_indices(logits: Tensor, side: int) -> NDArray[np.uint8]:
    """Return the label indices (N, side, side) of logits (N, K, h, w): probability ≥ 0.5, or the likeliest class."""
    proba = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
    proba = resize_proba(proba, side, side)
    labels = proba[:, 0] >= 0.5 if logits.shape[1] == 1 else proba.argmax(dim=1)
    indices: NDArray[np.uint8] = labels.to(torch.uint8).cpu().numpy()
    return indices
