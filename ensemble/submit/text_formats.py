"""Write and check submissions that are tables: run lengths of masks, and tags."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data.csv_cells import warn_of_formulas
from data.errors import SubmissionError
from data.files import replacing
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from ensemble.submit.predictions import Predictions, require_each_once

__all__ = ["check_runs", "check_tags", "decode_runs", "encode_runs", "write_runs", "write_tags"]


Key = tuple[str, ...]

RUNS, TAGS = "{runs}", "{tags}"
"""Pattern of the column with the run lengths or tags."""

RUN_COLUMNS = {
    "binary": {"ImageId": "{id}", "EncodedPixels": RUNS},
    "multiclass": {"ImageId": "{id}", "ClassId": "{value}", "EncodedPixels": RUNS},
}
TAG_COLUMNS = {"image_name": "{id}", "tags": TAGS}
"""Header and pattern of each column, unless the experiment file has others."""


def encode_runs(mask: NDArray[np.bool_]) -> str:
    """Return the run lengths of a mask as Kaggle writes them: start and length of each run, down column by column.

    Pixels are numbered from 1, from the top of the first column.

    >>> encode_runs(np.array([[0, 1], [1, 1]], bool))
    '2 3'
    """
    edges = np.flatnonzero(np.diff(mask.ravel(order="F").astype(np.int8), prepend=0, append=0))
    starts, stops = edges[::2], edges[1::2]
    return " ".join(map(str, np.column_stack([starts + 1, stops - starts]).ravel().tolist()))


def decode_runs(text: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (H, W) that run lengths stand for.

    Raises
    ------
    ValueError
        If they are no pairs of numbers, overlap, touch, or leave the image.

    Examples
    --------
    >>> decode_runs("2 3", (2, 2)).astype(int)
    array([[0, 1],
           [1, 1]])
    """
    numbers = np.array(text.split(), np.int64)
    if len(numbers) % 2:
        raise ValueError(f"an odd count of numbers, {len(numbers)}")
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    stops = starts + lengths
    size = shape[0] * shape[1]
    if (lengths < 1).any() or (starts[1:] <= stops[:-1]).any() or (starts < 0).any() or (stops > size).any():
        raise ValueError(f"runs that are empty, out of order or outside of {size} pixels")
    edges = np.zeros(size + 1, np.int8)
    edges[starts], edges[stops] = 1, -1
    return np.cumsum(edges[:-1], dtype=np.int8).astype(bool).reshape(shape, order="F")


def write_runs(path: Path, predictions: Predictions) -> None:
    """Write run lengths, one row for each scene and class; empty for a class that is not in the scene.

    Raises
    ------
    SubmissionError
        If two rows have the same key.
    """
    columns = predictions.columns or RUN_COLUMNS[predictions.classes.task]
    keys = [key for scene in predictions.scenes for key, _ in _run_rows(scene, predictions.classes, columns)]
    if len(set(keys)) < len(keys):
        raise SubmissionError(
            f"submission.columns: expected patterns that tell every scene and class apart, got {dict(columns)}. "
            "Add {id}, and {name} or {value} where there are several classes."
        )
    _warn(path, columns, predictions)
    with _replacing_table(path, columns) as table:
        for scene in predictions.scenes:
            label = predictions.label(scene)
            for key, index in _run_rows(scene, predictions.classes, columns):
                table.writerow(_fill(columns, key, RUNS, encode_runs(label == index)))


def check_runs(path: Path, predictions: Predictions) -> None:
    """Refuse a table unless it has a row for each scene and class, and its runs are the pixels of the map."""
    columns = predictions.columns or RUN_COLUMNS[predictions.classes.task]
    rows = [(scene, _run_rows(scene, predictions.classes, columns)) for scene in predictions.scenes]
    table = _read_table(path, columns, RUNS)
    _require_rows(path, [key for _, keys in rows for key, _ in keys], table)
    runs = dict(table)
    for scene, keys in rows:
        label = predictions.label(scene)
        for key, index in keys:
            try:
                same = np.array_equal(decode_runs(runs[key], (scene.grid.height, scene.grid.width)), label == index)
                problem = "" if same else "those of other pixels"
            except (ValueError, OverflowError) as error:
                problem = str(error)
            if problem:
                raise SubmissionError(
                    f"{path}, row {','.join(key)}: expected the run lengths of its mask, got {problem}. "
                    "Run `terrablend submit --overwrite`."
                )


def write_tags(path: Path, predictions: Predictions) -> None:
    """Write the tags of each scene, separated by spaces.

    Raises
    ------
    SubmissionError
        If a tag has a space in it.
    """
    names = predictions.classes.names
    spaced = [name for name in names if name.split() != [name]]
    if spaced:
        raise SubmissionError(
            f"submission.format tags: expected tags without spaces, which separate them, got {spaced[0]!r}. Rename it."
        )
    columns = predictions.columns or TAG_COLUMNS
    _warn(path, columns, predictions)
    with _replacing_table(path, columns) as table:
        for scene in predictions.scenes:
            tags = " ".join(name for name, has in zip(names, predictions.tags[scene.id], strict=True) if has)
            table.writerow(_fill(columns, _key(columns, TAGS, id=scene.id), TAGS, tags))


def check_tags(path: Path, predictions: Predictions) -> None:
    """Refuse a table unless it has a row for each scene, with the tags that are predicted."""
    columns, names = predictions.columns or TAG_COLUMNS, np.array(predictions.classes.names)
    keys = {scene.id: _key(columns, TAGS, id=scene.id) for scene in predictions.scenes}
    table = _read_table(path, columns, TAGS)
    _require_rows(path, list(keys.values()), table)
    tags = dict(table)
    for scene in predictions.scenes:
        written = tags[keys[scene.id]].split()
        if written != names[np.asarray(predictions.tags[scene.id], bool)].tolist():
            raise SubmissionError(
                f"{path}, scene {scene.id}: expected the tags that are predicted, got {' '.join(written) or 'none'}. "
                "Run `terrablend submit --overwrite`."
            )


def _run_rows(scene: Scene, classes: Classes, columns: Mapping[str, str]) -> list[tuple[Key, int]]:
    """Return the other cells of each of a scene's rows, and the label index whose pixels it is of."""
    return [
        (_key(columns, RUNS, id=scene.id, name=name, value=value), classes.label_names.index(name))
        for name, value in zip(classes.names, classes.ids, strict=True)
    ]


def _key(columns: Mapping[str, str], content: str, **fields: object) -> Key:
    """Return the cells of a row but for its content."""
    return tuple(pattern.format(**fields) for pattern in columns.values() if pattern != content)


def _fill(columns: Mapping[str, str], key: Key, content: str, text: str) -> list[str]:
    cells = iter(key)
    return [text if pattern == content else next(cells) for pattern in columns.values()]


def _warn(path: Path, columns: Mapping[str, str], predictions: Predictions) -> None:
    """Warn of cells that spreadsheets take for formulas: a submission must hold them as they are."""
    ids = (scene.id for scene in predictions.scenes)
    warn_of_formulas(path, (*columns, *ids, *predictions.classes.names))


@contextmanager
def _replacing_table(path: Path, columns: Mapping[str, str]) -> Iterator[Any]:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(columns)
        yield table


def _read_table(path: Path, columns: Mapping[str, str], content: str) -> list[tuple[Key, str]]:
    """Return the cells of each row but for its content, and that."""
    try:
        table = pl.read_csv(path, infer_schema=False, glob=False).fill_null("")
    except pl.exceptions.PolarsError as error:
        raise SubmissionError(
            f"{path}: expected a table, got: {error}. Run `terrablend submit --overwrite`."
        ) from error
    if table.columns != list(columns):
        raise SubmissionError(
            f"{path}: expected the columns {', '.join(columns)}, got {', '.join(table.columns)}. "
            "Run `terrablend submit --overwrite`."
        )
    place = list(columns.values()).index(content)
    return [((*row[:place], *row[place + 1 :]), row[place]) for row in table.rows()]


def _require_rows(path: Path, keys: list[Key], table: list[tuple[Key, str]]) -> None:
    require_each_once(path, map(",".join, keys), (",".join(key) for key, _ in table))
