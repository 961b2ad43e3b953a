"""A finished ensemble at work: on scenes it has never seen, and against labels."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.classes import IGNORE, Classes
from data.discovery import image_files, label_values, mask_rules
from data.errors import ExperimentError, SceneError
from data.maps import map_writer, read_map, write_class_map
from data.members import write_map
from data.scene import ImageFile, Scene, read_grid
from data.windows import Window, tile_windows
from ensemble import Ensemble
from terrablend.experiment import Experiment
from terrablend.stages import Run

__all__ = ["predict_scenes", "scene_of_files"]

logger = logging.getLogger(__name__)

TILE = 1024
"""Pixels on a side of the windows in which maps are blended."""


def predict_scenes(run: Run, scenes: Sequence[str], out: Path) -> None:
    """Write the probability map and the class map of each scene.

    Parameters
    ----------
    run : Run
        With a finished ensemble.
    scenes : sequence of str
        Paths; those of a scene of several files joined by commas, in the order of ``scenes.train.image``.
    out : Path
        Gets ``<name>.tif`` and ``<name>_proba.tif``, where name is that of the scene's first file.

    Raises
    ------
    SceneError
        If a scene cannot be read or has other bands than the models were trained on.
    RunError
        If the ensemble is not done.
    """
    run.folder.require(run.ensemble)
    ensemble = Ensemble.load(run.folder.path / "ensemble" / "ensemble.json")
    classes = run.experiment.label_classes()
    opened = [scene_of_files(text, run.experiment) for text in scenes]
    members = {name: member for name, member in run.load_members().items() if ensemble.weights_[name] > 0}
    out.mkdir(parents=True, exist_ok=True)
    for scene in run.track(opened, "scenes", len(opened)):
        with tempfile.TemporaryDirectory(dir=out, prefix=".members-") as folder:
            maps = {name: Path(folder) / f"{name}.tif" for name in members}
            for name, member in members.items():
                write_map(member, scene, member.folds, classes.names, maps[name])
            write_prediction(ensemble, maps, scene, classes, out / f"{scene.id}.tif", out / f"{scene.id}_proba.tif")
    logger.info("%d scenes mapped, in %s", len(opened), out)


def scene_of_files(text: str, experiment: Experiment) -> Scene:
    """Return the scene that is made of some files, with the bands of the experiment's training scenes."""
    entries = experiment.scenes.train.image
    paths = text.split(",")
    if len(paths) != len(entries):
        raise ExperimentError(
            f"{text}: expected {len(entries)} files a scene, like {' and '.join(entry.path for entry in entries)}, "
            f"got {len(paths)}. Join the files of a scene by commas."
        )
    images = image_files(experiment.scenes.train, experiment.scenes, paths)
    grids = [read_grid(path) for path in paths]
    for image, (grid, count) in zip(images, grids, strict=True):
        if count != len(image.bands):
            raise SceneError(
                f"{image.path}: expected the {len(image.bands)} bands {', '.join(image.bands)}, the file has {count}. "
                "Export the scene with the bands that the models were trained on."
            )
    return Scene(Path(paths[0]).stem, "test", images, grids[0][0], invalid=mask_rules(experiment.scenes))
