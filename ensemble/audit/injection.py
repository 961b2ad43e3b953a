"""Inject errors into labels, such as people make: to learn what their traces look like."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from data.scenes.classes import IGNORE

__all__ = ["ERRORS", "inject_errors"]

Label = NDArray[np.uint8]
Inject = Callable[[Label, int, np.random.Generator], Label]

SHARE = 0.3
"""Of the objects of a scene that are spoiled where objects are."""


def inject_errors(label: Label, n_labels: int, rng: np.random.Generator) -> tuple[Label, int]:
    """Return a label with errors of one kind, drawn by chance, and which kind; what is ignored stays so.

    Sometimes there are none: kind -1.

    Parameters
    ----------
    label : (H, W) uint8
        Label indices, `IGNORE` where there is none.
    n_labels : int
    rng : Generator
    """
    kind = int(rng.integers(-1, len(ERRORS)))
    if kind < 0:
        return label, kind
    spoiled = list(ERRORS.values())[kind](label.copy(), n_labels, rng)
    return np.where((label == IGNORE) | (spoiled == IGNORE), label, spoiled).astype(np.uint8), kind


def _miss_objects(label: Label, n_labels: int, rng: np.random.Generator) -> Label:
    """Give some objects the label of what surrounds them."""
    for mask in _some_objects(label, rng):
        ring = (cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0) & (mask == 0) & (label != IGNORE)
        if ring.any():
            label[mask > 0] = np.bincount(label[ring]).argmax()
    return label


def _swap_classes(label: Label, n_labels: int, rng: np.random.Generator) -> Label:
    """Give some objects another class."""
    for mask in _some_objects(label, rng):
        label[mask > 0] = (label[mask > 0][0] + rng.integers(1, n_labels)) % n_labels
    return label


def _invent_objects(label: Label, n_labels: int, rng: np.random.Generator) -> Label:
    """Draw discs of a class that is nowhere near."""
    rows, cols = np.ogrid[: label.shape[0], : label.shape[1]]
    for _ in range(rng.integers(1, 4)):
        row, col = rng.integers(0, label.shape[0]), rng.integers(0, label.shape[1])
        disc = np.hypot(rows - row, cols - col) < rng.uniform(2, 7)
        label[disc] = rng.integers(1, n_labels)
    return label


def _shift(label: Label, n_labels: int, rng: np.random.Generator) -> Label:
    """Move everything by one to three pixels each way."""
    return _move(label, *(rng.integers(1, 4, 2) * rng.choice([-1, 1], 2)).tolist())


def _swell(label: Label, n_labels: int, rng: np.random.Generator) -> Label:
    """Grow or shrink one class by one or two pixels."""
    kind = int(rng.integers(1, n_labels))
    mask = (label == kind).astype(np.uint8)
    pixels = np.ones((3, 3), np.uint8)
    steps = int(rng.integers(1, 3))
    if rng.random() < 0.5:
        label[cv2.dilate(mask, pixels, iterations=steps) > 0] = kind
        return label
    lost = (mask > 0) & (cv2.erode(mask, pixels, iterations=steps) == 0)
    others = label[(label != kind) & (label != IGNORE)]
    if len(others):
        label[lost] = np.bincount(others).argmax()
    return label


def _move_far(label: Label, n_labels: int, rng: np.random.Generator) -> Label:
    """Take the label of elsewhere: as if it were another scene's."""
    return np.roll(label, [int(side * rng.uniform(0.3, 0.7)) for side in label.shape], axis=(0, 1))


ERRORS: dict[str, Inject] = {
    "missing": _miss_objects,
    "invented": _invent_objects,
    "shifted": _shift,
    "swollen": _swell,
    "another class": _swap_classes,
    "another scene": _move_far,
}
"""Kinds of errors, as often the one as the other."""


def _some_objects(label: Label, rng: np.random.Generator, most: int = 200) -> list[NDArray[np.uint8]]:
    """Return masks of some of the objects of all classes but the first."""
    masks = []
    for kind in np.unique(label[(label != IGNORE) & (label > 0)]).tolist():
        count, found = cv2.connectedComponents((label == kind).astype(np.uint8), connectivity=8)
        drawn = 1 + np.flatnonzero(rng.random(count - 1) < SHARE)
        masks += [(found == one).astype(np.uint8) for one in drawn[:most].tolist()]
    return masks


def _move(label: Label, down: int, right: int) -> Label:
    moved = np.full_like(label, IGNORE)
    height, width = label.shape
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = label[
        max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return moved
