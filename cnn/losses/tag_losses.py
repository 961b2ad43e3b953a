"""Losses on the logits of tags: each tag is a question of its own, answered by a sigmoid."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cnn.losses.loss_terms import LossName
from data.errors import MemberError
from data.scenes.classes import IGNORE

__all__ = ["TagLoss"]

TagLossName = Literal["bce", "focal"]


class TagLoss(nn.Module):
    """A weighted sum of losses of tags.

    Each is the mean over the known tags, by class weights, of ``-(1 - p)^γ log p``, where p is the probability of what
    is true; γ is 0 in bce. Where a scene has a tag it counts that tag's positive weight times.

    Parameters
    ----------
    terms : mapping of str to float
        Weights of bce and focal.
    class_weights : sequence of K floats
        Weight of each tag.
    pos_weight : sequence of K floats
        Its further weight in scenes that have it.
    smoothing : float in [0, 1)
        Share of the truth that is spread evenly over yes and no.
    gamma : float
        Of focal; see `cnn.losses.pixel_losses.focal`.

    Raises
    ------
    MemberError
        If a loss is not one of tags.
    """

    def __init__(
        self,
        terms: Mapping[LossName, float],
        class_weights: Sequence[float],
        pos_weight: Sequence[float],
        smoothing: float = 0.0,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        foreign = [name for name in terms if name not in get_args(TagLossName)]
        if foreign:
            raise MemberError(
                f"loss: expected bce, focal or a sum of them with the task multilabel, got {', '.join(foreign)}, which "
                "compares labels of pixels. Write `loss: bce`."
            )
        self.terms = {0.0 if name == "bce" else gamma: weight for name, weight in terms.items()}
        self.smoothing = smoothing
        self.class_weights: Tensor
        self.pos_weight: Tensor
        self.register_buffer("class_weights", torch.tensor([*class_weights]), persistent=False)
        self.register_buffer("pos_weight", torch.tensor([*pos_weight]), persistent=False)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        logits : (N, K)
            Any float type; computed in float32.
        truth : (N, K) uint8 or float32
            1 for each tag that a scene has, 0 for the others, or a share between them; `IGNORE` where it is unknown.

        Returns
        -------
        loss : scalar float32
            0 if nothing is known.
        """
        known = truth != IGNORE
        logits, share = torch.where(known, logits.float(), 0), torch.where(known, truth.float(), 0)
        share = share.lerp(torch.full_like(share, 0.5), self.smoothing)
        yes, no = logsigmoid(logits), logsigmoid(-logits)
        weights = self.class_weights * known
        total = logits.new_zeros(())
        for gamma, weight in self.terms.items():
            # The power of a logarithm is a product, whose gradient is finite everywhere.
            hits = share * self.pos_weight * (gamma * no).exp() * yes
            rejections = (1 - share) * (gamma * yes).exp() * no
            total = total - weight * (weights * (hits + rejections)).sum()
        return total / weights.sum().clamp(min=1e-7)
