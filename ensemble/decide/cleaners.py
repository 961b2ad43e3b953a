"""Choosing the cleaning: every candidate tried on the labels of scenes outside the fold that it is chosen for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data.files import scene_rng
from data.metrics.confusion import confusion_counts
from data.progress import Track, untracked
from data.scenes.scene import Scene
from data.scenes.windows import Window
from ensemble.decide.choice import Choice, choose, jackknife
from ensemble.decide.cleaning import Cleaning, Masks
from ensemble.decide.decision import Decision
from ensemble.decide.inner_folds import Bench, Parts
from ensemble.maps import MemberMaps

__all__ = ["choose_cleanings"]

SIDE = 2048
"""Scenes that are larger are tried on the window in their middle."""
MOST_PIXELS = 2_000_000
"""Of each fold, beyond which further scenes are not tried."""


def choose_cleanings(
    decisions: Mapping[Parts, Decision],
    candidates: Sequence[Cleaning],
    bench: Bench,
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
    bench : Bench
    maps : MemberMaps
    scenes : sequence of Scene
        The training scenes.
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    seed : int
        Of the scenes that are tried, where there are many.
    track : Track
    """
    if len(candidates) == 1:
        return dict.fromkeys(decisions, (candidates[0], None))
    tried = _some(scenes, bench, seed)
    place = {scene: rank for rank, scene in enumerate(bench.scenes)}
    n_labels = len(bench.classes.label_names)
    shape = (len(tried), len(candidates), n_labels, n_labels + 1)
    counts = {parts: np.zeros(shape) for parts in decisions}
    plain = {parts: replace(decision, cleaning=Cleaning()) for parts, decision in decisions.items()}
    for position, scene in enumerate(track(tried, "cleaning", len(tried))):
        window = _middle(scene)
        label, conditions = maps.label(scene, window), {n: mask[window.slices] for n, mask in masks(scene).items()}
        bases = {parts: base for parts, base in plain.items() if bench.part_of[scene.id] in parts}
        made = {base: np.empty((window.height, window.width), np.uint8) for base in bases.values()}
        for part, stored in maps.windows(scene, window):
            for base, prediction in made.items():
                prediction[part.within(window)] = base.apply(stored)
        tried_counts = {
            base: [confusion_counts(label, one.apply(prediction, conditions), n_labels) for one in candidates]
            for base, prediction in made.items()
        }
        for parts, base in bases.items():
            counts[parts][position] = tried_counts[base]
    blocks = bench.blocks[[place[scene.id] for scene in tried]]
    return {
        parts: _choose(candidates, counts[parts], blocks, [bench.part_of[scene.id] in parts for scene in tried], bench)
        for parts in decisions
    }


def _choose(
    candidates: Sequence[Cleaning],
    counts: NDArray[np.float64],
    blocks: NDArray[np.int64],
    chosen: Sequence[bool],
    bench: Bench,
) -> tuple[Cleaning, Choice]:
    here = np.array(chosen)
    replicates = [jackknife(counts[here, place], blocks[here], bench.objective) for place in range(len(candidates))]
    names = [cleaning.words or "none" for cleaning in candidates]
    choice = choose(names, np.stack(replicates), [True] * len(candidates))
    return candidates[choice.chosen], choice


def _some(scenes: Sequence[Scene], bench: Bench, seed: int) -> list[Scene]:
    """Return scenes of each part, in an order that is drawn, until they have enough pixels; at least one."""
    room = dict.fromkeys(bench.part_of.values(), MOST_PIXELS)
    drawn = sorted(scenes, key=lambda scene: (scene_rng(seed, scene.id).random(), scene.id))
    found = []
    for scene in drawn:
        part = bench.part_of[scene.id]
        if room[part] > 0:
            window = _middle(scene)
            room[part] -= window.height * window.width
            found.append(scene)
    return sorted(found, key=lambda scene: scene.id)


def _middle(scene: Scene) -> Window:
    height, width = min(scene.grid.height, SIDE), min(scene.grid.width, SIDE)
    return Window((scene.grid.height - height) // 2, (scene.grid.width - width) // 2, height, width)
