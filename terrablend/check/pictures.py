"""Choose the scenes that the page of `terrablend check` shows, and draw small pictures of them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np

from data.pages.pictures import flat, photograph
from data.pages.quicklook import label_palette, quicklook, stretch
from data.progress import Track
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, read_label, read_scene
from data.scenes.windows import Grid, Window, tile_windows
from data.survey.overview import Overview
from data.workers import map_ordered

__all__ = ["Album", "Shot", "draw_album"]

SIDE = 176
"""Pixels on a side of a picture."""

CROP = 512
"""Side in pixels of the part that is shown of a larger scene: the one with most of a class."""

LARGEST = 2048
"""Side in pixels beyond which only the middle of a scene is shown."""

EXAMPLES, MOST_EXAMPLES = 3, 45
"""Examples of each class, and of all classes together."""

GROUPS, SHEET = 6, 6
"""Groups that are shown, and scenes of each."""

OUTLIERS = 12
BLANK = 6


@dataclass(frozen=True)
class Shot:
    """A picture of a scene.

    Parameters
    ----------
    scene : Scene
    photo : str
        Data URI.
    overlay : str
        Data URI of its label in the classes' colours, else empty; the background of a binary task is transparent.
    band : str
        Data URI of the band by which the scene is an outlier, else empty.
    part : bool
        Whether it shows a part of the scene.
    """

    scene: Scene
    photo: str
    overlay: str
    band: str
    part: bool


@dataclass(frozen=True)
class Job:
    """A picture to draw: of a scene, of the part with most of a label, or of a scene and one band of it."""

    scene: Scene
    label: int | None = None
    band: str | None = None


@dataclass(frozen=True)
class Album:
    """The pictures of a page.

    Parameters
    ----------
    examples : tuple of tuple of Shot
        Of each label index.
    groups : tuple of tuple of Shot
        Of the largest groups of scenes.
    outliers : tuple of Shot
        Of the first outliers.
    blank : tuple of Shot
        Of scenes without positives.
    """

    examples: tuple[tuple[Shot, ...], ...]
    groups: tuple[tuple[Shot, ...], ...]
    outliers: tuple[Shot, ...]
    blank: tuple[Shot, ...]


def draw_album(catalogue: Catalogue, overview: Overview, executor: Executor | None, track: Track) -> Album:
    """Draw the pictures of the page, up to a number that does not depend on the number of scenes."""
    wanted = [
        *([Job(scene, label) for scene in scenes] for label, scenes in enumerate(_examples(catalogue))),
        *([Job(scene) for scene in _one_each(group)[:SHEET]] for group in overview.groups[:GROUPS]),
        [Job(outlier.scene, band=outlier.measure.band) for outlier in overview.outliers[:OUTLIERS]],
        [Job(scene) for scene in _blank(catalogue, overview)],
    ]
    # The rows of a table are a catalogue of scenes without images.
    wanted = [[job for job in row if job.scene.images] for row in wanted]
    jobs = [job for row in wanted for job in row]
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, job in enumerate(jobs):
        places[job.scene.split, job.scene.id].append(place)
    # Together, so that what the pictures of one scene share is read once.
    together = [[jobs[place] for place in found] for found in places.values()]
    work = partial(_shoot, classes=catalogue.classes)
    drawn = list(track(map_ordered(work, together, executor), "scenes drawn", len(together)))
    order = np.argsort([place for found in places.values() for place in found])
    taken = [shot for shots in drawn for shot in shots]
    shots = (taken[place] for place in order)
    rows = [tuple(next(shots) for _ in row) for row in wanted]
    n_labels = len(catalogue.classes.label_names)
    return Album(tuple(rows[:n_labels]), tuple(rows[n_labels:-2]), rows[-2], rows[-1])


def _examples(catalogue: Catalogue) -> Iterator[Sequence[Scene]]:
    """Yield for each label training scenes that show it: from the largest share of it down to the median."""
    classes, train = catalogue.classes, catalogue.split("train")
    counts = np.array([catalogue.label_counts(scene.id) for scene in train])
    most = max(1, min(EXAMPLES, MOST_EXAMPLES // len(classes.label_names)))
    for label, name in enumerate(classes.label_names):
        if classes.task == "binary" and name not in classes.names:
            yield []
            continue
        shares = counts[:, label] / np.maximum(counts.sum(axis=1), 1)
        showing = np.flatnonzero(counts[:, label])
        ranked = _one_each([train[place] for place in showing[np.argsort(-shares[showing], kind="stable")]])
        places = sorted({len(ranked) * step // (2 * max(most - 1, 1)) for step in range(most)}) if ranked else []
        yield [ranked[min(place, len(ranked) - 1)] for place in places]


def _blank(catalogue: Catalogue, overview: Overview) -> list[Scene]:
    ids = {name for part in overview.parts if part.name == "train" for name in part.blank[:BLANK]}
    return _one_each([scene for scene in catalogue.split("train") if scene.id in ids])


def _one_each(scenes: Sequence[Scene]) -> list[Scene]:
    """Return the first block of each whole scene, and scenes that are not in blocks."""
    first: dict[tuple[str, str], Scene] = {}
    for scene in scenes:
        first.setdefault((scene.split, scene.whole.id), scene)
    return list(first.values())


def _shoot(jobs: Sequence[Job], classes: Classes) -> list[Shot]:
    """Draw the pictures of one scene."""
    scene = jobs[0].scene
    labels = [job.label for job in jobs if job.label is not None and scene.label is not None]
    photos: dict[Window, str] = {}
    # Files without blocks, such as JPEGs, are then decoded once.
    with keep_open():
        richest = _richest_windows(scene, labels)
        return [_draw(job, richest, photos, classes) for job in jobs]


def _draw(job: Job, richest: Mapping[int, Window], photos: dict[Window, str], classes: Classes) -> Shot:
    scene, grid, overlay, band = job.scene, job.scene.grid, "", ""
    if job.label is not None and scene.label is not None:
        window = richest[job.label]
        colors = np.column_stack([label_palette(classes), np.full(256, 255, np.uint8)])
        if classes.task == "binary":
            colors[0] = 0
        overlay = flat(colors[read_label(scene, window)], SIDE)
    else:
        window = _middle(grid) if max(grid.height, grid.width) > LARGEST else grid.window
    if job.band is not None:
        plane = read_scene(scene, window, bands=[job.band])
        band = photograph(stretch(np.repeat(plane, 3, axis=0)), SIDE)
    if window not in photos:
        photos[window] = photograph(quicklook(scene, window), SIDE)
    return Shot(scene, photos[window], overlay, band, window != grid.window)


def _middle(grid: Grid) -> Window:
    return Window(grid.height // 2 - CROP, grid.width // 2 - CROP, 2 * CROP, 2 * CROP).meet(grid.window)


def _richest_windows(scene: Scene, labels: Sequence[int]) -> dict[int, Window]:
    """Return by label the whole scene, or the part of a larger one with most pixels of the label."""
    grid = scene.grid
    if not labels or max(grid.height, grid.width) <= CROP:
        return dict.fromkeys(labels, grid.window)
    windows = list(tile_windows(grid.height, grid.width, CROP))
    counts = np.stack([np.bincount(read_label(scene, window).ravel(), minlength=256) for window in windows])
    return {label: windows[counts[:, label].argmax()] for label in labels}
