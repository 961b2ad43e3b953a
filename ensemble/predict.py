"""The ensemble applied to the members' maps of a scene."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.maps import dequantise, map_writer, read_map, write_class_map
from data.scene import Scene
from data.windows import tile_windows
from ensemble.ensemble import Ensemble
from ensemble.maps import WINDOW

__all__ = ["write_prediction"]


def write_prediction(
    ensemble: Ensemble, members: Sequence[Path], scene: Scene, class_map: Path, proba_map: Path | None = None
) -> None:
    """Blend and decide, window by window, and write the class map of a scene.

    Parameters
    ----------
    ensemble : Ensemble
    members : sequence of Path
        Maps of the members in ``ensemble.used``, in that order.
    scene : Scene
    class_map : Path
        Class ids, with colours and names.
    proba_map : Path, optional
        Gets the blended probabilities.
    """
    tags = {
        "scene": scene.id,
        "members": ",".join(ensemble.used),
        "thresholds": ",".join(map(str, ensemble.thresholds_)),
    }
    label = np.empty((scene.grid.height, scene.grid.width), np.uint8)
    windows = list(tile_windows(scene.grid.height, scene.grid.width, WINDOW))
    if proba_map is not None:
        with map_writer(proba_map, scene.grid, ensemble.classes.names, tags) as writer:
            for window in windows:
                writer.write(window, dequantise(ensemble.blend([read_map(path, window) for path in members])))
    for window in windows:
        label[window.slices] = ensemble.decide(ensemble.blend([read_map(path, window) for path in members]))
    write_class_map(class_map, label, scene.grid, ensemble.classes, tags)
