"""The designed sample: which pixels of a scene are drawn, and with what probability."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.classes import IGNORE, Classes
from features.settings import SampleSettings

__all__ = ["PixelSample", "draw_pixels"]


@dataclass(frozen=True)
class PixelSample:
    """Pixels drawn from a scene, in row-major order.

    Parameters
    ----------
    rows, cols : (n,) int32
    label : (n,) uint8
        Label index.
    stratum : (n,) uint8
        Index into ``strata``.
    weight : (n,) float32
        1 / the probability of having been drawn: the pixels of the scene that a drawn one stands for.
    strata : tuple of str
    """

    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    label: NDArray[np.uint8]
    stratum: NDArray[np.uint8]
    weight: NDArray[np.float32]
    strata: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)


def draw_pixels(
    label: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    classes: Classes,
    settings: SampleSettings,
    rng: np.random.Generator,
) -> PixelSample:
    """Draw pixels of a scene for the table.

    Binary: positives, the ring of pixels around them, and some of the others. Multiclass: a quota of each class.
    Each stratum is drawn from without replacement, all of its pixels alike, so the weights of a stratum sum to its
    number of pixels, and all weights to the number of labelled valid pixels.

    Parameters
    ----------
    label : (H, W) uint8
        Label index, `IGNORE` where it must not be learned from.
    valid : (H, W) bool
        Where the scene was seen.
    classes : Classes
    settings : SampleSettings
    rng : Generator
    """
    usable = valid & (label != IGNORE)
    if classes.task == "binary":
        strata: tuple[str, ...] = ("positive", "ring", "other")
        positive = label == 1
        near = _dilate(positive, settings.buffer)
        stratum = np.where(positive, 0, np.where(near, 1, 2)).astype(np.uint8)
        limits = [None if settings.positives == "all" else settings.positives, None, settings.negatives]
    else:
        strata = classes.label_names
        stratum = label
        limits = [settings.quota] * len(strata)

    positions, kinds, weights = [], [], []
    flat_stratum, flat_usable = stratum.ravel(), usable.ravel()
    for kind, limit in enumerate(limits):
        members = np.flatnonzero(flat_usable & (flat_stratum == kind))
        drawn = members if limit is None or limit >= len(members) else rng.choice(members, limit, replace=False)
        positions.append(drawn)
        kinds.append(np.full(len(drawn), kind, np.uint8))
        weights.append(np.full(len(drawn), len(members) / max(len(drawn), 1), np.float32))
    position = np.concatenate(positions)
    order = np.argsort(position)
    rows, cols = np.divmod(position[order], label.shape[1])
    return PixelSample(
        rows.astype(np.int32),
        cols.astype(np.int32),
        label.ravel()[position[order]],
        np.concatenate(kinds)[order],
        np.concatenate(weights)[order],
        strata,
    )


def _dilate(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Grow a mask by a square of side 2 radius + 1."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)
