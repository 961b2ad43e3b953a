"""Early stopping: the score of the rows held out, after each round."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, log_loss

from data.metrics.confusion import plain_prediction, weighted_counts
from data.metrics.metric import METRICS
from trees.settings import StopName, TreeSettings

__all__ = ["score_held_out", "stop_name"]


def stop_name(settings: TreeSettings, n_labels: int) -> StopName:
    """Return the score of the rows held out that is monitored."""
    return settings.monitor or ("iou" if n_labels == 2 else "macro_iou")


def score_held_out(
    name: StopName, label: NDArray[np.uint8], weight: NDArray[np.floating], proba: NDArray[np.floating], n_labels: int
) -> float:
    """Score predicted rows; higher is better.

    By their design weights the rows stand for their full scenes, and so does the score. Intersection over union and
    accuracy are of the plain map, with a threshold of 0.5 or of the likeliest class: unlike average precision, which
    asks for order alone, they are poor while the trees still say little more than how frequent a class is.

    Parameters
    ----------
    name : {"iou", "macro_iou", "accuracy", "average_precision", "log_loss"}
    label : (n,) uint8
    weight : (n,) float
    proba : (n,), (n, 1) or (n, K) float
        Of the second label where there are two.
    n_labels : int
    """
    weights = weight.astype(np.float64)
    if n_labels == 2:
        proba = proba.ravel()
    if name == "average_precision":
        return float(average_precision_score(label == 1, proba, sample_weight=weights))
    if name == "log_loss":
        return -float(log_loss(label, proba, sample_weight=weights, labels=range(n_labels)))
    prediction = plain_prediction(proba.reshape(len(label), -1))
    return float(np.nan_to_num(METRICS[name].score(weighted_counts(label, prediction, weights, n_labels))))
