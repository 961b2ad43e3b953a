"""The test scenes of a submission and their predictions."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import SubmissionError
from data.maps.geotiff import read_class_map
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene

__all__ = ["Predictions", "require_each_once", "require_shape"]


@dataclass(frozen=True)
class Predictions:
    """The predictions of the test scenes.

    Parameters
    ----------
    scenes : tuple of Scene
        Of the test split.
    classes : Classes
    maps : Path
        Folder of their class maps ``<id>.tif``.
    tags : dict
        Scene id → (K,) bool, which tags it has; for the task multilabel, which has no maps.
    columns : dict
        Header → pattern of each column of a table; empty for that of the format.
    """

    scenes: tuple[Scene, ...]
    classes: Classes
    maps: Path
    tags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    def class_map(self, scene: Scene) -> Path:
        """Return a scene's class map."""
        return self.maps / f"{scene.id}.tif"

    def label(self, scene: Scene) -> NDArray[np.uint8]:
        """Read a scene's label indices (H, W), `IGNORE` where nothing was predicted.

        Raises
        ------
        MapError, SubmissionError
            If the map cannot be read, has another size than the scene, or holds values that are no class.
        """
        label = read_class_map(self.class_map(scene), self.classes)
        require_shape(self.class_map(scene), scene, label.shape)
        return label

    def label_or_background(self, scene: Scene) -> NDArray[np.uint8]:
        """Read label indices for a binary format without nodata: what was not seen becomes background."""
        label = self.label(scene)
        return np.where(label == IGNORE, 0, label).astype(np.uint8)

    def require_maps(self) -> None:
        """Refuse scenes that have no map, or two.

        Raises
        ------
        SubmissionError
            Naming the first few.
        """
        ids = {scene.id for scene in self.scenes}
        if len(ids) < len(self.scenes):
            raise SubmissionError(f"expected test scenes of distinct ids, got {len(self.scenes) - len(ids)} twice.")
        if self.classes.task == "multilabel":
            require_each_once(self.maps, ids, self.tags)
            return
        missing = [str(path) for scene in self.scenes if not (path := self.class_map(scene)).exists()]
        if missing:
            raise SubmissionError(
                f"{self.maps}: expected a class map of each of {len(ids)} test scenes, {len(missing)} are missing: "
                f"{', '.join(missing[:3])}. Run `terrablend submit --overwrite`."
            )


def require_each_once(path: Path, expected: Iterable[str], names: Iterable[str]) -> None:
    """Refuse a submission unless it holds each expected scene once, and no other.

    Raises
    ------
    SubmissionError
        With the number of those that are missing, unknown or repeated, and the first few.
    """
    # An iterator, since a mapping would be taken for the counts themselves.
    whole, counts = set(expected), Counter(iter(names))
    missing, extra = sorted(whole - counts.keys()), sorted(counts.keys() - whole)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if missing or extra or twice:
        raise SubmissionError(
            f"{path}: expected each of {len(whole)} test scenes once, got {len(missing)} missing {missing[:3]}, "
            f"{len(extra)} unknown {extra[:3]}, {len(twice)} twice {twice[:3]}. Run `terrablend submit --overwrite`."
        )


def require_shape(path: Path, scene: Scene, shape: tuple[int, ...]) -> None:
    """Refuse a map that is not of its scene's size."""
    if shape != (scene.grid.height, scene.grid.width):
        raise SubmissionError(
            f"{path}: expected {scene.grid.height} × {scene.grid.width} pixels like scene {scene.id}, got {shape}. "
            "Run `terrablend submit --overwrite`."
        )
