"""Write the label of a scene that several annotators labelled, or of which probabilities are known."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import LabelError
from data.scenes.classes import Classes
from data.scenes.image import ImageFile
from data.scenes.opinions import LEVELS, SoftLabel, vote, weigh_labels
from data.scenes.placement import place_label
from data.scenes.rasters import read_grid
from data.scenes.scene import LabelFile, Scene, read_label, read_scene
from data.scenes.windows import Window
from data.survey.verification import scene_strips
from data.vectors.burn import identity_values, write_label

__all__ = ["write_soft_label"]

Strips = Iterator[tuple[Window, NDArray[np.uint8]]]


def write_soft_label(
    scene: Scene, label: SoftLabel, proba: Sequence[ImageFile], heights: str, classes: Classes, path: Path
) -> tuple[LabelFile, list[str]]:
    """Write what is scored and the opinions that are learned from; return the file, and what looks odd.

    Parameters
    ----------
    scene : Scene
    label : SoftLabel
    proba : sequence of ImageFile
        Its probabilities, as they lie on the grid of the scene; none if its files are of annotators.
    heights : str
        As in `data.scenes.placement.Framing`.
    classes : Classes
    path : Path
        Gets a GeoTIFF of label indices: a band that is scored, and one of each opinion.

    Raises
    ------
    LabelError
        If annotators have not all the same pixels, or probabilities lie beyond 0 and 1.
    """
    odd: list[str] = []
    if proba:
        strips, opinions = _weighed(replace(scene, images=tuple(proba), invalid=()), classes), LEVELS
    else:
        files, odd = _place(label, scene, heights)
        strips, opinions = _voted([replace(scene, label=file) for file in files], classes), len(files)
    write_label(path, scene.grid, strips, 1 + opinions)
    return LabelFile(str(path), identity_values(classes), opinions=opinions), odd


def _place(label: SoftLabel, scene: Scene, heights: str) -> tuple[list[LabelFile], list[str]]:
    placed = [place_label(file, scene.grid, scene.images, heights) for file in label.files]
    first = placed[0][0]
    height, width = _shape(first)
    for file, _ in placed[1:]:
        if _shape(file) != (height, width) or file.grid != first.grid:
            rows, cols = _shape(file)
            where = "elsewhere" if (rows, cols) == (height, width) else f"{rows} × {cols}"
            raise LabelError(
                f"{file.path}: expected the {height} × {width} pixels of {first.path}, got pixels {where}. "
                "Export the labels of all annotators on one grid."
            )
    return [file for file, _ in placed], [odd for _, odd in placed if odd]


def _shape(file: LabelFile) -> tuple[int, int]:
    grid = read_grid(file.path)[0]
    return grid.height, grid.width


def _weighed(scene: Scene, classes: Classes) -> Strips:
    path, binary = scene.images[0].path, classes.task == "binary"
    for window in scene_strips(scene):
        label, opinions = weigh_labels(read_scene(scene, window), window, path, binary)
        yield window, np.concatenate([label[None], opinions])


def _voted(scenes: Sequence[Scene], classes: Classes) -> Strips:
    for window in scene_strips(scenes[0]):
        opinions = np.stack([read_label(scene, window) for scene in scenes])
        yield window, np.concatenate([vote(opinions, len(classes.label_names))[None], opinions])
