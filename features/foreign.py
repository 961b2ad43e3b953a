"""A table of the user's own, made one of ours: rows with a label, features and a group that stays in one fold.

Its groups take the place of scenes: a catalogue of scenes without images, whose rows lie where a scene's pixels would.
"""

import logging
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data.catalogue import Catalogue, SceneStatistics
from data.classes import Classes
from data.errors import TableError
from data.files import replacing
from data.scene import Scene
from data.windows import Grid
from features.settings import TableSettings
from features.table import table_path

__all__ = ["catalogue_of_table", "find_tables", "write_table"]

logger = logging.getLogger(__name__)

PARTS = 100
"""Groups that rows are dealt to at random where nothing says what belongs together."""

GROUP, LABEL, WEIGHT = "terrablend:group", "terrablend:label", "terrablend:weight"
"""Columns of our own beside the user's."""


def find_tables(settings: TableSettings, root: Path) -> list[Path]:
    """Return the files of a table.

    Raises
    ------
    TableError
        If a pattern matches none.
    """
    found: set[Path] = set()
    for pattern in settings.files:
        paths = [path for path in root.glob(pattern) if path.is_file()]
        if not paths:
            raise TableError(f"{root / pattern}: expected a table, got no such file. Correct table.files or root.")
        found.update(paths)
    return sorted(found)


def catalogue_of_table(settings: TableSettings, classes: Classes, root: Path, seed: int) -> Catalogue:
    """Read a table and return its groups as a catalogue, without folds.

    Parameters
    ----------
    settings : TableSettings
    classes : Classes
    root : Path
    seed : int
        Deals rows out where no group is given.

    Raises
    ------
    TableError
        If a file cannot be read, lacks a column, or holds a value that cannot be used.
    """
    rows, names = _read_rows(settings, classes, root, seed)
    if settings.group is None and settings.coordinates is None:
        logger.warning(
            "table: neither group nor coordinates: rows are dealt to folds at random, so neighbours may leak"
        )
    n_labels = len(classes.label_names)
    scenes, statistics = [], {}
    for (group,), part in sorted(rows.group_by(GROUP)):
        scenes.append(Scene(str(group), "train", (), Grid(len(part), 1)))
        counts = np.bincount(part[LABEL].to_numpy(), minlength=n_labels)
        statistics["train", str(group)] = SceneStatistics(len(part), tuple(counts.tolist()))
    logger.info("table: %d rows × %d features in %d groups", len(rows), len(names), len(scenes))
    return Catalogue(classes, names, tuple(scenes), statistics)  # type: ignore[arg-type]


def write_table(
    settings: TableSettings, catalogue: Catalogue, root: Path, directory: Path, *, experiment: str, seed: int
) -> None:
    """Write a table as one of ours, a file a group; ``row`` counts the rows of the group.

    Parameters
    ----------
    settings : TableSettings
    catalogue : Catalogue
        Of the table, with folds.
    root, directory : Path
    experiment : str
        Name written into every file.
    seed : int
        That of the catalogue.
    """
    rows, names = _read_rows(settings, catalogue.classes, root, seed)
    groups = {str(group): part for (group,), part in rows.group_by(GROUP, maintain_order=True)}
    for scene in catalogue.split("train"):
        part = groups[scene.id]
        columns = {
            "scene": pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(part), np.int32)), [scene.id]),
            "row": pa.array(np.arange(len(part), dtype=np.int32)),
            "col": pa.array(np.zeros(len(part), np.int32)),
            "label": part[LABEL].to_arrow(),
            "stratum": part[LABEL].to_arrow(),
            "weight": part[WEIGHT].to_arrow(),
            **{name: part[name].to_arrow() for name in names},
        }
        with replacing(table_path(directory, scene)) as temporary:
            table = pa.table(columns).replace_schema_metadata({"experiment": experiment})
            pq.write_table(table, temporary, compression="lz4", write_statistics=False)


def _read_rows(
    settings: TableSettings, classes: Classes, root: Path, seed: int
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the rows with label index, weight and group, and the names of their features."""
    frames = [_read_file(path, settings) for path in find_tables(settings, root)]
    columns = frames[0].columns
    for path, frame in zip(find_tables(settings, root), frames, strict=True):
        if frame.columns != columns:
            different = sorted(set(frame.columns) ^ set(columns)) or ["the same in another order"]
            raise TableError(f"{path}: expected the columns of the other files, got others: {', '.join(different)}.")
    rows = pl.concat(frames, how="vertical_relaxed")
    kept = {settings.label, settings.weight, settings.group, *(settings.coordinates or ()), GROUP, *settings.leave}
    names = tuple(settings.features or (name for name in columns if name not in kept))
    needed = [*names, *(name for name in kept if name not in (None, "file"))]
    missing = sorted({str(name) for name in needed if name not in columns})
    if missing or not names:
        raise TableError(
            f"table: expected the columns {', '.join(missing) or 'of features'}, "
            f"the files have {', '.join(name for name in columns if name != GROUP)}. Correct the names under table."
        )
    words = [name for name in names if not rows.schema[name].is_numeric() and rows.schema[name] != pl.Boolean]
    if words:
        raise TableError(
            f"table: expected numbers to learn from, got words in {', '.join(words)}. Leave them out: leave."
        )
    features = [pl.col(name).cast(pl.Float32).fill_null(np.nan) for name in names]
    weight = pl.lit(1.0) if settings.weight is None else pl.col(settings.weight)
    return rows.select(
        _groups(rows, settings, seed).alias(GROUP),
        _labels(rows[settings.label], classes).alias(LABEL),
        weight.cast(pl.Float32).alias(WEIGHT),
        *features,
    ), names


def _read_file(path: Path, settings: TableSettings) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(
                path, separator=settings.separator, has_header=settings.columns is None,
                new_columns=settings.columns, infer_schema_length=None,
            )  # fmt: skip
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TableError(f"{path}: expected a CSV or parquet file, got: {error}. Correct table.separator.") from error
    return frame.with_columns(pl.lit(path.stem).alias(GROUP))


def _labels(values: pl.Series, classes: Classes) -> pl.Series:
    meanings = dict(zip(classes.label_ids, range(len(classes.label_ids)), strict=True))
    found = values.unique().to_list()
    unknown = [value for value in found if value not in meanings]
    if unknown:
        raise TableError(
            f"table.label {values.name}: expected the values {', '.join(map(str, meanings))}, got also "
            f"{', '.join(map(str, unknown[:5]))}. Declare them under classes, or remove these rows."
        )
    return values.replace_strict(meanings, return_dtype=pl.UInt8)


def _groups(rows: pl.DataFrame, settings: TableSettings, seed: int) -> pl.Series:
    parts: list[pl.Series] = []
    if settings.group is not None:
        parts.append(rows[GROUP if settings.group == "file" else settings.group].cast(pl.String))
    if settings.coordinates is not None and settings.block is not None:
        parts += [_squares(rows[name], settings.block) for name in settings.coordinates]
    if not parts:
        logger.warning(
            "table: neither group nor coordinates: rows are dealt to folds at random, so neighbours may leak"
        )
        return pl.Series((np.random.default_rng(seed).permutation(len(rows)) % PARTS).astype(str))
    names = rows.select(pl.concat_str(parts, separator="_")).to_series()
    if names.null_count():
        raise TableError(
            f"table.group: expected a group for every row, got none in {names.null_count()}. Fill them in."
        )
    unique = names.unique().to_list()
    # They become names of files.
    safe = {name: re.sub(r"[^\w.+-]", "-", name) for name in unique}
    if len(set(safe.values())) < len(unique):
        safe = {name: f"{text}-{number}" for number, (name, text) in enumerate(sorted(safe.items()))}
    return names.replace_strict(safe)


def _squares(values: pl.Series, side: float) -> pl.Series:
    empty = int(values.is_null().sum())
    if empty or not values.dtype.is_numeric():
        raise TableError(
            f"table.coordinates {values.name}: expected a number in every row, got none in {empty or len(values)} of "
            f"{len(values)}. Leave out the files without coordinates, or group by another column."
        )
    return (values.cast(pl.Float64) / side).floor().cast(pl.Int64).cast(pl.String)
