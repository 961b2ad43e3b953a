"""Measure the distance of each pixel of a label to the boundary of each class."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data.scenes.classes import IGNORE

__all__ = ["signed_distances"]


def signed_distances(label: NDArray[np.uint8], labels: int) -> NDArray[np.float32]:
    """Measure the signed distance of each pixel to each class, in pixels.

    Outside a class it is the distance to the nearest pixel of the class; inside, less than or equal to 0, it is 1
    less the distance to the nearest labelled pixel of another class, so that pixels on the rim have 0 (Kervadec et
    al. 2019). It is 0 in all of an image that has no pixel of the class, or labels of no other, and where the label
    is `IGNORE`.

    Parameters
    ----------
    label : (N, H, W) uint8
        Label indices, or `IGNORE`.
    labels : int
        Number of label indices.

    Returns
    -------
    distances : (N, labels, H, W) float32

    Examples
    --------
    >>> signed_distances(np.array([[[0, 0, 1, 1, 1]]], np.uint8), 2)[0, 1]
    array([[ 2.,  1.,  0., -1., -2.]], dtype=float32)
    """
    distances = np.zeros((len(label), labels, *label.shape[1:]), np.float32)
    for image, signed in zip(label, distances, strict=True):
        for index in np.unique(image[image != IGNORE]):
            inside, outside = image == index, (image != index) & (image != IGNORE)
            if outside.any():
                signed[index] = np.where(outside, _distance_to(inside), 0) - np.where(
                    inside, _distance_to(outside) - 1, 0
                )
    return distances


def _distance_to(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance of each pixel to the nearest one that is set; OpenCV measures the one to the nearest zero."""
    rest = np.logical_not(mask).astype(np.uint8)
    distance = cv2.distanceTransform(rest, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # OpenCV's last bits depend on where in memory the mask lies. Squared distances are whole numbers.
    return np.sqrt(np.rint(distance**2), dtype=np.float32)
