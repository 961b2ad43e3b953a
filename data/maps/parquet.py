"""What a member says of scenes as a whole: the map of a scene that is one pixel, kept in parquet by the thousand.

Probabilities are stored as those of maps are: q = round(65534 p), 65535 where nothing was predicted.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.errors import MapError
from data.files import replacing
from data.maps.geotiff import quantise
from data.scenes.scene import Split

__all__ = ["MAP_FOLDERS", "PART_SCENES", "read_tag_maps", "tag_part_path", "write_tag_part"]

MAP_FOLDERS: Mapping[Split, str] = {"train": "oof", "val": "val", "test": "test"}
"""Folder of a member's maps for each split."""

PART_SCENES = 1024
"""Most scenes of a part."""


def tag_part_path(directory: Path, split: Split, number: int) -> Path:
    """Return where a part of a member's tag maps lies in its folder."""
    return directory / MAP_FOLDERS[split] / f"part-{number:05d}.parquet"


def write_tag_part(
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
    told = json.dumps({**about, "classes": list(names)}, ensure_ascii=False)
    table = pa.Table.from_arrays(columns, ["id", *names], metadata={"terrablend": told})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_tag_maps(directory: Path, split: Split) -> dict[str, NDArray[np.uint16]]:
    """Read what a member said of the scenes of a split.

    Parameters
    ----------
    directory : Path
        The member's.
    split : {"train", "val", "test"}
        Training scenes are predicted out of fold.

    Returns
    -------
    maps : dict of str to (n_classes,) uint16
        By scene id, in the catalogue's order, as `data.maps.geotiff.quantise` stores probabilities.

    Raises
    ------
    MapError
        If there are none, one of them is missing, or they are not of one make.
    """
    folder = directory / MAP_FOLDERS[split]
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise MapError(f"{folder}: expected tag maps, got none. Run the stage that writes them again.")
    maps: dict[str, NDArray[np.uint16]] = {}
    names: list[str] | None = None
    for number, path in enumerate(parts):
        if path != tag_part_path(directory, split, number):
            raise MapError(f"{folder}: expected part {number}, got {path.name}. Run the stage that writes them again.")
        table = _read_part(path)
        names = names or table.column_names
        if table.column_names != names:
            raise MapError(
                f"{path}: expected the columns {', '.join(names)}, got {', '.join(table.column_names)}. "
                "Remove the folder and run the stage that writes it again."
            )
        # By position, since a tag may be called "id" too.
        ids, *columns = table.columns
        stored = np.column_stack([column.to_numpy() for column in columns])
        maps.update(zip(ids.to_pylist(), stored, strict=True))
    return maps


def _read_part(path: Path) -> pa.Table:
    try:
        # `read_table` takes the file for a data set, in which names must differ.
        with pq.ParquetFile(path) as file:
            table = file.read()
        known = json.loads(table.schema.metadata[b"terrablend"])["classes"]
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise MapError(f"{path}: expected tag maps written by Terrablend, got: {error}.") from error
    if table.column_names != ["id", *known] or set(table.schema.types[1:]) != {pa.uint16()}:
        raise MapError(f"{path}: expected tag maps written by Terrablend, got another table.")
    return table
