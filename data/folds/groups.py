"""Group the scenes that must stay in one fold, because a model that saw one of them has seen the others."""

import csv
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from data.addresses import copied_here
from data.errors import FoldError
from data.folds.similarity import Thumbnails, read_thumbnails, similar_pairs
from data.names import list_names, listed_name
from data.scenes.footprints import has_footprint, overlapping_pairs
from data.scenes.scene import Scene
from data.settings import GroupSettings
from data.tables import read_texts

__all__ = ["connected_components", "group_scenes", "linking_rules"]

logger = logging.getLogger(__name__)

IDS = ("id", "scene", "scene_id", "tile_id")
"""Names of a column of scene ids, small letters for all."""


def group_scenes(
    scenes: Sequence[Scene],
    settings: GroupSettings,
    root: Path,
    thumbnails: Thumbnails | None = None,
    together: Sequence[tuple[str, str]] = (),
) -> dict[str, str]:
    """Group scenes by every rule that is set; groups that have a scene in common are one.

    Parameters
    ----------
    scenes : sequence of Scene
        Of one split. All training scenes must be covered by ``pattern`` and ``file``, and be georeferenced for
        ``overlap``; scenes of other splits are never divided and may be left out.
    settings : GroupSettings
        Without any rule each scene is its own group.
    root : Path
        Folder that a relative ``file`` starts from.
    thumbnails : Thumbnails, optional
        Of these scenes on the band ``similar``; made here if they are not given.
    together : sequence of (id, id)
        Scenes that show a shape together.

    Returns
    -------
    groups : dict
        Scene id → name of its group: the pattern's or the file's name where no other rule joined groups, else
        the smallest scene id of the group. Independent of the order of the scenes.

    Raises
    ------
    FoldError
        If training scenes are not covered by a rule, or the file cannot be read.
    SceneError
        If a scene lacks the band ``similar``.
    """
    # In the order of ids, so that the first of a component is the smallest.
    order = sorted(range(len(scenes)), key=lambda position: scenes[position].id)
    scenes = [scenes[position] for position in order]
    names = _given_names(scenes, settings, root)
    small = None if thumbnails is None else thumbnails.take(order)
    pairs = _linked_pairs(scenes, settings, names, small).values()
    place = {scene.id: position for position, scene in enumerate(scenes)}
    shapes = np.array([(place[one], place[other]) for one, other in together], np.int64).reshape(-1, 2)

    component = connected_components(len(scenes), np.concatenate([shapes, *pairs]))
    groups = {scene.id: scenes[first].id for scene, first in zip(scenes, component, strict=True)}
    for found in names.values():
        groups = _keep_names(groups, found)
    if scenes:
        logger.info("%d scenes in %d groups", len(scenes), len(set(groups.values())))
    return groups


def linking_rules(scenes: Sequence[Scene], settings: GroupSettings, root: Path) -> tuple[str, ...]:
    """Return which of the rules ``pattern``, ``file``, ``overlap`` and ``similar`` link any two of these scenes."""
    pairs = _linked_pairs(scenes, settings, _given_names(scenes, settings, root))
    # The first scene of a name is paired with itself.
    return tuple(rule for rule, found in pairs.items() if (found[:, 0] != found[:, 1]).any())


def connected_components(count: int, pairs: Iterable[Sequence[int]]) -> NDArray[np.int64]:
    """Return for each of ``count`` items the smallest item that it is connected to, by any chain of pairs.

    Union-find with path halving; a greedy pass over sorted items would leave apart what a later pair joins.

    >>> connected_components(5, [(3, 4), (0, 3)]).tolist()
    [0, 1, 2, 0, 0]
    """
    parent = list(range(count))

    def root_of(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in pairs:
        low, high = sorted((root_of(int(first)), root_of(int(second))))
        parent[high] = low
    return np.array([root_of(item) for item in range(count)], np.int64)


def _given_names(scenes: Sequence[Scene], settings: GroupSettings, root: Path) -> dict[str, dict[str, str]]:
    """Return the names that rules give to the groups of scenes: rule → scene id → name."""
    names: dict[str, dict[str, str]] = {}
    if settings.pattern is not None:
        names["pattern"] = _match_pattern(scenes, settings.pattern)
    if settings.file is not None:
        names["file"] = _look_up(scenes, root / settings.file, settings.column)
    return names


def _linked_pairs(
    scenes: Sequence[Scene],
    settings: GroupSettings,
    names: Mapping[str, Mapping[str, str]],
    thumbnails: Thumbnails | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Return the pairs (n, 2) of positions in ``scenes`` that each rule links; by name each scene and the first."""
    pairs = {rule: _pairs_of(scenes, found) for rule, found in names.items()}
    if settings.overlap:
        _require_all(
            scenes,
            [s for s in scenes if not has_footprint(s)],
            "georeferencing, to find what overlaps",
            ("Georeference them, or group by folds.group.file, pattern or similar instead of overlap"),
        )
        pairs["overlap"] = overlapping_pairs(scenes)
    if settings.similar is not None:
        small = read_thumbnails(scenes, settings.similar) if thumbnails is None else thumbnails
        pairs["similar"] = similar_pairs(small, settings.similarity)
    return pairs


def _match_pattern(scenes: Sequence[Scene], pattern: str, *, patience: float = 1.0) -> dict[str, str]:
    """Return what a pattern finds in the scenes' ids; on one id it may look for ``patience`` seconds."""
    try:
        expression = regex.compile(pattern)
    except regex.error as error:
        raise FoldError(f"folds.group.pattern {pattern!r}: expected a regular expression, got: {error}.") from error
    names = {}
    for scene in scenes:
        try:
            match = expression.search(scene.id, timeout=patience)
        except TimeoutError as error:
            raise FoldError(
                f"folds.group.pattern {pattern!r}: expected an answer within {patience:g} s, got none on the id "
                f"{scene.id}. Write it without repetitions of repetitions, such as (a+)+."
            ) from error
        name = match and (match[1] if expression.groups else match[0])
        if name:
            names[scene.id] = name
    unmatched = [scene for scene in scenes if scene.id not in names]
    _require_all(scenes, unmatched, f"ids that match folds.group.pattern {pattern!r}", "Correct the pattern")
    return names


def _look_up(scenes: Sequence[Scene], path: Path, column: str | None) -> dict[str, str]:
    try:
        if column is not None or path.suffix.lower() in (".csv", ".tsv", ".parquet"):
            listed = _read_csv(path, column)
        else:
            with copied_here(path) as here:
                listed = _parse_json(here.read_text("utf-8-sig"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise FoldError(
            f"folds.group.file {path}: expected a JSON, CSV or parquet file of groups, got: {error}."
        ) from error
    names = {}
    for scene in scenes:
        known = listed_name(scene.id, [image.path for image in scene.images], listed)
        if known is not None:
            names[scene.id] = listed[known]
    absent = [scene for scene in scenes if scene.id not in names]
    _require_all(scenes, absent, f"a group in {path}, by id or file name", "Add them to the file")
    return names


def _read_csv(path: Path, column: str | None) -> dict[str, str]:
    try:
        header, listed = read_texts(path, IDS, FoldError, "Correct folds.group.file.")
    except csv.Error as error:
        raise FoldError(
            f"{path}: expected a table of groups, got: {error}. Look for a quote without an end."
        ) from error
    # The column of ids is the one called so, else the first that is not the group's.
    keys = [name for name in header if name.lower() in IDS]
    key = next(iter(keys or [name for name in header if name != column]), None)
    group = column or next((name for name in header if name.lower() in ("group", "cluster")), None)
    if key is None or group is None or group not in header:
        raise FoldError(
            f"{path}: expected a column of scene ids and the column {column or 'group'}, got {list_names(header)}. "
            "Name the column of groups in folds.group.column."
        )
    return _listed(((row.get(key), row.get(group)) for row in listed), path)


def _parse_json(text: str, path: Path) -> dict[str, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FoldError(f"{path}: expected JSON (or a name that ends in .csv), got: {error}.") from error
    if isinstance(value, list):
        value = dict(enumerate(value)) if all(isinstance(members, list) for members in value) else None
    if not isinstance(value, Mapping) or not value:
        raise FoldError(
            f'{path}: expected {{"scene": "group"}}, {{"group": ["scene"]}} or [["scene"]], got other JSON.'
        )
    pairs: list[tuple[Any, Any]] = []
    for key, entry in value.items():
        if isinstance(entry, list):
            pairs += [(member, key) for member in entry]
        else:
            pairs.append((key, entry))
    return _listed(pairs, path)


def _listed(pairs: Iterable[tuple[Any, Any]], path: Path) -> dict[str, str]:
    """Return id → group as text; an id in two groups is an error, not the last one's."""
    listed: dict[str, str] = {}
    for key, group in pairs:
        if group is None or isinstance(group, dict | list) or str(group).strip() == "":
            raise FoldError(f"{path}: expected a group for {key}, got {group!r}. Fill it in.")
        name = str(group).strip()
        if listed.setdefault(str(key).strip(), name) != name:
            raise FoldError(f"{path}: expected one group for {key}, got {listed[str(key).strip()]} and {name}.")
    return listed


def _require_all(scenes: Sequence[Scene], lacking: Sequence[Scene], what: str, advice: str) -> None:
    """Raise if training scenes lack what a rule needs."""
    ids = [scene.id for scene in lacking if scene.split == "train"]
    if ids:
        raise FoldError(
            f"{len(ids)} of {len(scenes)} training scenes: expected {what}; not met by {_first(ids)}. {advice}."
        )


def _first(ids: Sequence[str], count: int = 5) -> str:
    return ", ".join(ids[:count]) + (" …" if len(ids) > count else "")


def _pairs_of(scenes: Sequence[Scene], names: Mapping[str, str]) -> NDArray[np.int64]:
    """Pair each scene with the first of the same name."""
    first: dict[str, int] = {}
    pairs = [
        (first.setdefault(names[scene.id], position), position)
        for position, scene in enumerate(scenes)
        if scene.id in names
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _keep_names(groups: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Name a group as the rule did, where the rule gave that name to all of its scenes and no others."""
    given: dict[str, set[str | None]] = {}
    for scene, group in groups.items():
        given.setdefault(group, set()).add(names.get(scene))
    kept = {group: only for group, (only, *rest) in given.items() if not rest and only is not None}
    named = {scene: kept.get(group, group) for scene, group in groups.items()}
    # A rule's name may be another group's smallest id; then it would join what is apart.
    return named if len(set(named.values())) == len(set(groups.values())) else dict(groups)
