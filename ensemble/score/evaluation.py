"""Compare maps with labels: the confusion counts of every scene, which all scores and intervals follow from."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import MapError
from data.maps.geotiff import read_class_map
from data.metrics.confusion import question_counts
from data.progress import Track, untracked
from data.scenes.classes import IGNORE, Classes
from data.scenes.grids import grid_problem
from data.scenes.rasters import read_grid
from data.scenes.scene import Scene, read_label
from data.scenes.windows import Window
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.cleaning import Cleaning, Masks, no_masks
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.thresholds import plain_thresholds
from ensemble.maps import MemberMaps, open_maps
from ensemble.score.intervals import GroupCounts

__all__ = [
    "BLEND",
    "MAP",
    "PLAIN",
    "UNCALIBRATED",
    "UNCLEANED",
    "Evaluation",
    "alone",
    "decide_scene",
    "evaluate_class_maps",
    "evaluate_in_sample",
    "evaluate_members",
    "mapped_pixels",
]

BLEND = "blend"
"""Name of the blend among the candidates; others are the members."""
UNCALIBRATED = "blend, uncalibrated"
PLAIN = "blend, plain threshold"
UNCLEANED = "blend, uncleaned"
"""Names of the blend without one of its steps; the rest is as in the blend."""
MAP = "map"
"""Name of the only candidate where finished class maps are scored."""


def alone(branch: str) -> str:
    """Return the name of the blend of a branch's members alone, where it has several.

    >>> alone("trees")
    'trees alone'
    """
    return f"{branch} alone"


@dataclass(frozen=True)
class Evaluation:
    """Confusion counts of every candidate on every scene.

    Parameters
    ----------
    split : str
        ``train``: the counts are nested, all was decided on the other folds. ``val``: by the ensemble itself.
        ``maps``: of finished class maps.
    counts : dict
        Candidate → scene → (Q, n_labels, n_labels + 1) int64.
    groups : dict
        Scene → group.
    final : str
        The candidate that is used.
    folds : dict
        Scene → fold; empty but for ``train``.
    decisions : dict
        Fold → candidate → what was decided without that fold; empty but for ``train``.
    mapped : dict
        Candidate → scene → pixels of each label (n_labels,) int64 that its map shows, labelled or not; empty of tags.
    """

    split: str
    counts: dict[str, dict[str, NDArray[np.int64]]]
    groups: dict[str, str]
    final: str
    folds: dict[str, int] = field(default_factory=dict)
    decisions: Mapping[int, Mapping[str, Decision]] = field(default_factory=dict)
    mapped: Mapping[str, Mapping[str, NDArray[np.int64]]] = field(default_factory=dict)

    def total(self, candidate: str, fold: int | None = None) -> NDArray[np.int64]:
        """Return a candidate's counts over all scenes, or those of one fold."""
        total: NDArray[np.int64] = self.stack(candidate, fold).sum(axis=0)
        return total

    def stack(self, candidate: str, fold: int | None = None) -> NDArray[np.int64]:
        """Return a candidate's counts of each scene, scenes first, or of those of one fold."""
        return np.stack(
            [counts for scene, counts in self.counts[candidate].items() if fold is None or self.folds[scene] == fold]
        )

    def by_group(self) -> dict[str, GroupCounts]:
        """Return each candidate's counts by group, numbered alike for every candidate."""
        place = {name: position for position, name in enumerate(sorted(set(self.groups.values())))}
        return {
            name: GroupCounts(self.stack(name), np.array([place[self.groups[scene]] for scene in counts]))
            for name, counts in self.counts.items()
        }


def evaluate_members(
    maps: MemberMaps,
    scenes: Sequence[Scene],
    decisions: Callable[[Scene], Mapping[str, Decision]],
    classes: Classes,
    masks: Masks = no_masks,
    track: Track = untracked,
) -> Evaluation:
    """Decide members' maps and their blend, and count what is right.

    Parameters
    ----------
    maps : MemberMaps
    scenes : sequence of Scene
        Of one split, with labels; at least one.
    decisions : callable
        Scene → candidate → Decision. Equal decisions are carried out once.
    classes : Classes
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    track : Track
    """
    counts: dict[str, dict[str, NDArray[np.int64]]] = {}
    mapped: dict[str, dict[str, NDArray[np.int64]]] = {}
    chosen_of = [decisions(scene) for scene in scenes]
    distinct = [tuple(dict.fromkeys(chosen.values())) for chosen in chosen_of]
    counted = maps.each(partial(_count_scene, classes=classes, masks=masks), scenes, distinct)
    counted = track(counted, f"{scenes[0].split} scenes scored", len(scenes))
    for scene, chosen, (right, shown) in zip(scenes, chosen_of, counted, strict=True):
        for name, decision in chosen.items():
            counts.setdefault(name, {})[scene.id] = right[decision]
            mapped.setdefault(name, {})[scene.id] = shown[decision]
    return Evaluation(
        scenes[0].split,
        counts,
        groups=_groups(scenes),
        final=BLEND,
        folds={scene.id: scene.fold for scene in scenes if scene.fold is not None},
        mapped={} if classes.task == "multilabel" else mapped,
    )


def evaluate_in_sample(
    evaluation: Evaluation,
    members: Mapping[str, Path],
    scenes: Sequence[Scene],
    classes: Classes,
    track: Track = untracked,
) -> Evaluation:
    """Score members that learned from the training scenes on the scenes of another split, each by its plain decision.

    Parameters
    ----------
    evaluation : Evaluation
        Of that split. What is returned has its candidates, and one more for each member.
    members : mapping of str to Path
        Member → its folder.
    scenes : sequence of Scene
        Those of the split.
    classes : Classes
    track : Track
    """
    plain = Decision((Calibration(),), Blend(((1.0,),), exclusive=classes.exclusive), plain_thresholds(classes))
    counts, mapped = dict(evaluation.counts), dict(evaluation.mapped)
    for name, path in members.items():
        maps = open_maps({name: path}, classes)
        maps.require(scenes)
        found = evaluate_members(maps, scenes, lambda _: {BLEND: plain}, classes, track=track)
        counts[f"{name}, in sample"] = found.counts[BLEND]
        if found.mapped:
            mapped[f"{name}, in sample"] = found.mapped[BLEND]
    return replace(evaluation, counts=counts, mapped=mapped)


def decide_scene(
    maps: MemberMaps, scene: Scene, decisions: Iterable[Decision], masks: Masks = no_masks
) -> Iterator[tuple[Decision, Window, NDArray[np.uint8]]]:
    """Yield the labels that each decision makes of a scene: window by window or, where it cleans, all at once.

    They are (Q, height, width) uint8.
    Only of those that clean a whole scene's labels are held, a byte a pixel each.
    """
    plain: dict[Decision, list[Decision]] = {}
    for decision in decisions:
        plain.setdefault(replace(decision, cleaning=Cleaning()), []).append(decision)
    whole = {
        base: np.full((1, scene.grid.height, scene.grid.width), IGNORE, np.uint8)
        for base, users in plain.items()
        if any(not user.cleaning.idle for user in users)
    }
    for window, stored in maps.windows(scene):
        for base, users in plain.items():
            label = base.apply(stored)
            if base in whole:
                whole[base][:, *window.slices] = label
            for user in users:
                if user.cleaning.idle:
                    yield user, window, label
    if whole:
        conditions = masks(scene)
        for base, label in whole.items():
            for user in plain[base]:
                if not user.cleaning.idle:
                    yield user, scene.grid.window, user.cleaning.apply(label, conditions)


def mapped_pixels(
    maps: MemberMaps,
    scenes: Sequence[Scene],
    decision: Decision,
    classes: Classes,
    masks: Masks = no_masks,
    track: Track = untracked,
) -> dict[str, NDArray[np.int64]]:
    """Count the pixels of each label that a decision maps in some scenes, at least one: scene → (n_labels,)."""
    counted = maps.each(partial(_map_scene, decision=decision, n_labels=classes.n_labels, masks=masks), scenes)
    counted = track(counted, f"{scenes[0].split} scenes measured", len(scenes))
    return {scene.id: pixels for scene, pixels in zip(scenes, counted, strict=True)}


def _map_scene(maps: MemberMaps, scene: Scene, decision: Decision, n_labels: int, masks: Masks) -> NDArray[np.int64]:
    parts = [_shown(label, n_labels) for _, _, label in decide_scene(maps, scene, [decision], masks)]
    pixels: NDArray[np.int64] = np.sum(parts, axis=0)
    return pixels


def evaluate_class_maps(pairs: Sequence[tuple[Path, Scene]], classes: Classes, track: Track = untracked) -> Evaluation:
    """Score finished class maps against labels.

    Parameters
    ----------
    pairs : sequence of (Path, Scene)
        A class map that `data.maps.geotiff.write_class_map` wrote, and the scene whose label it is scored against.
    classes : Classes
    track : Track

    Raises
    ------
    MapError
        If there is no map, one does not lie on its scene's grid, or holds a value that is no class's id.
    """
    if not pairs:
        raise MapError("expected class maps to score, got none. Name a folder of class maps <id>.tif.")
    counts, mapped = {}, {}
    for path, scene in track(pairs, "maps scored", len(pairs)):
        problem = grid_problem(read_grid(str(path))[0], scene.grid)
        if problem:
            raise MapError(f"{path}: {problem}")
        prediction, label = read_class_map(path, classes), read_label(scene)
        counts[scene.id] = question_counts(label[None], prediction[None], classes.n_labels)
        mapped[scene.id] = _shown(prediction, classes.n_labels)
    return Evaluation("maps", {MAP: counts}, _groups([scene for _, scene in pairs]), MAP, mapped={MAP: mapped})


def _count_scene(
    maps: MemberMaps, scene: Scene, decisions: Iterable[Decision], classes: Classes, masks: Masks
) -> tuple[dict[Decision, NDArray[np.int64]], dict[Decision, NDArray[np.int64]]]:
    """Return, for each decision, the confusion counts of a scene and the pixels of each label that it shows."""
    n_labels = classes.n_labels
    right: dict[Decision, NDArray[np.int64]] = {}
    shown: dict[Decision, NDArray[np.int64]] = {}
    last, truth, weight = None, np.empty(0, np.uint8), None
    for decision, window, prediction in decide_scene(maps, scene, decisions, masks):
        if window != last:
            last, truth = window, maps.label(scene, window)
            weight = maps.weight(scene, window) if maps.weighted else None
        right[decision] = right.get(decision, 0) + question_counts(truth, prediction, n_labels, weight)
        shown[decision] = shown.get(decision, 0) + _shown(prediction, n_labels)
    return right, shown


def _shown(prediction: NDArray[np.uint8], n_labels: int) -> NDArray[np.int64]:
    return np.bincount(prediction.ravel(), minlength=n_labels)[:n_labels].astype(np.int64)


def _groups(scenes: Sequence[Scene]) -> dict[str, str]:
    return {scene.id: scene.group or scene.id for scene in scenes}
