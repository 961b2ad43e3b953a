"""The pixel table: one row a sampled pixel, one column a feature, one parquet file a scene, one folder a fold."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.errors import TableError
from data.files import scene_rng, sync_files
from data.maps.store import in_windows, worth_windows
from data.progress import Track, untracked
from data.records import FileKind, parquet_writer, read_footer, read_parquet
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, read_labels
from data.scenes.windows import Window
from data.workers import held, map_ordered
from features.feature_set import FeatureSet, Opened
from features.sample import PixelSample, sample_pixels, strata_names, stratify
from features.settings import SampleSettings

__all__ = [
    "ROWS",
    "Block",
    "Columns",
    "RowGroup",
    "Table",
    "build_table",
    "column_field",
    "count_rows",
    "feature_field",
    "join_tables",
    "open_groups",
    "open_table",
    "read_columns",
    "table_path",
]

logger = logging.getLogger(__name__)

ROWS = FileKind("the rows of scenes", TableError, "terrablend features")


class Columns(Protocol):
    """What the feature columns of a table are, of pixels or of scenes."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return their names, in order."""
        ...

    @property
    def formulas(self) -> dict[str, str]:
        """Return the user's own formulas that they may use, by name."""
        ...

    def describe(self) -> list[dict[str, str | int]]:
        """Return name, kind, definition, halo, reference and unit of each."""
        ...


class Block(Protocol):
    """Rows that are read together."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def read(self) -> NDArray[np.float32]:
        """Return their features (n, F), in C order."""
        ...


@dataclass(frozen=True)
class RowGroup:
    """Rows of a parquet file that lie together in it.

    Parameters
    ----------
    path : Path
    number : int
        Of the row group in the file.
    rows : int
    names : tuple of str
        Features, in the order wanted.
    """

    path: Path
    number: int
    rows: int
    names: tuple[str, ...]

    def __len__(self) -> int:
        return self.rows

    def read(self) -> NDArray[np.float32]:
        """Return the features (n, F); raises TableError if the file lacks one."""
        columns = read_columns(self.path, self.names, self.number)
        features = np.empty((self.rows, len(self.names)), np.float32)
        for column, name in enumerate(self.names):
            features[:, column] = columns[name].to_numpy()
        return features


@dataclass(frozen=True)
class Table:
    """Rows of the pixel table: what they are in memory, their features in files until they are read.

    Parameters
    ----------
    blocks : sequence of Block
        Hold the features of all rows, in order.
    names : tuple of str
        Of the features.
    label : (n,) uint8, or (n, n_classes) uint8
        Label index; of whole scenes 1 for each tag that they have, 0 for the others.
    weight : (n,) float32
        1 / the probability of having been drawn.
    scene : (n,) int32
        Index into ``scenes``.
    scenes : tuple of str
    row : (n,) int32
        In the scene; 0 for whole scenes.
    """

    blocks: Sequence[Block]
    names: tuple[str, ...]
    label: NDArray[np.uint8]
    weight: NDArray[np.float32]
    scene: NDArray[np.int32]
    scenes: tuple[str, ...]
    row: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.label)

    def read(self, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Return the features (n, F) of all rows, or of some, in C order; no second copy is held."""
        features = np.empty((len(self) if chosen is None else np.count_nonzero(chosen), len(self.names)), np.float32)
        start = 0
        for _, block in self.batches(chosen):
            features[start : start + len(block)] = block
            start += len(block)
        return features

    def batches(
        self, chosen: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Yield the places (n,) and features (n, F) of all rows, or of some, a block at a time."""
        start = 0
        for block in self.blocks:
            places = np.arange(start, start + len(block))
            start += len(block)
            if chosen is None:
                yield places, block.read()
            elif chosen[places].any():
                yield places[chosen[places]], block.read()[chosen[places]]


def join_tables(first: Table, second: Table) -> Table:
    """Return the rows of two tables of the same features, those of the first first."""
    scene = np.concatenate([first.scene, second.scene + np.int32(len(first.scenes))])
    label, weight = np.concatenate([first.label, second.label]), np.concatenate([first.weight, second.weight])
    row, scenes = np.concatenate([first.row, second.row]), (*first.scenes, *second.scenes)
    return Table([*first.blocks, *second.blocks], first.names, label, weight, scene, scenes, row)


def table_path(directory: Path, scene: Scene) -> Path:
    """Return the file that holds a training scene's rows."""
    return directory / f"fold={scene.fold}" / f"{scene.id}.parquet"


def build_table(
    catalogue: Catalogue,
    feature_set: FeatureSet,
    settings: SampleSettings,
    directory: Path,
    *,
    experiment: str,
    seed: int,
    executor: Executor | None = None,
    track: Track = untracked,
) -> None:
    """Write the pixel table of the training scenes; files that exist are kept.

    Parameters
    ----------
    catalogue : Catalogue
        With folds.
    feature_set : FeatureSet
    settings : SampleSettings
    directory : Path
        Gets ``fold=K/<scene>.parquet``.
    experiment : str
        Name written into every file.
    seed : int
        Rows depend on it and on the scene alone, not on the number of workers.
    executor : Executor, optional
        Where scenes are read in parallel, or where they are few and large the windows of each.
    track : Track

    Raises
    ------
    TableError
        If not a single pixel was drawn.
    """
    paths = {scene: table_path(directory, scene) for scene in catalogue.split("train")}
    written = {scene: rows for scene, path in paths.items() if (rows := count_rows(path)) is not None}
    todo = [scene for scene in paths if scene not in written]
    work = partial(
        _write_scene,
        feature_set=feature_set,
        classes=catalogue.classes,
        settings=settings,
        directory=directory,
        experiment=experiment,
        seed=seed,
    )
    if in_windows(executor, todo):
        made: Iterator[int] = (work(scene, executor=worth_windows(executor, scene)) for scene in todo)
    else:
        made = map_ordered(work, todo, executor)
    rows = sum(written.values()) + sum(track(made, "pixel table", len(todo)))
    sync_files(paths.values())
    if rows == 0:
        raise TableError(
            f"{directory}: expected pixels to learn from, got none: no training scene has a labelled pixel "
            "that is valid. Check nodata, invalid and label.ignore in the experiment file."
        )
    logger.info("pixel table: %d rows × %d features of %d scenes", rows, len(feature_set), len(paths))


def open_table(directory: Path, scenes: Sequence[Scene], names: Sequence[str]) -> Table:
    """Open the rows of some scenes.

    Parameters
    ----------
    directory : Path
    scenes : sequence of Scene
        Training scenes.
    names : sequence of str
        Features, in the order wanted.

    Raises
    ------
    TableError
        If a scene's rows are missing, or lack a feature.
    """
    paths = [table_path(directory, scene) for scene in scenes]
    blocks: list[RowGroup] = []
    counts = []
    for path in paths:
        groups = open_groups(path, names)
        blocks += groups
        counts.append(sum(map(len, groups)))
    total = sum(counts)
    label, weight, row = np.empty(total, np.uint8), np.empty(total, np.float32), np.empty(total, np.int32)
    start = 0
    for path, count in zip(paths, counts, strict=True):
        columns = read_columns(path, ("label", "weight", "row"))
        for name, values in (("label", label), ("weight", weight), ("row", row)):
            values[start : start + count] = columns[name].to_numpy()
        start += count
    position = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
    return Table(blocks, tuple(names), label, weight, position, tuple(scene.id for scene in scenes), row)


def open_groups(path: Path, names: Sequence[str]) -> list[RowGroup]:
    """Return the row groups of a file; raises TableError if it lacks a feature."""
    footer = read_footer(path, ROWS)
    _require(names, footer.schema.names, path)
    groups = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    return [RowGroup(path, number, rows, tuple(names)) for number, rows in enumerate(groups)]


def read_columns(path: Path, names: Sequence[str], group: int | None = None) -> pa.Table:
    """Read columns of a file, or of one of its row groups; raises TableError if it lacks one."""
    columns = read_parquet(path, ROWS, names, group)
    _require(names, columns.column_names, path)
    return columns


def _require(names: Sequence[str], known: Sequence[str], path: Path) -> None:
    lacking = set(names) - set(known)
    if lacking:
        raise TableError(
            f"{path}: expected the features of the experiment, got none called {min(lacking)}. "
            "Run `terrablend features --overwrite`."
        )


def column_field(name: str, kind: pa.DataType, unit: str, text: str) -> pa.Field:
    """Return a column with its unit and description."""
    return pa.field(name, kind, metadata={"unit": unit, "description": text})


def feature_field(row: Mapping[str, str | int]) -> pa.Field:
    """Return the column of a feature, from its description."""
    text = {"unit": str(row["unit"]), "description": str(row["definition"]), "reference": str(row["reference"])}
    return pa.field(str(row["name"]), pa.float32(), metadata=text)


def count_rows(path: Path) -> int | None:
    """Return how many rows a file holds; None without a file, or if its end is not what was written."""
    try:
        rows: int = read_footer(path, ROWS).num_rows
    except TableError:
        return None
    return rows


def _write_scene(
    scene: Scene,
    feature_set: FeatureSet,
    classes: Classes,
    settings: SampleSettings,
    directory: Path,
    experiment: str,
    seed: int,
    executor: Executor | None = None,
) -> int:
    opened = feature_set.open(scene)
    halo, rng = settings.buffer if classes.task == "binary" else 0, scene_rng(seed, scene.id)
    sample = sample_pixels(
        list(feature_set.windows(scene.grid)),
        lambda window: stratify(_sampled_as(scene, window.grow(halo)), halo, opened.valid(window), classes),
        classes,
        settings,
        rng,
    )
    schema = _schema(feature_set, classes, settings, experiment)
    rows = 0

    def draw() -> Iterator[_Drawn]:
        for window, pixels in sample:
            label = _draw_opinions(scene, window, pixels, rng) if scene.opinions else pixels.label
            yield _Drawn(window, pixels, label)

    gather = partial(_gather, opened) if executor is None else partial(_gather_held, partial(feature_set.open, scene))
    with (
        keep_open(),
        # The disk is waited for once, at the end of all scenes.
        # Floats seldom repeat: dictionaries only cost time. Split by byte they compress better, and faster.
        parquet_writer(
            table_path(directory, scene),
            schema,
            sync=False,
            compression="lz4",
            write_statistics=False,
            use_dictionary=["scene"],
            use_byte_stream_split=list(feature_set.names),
        ) as writer,
    ):
        for (_, pixels, label), features in map_ordered(gather, draw(), executor):
            columns = [
                pa.DictionaryArray.from_arrays(_column(np.zeros(len(pixels), np.int32)), _text(scene.id)),
                *(_column(plane) for plane in (pixels.rows, pixels.cols, label, pixels.stratum, pixels.weight)),
                *(_column(values) for values in features),
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            rows += len(pixels)
    return rows


class _Drawn(NamedTuple):
    """Pixels that were drawn in a window, and their labels (n,)."""

    window: Window
    pixels: PixelSample
    label: NDArray[np.uint8]


def _gather(opened: Opened, drawn: _Drawn) -> tuple[_Drawn, NDArray[np.float32]]:
    return drawn, opened.gather(drawn.window, drawn.pixels.rows, drawn.pixels.cols)


def _gather_held(open_scene: Callable[[], Opened], drawn: _Drawn) -> tuple[_Drawn, NDArray[np.float32]]:
    return _gather(held(open_scene), drawn)


def _sampled_as(scene: Scene, window: Window) -> NDArray[np.uint8]:
    """Return the label (h, w) that the pixels of a window are sampled by: where opinions are equal, the first."""
    label, *opinions = read_labels(scene, window)
    for opinion in opinions:
        label = np.where(label == IGNORE, opinion, label)
    return np.asarray(label, np.uint8)


def _draw_opinions(scene: Scene, window: Window, pixels: PixelSample, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw for each pixel (n,) one of the labels that opinions give it."""
    opinions = read_labels(scene, window)[1:, pixels.rows - window.row, pixels.cols - window.col]
    order = rng.permuted(np.arange(len(opinions), dtype=np.uint8)[:, None].repeat(len(pixels), 1), axis=0)
    shuffled = np.take_along_axis(opinions, order, axis=0)
    drawn: NDArray[np.uint8] = np.take_along_axis(shuffled, (shuffled != IGNORE).argmax(axis=0)[None], axis=0)[0]
    return drawn


def _column(values: NDArray[Any]) -> pa.Array:
    # `pa.array` would import pandas wherever it is installed: 50 MB and a third of a second in every worker.
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _text(value: str) -> pa.Array:
    encoded = value.encode()
    bounds = np.array([0, len(encoded)], np.int32)
    return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(bounds), pa.py_buffer(encoded)])


def _schema(feature_set: FeatureSet, classes: Classes, settings: SampleSettings, experiment: str) -> pa.Schema:
    fields = [
        ("scene", pa.dictionary(pa.int32(), pa.string()), "", "scene id"),
        ("row", pa.int32(), "pixel", "row in the scene, from its upper edge"),
        ("col", pa.int32(), "pixel", "column in the scene, from its left edge"),
        ("label", pa.uint8(), "", f"index into {', '.join(classes.label_names)}"),
        ("stratum", pa.uint8(), "", f"index into {', '.join(strata_names(classes))}"),
        ("weight", pa.float32(), "pixels", "1 / probability of having been drawn"),
    ]
    columns = [column_field(*field) for field in fields]
    columns += map(feature_field, feature_set.describe())
    about = {
        "experiment": experiment,
        "sample": settings.model_dump(mode="json"),
        "features": feature_set.names,
        "formulas": feature_set.formulas,
    }
    return pa.schema(columns, metadata={"terrablend": json.dumps(about)})
