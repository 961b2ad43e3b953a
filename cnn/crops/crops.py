"""Training crops, and the scenes they are cut from. Crop n depends on the seed and n, not on who cuts it."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cnn.crops.augmentation import Augmentation
from cnn.crops.augmentation_params import Draws, draw_alteration
from cnn.crops.placement import Placement
from cnn.inputs.channels import Planes, lattice_pixels, read_channels, survey_windows
from cnn.inputs.d4 import TURNS, turn, turn_matrix
from cnn.inputs.normalisation import Normalisation, Spread
from cnn.inputs.resize import scene_side
from cnn.inputs.settings import AugmentSettings
from data.files import scene_rng
from data.progress import Track, untracked
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene, read_label
from data.scenes.statistics import Moments
from data.scenes.windows import Window

__all__ = ["CropSampler", "Crops", "SceneStore"]

logger = logging.getLogger(__name__)

ReadLabel = Callable[[Scene, Window], NDArray[np.uint8]]

SPOTS = 1024
"""Most pixels of a class that are remembered as places for a crop, of each window that a scene is surveyed in."""


@dataclass(frozen=True)
class _Survey:
    """What one pass over a scene found; its pixels, if they are kept."""

    spread: Spread
    label_counts: NDArray[np.int64]
    spots: dict[int, NDArray[np.int32]]
    pixels: tuple[NDArray[np.float32], NDArray[np.uint8]] | None


class SceneStore:
    """Scenes to learn from: their channels and labels in memory if they fit, else re-read for each crop.

    Parameters
    ----------
    planes : Planes
        What the network sees.
    scenes : sequence of Scene
    targets : sequence of int
        Label indices whose places are remembered.
    cache_bytes : float
        Memory that the scenes may take.
    seed : int
    quantiles : bool
        Whether those of the channels are measured.
    read_label : callable
        Reads the label indices (h, w) of a window of a scene.
    track : Track
    what : str
        Shown by ``track``.
    """

    def __init__(
        self, planes: Planes, scenes: Sequence[Scene], targets: Sequence[int], cache_bytes: float, seed: int,
        *, quantiles: bool = False, read_label: ReadLabel = read_label, track: Track = untracked, what: str = "scenes",
    ) -> None:  # fmt: skip
        self.planes, self.targets, self.quantiles, self._read_label = planes, tuple(targets), quantiles, read_label
        self.names = planes.names
        pixels = sum(scene.grid.height * scene.grid.width for scene in scenes)
        needed = pixels * (4 * len(self.names) + 1)
        self.in_memory = needed <= cache_bytes
        logger.info(
            "%d scenes, %.2f GB, %s", len(scenes), needed / 1e9, "in memory" if self.in_memory else "read crop by crop"
        )
        self._surveys = {scene.id: self._survey(scene, seed) for scene in track(scenes, what, len(scenes))}

    def read(self, scene: Scene, window: Window) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the channels (C, h, w), NaN where there is no data, and the label (h, w) of a window.

        The label is `IGNORE` where the scene is not valid. The window may reach over its edges.
        """
        kept = self._surveys[scene.id].pixels
        if kept is None:
            return self._read(scene, window)
        inner = window.meet(scene.grid.window)
        channels, label = kept[0][:, *inner.slices], kept[1][inner.slices]
        if inner == window:
            return channels, label
        wider = np.full((len(channels), window.height, window.width), np.nan, np.float32)
        wider_label = np.full((window.height, window.width), IGNORE, np.uint8)
        wider[:, *inner.within(window)], wider_label[inner.within(window)] = channels, label
        return wider, wider_label

    def spots(self, scene: Scene) -> Mapping[int, NDArray[np.int32]]:
        """Return (row, col) of pixels (n, 2) of each target found, at most 1 024 a block of 1 024 × 1 024 pixels."""
        return self._surveys[scene.id].spots

    def spread(self, scene: Scene) -> Spread:
        """Return how the values of the channels spread over the valid pixels of a scene."""
        return self._surveys[scene.id].spread

    def label_counts(self, scenes: Sequence[Scene], labels: int) -> NDArray[np.int64]:
        """Return the valid pixels of each label index (labels,) in some of the scenes."""
        counts: NDArray[np.int64] = np.sum([self._surveys[scene.id].label_counts for scene in scenes], axis=0)
        return counts[:labels]

    def _read(self, scene: Scene, window: Window) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        channels, valid = read_channels(self.planes, scene, window)
        label = self._read_label(scene, window)
        label[~valid] = IGNORE
        return channels, label

    def _survey(self, scene: Scene, seed: int) -> _Survey:
        grid, planes = scene.grid, len(self.names)
        kept = None
        if self.in_memory:
            kept = (
                np.empty((planes, grid.height, grid.width), np.float32),
                np.empty((grid.height, grid.width), np.uint8),
            )
        counts = np.zeros(IGNORE + 1, np.int64)
        found: dict[int, list[NDArray[np.int32]]] = {}
        moments, pixels = [], [np.empty((planes, 0), np.float32)]
        rng = scene_rng(seed, scene.id)
        for window in survey_windows(grid):
            channels, label = self._read(scene, window)
            moments.append(Moments.of(channels))
            if self.quantiles:
                pixels.append(lattice_pixels(channels, grid, window))
            counts += np.bincount(label.ravel(), minlength=IGNORE + 1)
            if kept is not None:
                kept[0][:, *window.slices], kept[1][window.slices] = channels, label
            for index in self.targets:
                places = np.flatnonzero(label == index)
                if len(places) > SPOTS:
                    places = np.sort(rng.choice(places, SPOTS, replace=False))
                if len(places):
                    rows, cols = np.divmod(places, window.width)
                    where = np.stack([rows + window.row, cols + window.col], axis=1).astype(np.int32)
                    found.setdefault(index, []).append(where)
        spread = Spread.of(moments, np.concatenate(pixels, axis=1))
        return _Survey(spread, counts, {index: np.concatenate(parts) for index, parts in found.items()}, kept)


class Crops(Dataset[tuple[Tensor, Tensor, Draws]]):
    """Random square crops of some scenes, numbered on through all epochs; see `Placement` for where they are cut.

    Parameters
    ----------
    store : SceneStore
    scenes : sequence of Scene
        Of the store.
    normalisations : mapping of str to Normalisation
        By scene id.
    augment : AugmentSettings
    side : int
        Of what the network sees, pixels.
    resize : float
        Pixels that the network sees a pixel of a scene.
    labels : int
        How many label indices there are.
    count : int
        Crops an epoch.
    positive_share : float in [0, 1]
        Of the crops that are placed on a pixel of one of the store's targets.
    target_weights : (n_targets,) float, optional
        How often on each of them; evenly by default.
    scene_weights : (n_scenes,) float64, optional
        How often each scene is shown, besides its size; evenly by default.
    seed : int

    Attributes
    ----------
    augmentation : Augmentation
        What makes of a batch of crops one as the network is to see it.

    Raises
    ------
    MemberError
        If no scene holds any of the targets.
    """

    alters: ClassVar[type[Augmentation]] = Augmentation
    """Of a batch of these crops."""

    def __init__(
        self, store: SceneStore, scenes: Sequence[Scene], normalisations: Mapping[str, Normalisation],
        augment: AugmentSettings, *, side: int, resize: float = 1.0, labels: int, count: int, positive_share: float,
        target_weights: Sequence[float] | None = None, scene_weights: NDArray[np.float64] | None = None, seed: int,
    ) -> None:  # fmt: skip
        self.store, self.normalisations, self.augment = store, normalisations, augment
        self.side, self.labels, self.count, self.seed = side, labels, count, seed
        self.augmentation = self.alters(augment, side, labels)
        cut = scene_side(self.augmentation.reach, resize)
        self.placement = Placement(
            scenes,
            [store.spots(scene) for scene in scenes],
            dict(zip(store.targets, target_weights or [1.0] * len(store.targets), strict=True)),
            np.ones(len(scenes)) if scene_weights is None else scene_weights,
            side=side,
            cut=cut,
            scale=self.augmentation.reach / cut,
            count=count,
            positive_share=positive_share,
            seed=seed,
        )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Draws]:
        """Cut crop ``number``.

        Returns
        -------
        inputs : (C, cut, cut) float32
            Normalised, NaN where there is no data.
        label : (cut, cut) uint8
        draws : Draws
            How it is to be altered.
        """
        return self.cut(number)[1:]

    def cut(self, number: int) -> tuple[Scene, Tensor, Tensor, Draws]:
        """Return the scene that crop ``number`` is cut from, its inputs, its label and how it is to be altered."""
        rng = np.random.default_rng([self.seed, 3, number])
        way = int(rng.integers(len(TURNS))) if self.augment.flips else 0
        draws = draw_alteration(self.augment, rng, len(self.store.names), self.side)
        warp = draws["warp"].double().numpy() if "warp" in draws else np.eye(2)
        scene, window = self.placement.draw(number, turn_matrix(way) @ warp)
        channels, label = self.store.read(scene, window)
        inputs = torch.from_numpy(self.normalisations[scene.id].rescale(channels))
        return scene, turn(inputs, way).contiguous(), turn(torch.from_numpy(label), way).contiguous(), draws


class CropSampler(Sampler[int]):
    """The numbers of an epoch's crops, or of one of several equal parts of them; Lightning tells the epoch."""

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
