"""Count the pixels of each label by what they were predicted as."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.scenes.classes import IGNORE

__all__ = ["confusion_counts", "group_counts", "plain_prediction", "question_counts", "weighted_counts"]


def confusion_counts(label: NDArray[np.uint8], prediction: NDArray[np.uint8], n_labels: int) -> NDArray[np.int64]:
    """Count the labelled pixels by label and prediction.

    Parameters
    ----------
    label : uint8 array
        Label indices; pixels that are `IGNORE` are not counted.
    prediction : uint8 array of the same shape
        Label indices, `IGNORE` where nothing was predicted.
    n_labels : int

    Returns
    -------
    counts : (n_labels, n_labels + 1) int64
        Rows by label, columns by prediction; the last column holds the pixels without a prediction, which are
        misses of their class.

    Examples
    --------
    >>> confusion_counts(np.uint8([0, 1, 1, 255]), np.uint8([1, 1, 255, 0]), 2)
    array([[0, 1, 0],
           [0, 1, 1]])
    """
    cells = n_labels * (n_labels + 1)
    counts = np.bincount(_cell(label, prediction, n_labels), minlength=cells)
    return counts.reshape(n_labels, n_labels + 1).astype(np.int64)


def weighted_counts(
    label: NDArray[np.uint8], prediction: NDArray[np.uint8], weight: NDArray[np.float64], n_labels: int
) -> NDArray[np.float64]:
    """Sum the weights of sampled pixels by label and prediction, as `confusion_counts` counts whole maps.

    Parameters
    ----------
    label, prediction : uint8 arrays of one shape
    weight : float64 array of the same shape
        Pixels that each sampled one stands for.
    n_labels : int

    Returns
    -------
    counts : (n_labels, n_labels + 1) float64
    """
    cells = n_labels * (n_labels + 1)
    counts = np.bincount(_cell(label, prediction, n_labels), weight[label != IGNORE], minlength=cells)
    return counts.reshape(n_labels, n_labels + 1).astype(np.float64)


def question_counts(
    label: NDArray[np.uint8], prediction: NDArray[np.uint8], n_labels: int, weight: NDArray[np.float64] | None = None
) -> NDArray[Any]:
    """Count the labelled pixels of each question, or sum their weights.

    Parameters
    ----------
    label, prediction : (Q, …) uint8
    n_labels : int
    weight : (…) float64, optional

    Returns
    -------
    counts : (Q, n_labels, n_labels + 1) int64, or float64 where there are weights
    """
    pairs = zip(label, prediction, strict=True)
    if weight is None:
        return np.stack([confusion_counts(*pair, n_labels) for pair in pairs])
    return np.stack([weighted_counts(*pair, weight, n_labels) for pair in pairs])


def group_counts(
    label: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    weight: NDArray[np.float64],
    n_labels: int,
    group: NDArray[np.integer],
    n_groups: int,
) -> NDArray[np.float64]:
    """Sum the weights of sampled pixels by group, such as their scene, and question, label and prediction.

    Parameters
    ----------
    label, prediction : (Q, n) uint8
    weight : (n,) float64
    n_labels : int
    group : (n,) int
        From 0 to n_groups - 1.
    n_groups : int

    Returns
    -------
    counts : (n_groups, Q, n_labels, n_labels + 1) float64
    """
    cells = n_labels * (n_labels + 1)
    counts = []
    for truth, predicted in zip(label, prediction, strict=True):
        scored = truth != IGNORE
        cell = group[scored].astype(np.int64) * cells + _cell(truth, predicted, n_labels)
        sums = np.bincount(cell, weight[scored], minlength=n_groups * cells)
        counts.append(sums.reshape(n_groups, n_labels, n_labels + 1))
    return np.stack(counts, axis=1).astype(np.float64)


def plain_prediction(proba: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the label indices of sampled pixels when nothing is tuned: a threshold of 0.5, or the likeliest class.

    Parameters
    ----------
    proba : (n, 1) or (n, K) float
        Of the second label where there is one column.

    Returns
    -------
    prediction : (n,) uint8
    """
    plain = proba[:, 0] >= 0.5 if proba.shape[1] == 1 else proba.argmax(axis=1)
    return plain.astype(np.uint8)


def _cell(label: NDArray[np.uint8], prediction: NDArray[np.uint8], n_labels: int) -> NDArray[np.int64]:
    scored = label != IGNORE
    column = np.minimum(prediction[scored], n_labels).astype(np.int64)
    cell: NDArray[np.int64] = label[scored].astype(np.int64) * (n_labels + 1) + column
    return cell
