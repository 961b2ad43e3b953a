"""Read another tool's probabilities of tags from a table of one row a scene."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data.errors import MapError
from data.names import list_names, listed_name
from data.scenes.scene import Scene
from data.tables import read_table
from maps.settings import SCALES, MapsSettings
from maps.source import SLACK

__all__ = ["read_rows", "row_of"]

IDS = ("id", "scene", "scene_id", "image", "image_name", "file")
"""Columns that may hold the scene's id, or the name of its file."""


def read_rows(path: Path, settings: MapsSettings, classes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the probabilities (n_classes,) of each scene that a table names, cut off at 0 and 1.

    Raises
    ------
    MapError
        If a column is missing, an id stands twice, or a probability lies outside [0, 1].
    """
    table = read_table(path, MapError, "Correct its path.")
    key = next((name for name in table.columns if name.lower() in IDS), None)
    lacking = [name for name in classes if name not in table.columns]
    if key is None or lacking:
        raise MapError(
            f"{path}: expected a column {lacking[0] if lacking else 'id'}, got {list_names(table.columns)}. "
            f"It needs a column of ids and one for each tag: {', '.join(classes)}."
        )
    ids = table[key].cast(pl.String).to_list()
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise MapError(f"{path}: expected one row a scene, got two of {twice}. Remove one of them.")
    factor = 1.0 if settings.scale is None else SCALES.get(str(settings.scale), settings.scale)
    try:
        proba = table.select(pl.col(*classes).cast(pl.Float32)).to_numpy() * np.float32(factor)
    except pl.exceptions.PolarsError as error:
        raise MapError(
            f"{path}: expected probabilities, got: {str(error).splitlines()[0]}. Correct the table."
        ) from error
    low, high = (float(value) for value in (np.nanmin(proba, initial=0), np.nanmax(proba, initial=0)))
    if low < -SLACK or high > 1 + SLACK:
        raise MapError(f"{path}: expected probabilities in [0, 1], got {low:.4g} to {high:.4g}. Write their scale.")
    return dict(zip(ids, np.clip(proba, 0, 1), strict=True))


def row_of(scene: Scene, listed: dict[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """Return the row of a scene, by its id or the name of one of its files; None where there is none."""
    name = listed_name(scene.id, [image.path for image in scene.images], listed)
    return None if name is None else listed[name]
