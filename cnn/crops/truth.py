"""Truth of a crop: the label of each of its pixels, or the tags of its scene."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene, read_labels
from data.scenes.tags import read_tags
from data.scenes.windows import Window

__all__ = ["PIXELS", "Truth", "truth_of"]

SEEN = 0
"""The one label of the pixels of tagged scenes; where they are not valid they are `IGNORE`, as any other pixels."""


@dataclass(frozen=True)
class Truth:
    """The source of the truth of crops.

    Parameters
    ----------
    read_labels : callable
        Reads the label indices (1 + opinions, h, w) uint8 of a window of a scene; see `data.scenes.scene.read_labels`.
    of_crop : callable
        (scene, label (h, w) of a crop of it) → truth of the crop.
    """

    read_labels: Callable[[Scene, Window], NDArray[np.uint8]]
    of_crop: Callable[[Scene, Tensor], Tensor]


def truth_of(classes: Classes) -> Truth:
    """Return the source of labels (h, w), or of tags (K,), `IGNORE` where nothing of a scene is seen."""
    return Truth(_mark_seen, partial(_read_crop_tags, len(classes.names))) if classes.task == "multilabel" else PIXELS


def _keep_label(scene: Scene, label: Tensor) -> Tensor:
    return label


def _mark_seen(scene: Scene, window: Window) -> NDArray[np.uint8]:
    return np.full((1, window.height, window.width), SEEN, np.uint8)


def _read_crop_tags(n_tags: int, scene: Scene, label: Tensor) -> Tensor:
    tags = torch.from_numpy(read_tags(scene, n_tags))
    return tags if (label == SEEN).any() else torch.full_like(tags, IGNORE)


PIXELS = Truth(read_labels, _keep_label)
