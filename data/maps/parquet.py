"""Read and write the maps of tagged scenes, each a single pixel, as parquet files of many scenes.

Probabilities are stored as those of other maps are: q = round(65534 p), 65535 where nothing was predicted.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.errors import MapError
from data.maps.geotiff import quantise
from data.records import FileKind, read_parquet, write_parquet

__all__ = ["PART_SCENES", "part_name", "read_parts", "write_part"]

PART = FileKind("tag maps written by Terrablend", MapError, "terrablend run")

PART_SCENES = 1024
"""Most scenes of a file."""


def part_name(number: int) -> str:
    """Return the name of a part's file."""
    return f"part-{number:05d}.parquet"


def write_part(
    path: Path, ids: Sequence[str], proba: NDArray[np.float32], names: Sequence[str], about: Mapping[str, str]
) -> None:
    """Write the probabilities of some scenes, atomically.

    Parameters
    ----------
    path : Path
    ids : sequence of str
        Of the scenes.
    proba : (n_scenes, n_classes) float32 in [0, 1]
        NaN where nothing was predicted.
    names : sequence of str
        Of the classes.
    about : mapping
        What else the file says of itself, such as the member and its folds.
    """
    columns = [pa.array(ids, pa.string()), *map(pa.array, quantise(proba).T.copy())]
    metadata = json.dumps({**about, "classes": list(names)}, ensure_ascii=False)
    table = pa.Table.from_arrays(columns, ["id", *names], metadata={"terrablend": metadata})
    write_parquet(path, table)


def read_parts(folder: Path) -> tuple[tuple[str, ...], dict[str, NDArray[np.uint16]]]:
    """Read every part in a folder.

    Returns
    -------
    names : tuple of str
        Of the classes.
    maps : dict of str to (n_classes,) uint16
        By scene id, in the order of the parts, as `data.maps.geotiff.quantise` stores probabilities.

    Raises
    ------
    MapError
        If there are none, one of them is missing, or their classes differ.
    """
    paths = sorted(folder.glob("part-*.parquet"))
    if not paths:
        raise MapError(f"{folder}: expected tag maps, got none. Run the stage that writes them again.")
    maps: dict[str, NDArray[np.uint16]] = {}
    columns: list[str] = []
    for number, path in enumerate(paths):
        if path.name != part_name(number):
            raise MapError(f"{folder}: expected part {number}, got {path.name}. Run the stage that writes them again.")
        table = _read_part(path)
        columns = columns or table.column_names
        if table.column_names != columns:
            raise MapError(
                f"{path}: expected the columns {', '.join(columns)}, got {', '.join(table.column_names)}. "
                "Remove the folder and run the stage that writes it again."
            )
        # By position, since a tag may be called "id" too.
        ids, *probas = table.columns
        stored = np.column_stack([proba.to_numpy() for proba in probas])
        maps.update(zip(ids.to_pylist(), stored, strict=True))
    return tuple(columns[1:]), maps


def _read_part(path: Path) -> pa.Table:
    table = read_parquet(path, PART)
    try:
        known = json.loads((table.schema.metadata or {})[b"terrablend"])["classes"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PART.damaged(path, "it names no classes") from error
    if table.column_names != ["id", *known] or set(table.schema.types[1:]) != {pa.uint16()}:
        raise MapError(f"{path}: expected tag maps written by Terrablend, got another table.")
    return table
