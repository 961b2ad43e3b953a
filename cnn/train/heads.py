"""Heads of networks: they predict a label of each pixel, or the tags of each scene as a whole.

Both are learned and applied alike but for what is listed here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnn.settings import CLASSIFIER, CnnSettings, MonitorName
from cnn.train.prediction_grid import PIXEL_PANELS, TAG_PANELS, Panels
from cnn.train.validation import PixelTally, TagTally, Tally, Validation, label_indices, tag_proba
from data.errors import MemberError
from data.metrics.metric import CLASS_METRICS, METRICS, Metric, fbeta
from data.scenes.classes import Classes

__all__ = ["PIXELS", "TAGS", "Head", "check_head", "head_of", "monitor_name", "score_of"]

Score = Callable[[NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Head:
    """A kind of prediction: how it is made, counted, scored and shown.

    Parameters
    ----------
    decode : callable
        (logits, side of a tile) → predictions of a batch, as the panels draw them.
    panels : Panels
        Of a grid of predictions.
    tally : callable
        Number of labels or tags → what is counted of held-out scenes.
    scores : mapping of str to callable
        Counts → score of the whole, by the names of ``monitor``.
    class_scores : mapping of str to (title, callable)
        Counts → score of each class.
    columns : callable
        (label names, counts) → the counts, by column of the log.
    """

    decode: Callable[[Tensor, int], NDArray[Any]]
    panels: Panels
    tally: Callable[[int], Tally]
    scores: Mapping[str, Score]
    class_scores: Mapping[str, tuple[str, Score]]
    columns: Callable[[Sequence[str], NDArray[np.int64]], dict[str, float]]


def _where_given(metric: Metric) -> Score:
    """Return the score of each tag where it is given, not where it is absent."""
    return lambda counts: metric.score(counts)[..., 1]


def _mean(metric: Metric) -> Score:
    """Return the mean of a score over the tags that have one."""

    def score(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        scores = _where_given(metric)(counts)
        return np.asarray(np.nanmean(scores) if np.isfinite(scores).any() else np.nan)

    return score


PIXELS = Head(
    label_indices,
    PIXEL_PANELS,
    PixelTally,
    {name: metric.score for name, metric in METRICS.items()},
    {name: (metric.title, metric.score) for name, metric in CLASS_METRICS.items()},
    lambda labels, counts: {
        f"pixels_{label}_as_{other}": int(count)
        for label, row in zip(labels, counts, strict=True)
        for other, count in zip(labels, row, strict=False)
    },
)

TAG_METRICS = {"dice": CLASS_METRICS["dice"], "f2": fbeta(2)} | {
    name: CLASS_METRICS[name] for name in ("precision", "recall")
}

TAGS = Head(
    tag_proba,
    TAG_PANELS,
    TagTally,
    {f"macro_{name}": _mean(TAG_METRICS[name]) for name in ("dice", "f2")},
    {name: (metric.title, _where_given(metric)) for name, metric in TAG_METRICS.items()},
    lambda labels, counts: {
        f"{outcome}_{label}": int(cells[place])
        for label, cells in zip(labels, counts, strict=True)
        for outcome, place in (("hits", (1, 1)), ("misses", (1, 0)), ("false_alarms", (0, 1)))
    },
)


def head_of(classes: Classes) -> Head:
    """Return the head of networks that predict such classes."""
    return TAGS if classes.task == "multilabel" else PIXELS


OF_PIXELS = ("stack", "region_weights", "crop_weights", "positive_share")
"""Settings that a multilabel task does not have."""


def check_head(settings: CnnSettings, classes: Classes) -> None:
    """Refuse settings of the other head.

    Raises
    ------
    MemberError
        If there are some.
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


def monitor_name(settings: CnnSettings, classes: Classes) -> MonitorName:
    """Return the name of the score of held-out scenes.

    Raises
    ------
    MemberError
        If it is a score of the positive class without one, or of pixels where scenes have tags.
    """
    usual: dict[str, MonitorName] = {"binary": "iou", "multiclass": "macro_iou", "multilabel": "macro_dice"}
    name, known = settings.monitor or usual[classes.task], head_of(classes).scores
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


def score_of(name: MonitorName, validation: Validation, head: Head) -> float:
    """Score held-out scenes; higher is better. A score without a pixel or scene to it is 0."""
    return -validation.loss if name == "loss" else float(np.nan_to_num(head.scores[name](validation.counts)))
