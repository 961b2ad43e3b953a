"""Tags: what a table says of each scene as a whole."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.csv_cells import read_rows
from data.errors import LabelError
from data.names import list_names, nearest
from data.scenes.classes import Classes
from data.scenes.scene import Scene, read_label
from data.scenes.windows import Window
from data.settings import TagSettings

__all__ = ["TagTable", "read_map_label", "read_tag_table", "read_tags"]


@dataclass(frozen=True)
class TagTable:
    """The rows of a table of tags.

    Parameters
    ----------
    path : str
    tags : mapping
        Id → sorted indices into ``Classes.names``.
    """

    path: str
    tags: Mapping[str, tuple[int, ...]]


def read_tag_table(settings: TagSettings, classes: Classes, root: Path) -> tuple[TagTable, list[str]]:
    """Read a CSV table of scenes and their tags.

    Parameters
    ----------
    settings : TagSettings
    classes : Classes
        Of a multilabel task.
    root : Path
        Folder that a relative ``settings.tags`` starts from.

    Returns
    -------
    table : TagTable
    problems : list of str
        One line for every tag that is no class, id that is listed twice and row that is cut short.

    Raises
    ------
    LabelError
        If the file cannot be read or lacks a column.
    """
    path = root / settings.tags
    try:
        # "1,2" are two tags, not a number.
        header, lines, listed = read_rows(path, texts=(settings.id,), decimals=False)
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: expected a CSV table of tags, got: {error}. Correct label.tags or root.") from error
    except csv.Error as error:
        raise LabelError(f"{path}: expected a table of tags, got: {error}. Look for a quote without an end.") from error
    lacking = [column for column in (settings.id, settings.column) if column not in header]
    if lacking:
        raise LabelError(
            f"{path}: expected the columns {settings.id} and {settings.column}, got {list_names(header) or 'none'}. "
            "Name the column of ids as label.id and that of tags as label.column."
        )
    index = {name: position for position, name in enumerate(classes.names)}
    tags: dict[str, tuple[int, ...]] = {}
    unknown: dict[str, list[str]] = {}
    problems = []
    for line, row in zip(lines, listed, strict=True):
        key, written = row.get(settings.id), row.get(settings.column)
        if key is None or written is None:
            problems.append(f"{path}, line {line}: expected {len(header)} columns, got fewer. Complete the row.")
            continue
        if key in tags:
            problems.append(f"{path}, line {line}: expected each scene once, got {key} again. Remove a row.")
        names = {name for part in written.split(settings.separator) if (name := part.strip())}
        for name in sorted(names - set(index) - set(settings.ignore)):
            unknown.setdefault(name, []).append(key)
        tags[key] = tuple(sorted(index[name] for name in names & set(index)))
    problems += [
        f"{path}: expected tags among the classes, got {name[:100]} in {len(keys)} rows (first: {keys[0][:100]}). "
        f"Nearest: {nearest(name, index)}. Add it to classes, or to label.ignore."
        for name, keys in sorted(unknown.items())
    ]
    return TagTable(str(path), tags), problems


def read_map_label(scene: Scene, classes: Classes, window: Window | None = None) -> NDArray[np.uint8]:
    """Read the label of a scene's map or a window of it.

    Returns
    -------
    label : (Q, H, W) uint8
        Label indices, `IGNORE` where there is none; of tags (K, 1, 1), 1 for those that the scene has.
    """
    if classes.task == "multilabel":
        return read_tags(scene, classes.n_questions)[:, None, None]
    return read_label(scene, window)[None]


def read_tags(scene: Scene, n_classes: int) -> NDArray[np.uint8]:
    """Return which tags a scene has.

    Returns
    -------
    tags : (n_classes,) uint8
        1 for each tag that it has, 0 for the others.

    Raises
    ------
    LabelError
        If the scene's tags are not known.
    """
    if scene.tags is None:
        raise LabelError(f"scene {scene.id}: expected tags, the {scene.split} split has none.")
    present = np.zeros(n_classes, np.uint8)
    present[[*scene.tags]] = 1
    return present
