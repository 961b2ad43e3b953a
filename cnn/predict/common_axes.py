"""Axes that the features of several networks share, found without labels on pixels that all of them see.

Networks that learned the same task from different scenes know much the same, each on axes of its own: channel 3 of one
is a mixture of channels of another. What they have in common is found as in generalised canonical correlation
(MAXVAR; Kettenring 1971, doi:10.1093/biomet/58.3.433): the directions in which all networks, each whitened, agree most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axes", "fit_common_axes"]

Values = NDArray[np.float64]

MOST_DIRECTIONS = 64
"""Principal components of a network's features that are looked at."""

FAINT = 1e-4
"""Variance, as a share of the largest, below which a direction is noise."""


@dataclass(frozen=True)
class Axes:
    """How the features of a network become components: weight (D, C) and bias (D,), both float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def fit_common_axes(
    features: Sequence[NDArray[np.float32]], learned: Sequence[NDArray[np.bool_]], components: int
) -> tuple[list[Axes], Values]:
    """Find the axes of each network on which components mean the same in all of them.

    What a network is mapped by is fitted on pixels of scenes that it learned from, so that what is applied to scenes
    that it never saw was not fitted on them.

    Parameters
    ----------
    features : sequence of (n, C) float32
        Of the same pixels, by each network; C may differ.
    learned : sequence of (n,) bool
        Which pixels are of scenes that a network learned from.
    components : int

    Returns
    -------
    axes : list of Axes
        A network each. Components have mean 0 and deviation 1 on the pixels that its network learned from.
    agreement : (components,) float64 in [0, 1]
        Mean square of a component's correlation with each network.
    """
    whitenings = [_whiten(values, MOST_DIRECTIONS) for values in features]
    white = [(values - mean) @ directions for values, (mean, directions) in zip(features, whitenings, strict=True)]
    together = np.concatenate(white, axis=1)
    values, vectors = np.linalg.eigh(together.T @ together / len(together))
    best = vectors[:, ::-1][:, :components]
    # Of an axis either direction would do: that of its largest weight makes runs agree.
    largest = np.take_along_axis(best, np.abs(best).argmax(axis=0)[None], axis=0)
    shared = together @ (best * np.sign(largest))
    axes = []
    for own, seen, (mean, directions) in zip(white, learned, whitenings, strict=True):
        middle = own[seen].mean(axis=0)
        slope = np.linalg.lstsq(own[seen] - middle, shared[seen] - shared[seen].mean(axis=0), rcond=None)[0]
        spread = (own[seen] @ slope).std(axis=0)
        slope /= np.where(spread > 0, spread, 1)
        weight = directions @ slope
        axes.append(Axes(weight.T.astype(np.float32), (-mean @ weight - middle @ slope).astype(np.float32)))
    return axes, values[::-1][:components] / len(features)


def _whiten(values: NDArray[np.float32], most: int) -> tuple[Values, Values]:
    """Return the mean (C,) of features, and directions (C, R) on which they have deviation 1 and no correlation."""
    mean = values.mean(axis=0, dtype=np.float64)
    centred = values - mean
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(values))
    kept = (variances > FAINT * variances[-1]) & (np.arange(len(variances)) >= len(variances) - most)
    return mean, vectors[:, kept] / np.sqrt(variances[kept])
