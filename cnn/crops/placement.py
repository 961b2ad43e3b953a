"""Place training crops: which scene, which square of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cnn.crops.augmentation_params import reach
from cnn.inputs.resize import scene_side
from cnn.inputs.settings import AugmentSettings
from data.errors import MemberError
from data.scenes.scene import Scene
from data.scenes.windows import Window

__all__ = ["CropPlan", "Placement"]

Spots = Mapping[int, NDArray[np.int32]]
"""By label index, (row, col) of some pixels of it (n, 2)."""


@dataclass(frozen=True)
class CropPlan:
    """The number of crops, their size, and how often they show what.

    Parameters
    ----------
    side : int
        Of what the network sees, pixels.
    batch, steps : int
        Crops a batch, and batches an epoch.
    seed : int
    augment : AugmentSettings
    resize : float
        Pixels that the network sees a pixel of the scene.
    positive_share : float in [0, 1]
        Of the crops that are placed on a pixel of a target.
    target_weights : mapping of int to float
        How often on each label index; empty if they are placed on none.
    scene_weights : (n_scenes,) float64, optional
        How often each scene is shown, besides its size; evenly by default.
    """

    side: int
    batch: int
    steps: int
    seed: int
    augment: AugmentSettings
    resize: float = 1.0
    positive_share: float = 0.0
    target_weights: Mapping[int, float] = field(default_factory=dict)
    scene_weights: NDArray[np.float64] | None = None

    @property
    def count(self) -> int:
        """Crops an epoch."""
        return self.batch * self.steps

    @property
    def reach(self) -> int:
        """Side of the square that a crop is warped out of, in pixels of the network; ``side`` unless it is warped."""
        return reach(self.augment, self.side)

    @property
    def read_side(self) -> int:
        """Side of that square in pixels of the scene."""
        return scene_side(self.reach, self.resize)


class Placement:
    """Random squares of some scenes, numbered on through all epochs.

    A share of them is placed on a pixel of a label chosen by ``target_weights``, of a scene chosen by its weight from
    those that have it; the pixel lies anywhere in what the network sees. The others are spread over the area of the
    scenes, times their weights, in every epoch anew.

    Parameters
    ----------
    scenes : sequence of Scene
    spots : sequence of Spots
        Of each scene.
    plan : CropPlan

    Raises
    ------
    MemberError
        If no scene holds any of the targets.
    """

    def __init__(self, scenes: Sequence[Scene], spots: Sequence[Spots], plan: CropPlan) -> None:
        self.scenes, self.spots = tuple(scenes), tuple(spots)
        self.side, self.read_side, self.scale = plan.side, plan.read_side, plan.reach / plan.read_side
        self.warped = plan.reach > plan.side
        self.count, self.positive_share, self.seed = plan.count, plan.positive_share, plan.seed
        target_weights = plan.target_weights
        scene_weights = np.ones(len(scenes)) if plan.scene_weights is None else plan.scene_weights
        holders = {
            target: np.cumsum(scene_weights * [len(by_label.get(target, ())) > 0 for by_label in spots])
            for target, weight in target_weights.items()
            if weight > 0
        }
        self.holders = {target: shares for target, shares in holders.items() if shares[-1] > 0}
        if target_weights and not self.holders:
            raise MemberError(
                f"expected a labelled pixel of a class to learn in these {len(scenes)} scenes, got none. "
                "Check the labels, or change folds such that one class is not in one fold alone."
            )
        self.targets = np.cumsum([target_weights[target] for target in self.holders])
        self.area = np.cumsum([scene.grid.height * scene.grid.width for scene in scenes] * scene_weights)

    def place(self, number: int, matrix: NDArray[np.float64]) -> tuple[Scene, Window]:
        """Return the scene and the square of crop ``number``.

        Parameters
        ----------
        number : int
        matrix : (2, 2) float64
            Offsets (rows, columns) of a pixel from the middle of what the network sees → from that of the square, in
            pixels of the network.
        """
        rng = np.random.default_rng([self.seed, 1, number])
        matrix = matrix / self.scale
        extent = self.side * np.sqrt(abs(np.linalg.det(matrix)))
        if rng.random() < self.positive_share:
            target = list(self.holders)[_pick(self.targets, rng.random())]
            place = _pick(self.holders[target], rng.random())
            spots = self.spots[place][target]
            spot = spots[rng.integers(len(spots))] + 0.5
            # Squares lie on whole pixels: the spot may end up half a pixel of the scene off, across its diagonal.
            bound = max(self.side / 2 - 0.75 * self.side / extent, 0)
            wanted = rng.uniform(-bound, bound, 2)
            free = spot - matrix @ wanted
            middle = self._within(self.scenes[place], free, extent)
            if self.warped:
                # D4Mean squares have corners elsewhere: back to the first as far as brings the spot into sight.
                seen = np.linalg.solve(matrix, spot - middle)
                beyond = np.maximum(np.abs(seen) - bound, 0)
                back = beyond / np.maximum(np.abs(seen) - np.sign(seen) * wanted, beyond + 1e-9)
                middle += back.max() * (free - middle)
        else:
            epoch, position = divmod(number, self.count)
            order = np.random.default_rng([self.seed, 2, epoch]).permutation(self.count)
            place = _pick(self.area, (order[position] + rng.random()) / self.count)
            grid = self.scenes[place].grid
            room = np.maximum(np.array([grid.height, grid.width]) - extent, 0)
            middle = np.floor(rng.random(2) * (room + 1)).clip(max=room) + extent / 2
            middle = self._within(self.scenes[place], middle, extent)
        row, col = np.round(middle - self.read_side / 2).astype(int).tolist()
        return self.scenes[place], Window(row, col, self.read_side, self.read_side)

    def _within(self, scene: Scene, middle: NDArray[np.float64], extent: float) -> NDArray[np.float64]:
        """Move the middle of a square such that it does not reach over the scene's edge, as far as it fits in.

        What is larger than the scene begins at its upper left corner, as in prediction; if it is to be warped the
        scene lies in the middle, where it is not turned out of sight.
        """
        sides = np.array([scene.grid.height, scene.grid.width])
        small = sides / 2 if self.warped else np.full(2, extent / 2)
        return np.where(sides < extent, small, middle.clip(extent / 2, np.maximum(sides - extent / 2, extent / 2)))


def _pick(cumulated: NDArray[np.float64], chance: float) -> int:
    """Return the position that a chance in [0, 1) falls on, by cumulated weights."""
    return int(np.searchsorted(cumulated, chance * cumulated[-1], side="right"))
