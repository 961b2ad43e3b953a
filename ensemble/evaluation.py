"""Maps against labels: the confusion counts of every scene, from which all scores and intervals follow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.classes import Classes
from data.confusion import confusion_counts
from data.errors import MapError
from data.maps import read_class_map
from data.progress import Track, untracked
from data.scene import Scene, read_label
from ensemble.decision import Decision
from ensemble.intervals import Pooled, pool_groups, resample_groups, sum_by_group
from ensemble.maps import MemberMaps

__all__ = ["BLEND", "MAP", "Evaluation", "evaluate_class_maps", "evaluate_members"]

BLEND = "blend"
"""Name of the blend among the candidates; the others are the members."""
MAP = "map"
"""Name of the only candidate where finished class maps are scored."""


@dataclass(frozen=True)
class Evaluation:
    """Confusion counts of every candidate on every scene.

    Parameters
    ----------
    split : str
        ``train``: the counts are nested, weights and thresholds were found on the other folds. ``val``: by the
        ensemble itself. ``maps``: of finished class maps.
    counts : dict
        Candidate (each member and `BLEND`, or `MAP`) → scene → (n_labels, n_labels + 1) int64.
    groups : dict
        Scene → group.
    folds : dict
        Scene → fold; empty but for ``train``.
    decisions : dict
        Fold → candidate → what was decided without that fold; empty but for ``train``.
    """

    split: str
    counts: dict[str, dict[str, NDArray[np.int64]]]
    groups: dict[str, str]
    folds: dict[str, int] = field(default_factory=dict)
    decisions: Mapping[int, Mapping[str, Decision]] = field(default_factory=dict)

    def total(self, candidate: str, fold: int | None = None) -> NDArray[np.int64]:
        """Return a candidate's counts over all scenes, or those of one fold."""
        chosen = [
            counts for scene, counts in self.counts[candidate].items() if fold is None or self.folds[scene] == fold
        ]
        total: NDArray[np.int64] = np.add.reduce(chosen)
        return total

    def pool(self, resamples: int, seed: int) -> dict[str, Pooled]:
        """Return each candidate's counts over all groups and over resamples of them, the same for every candidate."""
        draws = resample_groups(len(set(self.groups.values())), resamples, seed)
        return {name: pool_groups(sum_by_group(counts, self.groups), draws) for name, counts in self.counts.items()}


def evaluate_members(
    maps: MemberMaps,
    scenes: Sequence[Scene],
    decisions: Callable[[Scene], Mapping[str, Decision]],
    classes: Classes,
    track: Track = untracked,
) -> Evaluation:
    """Decide members' maps and their blend, and count what is right.

    Parameters
    ----------
    maps : MemberMaps
    scenes : sequence of Scene
        Of one split, with labels; at least one.
    decisions : callable
        Scene → candidate → Decision.
    classes : Classes
    track : Track
    """
    n_labels = len(classes.label_names)
    counts: dict[str, dict[str, NDArray[np.int64]]] = {}
    for scene in track(scenes, f"{scenes[0].split} scenes scored", len(scenes)):
        chosen = decisions(scene)
        sums = {name: np.zeros((n_labels, n_labels + 1), np.int64) for name in chosen}
        for window, stored in maps.windows(scene):
            label = read_label(scene, window)
            for name, decision in chosen.items():
                sums[name] += confusion_counts(label, decision.apply(stored), n_labels)
        for name, total in sums.items():
            counts.setdefault(name, {})[scene.id] = total
    return Evaluation(
        scenes[0].split,
        counts,
        groups=_groups(scenes),
        folds={scene.id: scene.fold for scene in scenes if scene.fold is not None},
    )


def evaluate_class_maps(pairs: Sequence[tuple[Path, Scene]], classes: Classes, track: Track = untracked) -> Evaluation:
    """Score finished class maps against labels.

    Parameters
    ----------
    pairs : sequence of (Path, Scene)
        A class map that `data.maps.write_class_map` wrote, and the scene whose label it is scored against.
    classes : Classes
    track : Track

    Raises
    ------
    MapError
        If there is no map, one is not of its label's size, or holds a value that is no class's id.
    """
    if not pairs:
        raise MapError("expected class maps to score, got none. Name a folder of class maps <id>.tif.")
    counts = {}
    for path, scene in track(pairs, "maps scored", len(pairs)):
        prediction, label = read_class_map(path, classes), read_label(scene)
        if prediction.shape != label.shape:
            raise MapError(
                f"{path}: expected {label.shape[0]} × {label.shape[1]} pixels like the label of scene {scene.id}, "
                f"got {prediction.shape[0]} × {prediction.shape[1]}. Score maps of this label's scene."
            )
        counts[scene.id] = confusion_counts(label, prediction, len(classes.label_names))
    return Evaluation("maps", {MAP: counts}, groups=_groups([scene for _, scene in pairs]))


def _groups(scenes: Sequence[Scene]) -> dict[str, str]:
    return {scene.id: scene.group or scene.id for scene in scenes}
