"""Choose the cleaning: every candidate is tried on the labels of scenes outside the fold that it is chosen for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data.files import scene_rng
from data.metrics.confusion import question_counts
from data.progress import Track, untracked
from data.scenes.scene import Scene
from data.scenes.windows import Window
from ensemble.decide.decision.cleaning import Cleaning, Masks
from ensemble.decide.decision.decision import Decision
from ensemble.decide.sample.choice import Choice, choose, jackknife
from ensemble.decide.sample.inner_folds import InnerFolds, Parts
from ensemble.maps import MemberMaps

__all__ = ["choose_cleanings"]

SIDE = 2048
"""Scenes that are larger are tried on the window in their middle."""
MOST_PIXELS = 1_000_000
"""Of each fold, beyond which further scenes are not tried."""


def choose_cleanings(
    decisions: Mapping[Parts, Decision],
    candidates: Sequence[Cleaning],
    inner: InnerFolds,
    maps: MemberMaps,
    scenes: Sequence[Scene],
    masks: Masks,
    seed: int,
    track: Track = untracked,
) -> dict[Parts, tuple[Cleaning, Choice | None]]:
    """Choose the cleaning of each decision, on the scenes of its parts alone.

    The labels that are cleaned are those of the decision itself. Its weights and thresholds have seen these scenes,
    but all candidates start from the same labels, and what is left out in turn for the standard error are groups.

    Parameters
    ----------
    decisions : mapping
        Parts → what was decided on them.
    candidates : sequence of Cleaning
        Simplest first.
    inner : InnerFolds
    maps : MemberMaps
    scenes : sequence of Scene
        The training scenes that have labels.
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    seed : int
        Of the scenes that are tried, where there are many.
    track : Track
    """
    if len(candidates) == 1:
        return dict.fromkeys(decisions, (candidates[0], None))
    tried = _some(scenes, inner, seed)
    place = {scene: rank for rank, scene in enumerate(inner.scenes)}
    n_labels = inner.classes.n_labels
    shape = (len(tried), len(candidates), inner.classes.n_questions, n_labels, n_labels + 1)
    counts = {parts: np.zeros(shape) for parts in decisions}
    plain = {parts: replace(decision, cleaning=Cleaning()) for parts, decision in decisions.items()}
    for position, scene in enumerate(track(tried, "cleaning", len(tried))):
        window = _middle(scene)
        label = maps.label(scene, window)
        conditions = {rule: mask[window.slices] for rule, mask in masks(scene).items()}
        bases = {parts: base for parts, base in plain.items() if inner.part_of[scene.id] in parts}
        made = {base: np.empty(label.shape, np.uint8) for base in bases.values()}
        for part, stored in maps.windows(scene, window):
            for base, prediction in made.items():
                prediction[:, *part.within(window)] = base.apply(stored)
        tried_counts = {}
        for base, prediction in made.items():
            done: dict[Cleaning, NDArray[np.uint8]] = {}
            tried_counts[base] = [
                question_counts(label, candidate.apply(prediction, conditions, done), n_labels)
                for candidate in candidates
            ]
        for parts, base in bases.items():
            counts[parts][position] = tried_counts[base]
    blocks = inner.blocks[[place[scene.id] for scene in tried]]
    return {
        parts: _choose(candidates, counts[parts], blocks, [inner.part_of[scene.id] in parts for scene in tried], inner)
        for parts in decisions
    }


def _choose(
    candidates: Sequence[Cleaning],
    counts: NDArray[np.float64],
    blocks: NDArray[np.int64],
    chosen: Sequence[bool],
    inner: InnerFolds,
) -> tuple[Cleaning, Choice]:
    used = np.array(chosen)
    replicates = [jackknife(counts[used, place], blocks[used], inner.objective) for place in range(len(candidates))]
    names = [cleaning.words or "none" for cleaning in candidates]
    choice = choose(names, np.stack(replicates), [True] * len(candidates))
    return candidates[choice.chosen], choice


def _some(scenes: Sequence[Scene], inner: InnerFolds, seed: int) -> list[Scene]:
    """Return scenes of each part, in an order that is drawn, until they have enough pixels; at least one."""
    room = dict.fromkeys(inner.part_of.values(), MOST_PIXELS)
    drawn = sorted(scenes, key=lambda scene: (scene_rng(seed, scene.id).random(), scene.id))
    some = []
    for scene in drawn:
        part = inner.part_of[scene.id]
        if room[part] > 0:
            window = _middle(scene)
            room[part] -= window.height * window.width
            some.append(scene)
    return sorted(some, key=lambda scene: scene.id)


def _middle(scene: Scene) -> Window:
    height, width = min(scene.grid.height, SIDE), min(scene.grid.width, SIDE)
    return Window((scene.grid.height - height) // 2, (scene.grid.width - width) // 2, height, width)
