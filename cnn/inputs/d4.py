"""The eight ways a square picture from above can lie: quarter turns and their mirror images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TURNS", "turn", "turn_matrix", "unturn"]

TURNS = range(8)


def turn(image: Tensor, way: int) -> Tensor:
    """Turn an image (…, H, W) by ``way % 4`` quarter turns, then mirror it if ``way`` is 4 or more.

    >>> turn(torch.tensor([[1, 2], [3, 4]]), 1)
    tensor([[2, 4],
            [1, 3]])
    """
    turned = torch.rot90(image, way % 4, (-2, -1))
    return turned.flip(-1) if way >= 4 else turned


def unturn(image: Tensor, way: int) -> Tensor:
    """Undo `turn`."""
    return torch.rot90(image.flip(-1) if way >= 4 else image, -(way % 4), (-2, -1))


def turn_matrix(way: int) -> NDArray[np.int64]:
    """Return what offsets (rows, columns) from the middle of a turned image must be multiplied with to be unturned.

    >>> turn_matrix(1) @ [1, 0]
    array([ 0, -1])
    """
    quarter = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), way % 4)
    return quarter @ np.diag([1, -1]) if way >= 4 else quarter
