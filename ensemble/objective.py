"""Objectives: one number for any confusion counts, higher is better."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.metrics.metric import (
    CLASS_METRICS,
    METRICS,
    Counts,
    Metric,
    Scores,
    expected_cost,
    fbeta,
    labelled,
    nan_mean,
    precision_at,
    recall_at,
)
from data.names import nearest
from data.scenes.classes import Classes
from ensemble.metric_settings import MetricSettings
from ensemble.settings import EnsembleSettings

__all__ = ["Objective", "Promise", "objective_of"]

WHOLE = ("accuracy", "kappa", "cost")
"""Scores that are those of the whole map, not of one class or of several."""


@dataclass(frozen=True)
class Promise:
    """That a class's recall, in the mean over groups, is at least so high: in that share of cases."""

    recall: float
    confidence: float

    @property
    def words(self) -> str:
        """Write the promise.

        >>> Promise(0.9, 0.95).words
        'recall of at least 0.9 in the mean over groups, with 95% confidence'
        """
        return f"recall of at least {self.recall:g} in the mean over groups, with {self.confidence:.0%} confidence"


@dataclass(frozen=True)
class Objective:
    """A score of pooled counts, or the mean of scenes' own scores.

    Counts are (…, Q, L, L + 1): of Q questions with L labels each.

    Parameters
    ----------
    name : str
        As in the experiment file.
    title, meaning : str
        For tables, and in words.
    metric : Metric
        Of each label or, if ``places`` is None, of all of them.
    by_scene : bool
        The mean over scenes of each one's own score; else that of their pooled counts.
    pooled : bool
        The counts of all questions are summed first.
    places : tuple of (int, int), optional
        The questions and labels whose scores are averaged.
    empty : float, optional
        By scene: what a class that is not in the scene's label scores if it is not predicted either, 0 where the scene
        has no prediction at all; None: it is left out.
    promise : Promise, optional
        That thresholds have to keep.
    """

    name: str
    title: str
    meaning: str
    metric: Metric
    by_scene: bool = False
    pooled: bool = False
    places: tuple[tuple[int, int], ...] | None = None
    empty: float | None = None
    promise: Promise | None = None

    @property
    def questions(self) -> tuple[int, ...]:
        """The questions that are scored, where their counts are not pooled."""
        return tuple(sorted({question for question, _ in self.places or ((0, 0),)}))

    def of_question(self, question: int) -> "Objective":
        """Return what the counts (…, 1, L, L + 1) of one question are scored by, or those of all, pooled."""
        if self.pooled or self.places is None:
            return self
        return replace(self, places=tuple((0, label) for asked, label in self.places if asked == question))

    def score(self, counts: Counts) -> Scores:
        """Score pooled counts or, where scores are by scene, those of one; NaN where there is nothing to score."""
        counts = np.asarray(counts)
        if self.pooled:
            counts = counts.sum(axis=-3, keepdims=True)
        scores = self.metric.score(counts)
        if self.places is None:
            return nan_mean(scores)
        questions, labels = map(list, zip(*self.places, strict=True))
        scores = scores[..., questions, labels]
        if self.by_scene and self.empty is None:
            # Whatever is predicted there: the same scenes are to count for every threshold.
            scores = np.where(labelled(counts)[..., questions, labels] > 0, scores, np.nan)
        elif self.empty is not None:
            # Where nothing at all was predicted, nothing was found to be absent.
            seen = counts.sum(axis=(-2, -1))[..., questions] > 0
            predicted = counts[..., :-1].sum(axis=(-2, -1))[..., questions] > 0
            scores = np.where(np.isnan(scores) & seen, np.where(predicted, self.empty, 0), scores)
        return nan_mean(scores)

    def over(self, counts: Counts) -> Scores:
        """Score the counts of scenes, (n_scenes, …): their sum, or the mean of each one's own score."""
        counts = np.asarray(counts)
        return nan_mean(self.score(counts), axis=0) if self.by_scene else self.score(counts.sum(axis=0))


def objective_of(settings: EnsembleSettings, classes: Classes) -> Objective:
    """Return what the settings ask for; by default Dice when binary, else macro IoU, for tags macro Dice.

    Raises
    ------
    EnsembleError
        If it does not suit the task, or names an unknown class.
    """
    usual = {"binary": "dice", "multiclass": "macro_iou", "multilabel": "macro_dice"}
    chosen = settings.metric or MetricSettings.model_validate(usual[classes.task])
    _require_suitable(chosen, classes)
    metric = _metric_of(chosen, classes)
    pooled = classes.n_questions > 1 and not chosen.name.startswith("macro_") and chosen.of is None
    title, meaning = _words(chosen, classes, metric)
    promise = Promise(chosen.at_least, chosen.confidence) if chosen.at_least and chosen.confidence else None
    if promise:
        meaning = f"{meaning}, of thresholds that promise a {promise.words}"
    return Objective(
        chosen.name,
        title,
        meaning,
        metric,
        by_scene=chosen.over == "scenes",
        pooled=pooled,
        places=None if chosen.name in WHOLE else _places(chosen, classes),
        empty=None if chosen.empty == "skip" else float(chosen.empty),
        promise=promise,
    )


def _require_suitable(chosen: MetricSettings, classes: Classes) -> None:
    macro, name = chosen.name.startswith("macro_"), chosen.name
    if chosen.of is not None and (macro or name in WHOLE):
        raise EnsembleError(
            f"ensemble.metric: expected a score of one class with of: {chosen.of}, got {name}. Leave of out, or use "
            f"{name.removeprefix('macro_') if macro else 'dice'}."
        )
    if chosen.of is not None and chosen.of not in classes.label_names:
        raise EnsembleError(
            f"ensemble.metric: expected of to be one of {', '.join(classes.label_names)}, got {chosen.of}. "
            f"Nearest: {nearest(chosen.of, classes.label_names)}."
        )
    if classes.task == "multiclass" and not macro and name not in WHOLE and chosen.of is None:
        advice = f"ame one class: {{name: {name}, of: {classes.names[-1]}}}."
        raise EnsembleError(
            f"ensemble.metric: expected a score over all classes for the task multiclass, got {name}. "
            f"{'N' if chosen.at_least else f'Use macro_{name}, or n'}{advice}"
        )
    if chosen.confidence and chosen.of is not None and chosen.of not in classes.names:
        raise EnsembleError(
            f"ensemble.metric: expected of to be one of {', '.join(classes.names)} with confidence, got {chosen.of}. "
            "Leave of out, or leave confidence out."
        )
    if classes.task != "multilabel":
        return
    if chosen.over == "scenes" and (macro or chosen.of is not None):
        raise EnsembleError(
            "ensemble.metric: expected a score of all tags of a scene over scenes, got that of each tag, although few "
            f"tags are in any one. Use {name.removeprefix('macro_')} alone."
        )
    if name == "cost":
        raise EnsembleError(
            "ensemble.metric: expected a score of tags, got cost, which is that of one class taken for another. "
            "Use fbeta, with a beta above 1 where misses are dear."
        )


def _metric_of(chosen: MetricSettings, classes: Classes) -> Metric:
    name = chosen.name.removeprefix("macro_")
    if name == "cost":
        return expected_cost(_cost_matrix(chosen, classes))
    if name in ("fbeta", "f2"):
        return fbeta(chosen.beta or 2.0)
    if name == "precision_at_recall":
        return precision_at(chosen.at_least or 1.0)
    if name == "recall_at_precision":
        return recall_at(chosen.at_least or 1.0)
    return METRICS["kappa" if name == "kappa" else "accuracy"] if name in WHOLE else CLASS_METRICS[name]


def _places(chosen: MetricSettings, classes: Classes) -> tuple[tuple[int, int], ...]:
    if chosen.of is not None:
        return (classes.places[classes.label_names.index(chosen.of)],)
    return classes.places if chosen.name.startswith("macro_") else ((0, 1),)


def _cost_matrix(chosen: MetricSettings, classes: Classes) -> NDArray[np.float64]:
    names = classes.label_names
    costs = 1 - np.eye(len(names))
    for label, row in (chosen.costs or {}).items():
        for prediction, cost in row.items():
            for name in (label, prediction):
                if name not in names:
                    raise EnsembleError(
                        f"ensemble.metric.costs: expected names among {', '.join(names)}, got {name}. "
                        f"Nearest: {nearest(name, names)}."
                    )
            costs[names.index(label), names.index(prediction)] = cost
    return costs


def _words(chosen: MetricSettings, classes: Classes, metric: Metric) -> tuple[str, str]:
    """Return the title and the meaning."""
    macro, by_scene, tags = chosen.name.startswith("macro_"), chosen.over == "scenes", classes.task == "multilabel"
    if chosen.name in WHOLE:
        title, what = metric.title, metric.meaning
    elif macro:
        title = f"macro {metric.title}"
        what = f"mean over the {'tags' if tags else 'classes, background too,'} of their {metric.title}"
    elif tags and chosen.of is None:
        title = metric.title if by_scene else f"micro {metric.title}"
        what = f"{metric.title} of all tags together"
    else:
        title = f"{metric.title} of {chosen.of}" if chosen.of else metric.title
        what = f"{metric.title} of {chosen.of or classes.names[0]}"
    if chosen.name in WHOLE:
        return (f"mean scene {title}", f"mean over the scenes of each one's own: {what}") if by_scene else (title, what)
    if not by_scene:
        return title, f"{what}, pooled over all {'scenes' if tags else 'pixels'}"
    rule = "is left out" if chosen.empty == "skip" else f"has {chosen.empty} if nothing is predicted there, else 0"
    thing = "class that is not in a scene" if macro else "scene without any"
    return f"mean scene {title}", f"mean over the scenes of each one's own {what}; a {thing} {rule}"
