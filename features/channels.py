"""Channels: what a model sees of a scene, by name."""

from collections.abc import Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.scenes.scene import Scene
from data.scenes.windows import Window

__all__ = ["Channels", "OpenChannels"]


class OpenChannels(Protocol):
    """A scene whose channels are read window by window."""

    def compute(self, window: Window | None = None) -> NDArray[np.float32]:
        """Return the channels (C, height, width) of a window, NaN where there is no data."""
        ...

    def valid(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return where a window of the scene was seen, (height, width) bool."""
        ...


class Channels(Protocol):
    """Named channels of a scene, such as a `FeatureSet`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        ...

    def describe(self) -> list[dict[str, str | int]]:
        """Describe each channel: name, kind, definition, halo, reference, unit."""
        ...

    def only(self, names: Collection[str]) -> "Channels":
        """Return the channels that are named, in order, and perhaps others that cost little."""
        ...

    def open(self, scene: Scene) -> OpenChannels:
        """Return the scene, ready to be read."""
        ...
