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

from data.catalogue import Catalogue
from data.errors import MemberError
from data.maps import map_writer
from data.progress import Track, untracked
from data.scene import Scene, keep_open
from data.windows import Window

__all__ = ["MAP_FOLDERS", "Member", "map_path", "write_map", "write_maps"]

logger = logging.getLogger(__name__)

MAP_FOLDERS = {"train": "oof", "val": "val", "test": "test"}
"""Folder of a member's maps for each split."""


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
    missing = sorted(set(catalogue.folds) - set(member.folds))
    if missing:
        raise MemberError(
            f"member {member.name}: expected a model for each of the folds {', '.join(map(str, catalogue.folds))}, "
            f"got none for {', '.join(map(str, missing))}. Train them first: leave out --fold."
        )
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
