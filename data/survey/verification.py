"""Compare scenes with what the check read of them: a changed pixel is found though size and time are as they were."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Executor

from data.errors import CatalogueError, TerrablendError
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, read_label, read_scene
from data.scenes.windows import Window
from data.workers import map_ordered

__all__ = ["scene_strips", "verify_scenes"]

STRIP_PIXELS, STRIP_VALUES = 2**22, 2**25
"""Most pixels, and values of all bands, held at a time while a scene is read from end to end."""


def verify_scenes(catalogue: Catalogue, executor: Executor | None = None, track: Track = untracked) -> None:
    """Read every scene again; refuse those whose pixels or labels are not those of the catalogue.

    Parameters
    ----------
    catalogue : Catalogue
        Scenes without digests, such as rows of a table, are left out.
    executor : Executor, optional
        Where scenes are read; in this process by default.
    track : Track

    Raises
    ------
    CatalogueError
        With a line for every scene that has changed.
    """
    pairs = [(scene, catalogue.statistics[scene.split, scene.id]) for scene in catalogue.scenes]
    known = [(scene, statistics) for scene, statistics in pairs if statistics.digest]
    checked = track(map_ordered(_find_change, known, executor), "scenes verified", len(known))
    changes = [change for change in checked if change]
    if changes:
        raise CatalogueError(
            f"{len(changes)} of {len(known)} scenes are not as the check read them:\n"
            + "\n".join(f"  - {line}" for line in changes)
            + "\nBring the files back, or take them as they are: `terrablend check --overwrite`."
        )


def scene_strips(scene: Scene) -> Iterator[Window]:
    """Yield the windows in which a scene is read from end to end."""
    height, width = scene.grid.height, scene.grid.width
    rows = max(1, min(STRIP_PIXELS, STRIP_VALUES // max(len(scene.bands), 1)) // width)
    for row in range(0, height, rows):
        yield Window(row, 0, min(rows, height - row), width)


def _find_change(known: tuple[Scene, SceneStatistics]) -> str | None:
    scene, statistics = known
    pixels, labels = hashlib.sha256(), hashlib.sha256()
    try:
        with keep_open():
            for window in scene_strips(scene):
                pixels.update(read_scene(scene, window).tobytes())
                if statistics.label_digest:
                    labels.update(read_label(scene, window).tobytes())
    except TerrablendError as error:
        return str(error)
    name = f"{scene.split} scene {scene.id}"
    if pixels.hexdigest() != statistics.digest:
        return f"{name}: expected the pixels of the check, got others in {scene.images[0].path}"
    if statistics.label_digest and labels.hexdigest() != statistics.label_digest:
        return f"{name}: expected the labels of the check, got others in {scene.label and scene.label.path}"
    return None
