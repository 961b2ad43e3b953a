"""Read a table of the user's own as a pixel table: rows with a label, features and a group that stays in one fold.

Its groups take the place of scenes: a catalogue of scenes without images, whose rows lie where a scene's pixels would.
"""

import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from data.errors import TableError
from data.files import is_hidden
from data.names import list_names
from data.records import write_parquet
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from data.tables import read_table
from features.settings import TableSettings
from features.table import table_path

__all__ = ["catalogue_of_table", "find_tables", "read_features", "write_table"]

logger = logging.getLogger(__name__)

PARTS = 100
"""Groups that rows are dealt to at random where nothing says what belongs together."""

FILE, GROUP, LABEL, WEIGHT, ROW = (f"terrablend:{name}" for name in ("file", "group", "label", "weight", "row"))
"""Columns of our own beside the user's."""

READ_ADVICE = "Correct table.separator or table.columns, or export the file again."

OURS = ("scene", "row", "col", "label", "stratum", "weight")
"""Columns of the pixel table that are no features."""


def find_tables(settings: TableSettings, root: Path) -> list[Path]:
    """Return the files of a table.

    Raises
    ------
    TableError
        If a pattern matches none.
    """
    found: set[Path] = set()
    for pattern in settings.files:
        anchor = Path(pattern).anchor
        paths = [
            path
            for path in Path(anchor or root).glob(pattern.removeprefix(anchor))
            if path.is_file() and not is_hidden(path)
        ]
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
    if settings.group is None and settings.xy is None:
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
    """Write a table as one of ours, a file a group; ``row`` is the row's number in all the user's files together.

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
            "row": part[ROW].to_arrow(),
            "col": pa.array(np.zeros(len(part), np.int32)),
            "label": part[LABEL].to_arrow(),
            "stratum": part[LABEL].to_arrow(),
            "weight": part[WEIGHT].to_arrow(),
            **{name: part[name].to_arrow() for name in names},
        }
        table = pa.table(columns).replace_schema_metadata({"experiment": experiment})
        write_parquet(table_path(directory, scene), table, compression="lz4", write_statistics=False)


def read_features(
    path: Path, settings: TableSettings, names: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, NDArray[np.float32]]]:
    """Read the rows of a further table, which need no label.

    Parameters
    ----------
    path : Path
    settings : TableSettings
        Of the table that was learned from.
    names : sequence of str
        Its features, as the catalogue names them.

    Returns
    -------
    rows : DataFrame
        As they stand in the file.
    features : dict of str to (n,) float32
        NaN where there is no finite number.

    Raises
    ------
    TableError
        If the file cannot be read or lacks a column.
    """
    rows = read_table(path, TableError, READ_ADVICE, settings.separator, settings.columns)
    known = {safe_name(name): name for name in rows.columns}
    if missing := [name for name in names if name not in known]:
        raise TableError(
            f"{path}: expected the columns {list_names(missing)}, the file has {list_names(rows.columns)}. "
            "Name its columns as those of the table that was learned from."
        )
    try:
        _check_columns(rows.with_columns(pl.lit(path.name).alias(FILE)), [known[name] for name in names], (), "")
    except TableError as error:
        raise TableError(f"{path}: {error}") from error
    return rows, {name: rows.select(_finite(known[name])).to_series().to_numpy() for name in names}


def _read_rows(
    settings: TableSettings, classes: Classes, root: Path, seed: int
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the rows with label index, weight, group and number, and the names of their features."""
    paths = find_tables(settings, root)
    named = {settings.label, settings.weight, settings.group, *(settings.xy or ()), *settings.exclude}
    frames = [_read_file(path, root, settings, named) for path in paths]
    columns = frames[0].columns
    for path, frame in zip(paths, frames, strict=True):
        if frame.columns != columns:
            different = sorted(set(frame.columns) ^ set(columns)) or ["the same in another order"]
            raise TableError(f"{path}: expected the columns of the other files, got others: {list_names(different)}.")
    try:
        rows = pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise TableError(f"{paths[0].parent}: expected columns of one kind in all files, got: {error}.") from error
    try:
        return _name_rows(rows, named, settings, classes, seed)
    except TableError as error:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise TableError(f"{paths[0]}{more}: {error}") from error


def _name_rows(
    rows: pl.DataFrame, named: Collection[str | None], settings: TableSettings, classes: Classes, seed: int
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    features = settings.features or [name for name in rows.columns if name not in (*named, FILE)]
    _check_columns(rows, features, named, settings.label)
    names = _safe_names(features)
    values = [_finite(name).alias(safe) for name, safe in names.items()]
    return rows.select(
        _groups(rows, settings, seed).alias(GROUP),
        _labels(rows[settings.label], classes).alias(LABEL),
        _weights(rows, settings.weight).alias(WEIGHT),
        pl.int_range(len(rows), dtype=pl.Int32).alias(ROW),
        *values,
    ), tuple(names.values())


def _read_file(path: Path, root: Path, settings: TableSettings, named: Collection[str | None]) -> pl.DataFrame:
    frame = read_table(path, TableError, READ_ADVICE, settings.separator, settings.columns)
    # Nothing in a CSV file tells a column of numbers that are all missing from one of words.
    empty = [name for name in frame.columns if name not in named and frame[name].null_count() == len(frame)]
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    return frame.with_columns(pl.col(empty).cast(pl.Float32), pl.lit(inside.with_suffix("").as_posix()).alias(FILE))


def _check_columns(rows: pl.DataFrame, features: Sequence[str], named: Collection[str | None], label: str) -> None:
    wanted = [*features, *(name for name in named if name not in (None, "file"))]
    missing = sorted({str(name) for name in wanted if name not in rows.columns})
    if missing or not features:
        raise TableError(
            f"table: expected the columns {', '.join(missing) or 'of features'}, "
            f"the files have {list_names(name for name in rows.columns if name != FILE)}. "
            "Correct the names under table."
        )
    if label in features or len(set(features)) < len(features):
        raise TableError("table.features: expected each column once, and not the label. Correct the list.")
    if not len(rows):
        raise TableError("table: expected rows to learn from, the files have none. Correct table.files.")
    words = [name for name in features if not rows.schema[name].is_numeric() and rows.schema[name] != pl.Boolean]
    if words:
        raise TableError(
            f"table: expected numbers to learn from, got others in {list_names(words)}: {_first_word(rows, words[0])}. "
            "Correct them, or leave the columns out: exclude."
        )


def _first_word(rows: pl.DataFrame, name: str) -> str:
    """Return the first cell of a column that is no number, and where it stands."""
    column = rows[name]
    if column.dtype != pl.String:
        return f"{name} holds {column.dtype}"
    bad = column.is_not_null() & column.str.strip_chars().cast(pl.Float64, strict=False).is_null()
    place = int(bad.arg_max() or 0)
    row = int((rows[FILE][: place + 1] == rows[FILE][place]).sum())
    return f"{rows[FILE][place]}, row {row}, {name}: {str(column[place])[:100]!r}"


def _safe_names(features: Sequence[str]) -> dict[str, str]:
    """Return the names that features have from here on: the boosters' files cannot hold spaces, brackets and quotes."""
    names = {name: safe_name(name) for name in features}
    if len(set(names.values())) < len(names):
        twice = sorted({new for new in names.values() if list(names.values()).count(new) > 1})
        raise TableError(
            f"table: expected columns that differ in letters and digits, got several that are {list_names(twice)} "
            "without their other signs. Rename them."
        )
    renamed = [f"{old} → {new}" for old, new in names.items() if old != new]
    if renamed:
        logger.info("table: columns renamed: %s", ", ".join(renamed))
    return names


def safe_name(name: str) -> str:
    """Return the name that a column has among the features.

    >>> safe_name("NDVI [S1]"), safe_name("row")
    ('NDVI__S1_', 'row_')
    """
    return re.sub(r"[^\w.+-]", "_", name) + ("_" if name in OURS else "")


def _finite(name: str) -> pl.Expr:
    """Return a column as float32, NaN where there is no finite number."""
    values = pl.col(name).cast(pl.Float32)
    return pl.when(values.is_finite()).then(values).otherwise(np.nan)


def _labels(values: pl.Series, classes: Classes) -> pl.Series:
    meanings = dict(zip(classes.label_ids, range(len(classes.label_ids)), strict=True))
    found = values.unique().to_list()
    unknown = [value for value in found if value not in meanings]
    if unknown:
        raise TableError(
            f"table.label {values.name}: expected the values {', '.join(map(str, meanings))}, got also "
            f"{list_names(unknown[:5])}. Declare them under classes, or remove these rows."
        )
    return values.replace_strict(meanings, return_dtype=pl.UInt8)


def _weights(rows: pl.DataFrame, name: str | None) -> pl.Series:
    if name is None:
        return pl.Series(np.ones(len(rows), np.float32))
    weights = rows[name]
    bad = len(rows) if not weights.dtype.is_numeric() else len(rows) - int((weights > 0).sum())
    if not bad:
        bad = len(rows) - int(weights.cast(pl.Float32).is_finite().sum())
    if bad:
        raise TableError(
            f"table.weight {name}: expected a number above 0 in every row, got {bad} others. Correct them."
        )
    return weights.cast(pl.Float32)


def _groups(rows: pl.DataFrame, settings: TableSettings, seed: int) -> pl.Series:
    parts: list[pl.Series] = []
    if settings.group is not None:
        group = rows[FILE if settings.group == "file" else settings.group]
        if group.dtype.is_nested():
            raise TableError(
                f"table.group {settings.group}: expected words or numbers, got {group.dtype}. Choose another."
            )
        parts.append((group.fill_nan(None) if group.dtype.is_float() else group).cast(pl.String))
    if settings.xy is not None and settings.block is not None:
        parts += [_squares(rows[name], settings.block) for name in settings.xy]
    if not parts:
        return pl.Series((np.random.default_rng(seed).permutation(len(rows)) % PARTS).astype(str))
    names = rows.select(pl.concat_str(parts, separator="_")).to_series()
    if names.null_count():
        raise TableError(
            f"table.group: expected a group for every row, got none in {names.null_count()}. Fill them in."
        )
    unique = names.unique().to_list()
    # They become names of files.
    safe = {name: re.sub(r"^\.+$|[^\w.+-]", "-", name) for name in unique}
    if len(set(safe.values())) < len(unique):
        safe = {name: f"{text}-{number}" for number, (name, text) in enumerate(sorted(safe.items()))}
    return names.replace_strict(safe)


def _squares(values: pl.Series, side: float) -> pl.Series:
    known = values.cast(pl.Float64).is_finite().sum() if values.dtype.is_numeric() else 0
    if known < len(values):
        raise TableError(
            f"table.xy {values.name}: expected a number in every row, got none in {len(values) - known} of "
            f"{len(values)}. Leave out the files without coordinates, or group by another column."
        )
    numbers = np.floor(values.cast(pl.Float64).to_numpy() / side)
    return pl.Series([f"{number:.0f}" for number in numbers])
