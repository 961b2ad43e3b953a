"""Members: model families that were fitted once per fold.

This is where the discipline of cross-validation lives: a training scene is predicted by the one model that
never saw its group, a scene outside training by all of them.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.scenes.scene import Scene
from data.scenes.windows import Window

__all__ = ["Member", "Prediction", "predict_unseen", "require_folds", "unseen_by"]

Prediction = tuple[Scene, Window, NDArray[np.float32]]
"""Probabilities (n_classes, height, width) in a window of a scene's map, NaN where the scene is not valid."""


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

    def predict(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[Prediction]:
        """Yield the mean probability of some folds' models, scene after scene, window by window.

        The windows of a scene cover its map exactly once; that of a tagged scene is a single pixel.
        """
        ...


def unseen_by(member: Member, scene: Scene) -> tuple[int, ...]:
    """Return the folds whose models never saw a scene's group."""
    return member.folds if scene.fold is None else (scene.fold,)


def predict_unseen(member: Member, scenes: Sequence[Scene]) -> Iterator[Prediction]:
    """Yield what `Member.predict` does, each scene predicted by the models that never saw it: fold after fold."""
    by_folds: dict[tuple[int, ...], list[Scene]] = {}
    for scene in scenes:
        by_folds.setdefault(unseen_by(member, scene), []).append(scene)
    for folds, alike in by_folds.items():
        yield from member.predict(alike, folds)


def require_folds(member: Member, folds: Sequence[int]) -> None:
    """Refuse a member that lacks the model of a fold.

    Raises
    ------
    MemberError
        Naming the folds.
    """
    missing = sorted(set(folds) - set(member.folds))
    if missing:
        raise MemberError(
            f"member {member.name}: expected a model for each of the folds {', '.join(map(str, folds))}, "
            f"got none for {', '.join(map(str, missing))}. Train them first: leave out --fold."
        )
