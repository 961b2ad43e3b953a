"""The catalogue: every scene of an experiment with its files, grid, group, fold and statistics."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from data.errors import CatalogueError, SceneError
from data.records import FileKind, read_parquet, write_parquet
from data.scenes.classes import Classes
from data.scenes.control import Control
from data.scenes.decoding import Decoding
from data.scenes.histogram import Histogram
from data.scenes.image import ImageFile
from data.scenes.scene import Block, LabelFile, Scene, Split
from data.scenes.windows import Grid, Window

__all__ = ["LABELS", "Catalogue", "SceneStatistics"]

LABELS = "labels"
"""Folder beside a catalogue of labels that are ours, on the grids of their scenes: it moves with the catalogue."""

GRID = pa.struct(
    [("height", pa.int32()), ("width", pa.int32()), ("crs", pa.string()), ("transform", pa.list_(pa.float64()))]
)
CONTROL = pa.struct([("path", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("heights", pa.string())])
IMAGE = pa.struct(
    [
        ("path", pa.string()),
        ("bands", pa.list_(pa.string())),
        ("nodata", pa.list_(pa.float64())),
        ("scale", pa.list_(pa.list_(pa.float64()))),
        ("grid", GRID),
        ("resampling", pa.string()),
        ("order", pa.list_(pa.int32())),
        ("decoding", pa.struct([("kind", pa.string()), ("path", pa.string())])),
        ("control", CONTROL),
        ("masked", pa.bool_()),
    ]
)
MEANING = pa.struct([("value", pa.int32()), ("label", pa.uint8())])
MASK = pa.struct([("band", pa.string()), ("values", pa.list_(pa.int64()))])
BAND = pa.struct(
    [
        ("band", pa.string()),
        ("count", pa.int64()),
        ("mean", pa.float64()),
        ("deviation", pa.float64()),
        ("minimum", pa.float64()),
        ("maximum", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("id", pa.string()),
        ("group", pa.string()),
        ("fold", pa.int16()),
        *GRID,
        ("images", pa.list_(IMAGE)),
        ("label", pa.string()),
        ("label_values", pa.list_(MEANING)),
        ("label_colors", pa.bool_()),
        ("label_nearest", pa.bool_()),
        ("label_grid", GRID),
        ("label_control", CONTROL),
        ("label_opinions", pa.int32()),
        ("whole", pa.string()),
        ("whole_grid", GRID),
        ("window", pa.list_(pa.int32())),
        ("tags", pa.list_(pa.uint8())),
        ("invalid", pa.list_(MASK)),
        ("valid_pixels", pa.int64()),
        ("label_counts", pa.list_(pa.int64())),
        ("bands", pa.list_(BAND)),
        ("digest", pa.string()),
        ("label_digest", pa.string()),
        ("pairs", pa.list_(pa.int64())),
    ]
)

CATALOGUE = FileKind("a catalogue", CatalogueError, "terrablend check")


@dataclass(frozen=True)
class SceneStatistics:
    """What one pass over a scene's pixels found.

    Parameters
    ----------
    valid_pixels : int
        Pixels with any band finite.
    label_counts : tuple of int
        Pixels of each label index; when the task is multilabel 1 for each tag that the scene has, 0 for the others;
        empty without a label.
    bands : tuple of dict
        ``band``, ``count``, ``mean``, ``deviation``, ``minimum`` and ``maximum`` of each band's finite pixels.
    digest, label_digest : str
        SHA-256 of the pixels, and of the label indices: equal for scenes that are the same. Empty if unknown, or
        without a label.
    pairs : tuple of int
        Of each two labels, row by row, how often two annotators gave them to a pixel, each of the two named first
        once; empty without several.
    """

    valid_pixels: int
    label_counts: tuple[int, ...] = ()
    bands: tuple[dict[str, Any], ...] = ()
    digest: str = ""
    label_digest: str = ""
    pairs: tuple[int, ...] = ()


@dataclass(frozen=True)
class About:
    """What a catalogue's file says of all of its scenes."""

    classes: Classes
    bands: tuple[str, ...]
    histograms: tuple[Histogram, ...]


ABOUT = TypeAdapter(About)


@dataclass(frozen=True)
class Catalogue:
    """All scenes of an experiment.

    Parameters
    ----------
    classes : Classes
    bands : tuple of str
        The bands that every scene has.
    scenes : tuple of Scene
        Sorted by split (train, val, test) and id.
    statistics : dict
        (split, scene id) → SceneStatistics.
    histograms : tuple of Histogram
        Of each band that has a finite pixel.
    """

    classes: Classes
    bands: tuple[str, ...]
    scenes: tuple[Scene, ...]
    statistics: dict[tuple[Split, str], SceneStatistics] = field(default_factory=dict)
    histograms: tuple[Histogram, ...] = ()

    def split(self, name: Split) -> tuple[Scene, ...]:
        """Return the scenes of one split."""
        return tuple(scene for scene in self.scenes if scene.split == name)

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds of the training scenes, 0 … n-1."""
        return tuple(sorted({scene.fold for scene in self.scenes if scene.fold is not None}))

    @property
    def labelled(self) -> tuple[Scene, ...]:
        """The training scenes that can teach and score: those with a labelled pixel or, of tags, all."""
        tags = self.classes.task == "multilabel"
        return tuple(scene for scene in self.split("train") if tags or self.label_counts(scene.id).any())

    @property
    def decoded(self) -> tuple[str, ...]:
        """The bands that are decoded to an embedding, in any scene."""
        images = {image.bands for scene in self.scenes for image in scene.images if image.decoding is not None}
        return tuple(band for band in self.bands if any(band in bands for bands in images))

    def in_fold(self, fold: int) -> tuple[Scene, ...]:
        """Return the training scenes that a fold holds out."""
        return tuple(scene for scene in self.split("train") if scene.fold == fold)

    def outside_fold(self, fold: int) -> tuple[Scene, ...]:
        """Return the training scenes that the model of a fold learns from."""
        return tuple(scene for scene in self.split("train") if scene.fold != fold)

    def label_counts(self, scene_id: str) -> NDArray[np.int64]:
        """Return the pixels of each label index (n_labels,) of a training scene, or which tags it has, 0 or 1."""
        return np.array(self.statistics["train", scene_id].label_counts, np.int64)

    def save(self, path: Path) -> None:
        """Write the catalogue as parquet, one row a scene; labels in `LABELS` beside it are named from there."""
        folder = path.parent.absolute()
        scenes = [(scene, self.statistics.get((scene.split, scene.id))) for scene in self.scenes]
        rows = [_to_row(scene, found) | {"label": _stored_path(scene.label, folder)} for scene, found in scenes]
        about = ABOUT.dump_json(About(self.classes, self.bands, self.histograms))
        write_parquet(path, pa.Table.from_pylist(rows, SCHEMA.with_metadata({"terrablend": about})))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a catalogue that `save` wrote.

        Raises
        ------
        CatalogueError
            If there is none, it is damaged, or not one of this version.
        """
        table = read_parquet(path, CATALOGUE)
        try:
            about = ABOUT.validate_json((table.schema.metadata or {}).get(b"terrablend", b""))
        except ValidationError as error:
            raise CATALOGUE.damaged(path, "it is of another version") from error
        if not table.schema.equals(SCHEMA):
            raise CATALOGUE.damaged(path, "its columns are those of another version")
        try:
            pairs = [_from_row(row, path.parent) for row in table.to_pylist()]
        except SceneError as error:
            raise CATALOGUE.damaged(path, error) from error
        statistics = {(scene.split, scene.id): found for scene, found in pairs if found is not None}
        return cls(about.classes, about.bands, tuple(scene for scene, _ in pairs), statistics, about.histograms)

    def with_folds(self, groups: dict[tuple[Split, str], str], folds: dict[str, int]) -> "Catalogue":
        """Return the catalogue with a group for each (split, id) given, and a fold for each training scene."""
        scenes = tuple(
            replace(
                scene,
                group=groups.get((scene.split, scene.id), scene.group),
                fold=folds[scene.id] if scene.split == "train" else None,
            )
            for scene in self.scenes
        )
        return replace(self, scenes=scenes)


def _stored_path(label: LabelFile | None, folder: Path) -> str | None:
    if label is None:
        return None
    path = Path(label.path).absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder / LABELS) else label.path


def _to_row(scene: Scene, found: SceneStatistics | None) -> dict[str, Any]:
    label = scene.label
    return {
        "split": scene.split,
        "id": scene.id,
        "group": scene.group,
        "fold": scene.fold,
        **asdict(scene.grid),
        "images": [asdict(image) for image in scene.images],
        "label_values": label and [{"value": value, "label": index} for value, index in label.values],
        "label_colors": label and label.colors,
        "label_nearest": label and label.nearest,
        "whole": scene.block and scene.block.whole,
        "whole_grid": scene.block and asdict(scene.block.grid),
        "window": scene.block and list(asdict(scene.block.window).values()),
        "label_grid": label and label.grid and asdict(label.grid),
        "label_control": label and label.control and asdict(label.control),
        "label_opinions": label and label.opinions,
        "tags": scene.tags,
        "invalid": [{"band": band, "values": values} for band, values in scene.invalid],
        "valid_pixels": found and found.valid_pixels,
        "label_counts": found and found.label_counts,
        "bands": found and list(found.bands),
        "digest": found and found.digest,
        "label_digest": found and found.label_digest,
        "pairs": found and found.pairs,
    }


def _from_row(row: dict[str, Any], folder: Path) -> tuple[Scene, SceneStatistics | None]:
    images = tuple(
        ImageFile(
            image["path"],
            tuple(image["bands"]),
            tuple(image["nodata"]),
            image["scale"] and tuple((factor, offset) for factor, offset in image["scale"]),
            image["grid"] and _to_grid(image["grid"]),
            image["resampling"],
            tuple(image["order"]),
            image["decoding"] and Decoding(**image["decoding"]),
            image["control"] and Control(**image["control"]),
            image["masked"],
        )
        for image in row["images"]
    )
    label = None
    if row["label"] is not None:
        values = tuple((meaning["value"], meaning["label"]) for meaning in row["label_values"])
        path = str(folder / row["label"]) if row["label"].startswith(f"{LABELS}/") else row["label"]
        grid, control = row["label_grid"], row["label_control"]
        label = LabelFile(path, values, row["label_colors"], row["label_nearest"])
        label = replace(label, grid=grid and _to_grid(grid), control=control and Control(**control))
        label = replace(label, opinions=row["label_opinions"])
    invalid = tuple((mask["band"], tuple(mask["values"])) for mask in row["invalid"])
    tags = None if row["tags"] is None else tuple(row["tags"])
    scene = Scene(row["id"], row["split"], images, _to_grid(row), label, invalid, row["group"], row["fold"], tags)
    if row["whole"] is not None:
        scene = replace(scene, block=Block(row["whole"], _to_grid(row["whole_grid"]), Window(*row["window"])))
    if row["valid_pixels"] is None:
        return scene, None
    counts, bands, pairs = (tuple(row[key]) for key in ("label_counts", "bands", "pairs"))
    return scene, SceneStatistics(row["valid_pixels"], counts, bands, row["digest"], row["label_digest"], pairs)


def _to_grid(row: dict[str, Any]) -> Grid:
    transform = row["transform"]
    return Grid(row["height"], row["width"], row["crs"], None if transform is None else tuple(transform))
