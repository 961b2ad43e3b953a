"""The pre-flight check: read every scene once and list every problem before any work starts."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import CatalogueError, TerrablendError
from data.progress import Track, untracked
from data.scenes.blocks import split_scene
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import IGNORE, Classes
from data.scenes.histogram import KEYS, Histogram, ValueCounts, bin_histogram
from data.scenes.opinions import SoftLabel, count_pairs, probability_image
from data.scenes.placement import place_images, place_label
from data.scenes.rasters import keep_open
from data.scenes.scene import LabelFile, Scene, read_label, read_labels, read_scene, valid_mask
from data.scenes.statistics import Moments
from data.scenes.tags import read_tags
from data.settings import SceneSettings
from data.survey.discovery import SceneFiles, mask_rules
from data.survey.soft_labels import write_soft_label
from data.survey.suspects import Declared, declared_scales, find_fill, find_kinds, find_scales
from data.survey.verification import scene_strips
from data.vectors.burn import burn_label, identity_values, write_label
from data.vectors.drawn import DrawnLabel
from data.workers import map_ordered

__all__ = ["Inspection", "build_catalogue", "inspect_scene", "read_label_statistics"]

logger = logging.getLogger(__name__)

SHOWN = 3
"""Scenes that a warning names."""

Invalid = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Inspection:
    """What was found in one scene.

    Parameters
    ----------
    name : str
        Split and id, for messages.
    problems : tuple of str
        Why the scene cannot be used; empty when it can.
    warnings : tuple of str
        What looks odd but can be used.
    scene : Scene or None
    statistics : SceneStatistics or None
        Both None where there are problems.
    value_counts : ValueCounts or None
        How often values occur in each band; None where there are problems, and once it is counted.
    declared : tuple of Declared
        What its files declare of their bands.
    elsewhere : str
        Where the shapes of its label lie if none is on it, else empty.
    """

    name: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    scene: Scene | None = None
    statistics: SceneStatistics | None = None
    value_counts: ValueCounts | None = None
    declared: tuple[Declared, ...] = ()
    elsewhere: str = ""


def build_catalogue(
    files: Sequence[SceneFiles],
    problems: Sequence[str],
    settings: SceneSettings,
    classes: Classes,
    executor: Executor | None = None,
    track: Track = untracked,
    *,
    labels: Path | None = None,
    slow_pixels: int = 2**21,
) -> tuple[Catalogue, list[str]]:
    """Read every scene once and make the catalogue of them, without groups and folds yet.

    Parameters
    ----------
    files : sequence of SceneFiles
    problems : sequence of str
        What was found before, to be listed with what is found now.
    settings : SceneSettings
    classes : Classes
    executor : Executor, optional
        Where scenes are read; in this process by default.
    track : Track
    labels : Path, optional
        Folder that labels are written to which are drawn as shapes; needed where there are such.
    slow_pixels : int
        Size of an image from which on it matters that JPEG and PNG have no blocks: a window takes several times as long
        to read.

    Returns
    -------
    catalogue : Catalogue
    warnings : list of str

    Raises
    ------
    CatalogueError
        With a line for every problem of every scene.
    """
    work = partial(inspect_scene, classes=classes, invalid=mask_rules(settings), labels=labels)
    totals: dict[str, NDArray[np.int64]] = {}
    inspections = [
        _count_in(inspection, totals)
        for parts in track(map_ordered(work, files, executor), "scenes read", len(files))
        for inspection in parts
    ]
    found = [*problems, *(problem for inspection in inspections for problem in inspection.problems)]
    scenes = [inspection.scene for inspection in inspections if inspection.scene is not None]
    bands = scenes[0].bands if scenes else ()
    found += [
        f"{scene.split} scene {scene.id}: expected the bands {', '.join(bands)}, it has {', '.join(scene.bands)}."
        for scene in scenes
        if scene.bands != bands
    ]
    lacking: list[str] = []
    if not found:
        found, lacking = _check_labels(inspections, classes)
    if found:
        raise CatalogueError(
            f"{len(found)} problems; {len(files)} scenes have all of their files:\n"
            + "\n".join(f"  - {line}" for line in found)
        )
    statistics = {(i.scene.split, i.scene.id): i.statistics for i in inspections if i.scene and i.statistics}
    warnings = _join_alike(warning for inspection in inspections for warning in inspection.warnings)
    warnings += lacking
    warnings += _find_copies(inspections)
    warnings += find_scales([each for inspection in inspections for each in inspection.declared])
    if totals:
        ends = _ends(statistics.values())
        warnings += find_fill(bands, totals, ends)
        warnings += find_kinds(bands, totals, ends, [*settings.invalid])
    warnings += _find_slow(scenes, slow_pixels)
    plural = "" if len(warnings) == 1 else "s"
    logger.info("%d scenes read, %d warning%s", len(scenes), len(warnings), plural)
    return Catalogue(classes, bands, tuple(scenes), statistics, _histograms(bands, totals)), warnings


def _count_in(inspection: Inspection, totals: dict[str, NDArray[np.int64]]) -> Inspection:
    """Add a scene's value counts to those of its split, so that not all need be held at once."""
    scene, value_counts = inspection.scene, inspection.value_counts
    if scene is not None and value_counts is not None:
        total = totals.setdefault(scene.split, np.zeros((len(scene.bands), KEYS), np.int64))
        # Scenes of other bands are a problem that ends in an error.
        if len(total) == len(scene.bands):
            value_counts.add_to(total)
    return replace(inspection, value_counts=None)


def _ends(statistics: Iterable[SceneStatistics]) -> NDArray[np.float64]:
    """Return the least and the greatest value (C, 2) of each band."""
    found = np.array([[(band["minimum"], band["maximum"]) for band in scene.bands] for scene in statistics])
    return np.column_stack([found[..., 0].min(axis=0), found[..., 1].max(axis=0)])


def _histograms(bands: Sequence[str], totals: dict[str, NDArray[np.int64]]) -> tuple[Histogram, ...]:
    found = (
        bin_histogram(band, {split: total[position] for split, total in totals.items()})
        for position, band in enumerate(bands)
    )
    return tuple(histogram for histogram in found if histogram is not None)


def inspect_scene(
    files: SceneFiles, classes: Classes, invalid: Invalid, labels: Path | None = None
) -> tuple[Inspection, ...]:
    """Read one scene from end to end and list what is wrong with it; return what was found in it, or in each block."""
    # Files without blocks, such as JPEGs, are then decoded once.
    with keep_open():
        return _inspect(files, classes, invalid, labels)


def _inspect(files: SceneFiles, classes: Classes, invalid: Invalid, labels: Path | None) -> tuple[Inspection, ...]:
    name = f"{files.split} scene {files.id}"
    try:
        scene, problems, warnings, elsewhere = _place(files, classes, invalid, labels)
        absent = [band for band, _ in invalid if band not in scene.bands]
        if absent:
            problems.append(
                f"{name}: expected the mask band {', '.join(absent)}, the scene has {', '.join(scene.bands)}."
            )
        if problems:
            return (Inspection(name, tuple(problems)),)
        declared = tuple(declared_scales(files.id, scene.images))
        parts = [scene] if files.blocks is None else [*split_scene(scene, files.blocks)]
        several = isinstance(files.label, SoftLabel) and not files.label.certain
        found = [_read_statistics(part, classes, several) for part in parts]
    except TerrablendError as error:
        return (Inspection(name, (str(error),)),)
    if not any(statistics.valid_pixels for statistics, _ in found):
        warnings.append(f"{name}: no valid pixel; nothing can be learned or predicted from it.")
    inspections = [
        Inspection(f"{files.split} scene {part.id}", (), (), part, statistics, counts)
        for part, (statistics, counts) in zip(parts, found, strict=True)
    ]
    first = replace(inspections[0], warnings=tuple(warnings), declared=declared, elsewhere=elsewhere)
    return first, *inspections[1:]


def _place(
    files: SceneFiles, classes: Classes, invalid: Invalid, labels: Path | None
) -> tuple[Scene, list[str], list[str], str]:
    """Return a scene on its grid, what is wrong with its label, what looks odd, and where shapes lie that miss it."""
    label, framing, own = files.label, files.framing, range(len(files.images))
    # Probabilities lie and are read like an image that gives no grid.
    proba = [probability_image(label, classes)] if isinstance(label, SoftLabel) and label.certain else []
    framing = replace(framing, places=framing.places or tuple(own)) if proba else framing
    images, grid, warnings = place_images([*files.images, *proba], framing)
    images, placed = images[: len(own)], images[len(own) :]
    warnings = [*files.warnings, *warnings]
    scene = Scene(files.id, files.split, images, grid, None, invalid, tags=files.tags)
    if label is None:
        return scene, [], warnings, ""
    path = None if labels is None else labels / files.split / f"{files.id}.tif"
    if isinstance(label, SoftLabel):
        assert path is not None
        made, said = write_soft_label(scene, label, placed, files.framing.heights, classes, path)
        return replace(scene, label=made), [], [*warnings, *said], ""
    if isinstance(label, DrawnLabel):
        assert path is not None
        burnt = burn_label(label, grid, classes, path, lambda window: valid_mask(scene, read_scene(scene, window)))
        found = [burnt.problem] if burnt.problem else []
        return replace(scene, label=burnt.label), found, [*warnings, *burnt.warnings], burnt.elsewhere
    file, odd = place_label(label, grid, images, files.framing.heights)
    scene = replace(scene, label=file)
    if files.blocks is not None and path is not None:
        # A copy of our own, of which parts can be left out.
        write_label(path, grid, ((window, read_label(scene, window)) for window in scene_strips(scene)))
        scene = replace(scene, label=LabelFile(str(path), identity_values(classes)))
    return scene, [], [*warnings, *filter(None, [odd])], ""


def _read_statistics(scene: Scene, classes: Classes, several: bool) -> tuple[SceneStatistics, ValueCounts]:
    moments, value_counts = Moments.empty(len(scene.bands)), ValueCounts.empty(len(scene.bands))
    counts = np.zeros(len(classes.label_names), np.int64)
    pairs = np.zeros((len(counts), len(counts)), np.int64)
    valid, digest, label_digest = 0, hashlib.sha256(), hashlib.sha256()
    for window in scene_strips(scene):
        pixels = read_scene(scene, window)
        moments, value_counts = moments.merge(Moments.of(pixels)), value_counts.merge(ValueCounts.of(pixels))
        valid += int(valid_mask(scene, pixels).sum())
        digest.update(pixels.tobytes())
        if scene.label is not None:
            label = read_label(scene, window)
            label_digest.update(label.tobytes())
            counts += np.bincount(label[label != IGNORE], minlength=len(counts))
            if several:
                pairs += count_pairs(read_labels(scene, window)[1:], len(counts))
    bands = tuple(
        {
            "band": band,
            "count": int(moments.count[c]),
            "mean": float(moments.mean[c]),
            "deviation": float(moments.deviation[c]),
            "minimum": float(moments.minimum[c]),
            "maximum": float(moments.maximum[c]),
        }
        for c, band in enumerate(scene.bands)
    )
    if scene.tags is not None:
        counts += read_tags(scene, len(counts))
    label_counts = tuple(counts.tolist()) if scene.label is not None or scene.tags is not None else ()
    labelled = label_digest.hexdigest() if scene.label is not None else ""
    agreed = tuple(pairs.ravel().tolist()) if several else ()
    return SceneStatistics(valid, label_counts, bands, digest.hexdigest(), labelled, agreed), value_counts


def read_label_statistics(scene: Scene, known: SceneStatistics, classes: Classes) -> SceneStatistics:
    """Return the statistics of a scene whose label has become another."""
    counts, digest = np.zeros(len(classes.label_names), np.int64), hashlib.sha256()
    for window in scene_strips(scene):
        label = read_label(scene, window)
        digest.update(label.tobytes())
        counts += np.bincount(label[label != IGNORE], minlength=len(counts))
    return replace(known, label_counts=tuple(counts.tolist()), label_digest=digest.hexdigest())


def _check_labels(inspections: Sequence[Inspection], classes: Classes) -> tuple[list[str], list[str]]:
    """Return why nothing can be learned from the training labels as a whole, and which classes they lack."""
    counts = [
        inspection.statistics.label_counts
        for inspection in inspections
        if inspection.scene and inspection.statistics and inspection.scene.split == "train"
    ]
    if not counts:
        return ["train: expected at least one scene to learn from, got none. Correct root or scenes.train."], []
    elsewhere = dict.fromkeys(inspection.elsewhere for inspection in inspections if inspection.elsewhere)
    if elsewhere and not np.any(counts):
        return [*elsewhere][:SHOWN], []
    tags = classes.task == "multilabel"
    totals = np.sum(counts, axis=0).tolist()
    lacking = [name for name, total in zip(classes.label_names, totals, strict=True) if total == 0]
    if not lacking:
        return [], []
    names, scenes = ", ".join(lacking), len(counts)
    if tags:
        text, correct = f"scenes with the tag {names}", "its name under classes"
    else:
        text, correct = f"pixels of the class {names}", "the ids under classes or label.values"
    text = f"train: expected {text}, got none in {scenes} scenes. "
    # A tag is told from its absence, a class from other classes.
    if len(totals) - len(lacking) < (1 if tags else 2):
        return [f"{text}Correct {correct}, or leave it out."], []
    return [], [f"{text}Nothing is learned of it. That may be in a sample; else correct {correct}, or leave it out."]


def _join_alike(warnings: Iterable[str]) -> list[str]:
    """Say once what is said of many files alike."""
    about: dict[str, list[str]] = defaultdict(list)
    for warning in warnings:
        name, _, text = warning.partition(": ")
        about[text].append(name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}" for text, names in about.items()
    ]


def _find_copies(inspections: Sequence[Inspection]) -> list[str]:
    copies = defaultdict(list)
    for inspection in inspections:
        if inspection.statistics and inspection.statistics.valid_pixels:
            copies[inspection.statistics.digest].append(inspection.name)
    return [
        f"{_first(names)}: the same pixels. Keep one of them, or group them with folds.group."
        for names in copies.values()
        if len(names) > 1
    ]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _find_slow(scenes: Sequence[Scene], slow_pixels: int) -> list[str]:
    large = [scene for scene in scenes if scene.grid.height * scene.grid.width > slow_pixels]
    paths = [image.path for scene in large for image in scene.images]
    paths += [scene.label.path for scene in large if scene.label is not None]
    slow = [path for path in paths if Path(path).suffix.lower() in (".jpg", ".jpeg", ".png")]
    if not slow:
        return []
    return [
        f"{len(slow)} files are large JPEGs or PNGs ({slow[0]} …): each window of them is decoded "
        "from the top. To train faster, convert images and labels once: "
        "gdal_translate -co TILED=YES -co COMPRESS=DEFLATE picture.jpg picture.tif"
    ]
