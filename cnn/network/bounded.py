"""Build a network of settings that anyone may have written, no larger than its file."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["TooLargeError", "no_larger_than"]

MAKERS = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})
"""Ask for memory by sizes; what layers are made of comes from them."""

LEAST = 256
"""What a part of a network takes at least, in numbers."""

ROOM = 2**23
"""Numbers besides those of the file: tables that a network computes itself."""


class TooLargeError(ValueError):
    """A network is larger than its file."""


class no_larger_than(TorchFunctionMode):  # noqa: N801 - a context manager, which reads as a sentence
    """Refuse to make more numbers than some tensors have, before memory is asked for.

    Parameters
    ----------
    tensors : mapping of str to Tensor
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._left = 2 * sum(tensor.numel() for tensor in tensors.values()) + ROOM

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the numbers that a function of torch would make."""
        if function in MAKERS:
            self._left -= max(_count(args, kwargs or {}), LEAST)
            if self._left < 0:
                raise TooLargeError("a network that is larger than its file")
        return function(*args, **(kwargs or {}))


def _count(args: Any, kwargs: Mapping[str, Any]) -> int:
    size = kwargs.get("size", args[0] if args and isinstance(args[0], tuple | list | torch.Size) else args)
    total = 1
    for side in [size] if isinstance(size, int) else size:
        total *= side if isinstance(side, int) else 1
    return total
