"""Where training crops are cut: which scene, which square of it."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.scenes.scene import Scene
from data.scenes.windows import Window

__all__ = ["Placement"]

Spots = Mapping[int, NDArray[np.int32]]
"""By label index, (row, col) of some pixels of it (n, 2)."""


class Placement:
    """Random squares of some scenes, numbered on through all epochs.

    A share of them is placed on a pixel of a label drawn by ``target_weights``, of a scene drawn by its weight from
    those that have it; the pixel lies anywhere in what the network sees. The others are spread over the area of the
    scenes, times their weights: epoch by epoch each scene gets its due.

    Parameters
    ----------
    scenes : sequence of Scene
    spots : sequence of Spots
        Of each scene.
    target_weights : mapping of int to float
        How often crops are placed on each label; none where there is none to be placed on.
    scene_weights : (n_scenes,) float64
        How often each scene is shown, besides its size.
    side, cut : int
        Side of what the network sees, and of the square that is cut for it, in pixels of either; it is the larger one
        if crops are warped.
    scale : float
        Pixels that the network sees a pixel of the scene, unless a crop is warped.
    count : int
        Crops an epoch.
    positive_share : float in [0, 1]
    seed : int

    Raises
    ------
    MemberError
        If no scene holds any of the targets.
    """

    def __init__(
        self, scenes: Sequence[Scene], spots: Sequence[Spots], target_weights: Mapping[int, float],
        scene_weights: NDArray[np.float64], *, side: int, cut: int, scale: float, count: int, positive_share: float,
        seed: int,
    ) -> None:  # fmt: skip
        self.scenes, self.spots = tuple(scenes), tuple(spots)
        self.side, self.cut, self.scale = side, cut, scale
        self.warped = cut * scale > side + 0.5
        self.count, self.positive_share, self.seed = count, positive_share, seed
        holders = {
            target: np.cumsum(scene_weights * [len(found.get(target, ())) > 0 for found in spots])
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

    def draw(self, number: int, matrix: NDArray[np.float64]) -> tuple[Scene, Window]:
        """Draw the square of crop ``number``.

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
            target = list(self.holders)[_draw(self.targets, rng.random())]
            place = _draw(self.holders[target], rng.random())
            spots = self.spots[place][target]
            spot = spots[rng.integers(len(spots))] + 0.5
            # Squares lie on whole pixels: the spot may end up half a pixel of the scene off, across its diagonal.
            bound = max(self.side / 2 - 0.75 * self.side / extent, 0)
            wanted = rng.uniform(-bound, bound, 2)
            free = spot - matrix @ wanted
            middle = self._within(self.scenes[place], free, extent)
            if self.warped:
                # Turned squares have corners elsewhere: back to the first as far as brings the spot into sight.
                seen = np.linalg.solve(matrix, spot - middle)
                beyond = np.maximum(np.abs(seen) - bound, 0)
                back = beyond / np.maximum(np.abs(seen) - np.sign(seen) * wanted, beyond + 1e-9)
                middle += back.max() * (free - middle)
        else:
            epoch, position = divmod(number, self.count)
            order = np.random.default_rng([self.seed, 2, epoch]).permutation(self.count)
            place = _draw(self.area, (order[position] + rng.random()) / self.count)
            grid = self.scenes[place].grid
            room = np.maximum(np.array([grid.height, grid.width]) - extent, 0)
            middle = np.floor(rng.random(2) * (room + 1)).clip(max=room) + extent / 2
            middle = self._within(self.scenes[place], middle, extent)
        row, col = np.round(middle - self.cut / 2).astype(int).tolist()
        return self.scenes[place], Window(row, col, self.cut, self.cut)

    def _within(self, scene: Scene, middle: NDArray[np.float64], extent: float) -> NDArray[np.float64]:
        """Move the middle of a square such that it does not reach over the scene's edge, as far as it fits in.

        What is larger than the scene begins at its upper left corner, as in prediction; if it is to be warped the
        scene lies in the middle, where it is not turned out of sight.
        """
        sides = np.array([scene.grid.height, scene.grid.width])
        small = sides / 2 if self.warped else np.full(2, extent / 2)
        return np.where(sides < extent, small, middle.clip(extent / 2, np.maximum(sides - extent / 2, extent / 2)))


def _draw(cumulated: NDArray[np.float64], chance: float) -> int:
    """Return the position that a chance in [0, 1) falls on, by cumulated weights."""
    return int(np.searchsorted(cumulated, chance * cumulated[-1], side="right"))
