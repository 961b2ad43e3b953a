"""The gallery: scenes as they were predicted out of fold, worst first, as many as a small file can hold."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from data.pages.numbers import format_percent
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from ensemble.decide.cleaning import Masks, no_masks
from ensemble.maps import MemberMaps
from ensemble.report.thumbnails import Quicklook, draw_scene, draw_thumbnails
from ensemble.score.evaluation import Evaluation

__all__ = ["GalleryScene", "draw_gallery"]

BUDGET = 2_800_000
"""Characters that the pictures of a report may have together."""
LARGEST, SMALLEST = 256, 96
"""Pixels on a side of a picture."""
DENSITY = 0.25
"""Characters of a picture for each of its pixels, about, over photographs and maps."""

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class GalleryScene:
    """A scene that is shown.

    Parameters
    ----------
    id : str
    score : float
    fold : int
    wrong : str
        What is wrong, in words.
    pictures : tuple of str
        Data URIs; of a scene with tags the scene alone.
    tags : tuple of (sign, tag)
        That it has or was said to have: ✓ rightly, ✗ missed, + false alarm.
    """

    id: str
    score: float
    fold: int
    wrong: str
    pictures: tuple[str, ...]
    tags: tuple[tuple[str, str], ...] = ()


def draw_gallery(
    evaluation: Evaluation,
    scores: Mapping[str, float],
    maps: MemberMaps,
    catalogue: Catalogue,
    quicklook: Quicklook,
    masks: Masks = no_masks,
    track: Track = untracked,
) -> list[GalleryScene]:
    """Draw training scenes, worst first: all, or of very many the worst and some of every rank.

    Parameters
    ----------
    evaluation : Evaluation
        Nested.
    scores : mapping of str to float
        Scene → its score; scenes without a finite one are not shown.
    maps : MemberMaps
    catalogue : Catalogue
    quicklook : callable
        (scene, window) → picture (H, W, 3) uint8.
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    track : Track
    """
    classes, final, tagged = catalogue.classes, evaluation.final, catalogue.classes.task == "multilabel"
    counts = evaluation.counts[final]
    ranked = _rank(scores, counts)
    side = _side(len(ranked) * (1 if tagged else len(maps.names) + 4))
    scenes = {scene.id: scene for scene in catalogue.split("train")}
    drawn: dict[str, GalleryScene] = {}
    left = BUDGET
    for name in track(showing_order(ranked), "gallery", len(ranked)):
        scene, fold = scenes[name], evaluation.folds[name]
        decision = evaluation.decisions[fold][final]
        if tagged:
            tags = _compare_tags(maps.label(scene), decision.apply(maps.read(scene)), classes)
            pictures = [draw_scene(scene, quicklook, side)]
        else:
            tags, pictures = (), draw_thumbnails(scene, maps, decision, classes, quicklook, side, masks)
        left -= sum(map(len, pictures))
        if left < 0 and drawn:
            break
        drawn[name] = GalleryScene(name, scores[name], fold, say_wrong(counts[name], classes), tuple(pictures), tags)
    return [drawn[name] for name in ranked if name in drawn]


def showing_order(ranked: Sequence[str]) -> Iterator[str]:
    """Yield scenes in the order in which they deserve room: by turns the next worst, and one from anywhere.

    >>> list(showing_order(["worst", "bad", "fair", "good", "best"]))
    ['worst', 'best', 'bad', 'good', 'fair']
    """
    n = len(ranked)
    worst, spread = iter(range(n)), (n - 1 - int(n * (turn * GOLDEN % 1)) for turn in count())
    shown: set[int] = set()
    while len(shown) < n:
        for turn in (worst, spread):
            place = next((one for one in turn if one not in shown), None) if len(shown) < n else None
            if place is not None:
                shown.add(place)
                yield ranked[place]


def say_wrong(counts: NDArray[np.int64], classes: Classes) -> str:
    """Say how much of a scene is wrong, and what is most often taken for what."""
    if classes.task == "multilabel":
        missed, false = int(counts[:, 1, [0, 2]].sum()), int(counts[:, 0, 1].sum())
        return f"{missed} missed, {false} false alarm{'' if false == 1 else 's'}"
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return "nothing wrong"
    label, prediction = np.unravel_index(int(wrong.argmax()), wrong.shape)
    names = (*classes.label_names, "nothing")
    most = f"mostly {names[label]} taken for {names[prediction]}"
    if classes.task == "binary":
        most = f"mostly {'false alarms' if label == 0 else 'missed'}"
    return f"{format_percent(wrong.sum() / counts.sum())} of the pixels wrong, {most}"


def _compare_tags(
    label: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: Classes
) -> tuple[tuple[str, str], ...]:
    pairs = zip(classes.names, label.ravel() == 1, prediction.ravel() == 1, strict=True)
    return tuple(("✓" if has and said else "✗" if has else "+", name) for name, has, said in pairs if has or said)


def _rank(scores: Mapping[str, float], counts: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Return the scenes with a score, worst first; of equal scores, such as 0, first the one with more wrong."""
    hits = {scene: int(np.diagonal(one, axis1=-2, axis2=-1).sum()) for scene, one in counts.items()}
    finite = (scene for scene, score in scores.items() if math.isfinite(score))
    return sorted(finite, key=lambda scene: (scores[scene], hits[scene] - int(counts[scene].sum()), scene))


def _side(n_pictures: int) -> int:
    """Return how large pictures can be for so many to fit in."""
    fits = math.sqrt(BUDGET / max(n_pictures, 1) / DENSITY)
    return int(min(max(fits, SMALLEST), LARGEST))
