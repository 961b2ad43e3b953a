"""Measure how uncertain a prediction is, pixel by pixel: entropy, margin and disagreement."""

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import dequantise

__all__ = ["UNCERTAINTIES", "measure_uncertainty"]

Proba = NDArray[np.float32]

UNCERTAINTIES = ("entropy", "margin", "disagreement")
"""What the bands of an uncertainty map are, in order."""


def measure_uncertainty(blended: NDArray[np.uint16], members: NDArray[np.uint16]) -> Proba:
    """Measure how undecided the blend is, and how far its members are apart.

    Parameters
    ----------
    blended : (n_classes, …) uint16
        Blended probabilities as stored; of one class that of the background is its complement.
    members : (n_members, n_classes, …) uint16
        Those of the members that were blended, as stored.

    Returns
    -------
    measures : (3, …) float32 in [0, 1]
        ``entropy``: Shannon's, as a share of that of classes that are all alike; 0 is sure.
        ``margin``: the first class's lead over the second; 1 is sure.
        ``disagreement``: the mean over the members of half the summed distance of a member's probabilities from the
        members' mean (the total variation distance); 0 where they say the same, or where there is one alone.
        NaN where nothing was predicted.

    Examples
    --------
    >>> blended = np.array([32767], np.uint16)
    >>> members = np.array([[0], [65534]], np.uint16)
    >>> measure_uncertainty(blended, members)
    array([1. , 0. , 0.5], dtype=float32)
    """
    proba = _with_background(dequantise(blended))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(proba > 0, proba * np.log(proba), np.where(np.isnan(proba), np.nan, 0))
    entropy = np.maximum(-terms.sum(axis=0) / np.log(np.float32(len(proba))), 0)
    second, first = np.partition(proba, (-2, -1), axis=0)[-2:]
    return np.stack([entropy, first - second, np.where(np.isnan(entropy), np.nan, _spread(members))]).astype(np.float32)


def _spread(members: NDArray[np.uint16]) -> Proba:
    """Return the mean total variation distance of members from their mean; those without a prediction do not count."""
    # Member by member: all at once they take several times the memory of what is stored.
    total = np.zeros((max(members.shape[1], 2), *members.shape[2:]), np.float32)
    count = np.zeros(members.shape[2:], np.int64)
    for member in members:
        proba = _with_background(dequantise(member))
        total += np.nan_to_num(proba)
        count += np.isfinite(proba[0])
    count = np.maximum(count, 1)
    distances = (
        np.nan_to_num(np.abs(_with_background(dequantise(member)) - total / count).sum(axis=0) / 2)
        for member in members
    )
    spread: Proba = sum(distances) / count
    return spread


def _with_background(proba: Proba) -> Proba:
    """Return the probabilities of every label, (n_labels, …)."""
    return np.concatenate([1 - proba, proba]) if len(proba) == 1 else proba
