"""Training crops: which scene, where, turned how. Crop n depends on the seed and n, not on who cuts it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cnn.channels import Normalisation, merge_moments, read_channels
from cnn.turns import TURNS, turn
from data.classes import IGNORE
from data.errors import MemberError
from data.files import scene_rng
from data.progress import Track, untracked
from data.scene import Scene, read_label
from data.statistics import Moments
from data.windows import Window, tile_windows
from features.feature_set import FeatureSet

__all__ = ["CropSampler", "Crops", "SceneStore"]

logger = logging.getLogger(__name__)

BLOCK = 1024
"""Side of the windows that scenes are surveyed in, pixels."""
SPOTS = 1024
"""Most pixels of a class that are remembered in one such window as places for a crop."""


@dataclass
class _Survey:
    """What one pass over a scene found."""

    moments: Moments
    spots: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    channels: NDArray[np.float32] | None = None
    label: NDArray[np.uint8] | None = None


class SceneStore:
    """Labelled scenes: their channels and labels in memory if they fit, else re-read for each crop.

    Parameters
    ----------
    feature_set : FeatureSet
        Names the input planes.
    scenes : sequence of Scene
        With labels.
    targets : sequence of int
        Label indices whose places are remembered.
    cache_bytes : float
        Memory that the scenes may take.
    seed : int
    track : Track
    what : str
        Shown by ``track``.
    """

    def __init__(
        self, feature_set: FeatureSet, scenes: Sequence[Scene], targets: Sequence[int], cache_bytes: float, seed: int,
        track: Track = untracked, what: str = "scenes",
    ) -> None:  # fmt: skip
        self.feature_set, self.targets = feature_set, tuple(targets)
        self.names = tuple(feature_set.names)
        pixels = sum(scene.grid.height * scene.grid.width for scene in scenes)
        needed = pixels * (4 * len(self.names) + 1)
        self.in_memory = needed <= cache_bytes
        logger.info(
            "%d scenes, %.2f GB, %s", len(scenes), needed / 1e9, "in memory" if self.in_memory else "read crop by crop"
        )
        self._surveys = {scene.id: self._survey(scene, seed) for scene in track(scenes, what, len(scenes))}

    def read(self, scene: Scene, window: Window) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the channels (C, h, w), NaN where there is no data, and the label (h, w) of a window.

        The label is `IGNORE` where the scene is not valid. The window may reach over the lower and right edge.
        """
        survey = self._surveys[scene.id]
        if survey.channels is None or survey.label is None:
            return self._read(scene, window)
        rows, cols = window.slices
        channels, label = survey.channels[:, rows, cols], survey.label[rows, cols]
        below, beside = window.height - label.shape[0], window.width - label.shape[1]
        if below or beside:
            channels = np.pad(channels, ((0, 0), (0, below), (0, beside)), constant_values=np.nan)
            label = np.pad(label, ((0, below), (0, beside)), constant_values=IGNORE)
        return channels, label

    def spots(self, scene: Scene, label: int) -> NDArray[np.int32]:
        """Return (row, col) of pixels of a label index (n, 2), at most 1 024 a block of 1 024 × 1 024 pixels."""
        return self._surveys[scene.id].spots.get(label, np.empty((0, 2), np.int32))

    def moments(self, scenes: Sequence[Scene]) -> Moments:
        """Return the moments of the channels over the valid pixels of some of the scenes."""
        return merge_moments((self._surveys[scene.id].moments for scene in scenes), len(self.names))

    def _read(self, scene: Scene, window: Window) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        channels, valid = read_channels(self.feature_set, scene, window)
        label = read_label(scene, window)
        label[~valid] = IGNORE
        return channels, label

    def _survey(self, scene: Scene, seed: int) -> _Survey:
        grid = scene.grid
        survey = _Survey(Moments.empty(len(self.names)))
        if self.in_memory:
            survey.channels = np.empty((len(self.names), grid.height, grid.width), np.float32)
            survey.label = np.empty((grid.height, grid.width), np.uint8)
        found: dict[int, list[NDArray[np.int32]]] = {}
        rng = scene_rng(seed, scene.id)
        for window in tile_windows(grid.height, grid.width, BLOCK):
            channels, label = self._read(scene, window)
            survey.moments = survey.moments.merge(Moments.of(channels))
            if survey.channels is not None and survey.label is not None:
                survey.channels[:, *window.slices], survey.label[window.slices] = channels, label
            for index in self.targets:
                places = np.flatnonzero(label == index)
                if len(places) > SPOTS:
                    places = np.sort(rng.choice(places, SPOTS, replace=False))
                if len(places):
                    rows, cols = np.divmod(places, window.width)
                    where = np.stack([rows + window.row, cols + window.col], axis=1).astype(np.int32)
                    found.setdefault(index, []).append(where)
        survey.spots = {index: np.concatenate(parts) for index, parts in found.items()}
        return survey


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Random square crops of some scenes, numbered on through all epochs.

    A share of them holds a pixel of a class drawn evenly from the store's targets, of a scene drawn evenly from
    those that have it, anywhere in the crop. The others are spread over the area of the scenes: epoch by epoch each
    scene gets its due.

    Parameters
    ----------
    store : SceneStore
    scenes : sequence of Scene
        Of the store.
    normalisation : Normalisation
    side : int
        Of a crop, pixels; a smaller scene is continued by pixels without data, labelled `IGNORE`.
    count : int
        Crops an epoch.
    positive_share : float in [0, 1]
    flips : bool
        Whether crops are turned and mirrored at random.
    seed : int

    Raises
    ------
    MemberError
        If no scene holds any of the targets.
    """

    def __init__(
        self, store: SceneStore, scenes: Sequence[Scene], normalisation: Normalisation, *, side: int, count: int,
        positive_share: float, flips: bool, seed: int,
    ) -> None:  # fmt: skip
        self.store, self.scenes, self.normalisation = store, scenes, normalisation
        self.side, self.count, self.positive_share, self.flips, self.seed = side, count, positive_share, flips, seed
        holders = [(target, [scene for scene in scenes if len(store.spots(scene, target))]) for target in store.targets]
        self.with_target = [(target, scenes) for target, scenes in holders if scenes]
        if not self.with_target:
            raise MemberError(
                f"expected a labelled pixel of a class to learn in these {len(scenes)} scenes, got none. "
                "Check the labels, or change folds such that one class is not in one fold alone."
            )
        self.area = np.cumsum([scene.grid.height * scene.grid.width for scene in scenes])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Cut crop ``number``: inputs (C, side, side) float32, normalised, and label (side, side) uint8."""
        rng = np.random.default_rng([self.seed, 1, number])
        scene, window = self._place(number, rng)
        channels, label = self.store.read(scene, window)
        image, mask = torch.from_numpy(self.normalisation.apply(channels)), torch.from_numpy(label)
        way = int(rng.integers(len(TURNS))) if self.flips else 0
        return turn(image, way).contiguous(), turn(mask, way).contiguous()

    def _place(self, number: int, rng: np.random.Generator) -> tuple[Scene, Window]:
        if rng.random() < self.positive_share:
            target, holders = self.with_target[rng.integers(len(self.with_target))]
            scene = holders[rng.integers(len(holders))]
            spots = self.store.spots(scene, target)
            spot = spots[rng.integers(len(spots))]
            row, col = (int(place) - int(rng.integers(self.side)) for place in spot)
        else:
            epoch, position = divmod(number, self.count)
            order = np.random.default_rng([self.seed, 2, epoch]).permutation(self.count)
            drawn = (order[position] + rng.random()) / self.count * self.area[-1]
            scene = self.scenes[int(np.searchsorted(self.area, drawn, side="right"))]
            row, col = (
                int(rng.integers(max(length - self.side, 0) + 1)) for length in (scene.grid.height, scene.grid.width)
            )
        row = max(0, min(row, scene.grid.height - self.side))
        col = max(0, min(col, scene.grid.width - self.side))
        return scene, Window(row, col, self.side, self.side)


class CropSampler(Sampler[int]):
    """The numbers of an epoch's crops; Lightning tells the epoch."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.count, (self.epoch + 1) * self.count))

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the epoch that is about to begin, from 0."""
        self.epoch = epoch
