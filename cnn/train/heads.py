"""What a network learns to say of scenes: a label of each pixel, or the tags of each scene as a whole.

Both are learned and applied alike but for what is listed here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnn.crops.crops import Crops, ReadLabel
from cnn.crops.tag_crops import TagCrops, mark_seen
from cnn.settings import CLASSIFIER, CnnSettings, MonitorName
from cnn.train.prediction_grid import draw_sheet
from cnn.train.tag_grid import draw_tag_sheet
from cnn.train.tag_validation import tag_proba, validate_tags
from cnn.train.validation import Tiles, Validation, label_indices, validate
from data.errors import MemberError
from data.metrics.metric import CLASS_METRICS, METRICS, Metric, fbeta
from data.scenes.classes import Classes
from data.scenes.scene import read_label

__all__ = ["PIXELS", "TAGS", "Kind", "check_kind", "kind_of", "score_of", "stop_name"]

Score = Callable[[NDArray[np.int64]], NDArray[np.float64]]
Predict = Callable[[Tensor], NDArray[Any]]

F2 = fbeta(2)


@dataclass(frozen=True)
class Kind:
    """What is told of scenes.

    Parameters
    ----------
    read_label : callable
        Label indices of the pixels of a window, of which a store remembers places.
    crops : type of Crops
        What it is learned from.
    validate : callable
        See `cnn.train.validation.validate`.
    tell : callable
        (logits, side of a tile) → what is told of a batch, as a sheet shows it.
    draw : callable
        Draws a sheet; see `cnn.train.prediction_grid.draw_sheet`.
    scores : mapping of str to callable
        Counts → score of the whole, by the names of ``monitor``.
    class_scores : mapping of str to (title, callable)
        Counts → score of each class.
    columns : callable
        (label names, counts) → what they are, by the column of the log.
    """

    read_label: ReadLabel
    crops: type[Crops]
    validate: Callable[..., Validation]
    tell: Callable[[Tensor, int], NDArray[Any]]
    draw: Callable[[Path, Tiles, Validation, Predict, Classes], None]
    scores: Mapping[str, Score]
    class_scores: Mapping[str, tuple[str, Score]]
    columns: Callable[[Sequence[str], NDArray[np.int64]], dict[str, float]]


def _of_tags(metric: Metric) -> Score:
    """Return the score of each tag where it is given, not where it is absent."""
    return lambda counts: metric.of(counts)[..., 1]


def _mean(score: Score) -> Score:
    """Return the mean of a score over the tags that have one."""

    def of(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        each = score(counts)
        return np.asarray(np.nanmean(each) if np.isfinite(each).any() else np.nan)

    return of


PIXELS = Kind(
    read_label,
    Crops,
    validate,
    label_indices,
    draw_sheet,
    {name: metric.of for name, metric in METRICS.items()},
    {name: (metric.title, metric.of) for name, metric in CLASS_METRICS.items()},
    lambda labels, counts: {
        f"pixels_{label}_as_{other}": int(count)
        for label, row in zip(labels, counts, strict=True)
        for other, count in zip(labels, row, strict=False)
    },
)

TAGS = Kind(
    mark_seen,
    TagCrops,
    validate_tags,
    tag_proba,
    draw_tag_sheet,
    {"macro_dice": _mean(_of_tags(CLASS_METRICS["dice"])), "macro_f2": _mean(_of_tags(F2))},
    {
        name: (metric.title, _of_tags(metric))
        for name, metric in {
            "dice": CLASS_METRICS["dice"],
            "f2": F2,
            "precision": CLASS_METRICS["precision"],
            "recall": CLASS_METRICS["recall"],
        }.items()
    },
    lambda labels, counts: {
        f"{what}_{label}": int(cells[place])
        for label, cells in zip(labels, counts, strict=True)
        for what, place in (("hits", (1, 1)), ("misses", (1, 0)), ("false_alarms", (0, 1)))
    },
)


def kind_of(classes: Classes) -> Kind:
    """Return what is told of scenes that have such classes."""
    return TAGS if classes.task == "multilabel" else PIXELS


OF_PIXELS = ("stack", "region_weights", "crop_weights", "positive_share")
"""Settings that a multilabel task has no use for."""


def check_kind(settings: CnnSettings, classes: Classes) -> None:
    """Refuse settings of the other kind.

    Raises
    ------
    MemberError
        If they are not those of the task.
    """
    tags, task = classes.task == "multilabel", classes.task
    if tags and settings.architecture.lower() != CLASSIFIER:
        raise MemberError(
            f"architecture: expected {CLASSIFIER} with the task multilabel, whose tags are those of whole scenes, got "
            f"{settings.architecture}, which labels pixels. Write `architecture: {CLASSIFIER}`, or leave it out."
        )
    if not tags and settings.architecture.lower() == CLASSIFIER:
        raise MemberError(
            f"architecture: expected one that labels pixels with the task {task}, such as unet, got {CLASSIFIER}, "
            "which is for the task multilabel. Write `architecture: unet`."
        )
    if not tags and settings.pos_weight != "none":
        raise MemberError(
            f"pos_weight: expected the task multilabel, whose tags they are about, got {task}. Write class_weights."
        )
    foreign = [key for key in OF_PIXELS if getattr(settings, key) not in (None, [], {})] if tags else []
    if foreign:
        raise MemberError(
            f"{foreign[0]}: expected none with the task multilabel, which has no labels of pixels. Leave it out; "
            "scene_weights such as {has_haze: 3} show some scenes more often."
        )


def stop_name(settings: CnnSettings, classes: Classes) -> MonitorName:
    """Return what held-out scenes are scored by.

    Raises
    ------
    MemberError
        If it is a score of the positive class and there is none, or one of pixels and there are tags.
    """
    usual: dict[str, MonitorName] = {"binary": "iou", "multiclass": "macro_iou", "multilabel": "macro_dice"}
    name, known = settings.monitor or usual[classes.task], kind_of(classes).scores
    if name in ("iou", "dice") and classes.task != "binary":
        raise MemberError(
            f"monitor: expected a score of all classes, such as {usual[classes.task]}, got {name}, which is that of "
            "the positive class of a binary task. Change it, or leave it out."
        )
    if name != "loss" and name not in known:
        raise MemberError(
            f"monitor: expected one of {', '.join(known)} and loss with the task {classes.task}, got {name}."
        )
    return name


def score_of(name: MonitorName, found: Validation, kind: Kind) -> float:
    """Score held-out scenes; the more the better. A score without a pixel or scene to it is 0."""
    return -found.loss if name == "loss" else float(np.nan_to_num(kind.scores[name](found.counts)))
