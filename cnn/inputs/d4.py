"""The dihedral group D4: the 8 flips and quarter turns that map a square onto itself."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["D4", "apply_d4", "d4_matrix", "invert_d4"]

D4 = range(8)
"""Its elements: ``element % 4`` quarter turns, then a flip from left to right if ``element`` is 4 or more."""


def apply_d4(image: Tensor, element: int) -> Tensor:
    """Flip and turn an image (…, H, W) by an element of `D4`.

    >>> apply_d4(torch.tensor([[1, 2], [3, 4]]), 1)
    tensor([[2, 4],
            [1, 3]])
    """
    turned = torch.rot90(image, element % 4, (-2, -1))
    return turned.flip(-1) if element >= 4 else turned


def invert_d4(image: Tensor, element: int) -> Tensor:
    """Undo `apply_d4`."""
    return torch.rot90(image.flip(-1) if element >= 4 else image, -(element % 4), (-2, -1))


def d4_matrix(element: int) -> NDArray[np.int64]:
    """Return what offsets (rows, columns) from the middle of a turned image must be multiplied with to be unturned.

    >>> d4_matrix(1) @ [1, 0]
    array([ 0, -1])
    """
    quarter = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), element % 4)
    return quarter @ np.diag([1, -1]) if element >= 4 else quarter
