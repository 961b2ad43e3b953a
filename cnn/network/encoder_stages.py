"""Find the stages of any encoder, and freeze some of them while the rest learns."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnn.settings import FreezeName

__all__ = ["encoder_stages", "freeze", "held_stages"]

PREFIX = "encoder."


def encoder_stages(network: nn.Module, in_channels: int, side: int) -> dict[str, int]:
    """Return the stage of each weight of the encoder, from 0, the finest.

    An encoder gives out one tensor a stage. A weight belongs to the first of them that it affects, which the graph
    of the computation shows for any architecture; one that affects none belongs to the last.

    Parameters
    ----------
    network : nn.Module
        As `cnn.network.network.build_network` made it, on the CPU.
    in_channels : int
        Number of input channels.
    side : int
        Of an input that the network takes, pixels.

    Returns
    -------
    stages : dict
        Name of the weight in the network → number of its stage.
    """
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    outputs = encoder(torch.zeros(1, in_channels, side, side))
    for module, training in modes.items():
        module.training = training
    # Encoders of the ViT kind give out their tokens too.
    tensors = outputs[0] if isinstance(outputs, tuple) else outputs
    left = dict(encoder.named_parameters())
    stages: list[list[str]] = []
    for tensor in tensors:
        reached = _reached(tensor, left)
        if reached:
            stages.append(reached)
            left = {name: weight for name, weight in left.items() if name not in reached}
    stages[-1] += left
    return {PREFIX + name: stage for stage, names in enumerate(stages) for name in names}


def held_stages(how: FreezeName, stages: int, epoch: int, epochs: int) -> int:
    """Return how many of the stages of an encoder are kept as they are in an epoch, counted from the finest.

    >>> [held_stages("gradual", 4, epoch, 16) for epoch in (0, 1, 2, 4, 6, 8, 15)]
    [4, 4, 3, 2, 1, 0, 0]
    """
    if how == "encoder":
        return stages
    return max(0, stages - 2 * stages * epoch // epochs) if how == "gradual" else 0


def freeze(network: nn.Module, how: FreezeName, stages: dict[str, int], epoch: int, epochs: int) -> None:
    """Put a network into training mode but for what is kept as it is in an epoch; see `held_stages`.

    What is kept has neither gradients nor batch statistics of its own.
    """
    network.train()
    held = held_stages(how, max(stages.values(), default=-1) + 1, epoch, epochs)
    for path, module in network.named_modules():
        weights = {f"{path}.{name}": weight for name, weight in module.named_parameters(recurse=False)}
        norm = isinstance(module, _BatchNorm)
        for name, weight in weights.items():
            learns = stages.get(name, held) >= held and not (norm and how == "batch_norm" and name in stages)
            weight.requires_grad_(learns)
            if norm and not learns:
                module.eval()


def _reached(tensor: Tensor, weights: dict[str, nn.Parameter]) -> list[str]:
    """Return the names of the weights that a tensor was computed from."""
    if not tensor.requires_grad or not weights:
        return []
    gradients = torch.autograd.grad(tensor.sum(), list(weights.values()), retain_graph=True, allow_unused=True)
    return [name for name, gradient in zip(weights, gradients, strict=True) if gradient is not None]
