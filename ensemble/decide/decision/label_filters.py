"""Filter the labels of a scene by those around them: votes, filled holes, specks that are taken."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data.scenes.classes import IGNORE
from data.scenes.windows import Window, tile_windows

__all__ = ["fill_holes", "majority", "take_specks"]

Label = NDArray[np.uint8]

SIDE = 1024
"""Pixels on a side of what is smoothed or counted at a time, so that memory does not grow with scenes."""


def majority(label: Label, radius: int, side: int = SIDE) -> Label:
    """Let the labels of a square vote for its middle.

    Parameters
    ----------
    label : (H, W) uint8
        Label indices; `IGNORE` has no vote and stays.
    radius : int
        Of the square, its side is 2 radius + 1.
    side : int
        Of the windows that are smoothed at a time.

    Returns
    -------
    smooth : (H, W) uint8
        Of equals a pixel's own label wins, then the first.
    """
    height, width = label.shape
    smooth = np.empty_like(label)
    for window in tile_windows(height, width, side):
        seen = window.grow(radius).meet(Window(0, 0, height, width))
        inside = window.within(seen)
        smooth[window.slices] = _vote(label[seen.slices], radius)[inside]
    return smooth


def fill_holes(label: Label, most: int, background: bool) -> None:
    """Give holes, in place, the label of the object around them.

    Parameters
    ----------
    label : (H, W) uint8
        Label indices. A hole that touches `IGNORE` or the edge may go on beyond, so it is none.
    most : int
        Pixels of a hole (which hang together by their sides).
    background : bool
        Whether label 0 has no holes.
    """
    height, width = label.shape
    for value in _labels(label):
        if background and value == 0:
            continue
        parts, statistics = _objects(label != value, connectivity=4)
        left, top, across, down, area = statistics.T
        hole = (area <= most) & (left > 0) & (top > 0) & (left + across < width) & (top + down < height)
        hole[0] = False
        hole[parts[label == IGNORE]] = False
        label[hole[parts]] = value


def take_specks(label: Label, least: int, background: bool) -> None:
    """Give small objects, in place, the commonest label around them, counted by touching pixels; of equals the first.

    An object among small ones waits until one beside it is settled; one with nothing but `IGNORE` around it stays.

    Parameters
    ----------
    label : (H, W) uint8
        Label indices.
    least : int
        Pixels of an object (which hang together by sides or corners) that stays.
    background : bool
        Whether label 0 is no object, however small.
    """
    # A frame that never votes, so that every pixel has eight neighbours.
    framed = np.pad(label, 1, constant_values=IGNORE)
    specks = np.zeros(framed.shape, np.int32)
    count = 0
    for value in _labels(label):
        if background and value == 0:
            continue
        parts, statistics = _objects(framed == value, connectivity=8)
        small = statistics[:, cv2.CC_STAT_AREA] < least
        small[0] = False
        numbers = np.zeros(len(small), np.int32)
        numbers[small] = np.arange(count + 1, count + 1 + small.sum())
        specks += numbers[parts]
        count += int(small.sum())
    steps = [row * framed.shape[1] + col for row in (-1, 0, 1) for col in (-1, 0, 1)]
    flat, of = framed.ravel(), specks.ravel()
    places, n_labels = np.flatnonzero(of), max(_labels(label), default=0) + 1
    while len(places):
        votes = np.zeros((count + 1) * n_labels, np.int64)
        for step in steps:
            beside = places + step
            counted = (of[beside] == 0) & (flat[beside] != IGNORE)
            cells = of[places[counted]].astype(np.int64) * n_labels + flat[beside[counted]]
            votes += np.bincount(cells, minlength=len(votes))
        ballots = votes.reshape(count + 1, n_labels)
        settled = ballots.max(axis=1) > 0
        taken = places[settled[of[places]]]
        if not len(taken):
            break
        flat[taken] = ballots.argmax(axis=1)[of[taken]]
        of[taken] = 0
        places = places[of[places] > 0]
    label[...] = framed[1:-1, 1:-1]


def _vote(label: Label, radius: int) -> Label:
    side = (2 * radius + 1, 2 * radius + 1)
    most, votes_of_own = np.zeros(label.shape, np.int32), np.zeros(label.shape, np.int32)
    winner = label.copy()
    for value in _labels(label):
        mine = label == value
        votes = cv2.boxFilter(mine.astype(np.uint8), cv2.CV_32S, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
        np.copyto(votes_of_own, votes, where=mine)
        more = votes > most
        winner[more] = value
        most[more] = votes[more]
    return np.where((votes_of_own == most) | (label == IGNORE), label, winner)


def _labels(label: Label) -> list[int]:
    """Return the label indices that occur, in order."""
    counts = np.zeros(256, np.int64)
    for start in range(0, len(label), SIDE):
        # Numpy counts in eight bytes a pixel.
        counts += np.bincount(label[start : start + SIDE].ravel(), minlength=256)
    labels: list[int] = np.flatnonzero(counts[:IGNORE]).tolist()
    return labels


def _objects(mask: NDArray[np.bool_], connectivity: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the connected parts of a mask, 1 … n in (H, W), and the (n + 1, 5) statistics of OpenCV."""
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S
    )
    return np.asarray(parts, np.int32), np.asarray(statistics, np.int32)
