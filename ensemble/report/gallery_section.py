"""The report's gallery: scenes as they were predicted out of fold, most wrong first, as many as a small file holds."""

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
from data.scenes.scene import Scene
from ensemble.decide.decision.cleaning import Masks, no_masks
from ensemble.maps import MemberMaps
from ensemble.report.section import ReportSource, Row
from ensemble.report.thumbnails import Quicklook, draw_scene, draw_thumbnails
from ensemble.score.evaluation import Evaluation

__all__ = ["GalleryScene", "draw_gallery", "gallery_values"]

FIRST = 4
"""Scenes that are shown before the button is pressed."""
BUDGET = 2_800_000
"""Characters that the pictures of a report may have together."""
LARGEST, SMALLEST = 256, 96
"""Pixels on a side of a picture."""
DENSITY = 0.25
"""Characters of a picture for each of its pixels, about, over photographs and maps."""

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class GalleryScene:
    """A scene that is shown, with all of its blocks.

    Parameters
    ----------
    id : str
    score : float
    folds : tuple of int
    errors : str
        How much of it is wrong, in words.
    pictures : tuple of str
        Data URIs; of a scene with tags the scene alone.
    tags : tuple of (sign, tag)
        That it has or is predicted to have: ✓ hit, ✗ missed, + false alarm.
    """

    id: str
    score: float
    folds: tuple[int, ...]
    errors: str
    pictures: tuple[str, ...]
    tags: tuple[tuple[str, str], ...] = ()


def gallery_values(source: ReportSource) -> Row | None:
    """Return the scenes that are drawn, titles of pictures and names of colours; None where nothing can be drawn."""
    if source.run.quicklook is None:
        return None
    nested, classes = source.nested, source.classes
    counts = _whole_counts(nested, source.catalogue)
    scores = {scene: float(source.objective.score(counted)) for scene, counted in counts.items()}
    n_scored = sum(map(math.isfinite, scores.values()))
    return {
        "scenes": draw_gallery(
            nested, scores, source.maps, source.catalogue, source.run.quicklook, source.masks, source.track
        ),
        "n_first": FIRST,
        "n_scored": n_scored,
        "n_unscored": len(scores) - n_scored,
        "folds": sorted(set(nested.folds.values())),
        "columns": ["scene", "label", *source.maps.names, "map", "errors"],
        "errors": _error_names(classes),
    }


def draw_gallery(
    evaluation: Evaluation,
    scores: Mapping[str, float],
    maps: MemberMaps,
    catalogue: Catalogue,
    quicklook: Quicklook,
    masks: Masks = no_masks,
    track: Track = untracked,
    budget: int = BUDGET,
) -> list[GalleryScene]:
    """Draw training scenes, those with the most wrong first: all, or of very many these and some of every rank.

    Parameters
    ----------
    evaluation : Evaluation
        Nested.
    scores : mapping of str to float
        Scene, of blocks the one that they are of → its score; scenes without a finite one are not shown.
    maps : MemberMaps
    catalogue : Catalogue
    quicklook : callable
        (scene, window) → picture (H, W, 3) uint8.
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    track : Track
    budget : int
        Characters that the pictures may have together.
    """
    classes, final, tagged = catalogue.classes, evaluation.final, catalogue.classes.task == "multilabel"
    counts = _whole_counts(evaluation, catalogue)
    ranked = rank_scenes(scores, counts)
    side = _side(len(ranked) * (1 if tagged else len(maps.names) + 4), budget)
    parts = _parts_of(catalogue)
    drawn: dict[str, GalleryScene] = {}
    left = budget
    for name in track(showing_order(ranked), "gallery", len(ranked)):
        folds = {scene.id: evaluation.folds[scene.id] for scene in parts[name]}
        decided = [(scene, evaluation.decisions[folds[scene.id]][final]) for scene in parts[name]]
        if tagged:
            [(scene, decision)] = decided
            tags = _compare_tags(maps.label(scene), decision.apply(maps.read(scene)), classes)
            pictures = [draw_scene(scene, quicklook, side)]
        else:
            tags, pictures = (), draw_thumbnails(decided, maps, classes, quicklook, side, masks)
        left -= sum(map(len, pictures))
        if left < 0 and drawn:
            break
        errors, in_folds = errors_text(counts[name], classes), tuple(sorted({*folds.values()}))
        drawn[name] = GalleryScene(name, scores[name], in_folds, errors, tuple(pictures), tags)
    return [drawn[name] for name in ranked if name in drawn]


def _parts_of(catalogue: Catalogue) -> dict[str, list[Scene]]:
    """Return the training scenes, or the blocks, that each whole training scene is made of."""
    parts: dict[str, list[Scene]] = {}
    for scene in catalogue.split("train"):
        parts.setdefault(scene.whole.id, []).append(scene)
    return parts


def _whole_counts(evaluation: Evaluation, catalogue: Catalogue) -> dict[str, NDArray[np.int64]]:
    """Return the counts of each whole training scene."""
    counts, parts = evaluation.counts[evaluation.final], _parts_of(catalogue)
    return {name: np.sum([counts[scene.id] for scene in scenes], axis=0) for name, scenes in parts.items()}


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
            place = next((rank for rank in turn if rank not in shown), None) if len(shown) < n else None
            if place is not None:
                shown.add(place)
                yield ranked[place]


def errors_text(counts: NDArray[np.int64], classes: Classes) -> str:
    """Write how much of a scene is wrong, which class is most often taken for which, and what has no prediction."""
    if classes.task == "multilabel":
        missed, false = int(counts[:, 1, [0, 2]].sum()), int(counts[:, 0, 1].sum())
        return f"{missed} missed, {false} false alarm{'' if false == 1 else 's'}"
    wrong, unseen = counts[0, :, :-1].copy(), int(counts[..., -1].sum())
    blank = f"; {format_percent(unseen / counts.sum())} without a prediction" if unseen else ""
    predicted = wrong.sum()
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return f"nothing wrong{blank}"
    label, prediction = np.unravel_index(int(wrong.argmax()), wrong.shape)
    most = f"mostly {classes.label_names[label]} taken for {classes.label_names[prediction]}"
    if classes.task == "binary":
        most = f"mostly {'false alarms' if label == 0 else 'missed'}"
    return f"{format_percent(wrong.sum() / predicted)} of the predicted pixels wrong, {most}{blank}"


def _error_names(classes: Classes) -> dict[str, str]:
    """Return what the colours of errors are called, those that occur."""
    rest = {"unknown": "ignored or not predicted"}
    if classes.task == "binary":
        return {"hit": "hit", "miss": "missed", "false alarm": "false alarm", **rest}
    return {"wrong": "wrong", **rest}


def _compare_tags(
    label: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: Classes
) -> tuple[tuple[str, str], ...]:
    tags = zip(classes.names, label.ravel() == 1, prediction.ravel() == 1, strict=True)
    return tuple(
        ("✓" if has and predicted else "✗" if has else "+", name) for name, has, predicted in tags if has or predicted
    )


def rank_scenes(scores: Mapping[str, float], counts: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Return the scenes with a score, those with the most wrong first; of equally many, first the worse score.

    By score alone those come first that hold a few pixels of a class: their score is 0, and they say little. What has
    no prediction, as where there is no data, is not wrong.
    """
    hits = {scene: int(np.diagonal(table, axis1=-2, axis2=-1).sum()) for scene, table in counts.items()}
    finite = (scene for scene, score in scores.items() if math.isfinite(score))
    return sorted(finite, key=lambda scene: (hits[scene] - int(counts[scene][..., :-1].sum()), scores[scene], scene))


def _side(n_pictures: int, budget: int) -> int:
    """Return how large pictures can be, in pixels on a side, if all shall fit in a budget."""
    fits = math.sqrt(budget / max(n_pictures, 1) / DENSITY)
    return int(min(max(fits, SMALLEST), LARGEST))
