"""Networks as they are applied, from raw input channels to probabilities: the modules that are run and exported."""

from collections.abc import Iterable
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn

from cnn.inputs.d4 import D4, apply_d4, invert_d4
from cnn.inputs.normalisation import Normalisation
from cnn.inputs.resize import resize_channels, resize_proba

__all__ = ["Applied", "D4Mean", "Mean"]


class Applied(nn.Module):
    """A network with all that goes before and after it.

    Parameters
    ----------
    network : nn.Module
        Normalised channels (N, C, H, W) to logits (N, K, H, W), or of tags (N, K).
    normalisation : Normalisation
        Of the scenes that it learned from, or of the scene that it is applied to.
    resize : float
        Pixels that the network sees a pixel of the scene.
    multiple : int
        What the sides of the network's input must be multiples of.
    """

    offset: Tensor
    factor: Tensor

    def __init__(
        self, network: nn.Module, normalisation: Normalisation, resize: float = 1.0, multiple: int = 1
    ) -> None:
        super().__init__()
        self.network, self.clip, self.resize, self.multiple = network, normalisation.clip, resize, multiple
        channels = np.array([normalisation.offset, 1 / np.array(normalisation.scale)], np.float32)
        offset, factor = torch.from_numpy(channels)[:, :, None, None]
        self.register_buffer("offset", offset)
        self.register_buffer("factor", factor)

    def forward(self, channels: Tensor) -> Tensor:
        """Turn channels (N, C, H, W) float32, NaN where there is no data, into probabilities (N, K, H, W) float32.

        One logit a pixel means sigmoid, more softmax. Tags (N, K) have a sigmoid each.
        """
        height, width = channels.shape[-2:]
        logits: Tensor = self.network(self.prepare(channels)).float()
        if logits.ndim == 2:
            return logits.sigmoid()
        proba = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
        return proba if self.resize == 1 else resize_proba(proba, height, width)

    def prepare(self, channels: Tensor) -> Tensor:
        """Turn channels into what the network takes: scaled, resized, 0 where there is no data."""
        normal = (channels - self.offset).mul_(self.factor)
        if self.clip is not None:
            # torch would leave NaN as it is, other runtimes do not.
            normal = normal.clamp(-self.clip, self.clip).where(~normal.isnan(), normal)
        height, width = normal.shape[-2:]
        if self.resize != 1:
            normal = resize_channels(normal, self._network_side(height), self._network_side(width))
        # 0 is the middle of the scale, and what convolutions pad with.
        return normal.nan_to_num_(0.0).contiguous(memory_format=torch.channels_last)

    def _network_side(self, side: int) -> int:
        return max(1, round(side * self.resize / self.multiple)) * self.multiple


class Mean(nn.Module):
    """The mean probability of some models, such as those of a member's folds."""

    def __init__(self, models: Iterable[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, channels: Tensor) -> Tensor:
        """Return the mean probability (N, K, H, W), or of tags (N, K)."""
        total: Tensor = reduce(torch.add, (model(channels) for model in self.models))
        return total / len(self.models)


class D4Mean(nn.Module):
    """The mean probability of a model over the 8 flips and quarter turns of its input."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, channels: Tensor) -> Tensor:
        """Return the mean probability (N, K, H, W), each moved back; or of tags (N, K), which have no orientation."""

        def predict(element: int) -> Tensor:
            proba: Tensor = self.model(apply_d4(channels, element))
            return invert_d4(proba, element) if proba.ndim == 4 else proba

        total: Tensor = reduce(torch.add, map(predict, D4))
        return total / len(D4)
