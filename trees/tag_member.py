"""The tree branch's members where scenes have tags: they tell them from what the pixels of a scene come to."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from data.scenes.scene import Scene
from data.workers import map_ordered
from features.scene_features import SceneFeatureSet
from trees.boosters.booster import Booster

__all__ = ["TreeTagMember"]

BATCH = 256
"""Scenes whose features are predicted at a time."""


@dataclass(frozen=True)
class TreeTagMember:
    """A trained member: boosters for each fold, and the features of scenes that they take.

    Parameters
    ----------
    name : str
    boosters : mapping of int to Booster
        By fold, each of all tags; that of fold k has never seen a scene of fold k.
    feature_set : SceneFeatureSet
    n_classes : int
        Tags.
    threads : int
    executor : Executor or None
        Where the features of scenes are computed.
    """

    name: str
    boosters: Mapping[int, Booster]
    feature_set: SceneFeatureSet
    n_classes: int
    threads: int = 1
    executor: Executor | None = None

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that there is a booster for."""
        return tuple(sorted(self.boosters))

    def predict_tags(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Yield the mean probability of some folds' boosters for each scene; see `data.maps.member.TagMember`."""
        found = map_ordered(self.feature_set.compute, scenes, self.executor)
        while batch := [*islice(found, BATCH)]:
            features = np.stack(batch)
            seen = np.flatnonzero(np.isfinite(features).any(axis=1))
            proba = np.full((len(features), self.n_classes), np.nan, np.float32)
            if len(seen):
                mean = np.zeros((len(seen), self.n_classes), np.float32)
                for fold in folds:
                    mean += self.boosters[fold].predict_proba(features[seen], self.threads)
                proba[seen] = mean / np.float32(len(folds))
            yield from proba
