"""Training crops of scenes that have tags: a crop has the tags of its scene, wherever any of it is seen."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn.crops.augmentation import Augmentation, Batch, mix_shares
from cnn.crops.augmentation_params import Draws
from cnn.crops.crops import Crops
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene
from data.scenes.tags import read_tags
from data.scenes.windows import Window

__all__ = ["SEEN", "TagAugmentation", "TagCrops", "mark_seen"]

SEEN = 0
"""The one label of the pixels of such scenes; where they are not valid they are `IGNORE`, as any other pixels."""


def mark_seen(scene: Scene, window: Window) -> NDArray[np.uint8]:
    """Label all pixels of a window alike, (height, width)."""
    return np.full((window.height, window.width), SEEN, np.uint8)


class TagAugmentation(Augmentation):
    """What makes of a batch of `TagCrops` one as the network is to see it; parameters are those of `Augmentation`."""

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Resize and alter a batch.

        Returns
        -------
        inputs : (N, C, side, side) float32
            0 where there is no data.
        truth : (N, K) uint8 or float32
            Tags, or their shares if crops are mixed, by area; `IGNORE` where they are unknown.
        """
        inputs, tags, draws = batch
        seen = torch.zeros_like(inputs[:, 0], dtype=torch.uint8)
        altered, _ = super().__call__((inputs, seen, draws))
        if not {"mixup", "cutmix"} & set(draws):
            return altered, tags
        share = mix_shares(draws, altered[:, :1]).mean(dim=(2, 3))
        others = tags.roll(-1, 0)
        unknown = ((tags == IGNORE) & (share > 0)) | ((others == IGNORE) & (share < 1))
        return altered, torch.lerp(others.float(), tags.float(), share).masked_fill(unknown, IGNORE)


class TagCrops(Crops):
    """Random square crops of scenes that have tags; parameters are those of `Crops`, labels are tags."""

    alters = TagAugmentation

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Draws]:
        """Cut crop ``number``.

        Returns
        -------
        inputs : (C, cut, cut) float32
            Normalised, NaN where there is no data.
        tags : (labels,) uint8
            `IGNORE` if nothing of the scene is seen.
        draws : Draws
            How it is to be altered.
        """
        scene, inputs, label, draws = self.cut(number)
        tags = torch.from_numpy(read_tags(scene, self.labels))
        return inputs, tags if (label == SEEN).any() else torch.full_like(tags, IGNORE), draws
