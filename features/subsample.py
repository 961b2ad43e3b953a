"""Sample a few rows that stand for all."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["sample_by_weight", "sample_rows"]


def sample_rows(
    label: NDArray[np.uint8], weight: NDArray[np.floating], rows: int, n_labels: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Sample rows that stand for all: half of them shared equally among the labels, half by weight.

    Within a label rows are drawn by weight. What stands for a label keeps its total weight.

    Parameters
    ----------
    label : (n,) uint8
    weight : (n,) float
        Above 0.
    rows : int
        About how many; a label with fewer than its share gives all of them.
    n_labels : int
    rng : Generator

    Returns
    -------
    places : (m,) int
        Rising.
    weight : (m,) float64
        What each drawn row stands for.
    """
    totals = np.bincount(label, weight, n_labels)
    shares = 0.5 * totals / totals.sum() + 0.5 * (totals > 0) / np.count_nonzero(totals)
    standing = np.zeros(len(label))
    for index in np.flatnonzero(totals):
        rows_of = np.flatnonzero(label == index)
        count = max(1, round(rows * float(shares[index])))
        if count >= len(rows_of):
            standing[rows_of] = weight[rows_of]
        else:
            times = np.bincount(sample_by_weight(weight[rows_of], count, rng), minlength=len(rows_of))
            standing[rows_of] = times * totals[index] / count
    places = np.flatnonzero(standing)
    return places, standing[places]


def sample_by_weight(weight: NDArray[np.floating], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Sample places at equal distances along the running weight; as many places as equal weights give each once.

    Returns
    -------
    places : (count,) int
        Rising; a place whose weight is more than the distance comes several times.
    """
    reached = np.cumsum(weight, dtype=np.float64)
    marks = (np.arange(count) + rng.random()) * (reached[-1] / count)
    places: NDArray[np.intp] = np.minimum(np.searchsorted(reached, marks, side="right"), len(weight) - 1)
    return places
