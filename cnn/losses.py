"""Losses on logits; pixels labelled `IGNORE` count for nothing and get no gradient.

A network has one logit a pixel when the task is binary (sigmoid) and one a class when it is multiclass (softmax).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, logsigmoid, nll_loss, one_hot

from cnn.settings import LossName
from data.classes import IGNORE

__all__ = ["LOSSES", "Loss", "cross_entropy", "dice"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, K, H, W), label (N, H, W) integer) → scalar float32."""


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the mean cross entropy of the labelled pixels; 0 if there are none.

    Parameters
    ----------
    logits : (N, K, H, W)
        Any float type; computed in float32. K = 1 when binary.
    label : (N, H, W) integer
        Label indices, or `IGNORE`.
    """
    logits, known = logits.float(), label != IGNORE
    count = known.sum().clamp(min=1)
    if logits.shape[1] == 1:
        target = (label == 1).float()
        each = binary_cross_entropy_with_logits(logits[:, 0], target, reduction="none")
        return torch.where(known, each, 0).sum() / count
    return nll_loss(log_softmax(logits, dim=1), label.long(), ignore_index=IGNORE, reduction="sum") / count


def dice(logits: Tensor, label: Tensor) -> Tensor:
    """Return 1 - the Dice coefficient of probabilities and labels, averaged over the classes that the batch holds.

    Pixels are pooled over the batch: the Dice of single crops jumps between 0 and 1 wherever a class is rare.
    A class without a labelled pixel has no Dice and is left out; with none at all the loss is 0.

    Parameters
    ----------
    logits : (N, K, H, W)
        Any float type; computed in float32. K = 1 when binary.
    label : (N, H, W) integer
        Label indices, or `IGNORE`.

    References
    ----------
    Milletari, Navab and Ahmadi 2016, V-Net, doi:10.1109/3DV.2016.79 (with p rather than p² in the denominator).
    """
    logits, known = logits.float(), (label != IGNORE)[:, None]
    if logits.shape[1] == 1:
        proba = logsigmoid(logits).exp()
        target = (label == 1)[:, None].float()
    else:
        proba = log_softmax(logits, dim=1).exp()
        classes = torch.where(label == IGNORE, 0, label).long()
        target = one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2).float() * known
    proba = torch.where(known, proba, 0)
    both = (proba * target).sum(dim=(0, 2, 3))
    labelled = target.sum(dim=(0, 2, 3))
    each = 1 - 2 * both / (proba.sum(dim=(0, 2, 3)) + labelled).clamp(min=1e-7)
    present = (labelled > 0).float()
    return (each * present).sum() / present.sum().clamp(min=1)


LOSSES: dict[LossName, Loss] = {
    "ce": cross_entropy,
    "dice": dice,
    "ce+dice": lambda logits, label: cross_entropy(logits, label) + dice(logits, label),
}
