"""The table of tagged scenes: one row a scene, in parquet files of a thousand, one folder a fold."""

import json
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.errors import TableError
from data.maps.parquet import PART_SCENES
from data.progress import Track, untracked
from data.records import FileKind, read_record, write_parquet, write_record
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.tags import read_tags
from data.workers import map_ordered
from features.feature_set import FeatureSet
from features.histograms import measure_edges
from features.scene_features import SceneFeatureSet
from features.settings import FeatureSettings, aggregated_names, scene_feature_names
from features.table import Table, column_field, count_rows, feature_field, open_groups, open_table, read_columns

__all__ = ["build_scene_table", "open_rows", "open_scene_table", "scene_features"]

logger = logging.getLogger(__name__)

Edges = dict[str, tuple[float, ...]]
EDGES = FileKind("the edges of histograms", TableError, "terrablend features")


def scene_features(
    catalogue: Catalogue, settings: FeatureSettings, directory: Path, *, seed: int, executor: Executor | None = None
) -> SceneFeatureSet:
    """Return the columns of the table of scenes.

    Parameters
    ----------
    catalogue : Catalogue
    settings : FeatureSettings
    directory : Path
        Of the table; the edges of histograms are kept in its ``edges.json``, and measured if they are not there.
    seed : int
    executor : Executor, optional

    Raises
    ------
    FeatureError
        If a feature is none, or not one of a scene.
    """
    bands, aggregate, path = catalogue.bands, settings.aggregate, directory / "edges.json"
    if not path.exists():
        names = [name for name in aggregated_names(bands, settings) if name not in aggregate.edges]
        edges = {}
        if aggregate.bins > 1 and names:
            pixels = FeatureSet(bands, names, settings.formulas)
            edges = measure_edges(catalogue.split("train"), pixels, aggregate.bins, seed=seed, executor=executor)
        write_record(path, edges | aggregate.edges)
    return SceneFeatureSet(
        bands,
        scene_feature_names(bands, settings, read_record(path, Edges, EDGES), catalogue.decoded),
        settings.formulas,
    )


def build_scene_table(
    catalogue: Catalogue,
    feature_set: SceneFeatureSet,
    directory: Path,
    *,
    experiment: str,
    executor: Executor | None = None,
    track: Track = untracked,
) -> None:
    """Write the table of the training scenes; files that exist are kept.

    Scenes without a valid pixel have no row.

    Parameters
    ----------
    catalogue : Catalogue
        With folds, of a multilabel task.
    feature_set : SceneFeatureSet
    directory : Path
        Gets ``fold=K/part-00000.parquet`` and so on.
    experiment : str
        Name written into every file.
    executor : Executor, optional
    track : Track

    Raises
    ------
    TableError
        If no scene has a valid pixel.
    """
    parts = _parts(directory, catalogue)
    counts = {path: rows for path in parts if (rows := count_rows(path)) is not None}
    todo = {path: scenes for path, scenes in parts.items() if path not in counts}
    scenes = [scene for part in todo.values() for scene in part]
    found = track(map_ordered(feature_set.compute, scenes, executor), "table of scenes", len(scenes))
    schema = _schema(feature_set, catalogue.classes, experiment)
    for path, part in todo.items():
        features = np.stack([*islice(found, len(part))])
        counts[path] = _write_part(path, part, features, schema, len(catalogue.classes.names))
    total = sum(counts.values())
    blind = len(catalogue.split("train")) - total
    if total == 0:
        raise TableError(
            f"{directory}: expected scenes to learn from, got none with a valid pixel. "
            "Check nodata and invalid in the experiment file."
        )
    if blind:
        logger.warning("table of scenes: %d scenes have no valid pixel, and so no row", blind)
    logger.info("table of scenes: %d rows × %d features", total, len(feature_set))


def open_scene_table(
    directory: Path, catalogue: Catalogue, names: Sequence[str], folds: Sequence[int] | None = None
) -> Table:
    """Open the rows of the training scenes, or of those that some folds hold out, fold by fold.

    Returns
    -------
    table : Table
        Its label is (n, n_classes): 1 for each tag that a scene has; every weight is 1.

    Raises
    ------
    TableError
        If rows are missing, or lack a feature.
    """
    parts = _parts(directory, catalogue, folds)
    scenes = [scene for part in parts.values() for scene in part]
    place = {scene.id: position for position, scene in enumerate(scenes)}
    labels = [_label(tag) for tag in catalogue.classes.names]
    blocks, label, scene = [], [], []
    for path in parts:
        blocks += open_groups(path, names)
        columns = read_columns(path, ["scene", *labels])
        label.append(np.column_stack([columns[name].to_numpy() for name in labels]))
        scene += [place[name] for name in columns["scene"].to_pylist()]
    return Table(
        blocks,
        tuple(names),
        np.concatenate(label),
        np.ones(len(scene), np.float32),
        np.array(scene, np.int32),
        tuple(place),
        np.zeros(len(scene), np.int32),
    )


def open_rows(directory: Path, catalogue: Catalogue, names: Sequence[str], folds: Sequence[int] | None = None) -> Table:
    """Open the training rows of either table, or those that some folds hold out: of pixels, or of tagged scenes."""
    if catalogue.classes.task == "multilabel":
        return open_scene_table(directory, catalogue, names, folds)
    scenes = (
        catalogue.split("train") if folds is None else [scene for fold in folds for scene in catalogue.in_fold(fold)]
    )
    return open_table(directory, scenes, names)


def _parts(directory: Path, catalogue: Catalogue, folds: Sequence[int] | None = None) -> dict[Path, tuple[Scene, ...]]:
    """Return the files of the table, and the scenes that each is of."""
    parts = {}
    for fold in catalogue.folds if folds is None else folds:
        scenes = catalogue.in_fold(fold)
        for number, start in enumerate(range(0, len(scenes), PART_SCENES)):
            path = directory / f"fold={fold}" / f"part-{number:05d}.parquet"
            parts[path] = scenes[start : start + PART_SCENES]
    return parts


def _write_part(
    path: Path, scenes: Sequence[Scene], features: NDArray[np.float32], schema: pa.Schema, n_classes: int
) -> int:
    seen = np.flatnonzero(np.isfinite(features).any(axis=1))
    tags = np.stack([read_tags(scene, n_classes) for scene in scenes])[seen]
    ids = [scenes[place].id for place in seen.tolist()]
    columns = [pa.array(ids, pa.string()), *map(pa.array, tags.T.copy()), *map(pa.array, features[seen].T.copy())]
    table = pa.Table.from_arrays(columns, schema=schema)
    write_parquet(path, table, compression="lz4", write_statistics=False, use_dictionary=False)
    return len(ids)


def _schema(feature_set: SceneFeatureSet, classes: Classes, experiment: str) -> pa.Schema:
    columns = [column_field("scene", pa.string(), "", "scene id")]
    columns += [column_field(_label(tag), pa.uint8(), "", f"1 where the scene has {tag}") for tag in classes.names]
    columns += map(feature_field, feature_set.describe())
    about = {"experiment": experiment, "features": feature_set.names, "formulas": feature_set.formulas}
    return pa.schema(columns, metadata={"terrablend": json.dumps(about)})


def _label(tag: str) -> str:
    return f"label {tag}"
