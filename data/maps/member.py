"""Members: model families that were fitted once per fold, and the maps they write.

This is where the discipline of cross-validation lives: a training scene is predicted by the one model that
never saw its group, a scene outside training by all of them.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.maps.geotiff import map_writer
from data.maps.parquet import MAP_FOLDERS, PART_SCENES, tag_part_path, write_tag_part
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene, keep_open
from data.scenes.windows import Window

__all__ = ["MAP_FOLDERS", "Member", "TagMember", "map_path", "write_map", "write_maps", "write_tag_maps"]

logger = logging.getLogger(__name__)


def map_path(directory: Path, scene: Scene) -> Path:
    """Return where the map of a scene lies in a member's folder."""
    return directory / MAP_FOLDERS[scene.split] / f"{scene.id}.tif"


class Member(Protocol):
    """One model family with one fitted model per fold."""

    @property
    def name(self) -> str:
        """Its name in the experiment file."""
        ...

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that it has a model for; fold k's has never seen a scene of fold k."""
        ...

    def predict_proba(self, scene: Scene, folds: Sequence[int]) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Yield the mean probability of some folds' models, window by window.

        The windows cover the scene exactly once; the probabilities are (n_classes, height, width) float32 in
        [0, 1], NaN where the scene is not valid.
        """
        ...


class TagMember(Protocol):
    """One model family with one fitted model per fold, that tells which tags scenes have."""

    @property
    def name(self) -> str:
        """Its name in the experiment file."""
        ...

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that it has a model for; fold k's has never seen a scene of fold k."""
        ...

    def predict_tags(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Yield for each scene, in order, the mean probability of some folds' models.

        It is (n_classes,) float32 in [0, 1], NaN where no pixel of the scene is valid.
        """
        ...


def write_maps(member: Member, catalogue: Catalogue, directory: Path, track: Track = untracked) -> None:
    """Write a member's probability maps of every scene; maps that exist are kept.

    Parameters
    ----------
    member : Member
        With a model for every fold of the catalogue.
    catalogue : Catalogue
    directory : Path
        The member's. Maps are ``oof/<scene>.tif``, ``val/<scene>.tif`` and ``test/<scene>.tif``.
    track : Track

    Raises
    ------
    MemberError
        If the member lacks the model of a fold.
    """
    _require_folds(member, catalogue)
    paths = {scene: map_path(directory, scene) for scene in catalogue.scenes}
    todo = [scene for scene, path in paths.items() if not path.exists()]
    for scene in track(todo, f"{member.name}: maps", len(todo)):
        folds = member.folds if scene.fold is None else (scene.fold,)
        write_map(member, scene, folds, catalogue.classes.names, paths[scene])
    logger.info("member %s: %d maps in %s", member.name, len(paths), directory)


def write_map(member: Member, scene: Scene, folds: Sequence[int], names: Sequence[str], path: Path) -> None:
    """Write the probability map of one scene by the models of some folds."""
    tags = {"member": member.name, "folds": ",".join(map(str, folds)), "scene": scene.id}
    with keep_open(), map_writer(path, scene.grid, names, tags) as writer:
        for window, proba in member.predict_proba(scene, folds):
            writer.write(window, proba)


def write_tag_maps(member: TagMember, catalogue: Catalogue, directory: Path, track: Track = untracked) -> None:
    """Write what a member says of every scene; parts that exist are kept.

    Parameters
    ----------
    member : TagMember
        With a model for every fold of the catalogue.
    catalogue : Catalogue
        Of a multilabel task.
    directory : Path
        The member's. Its tag maps are read by `data.maps.parquet.read_tag_maps`.
    track : Track

    Raises
    ------
    MemberError
        If the member lacks the model of a fold.
    """
    _require_folds(member, catalogue)
    parts: dict[Path, tuple[Scene, ...]] = {}
    for split in MAP_FOLDERS:
        scenes = catalogue.split(split)
        for number, start in enumerate(range(0, len(scenes), PART_SCENES)):
            parts[tag_part_path(directory, split, number)] = scenes[start : start + PART_SCENES]
    names, about = catalogue.classes.names, {"member": member.name, "folds": ",".join(map(str, member.folds))}
    todo = [path for path in parts if not path.exists()]
    for path in track(todo, f"{member.name}: parts of maps", len(todo)):
        proba = _predict_part(member, parts[path], len(names))
        write_tag_part(path, [scene.id for scene in parts[path]], proba, names, about)
    logger.info("member %s: tags of %d scenes in %s", member.name, len(catalogue.scenes), directory)


def _predict_part(member: TagMember, scenes: Sequence[Scene], n_classes: int) -> NDArray[np.float32]:
    """Predict scenes of one split (n_scenes, n_classes): those of a fold together, by its model, the others by all."""
    proba = np.full((len(scenes), n_classes), np.nan, np.float32)
    by_fold: dict[int | None, list[int]] = {}
    for position, scene in enumerate(scenes):
        by_fold.setdefault(scene.fold, []).append(position)
    for fold, positions in by_fold.items():
        found = member.predict_tags([scenes[k] for k in positions], member.folds if fold is None else (fold,))
        for position, tags in zip(positions, found, strict=True):
            proba[position] = tags
    return proba


def _require_folds(member: Member | TagMember, catalogue: Catalogue) -> None:
    missing = sorted(set(catalogue.folds) - set(member.folds))
    if missing:
        raise MemberError(
            f"member {member.name}: expected a model for each of the folds {', '.join(map(str, catalogue.folds))}, "
            f"got none for {', '.join(map(str, missing))}. Train them first: leave out --fold."
        )
