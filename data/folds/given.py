"""Read folds that somebody gave: a table of scenes and the fold of each."""

import csv
from collections.abc import Sequence
from pathlib import Path

from data.csv_cells import read_rows
from data.errors import FoldError
from data.names import list_names, listed_name
from data.scenes.scene import Scene

__all__ = ["read_folds"]

COLUMNS = ("id", "scene", "scene_id", "tile_id")


def read_folds(scenes: Sequence[Scene], path: Path) -> dict[str, int]:
    """Return the fold of each scene, numbered from 0 in the order of what the table calls them.

    Parameters
    ----------
    scenes : sequence of Scene
        Training scenes.
    path : Path
        CSV file with a column of ids or file names, and one called fold.

    Raises
    ------
    FoldError
        If it cannot be read, a scene is not in it or in two folds, or there are fewer than two folds.
    """
    try:
        columns, _, rows = read_rows(path, texts=COLUMNS)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FoldError(f"folds.file {path}: expected a CSV table of folds, got: {error}. Correct it.") from error
    header = {name.lower(): name for name in columns}
    column = next((header[name] for name in COLUMNS if name in header), None)
    if column is None or "fold" not in header:
        raise FoldError(
            f"folds.file {path}: expected the columns id and fold, got {list_names(header) or 'none'}. Name them so."
        )
    listed: dict[str, str] = {}
    for row in rows:
        name, fold = row.get(column, ""), row.get(header["fold"], "")
        if not fold or listed.setdefault(name, fold) != fold:
            raise FoldError(f"folds.file {path}: expected one fold for {name}, got {fold or 'none'}. Correct it.")
    found = {scene.id: listed_name(scene.id, [image.path for image in scene.images], listed) for scene in scenes}
    if absent := [scene for scene, name in found.items() if name is None]:
        raise FoldError(
            f"folds.file {path}: expected a fold for each of {len(scenes)} training scenes, got none for "
            f"{list_names(absent)}. Add them to the file."
        )
    used = sorted({listed[str(name)] for name in found.values()}, key=lambda text: (len(text), text))
    if len(used) < 2:
        raise FoldError(f"folds.file {path}: expected at least two folds, got {', '.join(used) or 'none'}. Correct it.")
    return {scene: used.index(listed[str(name)]) for scene, name in found.items()}
