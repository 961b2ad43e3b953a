"""Score a network, while it learns, on the scenes that are held out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from cnn.crops.crops import SceneStore
from cnn.inputs.normalisation import Normalisation
from cnn.inputs.resize import resize_channels, resize_label, resize_proba, scene_side
from cnn.losses.pixel_losses import Loss
from data.metrics.confusion import confusion_counts
from data.pages.quicklook import richest_window
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene
from data.scenes.tags import read_tags
from data.scenes.windows import Grid, Window, tile_windows

__all__ = [
    "PixelTally",
    "TagTally",
    "Tally",
    "Tiles",
    "Validation",
    "infer",
    "label_indices",
    "tag_proba",
    "tile_places",
    "validate",
]


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
        self.read_side = scene_side(side, resize)
        self._shown: dict[int, int] = {}
        self.places = [
            (number, square)
            for number, scene in enumerate(self.scenes)
            for square, _ in tile_places(scene.grid, self.read_side)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def window(self, number: int) -> Window:
        """Return what is seen of tile ``number``: within the scene as far as that is large enough."""
        scene, square = self.places[number]
        return _seen_around(square, self.scenes[scene].grid)

    def shown(self, scene: int) -> int:
        """Return the number of the tile that is shown of a scene: see `richest_window`; of a tagged one the first."""
        if scene not in self._shown:
            whole = self.scenes[scene]
            window = whole.grid.window if whole.label is None else richest_window(whole, self.read_side)
            self._shown[scene] = next(
                number
                for number, (other, square) in enumerate(self.places)
                if (other, square.row, square.col) == (scene, window.row, window.col)
            )
        return self._shown[scene]

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        """Return tile ``number``.

        Returns
        -------
        inputs : (C, read_side, read_side) float32
            Normalised, NaN where there is no data.
        truth : (read_side, read_side) uint8, or of tags (K,) uint8
            `IGNORE` where there is no data, outside the scene, and where it is that of another tile.
        scene : int
            Its number.
        """
        place, square = self.places[number]
        scene, window = self.scenes[place], self.window(number)
        channels, label = self.store.read(scene, window)
        label = label.copy()
        label[: square.row - window.row], label[:, : square.col - window.col] = IGNORE, IGNORE
        inputs = torch.from_numpy(self.normalisations[scene.id].rescale(channels))
        return inputs, self.store.truth.of_crop(scene, torch.from_numpy(label)), place


@dataclass(frozen=True)
class Validation:
    """Losses and counts of the scenes that are held out.

    Parameters
    ----------
    loss : float
        Mean over the labelled pixels of the loss of the batch that each is part of; of tags over the tiles.
    counts : (n_labels, n_labels + 1) or, of tags, (K, 2, 3) int64
        Labelled pixels by label and prediction, or scenes; see `data.metrics.confusion.confusion_counts`.
    scene_losses : (n_scenes,) float64
        Mean over the labelled pixels of a scene of the loss of the tile that each is part of, or over its tiles; NaN
        without any.
    """

    loss: float
    counts: NDArray[np.int64]
    scene_losses: NDArray[np.float64]


@dataclass(frozen=True)
class PixelTally:
    """Counts labelled pixels by label and prediction, of ``n_labels`` label indices."""

    n_labels: int

    @property
    def n_sums(self) -> int:
        """Number of counts."""
        return self.n_labels * (self.n_labels + 1)

    def weigh(self, truth: Tensor) -> Tensor:
        """Return the weight of each tile in means of the loss, (n,) float64: its labelled pixels."""
        return (truth != IGNORE).sum(dim=(1, 2)).double()

    def sums(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return what is summed over the tiles of a scene, (n, n_sums) float64: the counts of each tile."""
        tiles = zip(truth.numpy(), label_indices(logits, truth.shape[-1]), strict=True)
        counts = [confusion_counts(label, prediction, self.n_labels).ravel() for label, prediction in tiles]
        return torch.from_numpy(np.stack(counts)).double()

    def counts(self, sums: Tensor, weights: Tensor, scenes: Sequence[Scene]) -> NDArray[np.int64]:
        """Return the counts (n_labels, n_labels + 1) of all scenes, from the sums (n_scenes, n_sums)."""
        counts: NDArray[np.int64] = sums.sum(dim=0).round().long().numpy()
        return counts.reshape(self.n_labels, self.n_labels + 1)


@dataclass(frozen=True)
class TagTally:
    """Counts scenes by the truth and prediction of each of ``n_tags`` tags, from the mean over tiles that show any."""

    n_tags: int

    @property
    def n_sums(self) -> int:
        """Number of tags."""
        return self.n_tags

    def weigh(self, truth: Tensor) -> Tensor:
        """Return the weight of each tile in means of the loss, (n,) float64: 1 if anything is seen."""
        return (truth != IGNORE).any(dim=1).double()

    def sums(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return what is summed over the tiles of a scene, (n, n_sums) float64: probabilities, 0 if nothing is seen."""
        return logits.sigmoid().cpu().double() * self.weigh(truth)[:, None]

    def counts(self, sums: Tensor, weights: Tensor, scenes: Sequence[Scene]) -> NDArray[np.int64]:
        """Return the counts (n_tags, 2, 3) of all scenes, from the sums (n_scenes, n_sums) and their weights."""
        seen = weights > 0
        predicted = (sums[seen] / weights[seen, None]).numpy() >= 0.5
        tags = [read_tags(scene, self.n_tags) for scene, known in zip(scenes, seen.tolist(), strict=True) if known]
        truth = np.array(tags, np.uint8).reshape(-1, self.n_tags)
        pairs = zip(truth.T, predicted.T.astype(np.uint8), strict=True)
        return np.stack([confusion_counts(tag, prediction, 2) for tag, prediction in pairs])


Tally = PixelTally | TagTally


def validate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    tiles: Tiles,
    tally: Tally,
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
    batches : iterable of (inputs, truth, scene)
        Of the tiles.
    tiles : Tiles
    tally : Tally
    loss : callable
        (logits, truth) → scalar.
    device : torch.device
    precision : torch.dtype
    total : callable
        Adds up sums over all processes that have a part of the batches each.
    """
    network.eval()
    pooled, sums = 0.0, torch.zeros(len(tiles.scenes), 2 + tally.n_sums, dtype=torch.float64)
    with torch.inference_mode():
        for inputs, truth, scenes in batches:
            logits = infer(network, inputs.to(device, non_blocking=True), tiles.side, precision)
            seen = truth.to(device, non_blocking=True)
            if seen.ndim == 3:
                seen = resize_label(seen, tiles.side, tiles.side)
            weights = tally.weigh(truth)
            pooled += loss(logits, seen).item() * weights.sum().item()
            losses = torch.stack([loss(logits[tile : tile + 1], seen[tile : tile + 1]) for tile in range(len(seen))])
            columns = [weights[:, None], (losses.cpu().double() * weights)[:, None], tally.sums(logits, truth)]
            sums.index_add_(0, scenes, torch.cat(columns, dim=1))
    whole = total(torch.cat([torch.tensor([pooled], dtype=torch.float64), sums.ravel()]).to(device)).cpu()
    sums = whole[1:].reshape(sums.shape)
    weights, losses = sums[:, 0], sums[:, 1]
    return Validation(
        (whole[0] / weights.sum().clamp(min=1)).item(),
        tally.counts(sums[:, 2:], weights, tiles.scenes),
        torch.where(weights > 0, losses / weights.clamp(min=1), torch.nan).numpy(),
    )


def tile_places(grid: Grid, side: int) -> Iterator[tuple[Window, Window]]:
    """Yield the tiles of a scene: the square of ``side`` pixels that is its own, and the one that is seen for it."""
    for window in tile_windows(grid.height, grid.width, side):
        square = Window(window.row, window.col, side, side)
        yield square, _seen_around(square, grid)


def _seen_around(square: Window, grid: Grid) -> Window:
    """Move a square back into the scene as far as that is large enough."""
    row, col = max(0, min(square.row, grid.height - square.height)), max(0, min(square.col, grid.width - square.width))
    return Window(row, col, square.height, square.width)


def infer(network: nn.Module, inputs: Tensor, side: int, precision: torch.dtype) -> Tensor:
    """Return the logits (N, K, side, side), or of tags (N, K), float32 of inputs (N, C, h, w), NaN without data."""
    seen = resize_channels(inputs, side, side).nan_to_num(nan=0.0)
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


def tag_proba(logits: Tensor, side: int) -> NDArray[np.float32]:
    """Return the probabilities (N, K) of logits (N, K), whatever the side of the scenes."""
    proba: NDArray[np.float32] = logits.sigmoid().cpu().numpy()
    return proba
