"""Models of a member that map tile by tile, for programs that know nothing of Terrablend."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["TileModel"]


@dataclass(frozen=True)
class TileModel:
    """The models of all folds of a member as one module of torch.

    Parameters
    ----------
    name : str
        Of the member.
    model : torch.nn.Module
        Tiles (N, C, H, W) float32, NaN where there is no data, to probabilities (N, K, H, W).
    inputs : tuple of str
        The C input channels.
    side : int
        Of the tiles that it maps best, pixels; of the only ones that it maps, where it is ``fixed``.
    multiple : int
        That a side must be of.
    fixed : bool
    overlap : float
        Of neighbouring tiles, as a share of their side.
    ranges : tuple of (middle, spread)
        Of the values of each channel.
    whole : bool
        Whether it must see whole scenes, since it scales them by their own values or resizes them.
    write : callable
        ``write(module, shape, path, names)`` writes any module that maps tiles of a shape as an ONNX file, whose input
        and output get two names.
    """

    name: str
    model: Any
    inputs: tuple[str, ...]
    side: int
    multiple: int
    fixed: bool
    overlap: float
    ranges: tuple[tuple[float, float], ...]
    whole: bool
    write: Callable[[Any, tuple[int, ...], Path, tuple[str, str]], None]
