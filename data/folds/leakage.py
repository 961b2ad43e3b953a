"""Report what leaks between folds: split groups, near-duplicates, neighbours on the ground."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.folds.shared_ground import SharedGround
from data.folds.similarity import Thumbnails, similar_pairs
from data.scenes.catalogue import Catalogue
from data.scenes.footprints import has_footprint, overlapping_pairs, touching_pairs

__all__ = ["LeakageReport", "leakage_report", "leakage_warning"]

EXAMPLES = 3


@dataclass(frozen=True)
class LeakageReport:
    """How the folds are made up and what binds them together.

    Parameters
    ----------
    scenes : tuple of int
        Training scenes in each fold.
    groups : tuple of int
        Groups with a scene in each fold.
    labelled : dict
        Class → its pixels in each fold; tag → the scenes that have it.
    split_groups : tuple of str
        Groups that lie in several folds; empty unless something went wrong.
    georeferenced : int
        Scenes, of all splits, that could be compared by where they lie.
    overlapping : tuple of (scene, scene)
        Training scenes that show the same ground but lie in different folds.
    neighbours : tuple of (scene, scene)
        Training scenes that touch or overlap on the ground but lie in different folds.
    duplicates : tuple of (scene, scene) or None
        Near-duplicates in different folds; None where none were looked for.
    outside : dict
        Split (val, test) → its scenes.
    outside_neighbours : dict
        Split → those of its scenes that touch or overlap a training scene.
    outside_duplicates : dict
        Split → those of its scenes that nearly equal a training scene; empty where none were looked for.
    shared : str
        What was found of scenes that show the same ground, by what their pixels hold; empty where none was looked for.
    shared_across : tuple of (scene, scene)
        Those of them that are training scenes in different folds.
    outside_shared : dict
        Split → those of its scenes that show ground of a training scene.
    unit : str
        What is counted in ``labelled``.
    blank : tuple of int
        Scenes in each fold without a pixel of the positive class, or without a tag; empty when multiclass.
    """

    scenes: tuple[int, ...]
    groups: tuple[int, ...]
    labelled: Mapping[str, tuple[int, ...]]
    split_groups: tuple[str, ...]
    georeferenced: int
    overlapping: tuple[tuple[str, str], ...]
    neighbours: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...] | None
    outside: Mapping[str, int]
    outside_neighbours: Mapping[str, tuple[str, ...]]
    outside_duplicates: Mapping[str, tuple[str, ...]]
    shared: str = ""
    shared_across: tuple[tuple[str, str], ...] = ()
    outside_shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unit: Literal["px", "scene"] = "px"
    blank: tuple[int, ...] = ()

    @property
    def leaks(self) -> bool:
        """Whether a group, the same ground or a near-duplicate lies in several folds."""
        return bool(self.split_groups or self.overlapping or self.duplicates or self.shared_across)

    @property
    def warnings(self) -> list[str]:
        """What makes scores too good, in sentences; nothing where nothing leaks."""
        said = _leak_sentences(self.split_groups, self.overlapping)
        if self.duplicates:
            said.append(
                f"{_many(len(self.duplicates), 'pair')} of near-duplicates in different folds "
                f"({_first_pair(self.duplicates)}), so scores are too good: set folds.group.similar."
            )
        if self.shared_across:
            said.append(
                f"{_many(len(self.shared_across), 'pair')} of training scenes in different folds show the same ground "
                f"({_first_pair(self.shared_across)}), so scores are too good: set folds.group.content to join."
            )
        return said

    def lines(self) -> list[str]:
        """Return the report as text, a line for each matter."""
        lines = [f"{sum(self.scenes)} training scenes in {len(self.scenes)} folds; {self._split_line()}"]
        for fold, (scenes, groups) in enumerate(zip(self.scenes, self.groups, strict=True)):
            shares = (
                f"{name} {_many(counts[fold], self.unit)} ({counts[fold] / max(sum(counts), 1):.0%})"
                for name, counts in self.labelled.items()
            )
            lines.append(f"fold {fold}: {_many(scenes, 'scene')}, {_many(groups, 'group')}; {', '.join(shares)}")
        if any(self.blank):
            what = "a tag" if self.unit == "scene" else [*self.labelled][-1]
            folds = ", ".join(f"{count} in fold {fold}" for fold, count in enumerate(self.blank) if count)
            lines.append(f"scenes without {what}: {sum(self.blank)} of {sum(self.scenes)} ({folds})")
        if self.georeferenced:
            lines.append(f"scene pairs across folds that touch or overlap on the ground: {_pairs(self.neighbours)}")
            lines.append(f"scene pairs across folds that overlap: {_pairs(self.overlapping)}")
        else:
            lines.append("no scene is georeferenced: which are neighbours on the ground cannot be told")
        if self.duplicates is not None:
            lines.append(f"scene pairs across folds that are near-duplicates: {_pairs(self.duplicates)}")
        if self.shared:
            lines.append(self.shared)
            lines.append(f"scene pairs across folds that show the same ground: {_pairs(self.shared_across)}")
        for split, count in self.outside.items():
            for what, found in (
                ("touch or overlap", self.outside_neighbours.get(split)),
                ("nearly equal", self.outside_duplicates.get(split)),
                ("show ground of", self.outside_shared.get(split)),
            ):
                if found:
                    lines.append(
                        f"{len(found)} of {count} {split} scenes {what} a training scene "
                        f"({_first(found)}): scores there flatter a model on new places"
                    )
        return lines

    def _split_line(self) -> str:
        if not self.split_groups:
            return f"none of the {sum(self.groups)} groups is split"
        return f"{_many(len(self.split_groups), 'group')} SPLIT ({_first(self.split_groups)}): scores will be too good"


def leakage_report(
    catalogue: Catalogue,
    thumbnails: Thumbnails | None = None,
    similarity: float = 1.0,
    shared: SharedGround | None = None,
) -> LeakageReport:
    """Report what links scenes of different folds, and test scenes to training scenes.

    Parameters
    ----------
    catalogue : Catalogue
        With groups and folds.
    thumbnails : Thumbnails, optional
        Of all its scenes, to look for near-duplicates.
    similarity : float
        Least correlation of near-duplicates.
    shared : SharedGround, optional
        What its scenes show of the same ground.
    """
    scenes, folds, train = catalogue.scenes, catalogue.folds, catalogue.split("train")
    counts = np.array([catalogue.label_counts(scene.id) for scene in train])
    fold_of = np.array([scene.fold for scene in train])

    touching = touching_pairs(scenes)
    alike = None if thumbnails is None else similar_pairs(thumbnails, similarity)
    outside = {name: len(catalogue.split(name)) for name in ("val", "test") if catalogue.split(name)}
    classes = catalogue.classes
    bare = counts[:, -len(classes.names) :].sum(axis=1) == 0
    return LeakageReport(
        scenes=tuple(int((fold_of == fold).sum()) for fold in folds),
        groups=tuple(len({scene.group for scene in catalogue.in_fold(fold)}) for fold in folds),
        labelled={
            name: tuple(int(counts[fold_of == fold, label].sum()) for fold in folds)
            for label, name in enumerate(catalogue.classes.label_names)
        },
        split_groups=_split_groups(catalogue),
        georeferenced=sum(has_footprint(scene) for scene in scenes),
        overlapping=_across_folds(catalogue, overlapping_pairs(scenes)),
        neighbours=_across_folds(catalogue, touching),
        duplicates=None if alike is None else _across_folds(catalogue, alike),
        outside=outside,
        outside_neighbours=_beside_training(catalogue, touching),
        outside_duplicates={} if alike is None else _beside_training(catalogue, alike),
        shared="" if shared is None else _describe_shared(catalogue, shared),
        shared_across=() if shared is None else _across_folds(catalogue, shared.positions),
        outside_shared={} if shared is None else _beside_training(catalogue, shared.positions),
        unit="scene" if classes.task == "multilabel" else "px",
        blank=() if classes.task == "multiclass" else tuple(int(bare[fold_of == fold].sum()) for fold in folds),
    )


def leakage_warning(catalogue: Catalogue) -> list[str]:
    """Return sentences on groups and on ground that lie in several folds, for whoever reads the scores."""
    return _leak_sentences(_split_groups(catalogue), _across_folds(catalogue, overlapping_pairs(catalogue.scenes)))


def _leak_sentences(split_groups: Sequence[str], overlapping: Sequence[tuple[str, str]]) -> list[str]:
    said = []
    if split_groups:
        said.append(
            f"{_many(len(split_groups), 'group')} ({_first(split_groups)}) split over folds: scores are too good."
        )
    if overlapping:
        said.append(
            f"{_many(len(overlapping), 'pair')} of training scenes in different folds overlap on the ground "
            f"({_first_pair(overlapping)}), so scores are too good: set folds.group.overlap."
        )
    return said


def _describe_shared(catalogue: Catalogue, shared: SharedGround) -> str:
    pairs = sorted(shared.pairs, key=lambda pair: -pair.share)
    names = [
        f"{catalogue.scenes[pair.first].id}–{catalogue.scenes[pair.second].id} {pair.share:.0%}"
        for pair in pairs[: EXAMPLES + 1]
    ]
    some = f" ({_first(names)})" if names else ""
    return f"scene pairs that show the same ground, by {' and '.join(shared.bands)}: {len(pairs) or 'none'}{some}"


def _split_groups(catalogue: Catalogue) -> tuple[str, ...]:
    folds: dict[str, set[int | None]] = {}
    for scene in catalogue.split("train"):
        folds.setdefault(scene.group, set()).add(scene.fold)
    return tuple(sorted(group for group, found in folds.items() if len(found) > 1))


def _across_folds(catalogue: Catalogue, pairs: NDArray[np.int64]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of training scenes that lie in different folds."""
    scenes = [(catalogue.scenes[first], catalogue.scenes[second]) for first, second in pairs]
    return tuple((a.id, b.id) for a, b in scenes if a.split == b.split == "train" and a.fold != b.fold)


def _beside_training(catalogue: Catalogue, pairs: NDArray[np.int64]) -> dict[str, tuple[str, ...]]:
    """Return for each split but training its scenes that are paired with a training scene."""
    found: dict[str, set[str]] = {}
    for pair in pairs:
        splits = {catalogue.scenes[position].split == "train": catalogue.scenes[position] for position in pair}
        if len(splits) == 2:
            found.setdefault(splits[False].split, set()).add(splits[False].id)
    return {split: tuple(sorted(ids)) for split, ids in found.items()}


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    if not pairs:
        return "none"
    return f"{len(pairs)} ({_first_pair(pairs)})"


def _first_pair(pairs: Sequence[tuple[str, str]]) -> str:
    return _first(["–".join(pair) for pair in pairs])


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:EXAMPLES]) + (" …" if len(names) > EXAMPLES else "")


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 or what == "px" else "s")
