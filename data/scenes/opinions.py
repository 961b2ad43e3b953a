"""Labels that are not one thing: those of several annotators, or probabilities; and how much annotators agree.

What is scored is one label: that of most annotators, or the likeliest, and none where two are equal. What is learned
from are all *opinions*: the labels of the annotators, or as many labels as tell a probability by their shares. A model
that learns each pixel by an opinion drawn at random learns their shares, whatever its loss.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.errors import LabelError
from data.scenes.classes import IGNORE, Classes
from data.scenes.image import ImageFile
from data.scenes.rasters import open_raster
from data.scenes.scene import LabelFile
from data.scenes.windows import Window

__all__ = ["LEVELS", "SoftLabel", "agreement", "count_pairs", "pass_label", "probability_image", "vote", "weigh_labels"]

LEVELS = 8
"""Opinions that a probability becomes."""

COL_STEP, ROW_STEP = 0.7548776662466927, 0.5698402909980532
"""Powers of the plastic number: their multiples fill a plane evenly (Roberts 2018, the R₂ sequence)."""

ROUNDING = 0.01
"""By which a probability may lie beyond 0 and 1."""


@dataclass(frozen=True)
class SoftLabel:
    """The files that a scene's label is made of.

    Parameters
    ----------
    files : tuple of LabelFile
        One of each annotator; or a single one, of probabilities.
    certain : float
        Value that stands for a probability of 1; 0 for files of annotators.
    """

    files: tuple[LabelFile, ...]
    certain: float = 0.0


def probability_image(label: SoftLabel, classes: Classes) -> ImageFile:
    """Return a file of probabilities as an image with a band of each class.

    Raises
    ------
    LabelError
        If it has another number of bands.
    """
    path, bands = label.files[0].path, len(classes.names)
    with open_raster(path) as raster:
        if raster.count < bands:
            raise LabelError(
                f"{path}: expected a band with the probability of each of {', '.join(classes.names)}, got "
                f"{raster.count}. Export them all, or leave label.probability out."
            )
    return ImageFile(path, classes.names, scale=None if label.certain == 1 else ((1 / label.certain, 0.0),) * bands)


def vote(opinions: NDArray[np.uint8], n_labels: int) -> NDArray[np.uint8]:
    """Return the label (H, W) that most opinions (n, H, W) name, `IGNORE` where there is none or two are named most.

    >>> vote(np.uint8([[[0, 0, 1]], [[0, 1, 255]]]), 2)
    array([[  0, 255,   1]], dtype=uint8)
    """
    votes = np.stack([(opinions == label).sum(axis=0) for label in range(n_labels)])
    return _likeliest(votes)


def weigh_labels(
    proba: NDArray[np.float32], window: Window, path: str, binary: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the likeliest label (H, W) of probabilities, and `LEVELS` opinions (n, H, W) with the shares of these.

    Parameters
    ----------
    proba : (n_classes, H, W) float32
        NaN where nothing is known. Of several classes they are scaled to a sum of 1; where it is 0 nothing is known.
    window : Window
        In the scene: opinions do not depend on the windows in which they are made.
    path : str
        Of the file, for messages.
    binary : bool

    Raises
    ------
    LabelError
        If they lie beyond 0 and 1.
    """
    known = np.isfinite(proba).all(axis=0)
    shares = np.where(known, proba, 0)
    if shares.min(initial=0) < -ROUNDING or shares.max(initial=0) > 1 + ROUNDING:
        raise LabelError(
            f"{path}: expected probabilities of 0 … 1, got {shares.min():g} … {shares.max():g}. Say which value stands "
            "for 1: label.probability: 100."
        )
    shares = shares.clip(0, 1)
    if binary:
        shares = np.concatenate([1 - shares, shares])
    total = shares.sum(axis=0)
    known &= total > 0
    shares = shares / np.where(known, total, 1)
    rows, cols = np.arange(window.height) + window.row, np.arange(window.width) + window.col
    # Each pixel has levels of its own, so that a share below that of one opinion is not lost on many pixels.
    shift = (ROW_STEP * rows[:, None] + COL_STEP * cols) % 1
    opinions = np.stack([pass_label(shares, (level + shift) / LEVELS) for level in range(LEVELS)])
    opinions[:, ~known] = IGNORE
    label = _likeliest(shares)
    label[~known] = IGNORE
    return label, opinions


def pass_label(shares: NDArray[np.floating], numbers: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the first label at which the sum of the shares (n_labels, H, W) so far is more than numbers (H, W).

    >>> pass_label(np.array([0.2, 0.8])[:, None], np.array([0.1, 0.3]))
    array([0, 1], dtype=uint8)
    """
    passed: NDArray[np.uint8] = (shares.cumsum(axis=0)[:-1] <= numbers).sum(axis=0, dtype=np.uint8)
    return passed


def count_pairs(opinions: NDArray[np.uint8], n_labels: int) -> NDArray[np.int64]:
    """Return how often two annotators gave each two labels to a pixel, (n_labels, n_labels), of opinions (n, H, W).

    Either of the two is named first once, so that it is symmetric.
    """
    votes = np.stack([(opinions == label).sum(axis=0).ravel() for label in range(n_labels)]).astype(np.int64)
    pairs: NDArray[np.int64] = votes @ votes.T
    # Nobody is paired with himself.
    pairs[np.diag_indices(n_labels)] -= votes.sum(axis=1)
    return pairs


def agreement(pairs: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """Return the share of pairs (n_labels, n_labels) that agree, and of each label kappa: agreement beyond chance.

    Kappa (n_labels,) is 1 where all agree on what is of this label, 0 where they do as often as if they drew labels by
    lot, NaN where there is nothing to tell. It is Fleiss' (1971, doi:10.1037/h0031619) of this label against all
    others, of pixels that count by their pairs.

    >>> share, kappa = agreement(np.array([[8, 1], [1, 2]]))
    >>> round(share, 3), kappa.round(3).tolist()
    (0.833, [0.556, 0.556])
    """
    total = pairs.sum()
    if not total:
        return float("nan"), np.full(len(pairs), np.nan)
    named = pairs.sum(axis=1) / total
    alike = 1 - 2 * (named - pairs.diagonal() / total)
    chance = named**2 + (1 - named) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(chance < 1, (alike - chance) / (1 - chance), np.nan)
    return float(pairs.trace() / total), kappa


def _likeliest(shares: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return the label (H, W) with the greatest share (n_labels, H, W), `IGNORE` where two have it."""
    best = shares.max(axis=0)
    return np.where((shares == best).sum(axis=0) == 1, shares.argmax(axis=0), IGNORE).astype(np.uint8)
