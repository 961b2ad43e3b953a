"""Tell whether the values of a new scene are like those that were learned from: its units may be others."""

from collections.abc import Iterator

import numpy as np

from data.scenes.catalogue import Catalogue
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import Window

__all__ = ["find_foreign_values"]

SIDE, ACROSS = 128, 4
"""Pixels on a side of the windows that are looked at, and how many of them lie beside each other."""

MOST = 0.5
"""Share of a band's pixels that may lie outside of all that was learned from."""


def find_foreign_values(scene: Scene, catalogue: Catalogue) -> list[str]:
    """Return a line for each band of which most pixels lie outside of all values of the training scenes.

    A sample of windows is read.
    """
    known = [catalogue.statistics["train", each.id].bands for each in catalogue.split("train")]
    lines = []
    with keep_open():
        pixels = [read_scene(scene, window).reshape(len(scene.bands), -1) for window in _sample(scene)]
    for place, (band, values) in enumerate(zip(scene.bands, np.concatenate(pixels, axis=1), strict=True)):
        low, high = (
            edge(bands[place][name] for bands in known if bands[place]["count"])
            for edge, name in ((_least, "minimum"), (_most, "maximum"))
        )
        finite = values[np.isfinite(values)]
        outside = float(((finite < low) | (finite > high)).mean()) if len(finite) else 0.0
        if outside > MOST:
            lines.append(
                f"scene {scene.id}: {outside:.0%} of {band} lies outside of all values that were learned from "
                f"({low:.4g} … {high:.4g}); its median is {np.median(finite):.4g}. Give it the units and band order "
                "of the training scenes."
            )
    return lines


def _least(values: Iterator[float]) -> float:
    return min(values, default=-np.inf)


def _most(values: Iterator[float]) -> float:
    return max(values, default=np.inf)


def _sample(scene: Scene) -> Iterator[Window]:
    rows, cols = (
        sorted({int(start) for start in np.linspace(0, max(size - SIDE, 0), ACROSS)})
        for size in (scene.grid.height, scene.grid.width)
    )
    for row in rows:
        for col in cols:
            yield Window(row, col, SIDE, SIDE).meet(scene.grid.window)
