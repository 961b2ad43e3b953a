"""A fitted member of the tree branch: one booster a fold, applied to whole scenes."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.files import hash_file
from data.maps.member import Prediction
from data.maps.store import worth_windows
from data.records import read_record, require_hash
from data.scenes.scene import Scene
from data.scenes.windows import Window, tile_windows
from data.workers import held, map_ordered
from features.channels import Channels, OpenChannels
from features.feature_set import FeatureSet
from features.scene_features import SceneFeatureSet
from features.stacked import input_channels, stacked_names
from trees.boosters.booster import Booster, predict_classes, unreadable
from trees.boosters.device import predicts_on
from trees.learning import LEARNERS
from trees.record import BOOSTER, MEMBER, FoldRecord, MemberRecord
from trees.settings import DeviceName
from trees.tag_boosters import TagBoosters

__all__ = ["TreeMember", "in_squares", "load_member"]

FOLD = re.compile(r"fold(?P<fold>0|[1-9]\d{0,3})", re.ASCII)

SQUARE = 8
"""Pixels on a side of the squares in which a window's pixels follow each other."""


@dataclass(frozen=True)
class TreeMember:
    """A trained member: a booster for each fold, and the features that they take.

    Parameters
    ----------
    name : str
    boosters : mapping of int to Booster
        By fold; that of fold k has never seen a scene of fold k.
    feature_set : Channels or SceneFeatureSet
        Of pixels, with the maps of members that it is stacked on, or of whole scenes.
    n_classes : int
        Probability bands.
    threads : int
    executor : Executor or None
        Where features of whole scenes are computed, and windows of a large one predicted.
    side : int
        Pixels on a side of the windows that are predicted at a time.
    batch : int
        Tagged scenes that are predicted at a time.
    load : callable or None
        Picklable; loads the member in a process of one thread, where it gives the same bytes.
    """

    name: str
    boosters: Mapping[int, Booster]
    feature_set: Channels | SceneFeatureSet
    n_classes: int
    threads: int = 1
    executor: Executor | None = None
    side: int = 512
    batch: int = 256
    load: Callable[[], "TreeMember"] | None = None

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that there is a booster for."""
        return tuple(sorted(self.boosters))

    def predict(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[Prediction]:
        """Yield the mean probability of some folds' boosters; see `data.maps.member.Member`."""
        if isinstance(self.feature_set, SceneFeatureSet):
            yield from self._predict_wholes(scenes, self.feature_set, folds)
        else:
            for scene in scenes:
                windows = list(tile_windows(scene.grid.height, scene.grid.width, self.side))
                executor = worth_windows(self.executor, scene) if self.load and len(windows) > 1 else None
                if executor and self.load:
                    probas = map_ordered(partial(_predict_loaded, self.load, scene, folds), windows, executor)
                else:
                    opened = self.used.open(scene)
                    probas = (self.predict_window(opened, window, folds) for window in windows)
                for window, proba in zip(windows, probas, strict=True):
                    yield scene, window, proba

    @cached_property
    def used(self) -> Channels:
        """The channels of pixels that a booster looks at; all where a library's own prediction is used."""
        channels, used = self.feature_set, set[str]()
        assert not isinstance(channels, SceneFeatureSet)
        for booster in self.boosters.values():
            if booster.forest is None:
                return channels
            used.update(channels.names[place] for place in booster.forest.used)
        return channels.only(used)

    def predict_window(self, opened: OpenChannels, window: Window, folds: Sequence[int]) -> NDArray[np.float32]:
        """Return the mean probability (n_classes, height, width) of some folds' boosters in a window.

        Parameters
        ----------
        opened : OpenChannels
            A scene, by the channels in `used`.
        window : Window
        folds : sequence of int
        """
        proba = np.full((self.n_classes, window.height, window.width), np.nan, np.float32)
        valid = opened.valid(window)
        if valid.any():
            # Neighbours follow each other, which is what makes a forest fast.
            order = in_squares(window.height, window.width)
            pixels = order[valid.ravel()[order]]
            names, used = self.feature_set.names, self.used.names
            features = np.take(opened.compute(window).reshape(len(used), -1), pixels, axis=1)
            if len(used) < len(names):
                looked_at, features = features, np.zeros((len(names), len(pixels)), np.float32)
                features[[names.index(name) for name in used]] = looked_at
            proba.reshape(self.n_classes, -1)[:, pixels] = self.mean_proba(features.T, folds).T
        return proba

    def _predict_wholes(
        self, scenes: Sequence[Scene], feature_set: SceneFeatureSet, folds: Sequence[int]
    ) -> Iterator[Prediction]:
        computed = zip(scenes, map_ordered(feature_set.compute, scenes, self.executor), strict=True)
        while batch := [*islice(computed, self.batch)]:
            features = np.stack([row for _, row in batch])
            seen = np.isfinite(features).any(axis=1)
            proba = np.full((len(features), self.n_classes), np.nan, np.float32)
            if seen.any():
                proba[seen] = self.mean_proba(features[seen], folds)
            for (scene, _), row in zip(batch, proba, strict=True):
                yield scene, Window(0, 0, 1, 1), row[:, None, None]

    def mean_proba(self, features: NDArray[np.float32], folds: Sequence[int]) -> NDArray[np.float32]:
        """Return the mean probability (n, n_classes) that some folds' boosters give to rows (n, F)."""
        mean = np.zeros((len(features), self.n_classes), np.float32)
        for fold in folds:
            mean += predict_classes(self.boosters[fold], features, self.n_classes, self.threads)
        return mean / np.float32(len(folds))


def _predict_loaded(
    load: Callable[[], TreeMember], scene: Scene, folds: Sequence[int], window: Window
) -> NDArray[np.float32]:
    """Predict a window in a process, which loads the member once."""
    member = held(load)
    return member.predict_window(member.used.open(scene), window, folds)


def load_member(
    directory: Path,
    threads: int = 1,
    device: DeviceName = "cpu",
    executor: Executor | None = None,
    members: Path | None = None,
) -> TreeMember:
    """Load a member that `trees.fit.fit_member` trained, with a booster for each fold that it has.

    Parameters
    ----------
    directory : Path
    threads : int
    device : {"auto", "cpu", "cuda"}
        Unless "cpu", libraries that can predict on a GPU do, if there is one.
    executor : Executor, optional
        Where features of whole scenes are computed, and windows of a large one predicted.
    members : Path, optional
        Holds the folders of the members that it is stacked on; that of ``directory`` by default.

    Raises
    ------
    MemberError
        If there is none, or a file of it does not fit the others.
    """
    record = read_record(directory / "member.json", MemberRecord, MEMBER)
    stack = record.settings.stack
    stacked = stacked_names(stack, record.classes.names)
    columns = record.bands, [name for name in record.features if name not in stacked], record.formulas
    if record.classes.task == "multilabel":
        feature_set: Channels | SceneFeatureSet = SceneFeatureSet(*columns)
        kind: type[Booster] = TagBoosters
    else:
        folders = directory.parent if members is None else members
        feature_set = input_channels(FeatureSet(*columns), stack, record.classes.names, folders)
        kind = LEARNERS[record.settings.booster].booster
    n_classes = len(record.classes.names)
    boosters = _load_boosters(directory, kind, (record.features, n_classes), device)
    load = None
    if executor is not None and predicts_on(device) == "cpu":
        # Boosters of another training make another key, also for a process that holds those before.
        made = [hash_file(path) for path in sorted(directory.glob("*.json"))]
        whereabouts = directory.resolve(), None if members is None else members.resolve()
        load = partial(_load_again, *whereabouts, device, tuple(made))
    return TreeMember(record.name, boosters, feature_set, n_classes, threads, executor, load=load)


def _load_again(directory: Path, members: Path | None, device: DeviceName, made: Sequence[str]) -> TreeMember:
    return load_member(directory, 1, device, None, members)


@lru_cache(maxsize=8)
def in_squares(height: int, width: int) -> NDArray[np.intp]:
    """Return the places of a raster's pixels square by square, of 8 pixels on a side."""
    down, right = -(-height // SQUARE), -(-width // SQUARE)
    places = np.full((down * SQUARE, right * SQUARE), -1)
    places[:height, :width] = np.arange(height * width).reshape(height, width)
    squares = places.reshape(down, SQUARE, right, SQUARE).swapaxes(1, 2).ravel()
    return squares[squares >= 0]


def _load_boosters(
    directory: Path, kind: type[Booster], fits: tuple[Sequence[str], int], device: DeviceName
) -> dict[int, Booster]:
    """Load the boosters of all folds, which must take some features and give a number of probabilities."""
    features, n_classes = fits
    where = predicts_on(device)
    boosters = {}
    for path in sorted(directory.glob(f"fold*{kind.suffix}")):
        if not (match := FOLD.fullmatch(path.stem)):
            continue
        # A member that somebody put together has no records of its boosters.
        if (record := path.with_suffix(".json")).exists():
            require_hash(path, read_record(record, FoldRecord, MEMBER).sha256, BOOSTER)
        booster = kind.load(path, where)
        if tuple(booster.importance()) != tuple(features):
            raise MemberError(f"{path}: expected a booster of the features in member.json, got others. Train it again.")
        try:
            row = np.zeros((1, len(features)), np.float32)
            outputs = predict_classes(booster, row, n_classes).shape[1]
        except ValueError as error:
            raise unreadable(path, "a booster", error) from error
        if outputs != n_classes:
            raise MemberError(f"{path}: expected {n_classes} probabilities a row, got {outputs}. Train it again.")
        boosters[int(match["fold"])] = booster
    return boosters
