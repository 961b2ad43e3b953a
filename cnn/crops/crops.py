"""Training crops, and the scenes that they are read from: crop n depends on the seed and n alone."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cnn.crops.augmentation import Augmentation
from cnn.crops.augmentation_params import AugmentationParams, sample_params
from cnn.crops.placement import CropPlan, Placement
from cnn.crops.truth import PIXELS, Truth
from cnn.inputs.channels import lattice_pixels, read_channels, survey_windows
from cnn.inputs.d4 import D4, apply_d4, d4_matrix
from cnn.inputs.normalisation import Normalisation, Spread
from data.files import scene_rng
from data.progress import Track, untracked
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene
from data.scenes.statistics import Moments
from data.scenes.windows import Window
from features.channels import Channels

__all__ = ["CropSampler", "Crops", "SceneStore"]

logger = logging.getLogger(__name__)

SPOTS = 1024
"""Most pixels of a class that are remembered as places for a crop, of each window that a scene is surveyed in."""


@dataclass(frozen=True)
class _Survey:
    """A scene as one pass over it measured it, with its channels and labels if they are kept."""

    spread: Spread
    label_counts: NDArray[np.int64]
    spots: dict[int, NDArray[np.int32]]
    pixels: tuple[NDArray[np.float32], NDArray[np.uint8]] | None


class SceneStore:
    """Scenes to learn from: their channels and labels in memory if they fit, else re-read for each crop.

    Parameters
    ----------
    channels : Channels
        What the network sees.
    scenes : sequence of Scene
    targets : sequence of int
        Label indices that crops are placed on.
    cache_bytes : float
        Memory that the scenes may take.
    seed : int
    quantiles : bool
        Whether the quantiles of the channels are measured.
    truth : Truth
        Where the labels come from.
    track : Track
    """

    def __init__(
        self,
        channels: Channels,
        scenes: Sequence[Scene],
        targets: Sequence[int],
        cache_bytes: float,
        seed: int,
        quantiles: bool = False,
        truth: Truth = PIXELS,
        track: Track = untracked,
    ) -> None:
        self.channels, self.targets, self.quantiles, self.truth = channels, tuple(targets), quantiles, truth
        self.names = channels.names
        needed = sum(
            scene.grid.height * scene.grid.width * (4 * len(self.names) + 1 + scene.opinions) for scene in scenes
        )
        self.in_memory = needed <= cache_bytes
        logger.info(
            "%d scenes, %.2f GB, %s", len(scenes), needed / 1e9, "in memory" if self.in_memory else "read crop by crop"
        )
        self._surveys = {scene.id: self._survey(scene, seed) for scene in track(scenes, "scenes", len(scenes))}

    def read(self, scene: Scene, window: Window, opinion: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the channels (C, h, w), NaN where there is no data, and the label (h, w) of a window.

        The label is `IGNORE` where the scene is not valid. The window may reach over its edges. The label is what is
        scored, or one of the opinions of the scene, from 1.
        """
        kept = self._surveys[scene.id].pixels
        inner = window.meet(scene.grid.window)
        # Around a block lies more of the scene.
        if kept is None or (scene.block is not None and inner != window):
            channels, labels = self._read(scene, window)
            return channels, labels[opinion]
        channels, label = kept[0][:, *inner.slices], kept[1][opinion, *inner.slices]
        if inner == window:
            return channels, label
        wider = np.full((len(channels), window.height, window.width), np.nan, np.float32)
        wider_label = np.full((window.height, window.width), IGNORE, np.uint8)
        wider[:, *inner.within(window)], wider_label[inner.within(window)] = channels, label
        return wider, wider_label

    def spots(self, scene: Scene) -> Mapping[int, NDArray[np.int32]]:
        """Return (row, col) of pixels (n, 2) of each target, at most 1 024 a block of 1 024 × 1 024 pixels."""
        return self._surveys[scene.id].spots

    def spread(self, scene: Scene) -> Spread:
        """Return how the values of the channels spread over the valid pixels of a scene."""
        return self._surveys[scene.id].spread

    def label_counts(self, scenes: Sequence[Scene], labels: int) -> NDArray[np.int64]:
        """Return the valid pixels of each label index (labels,) in some of the scenes."""
        counts: NDArray[np.int64] = np.sum([self._surveys[scene.id].label_counts for scene in scenes], axis=0)
        return counts[:labels]

    def _read(self, scene: Scene, window: Window) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        channels, valid = read_channels(self.channels, scene, window)
        labels = self.truth.read_labels(scene, window)
        labels[:, ~valid] = IGNORE
        return channels, labels

    def _survey(self, scene: Scene, seed: int) -> _Survey:
        grid, n_channels = scene.grid, len(self.names)
        kept = None
        if self.in_memory:
            kept = (
                np.empty((n_channels, grid.height, grid.width), np.float32),
                np.empty((1 + scene.opinions, grid.height, grid.width), np.uint8),
            )
        counts = np.zeros(IGNORE + 1, np.int64)
        spots: dict[int, list[NDArray[np.int32]]] = {}
        moments, pixels = [], [np.empty((n_channels, 0), np.float32)]
        rng = scene_rng(seed, scene.id)
        for window in survey_windows(grid):
            channels, labels = self._read(scene, window)
            label = labels[0]
            moments.append(Moments.of(channels))
            if self.quantiles:
                pixels.append(lattice_pixels(channels, grid, window))
            counts += np.bincount(label.ravel(), minlength=IGNORE + 1)
            if kept is not None:
                kept[0][:, *window.slices], kept[1][:, *window.slices] = channels, labels
            for index in self.targets:
                places = np.flatnonzero(label == index)
                if len(places) > SPOTS:
                    places = np.sort(rng.choice(places, SPOTS, replace=False))
                if len(places):
                    rows, cols = np.divmod(places, window.width)
                    where = np.stack([rows + window.row, cols + window.col], axis=1).astype(np.int32)
                    spots.setdefault(index, []).append(where)
        spread = Spread.of(moments, np.concatenate(pixels, axis=1))
        return _Survey(spread, counts, {index: np.concatenate(parts) for index, parts in spots.items()}, kept)


class Crops(Dataset[tuple[Tensor, Tensor, AugmentationParams]]):
    """Random square crops of some scenes, numbered on through all epochs; see `Placement` for where they lie.

    Parameters
    ----------
    store : SceneStore
    scenes : sequence of Scene
        Of the store.
    normalisations : mapping of str to Normalisation
        By scene id.
    plan : CropPlan
    labels : int
        Number of label indices, or of tags.

    Attributes
    ----------
    augmentation : Augmentation
        Makes of a batch of crops what the network sees.

    Raises
    ------
    MemberError
        If no scene holds any of the targets.
    """

    def __init__(
        self,
        store: SceneStore,
        scenes: Sequence[Scene],
        normalisations: Mapping[str, Normalisation],
        plan: CropPlan,
        labels: int,
    ) -> None:
        self.store, self.normalisations, self.plan = store, normalisations, plan
        self.augmentation = Augmentation(plan.augment, plan.side, labels)
        self.placement = Placement(scenes, [store.spots(scene) for scene in scenes], plan)

    def __len__(self) -> int:
        return self.plan.count

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, AugmentationParams]:
        """Return crop ``number``.

        Returns
        -------
        inputs : (C, read_side, read_side) float32
            Normalised, NaN where there is no data.
        truth : (read_side, read_side) uint8, or of tags (K,) uint8
        params : AugmentationParams
            How it is to be altered.
        """
        scene, inputs, label, params = self.read(number)
        return inputs, self.store.truth.of_crop(scene, label), params

    def read(self, number: int) -> tuple[Scene, Tensor, Tensor, AugmentationParams]:
        """Return the scene that crop ``number`` is read from, its inputs, its label and how it is to be altered."""
        plan, rng = self.plan, np.random.default_rng([self.plan.seed, 3, number])
        element = int(rng.integers(len(D4))) if plan.augment.flips else 0
        params = sample_params(plan.augment, rng, len(self.store.names), plan.side)
        warp = params["warp"].double().numpy() if "warp" in params else np.eye(2)
        scene, window = self.placement.place(number, d4_matrix(element) @ warp)
        # Every crop by one of the opinions: on average their shares are learned.
        opinion = int(rng.integers(scene.opinions)) + 1 if scene.opinions else 0
        channels, label = self.store.read(scene, window, opinion)
        images = self.normalisations[scene.id].rescale(channels), label
        inputs, truth = (apply_d4(torch.from_numpy(image), element).contiguous() for image in images)
        return scene, inputs, truth, params


class CropSampler(Sampler[int]):
    """The numbers of an epoch's crops, or of one of several equal parts of them; Lightning sets the epoch."""

    def __init__(self, count: int, part: int = 0, parts: int = 1) -> None:
        self.count, self.part, self.parts = count, part, parts
        self.epoch = 0

    def __len__(self) -> int:
        return self.count // self.parts

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.count + self.part, (self.epoch + 1) * self.count, self.parts))

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the epoch that is about to begin, from 0."""
        self.epoch = epoch
