"""Check another tool's maps: every problem is listed before any work starts."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import polars as pl

from data.errors import MapError, MemberError
from data.names import list_names, listed_name
from data.progress import Track, untracked
from data.records import write_record
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene
from data.tables import read_table
from data.workers import map_ordered
from maps.member import MapsMember, MemberRecord
from maps.settings import FoldFile, MapsSettings
from maps.source import check_map
from maps.tags import row_of

__all__ = ["fit_member"]

logger = logging.getLogger(__name__)

SHOWN = 50
"""Problems that are listed one by one."""


def fit_member(
    name: str,
    settings: MapsSettings,
    catalogue: Catalogue,
    root: Path,
    directory: Path,
    executor: Executor | None = None,
    track: Track = untracked,
) -> None:
    """Check the maps of every scene, and write down where they lie.

    Parameters
    ----------
    name : str
    settings : MapsSettings
    catalogue : Catalogue
        With folds.
    root : Path
        Folder that patterns start from.
    directory : Path
        Gets ``member.json``.
    executor : Executor, optional
        Where maps are read in parallel.
    track : Track

    Raises
    ------
    MemberError
        If a map is missing or wrong, or a fold of the other tool's own splits a group; all of it is listed.
    """
    member = MapsMember(name, settings, catalogue.folds, catalogue.classes, root)
    problems = list(_fold_problems(settings, catalogue, root))
    scenes = [scene for scene in catalogue.scenes if settings.decides or scene.split != "train"]
    of_tags = catalogue.classes.task == "multilabel"
    problems += _tag_problems(member, scenes) if of_tags else _map_problems(member, catalogue, scenes, executor, track)
    if problems:
        listed = [f"  - {line}" for line in problems[:SHOWN]]
        listed += [f"  … and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise MemberError(f"member {name}: {len(problems)} problems of its maps:\n" + "\n".join(listed))
    if settings.insample:
        logger.warning(
            "member %s: its maps of training scenes are in-sample, so nothing is decided on it: it has no weight in "
            "the blend. Its maps of val and test scenes are taken over, to be looked at.",
            name,
        )
    record = MemberRecord(name, "maps", catalogue.folds, catalogue.classes)
    write_record(directory / "member.json", record)


def _map_problems(
    member: MapsMember, catalogue: Catalogue, scenes: Sequence[Scene], executor: Executor | None, track: Track
) -> list[str]:
    classes = catalogue.classes
    tasks, problems = [], []
    for scene in scenes:
        try:
            files = member.files(scene, member.folds if scene.fold is None else (scene.fold,))
        except MemberError as error:
            problems.append(str(error))
            continue
        tasks += [(scene, path) for path in files]
    check = partial(_check, member.settings, classes.names, classes.task == "multiclass")
    short: list[tuple[float, Path]] = []
    checked = map_ordered(check, tasks, executor)
    for (scene, path), (found, pixels) in track(
        zip(tasks, checked, strict=True), f"{member.name}: checked", len(tasks)
    ):
        problems += found
        statistics = catalogue.statistics.get((scene.split, scene.id))
        if not found and statistics is not None and pixels < statistics.valid_pixels:
            short.append((1 - pixels / statistics.valid_pixels, path))
    if short and not problems:
        most, path = max(short)
        logger.warning(
            "member %s: %d of %d maps have no probability in some valid pixels of their scenes, most in %s, %.1f %%. "
            "Nothing is predicted there, which counts as a miss.",
            member.name,
            len(short),
            len(tasks),
            path,
            100 * most,
        )
    return list(dict.fromkeys(problems))


def _check(
    settings: MapsSettings, classes: Sequence[str], exclusive: bool, task: tuple[Scene, Path]
) -> tuple[list[str], int]:
    scene, path = task
    return check_map(path, settings, classes, exclusive, scene.grid)


def _tag_problems(member: MapsMember, scenes: Sequence[Scene]) -> list[str]:
    problems = []
    for scene in scenes:
        try:
            files = member.files(scene, member.folds if scene.fold is None else (scene.fold,))
            lacking = [path for path in files if row_of(scene, member.table(path)) is None]
        except (MapError, MemberError) as error:
            problems.append(str(error))
            continue
        what = f"{scene.split} scene {scene.id}"
        problems += [f"{path}: expected a row of {what}, got none. Add it." for path in lacking]
    return list(dict.fromkeys(problems))


def _fold_problems(settings: MapsSettings, catalogue: Catalogue, root: Path) -> Iterator[str]:
    """Yield where a model of the other tool learned from a scene's group and mapped the scene all the same."""
    if not isinstance(settings.fold, FoldFile):
        return
    path = root / settings.fold.file
    try:
        listed = _read_folds(path, settings.fold)
    except MapError as error:
        yield str(error)
        return
    groups: dict[str, dict[str, str]] = {}
    for scene in catalogue.split("train"):
        name = listed_name(scene.id, [image.path for image in scene.images], listed)
        if name is None:
            yield f"{path}: expected the fold that held scene {scene.id} out, got no row of it. Add it."
        else:
            groups.setdefault(scene.group, {}).setdefault(listed[name], scene.id)
    for group, held_out in groups.items():
        if len(held_out) > 1:
            scenes = " and ".join(f"{scene} in {fold}" for fold, scene in list(held_out.items())[:2])
            yield (
                f"{path}: expected the scenes of group {group} in one fold, got {scenes}: the model that mapped one "
                "learned from the other. Make the other tool's folds of whole groups, see the column group of "
                "catalogue.parquet."
            )


def _read_folds(path: Path, settings: FoldFile) -> Mapping[str, str]:
    table = read_table(path, MapError, "Correct its path.")
    lacking = [name for name in (settings.id, settings.column) if name not in table.columns]
    if lacking:
        raise MapError(
            f"{path}: expected a column {lacking[0]}, got {list_names(table.columns)}. "
            f"Name it: fold: {{file: {settings.file}, id: …, column: …}}."
        )
    pairs = table.select(pl.col(settings.id, settings.column).cast(pl.String)).rows()
    listed: dict[str, str] = {}
    for key, fold in pairs:
        if fold is None or listed.setdefault(key, fold) != fold:
            raise MapError(f"{path}: expected one fold for scene {key}, got {fold or 'none'}. Correct the file.")
    return listed
