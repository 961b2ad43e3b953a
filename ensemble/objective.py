"""What is optimised: one number for any confusion counts, the more the better."""

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

__all__ = ["Objective", "objective_of"]

WHOLE = ("accuracy", "kappa", "cost")
"""Scores that are those of the whole map, not of one class or of several."""


@dataclass(frozen=True)
class Objective:
    """A score of pooled counts, or the mean of scenes' own scores.

    Counts are (…, n_labels, n_labels + 1); of tags (…, K, 2, 3).

    Parameters
    ----------
    name : str
        As in the experiment file.
    title, meaning : str
        For tables, and in words.
    score : Metric
        Of each class or, if ``places`` is None, of the whole map.
    by_scene : bool
        The mean over scenes of each one's own score; else that of their pooled counts.
    by_tag : bool
        Counts are those of K independent classes.
    pooled_tags : bool
        The counts of all tags are summed first.
    places : tuple of int, optional
        The labels, or tags, whose scores are averaged.
    empty : float, optional
        By scene: what a class that is not in the scene's label scores if it is not predicted either; None: it is left
        out.
    """

    name: str
    title: str
    meaning: str
    score: Metric
    by_scene: bool = False
    by_tag: bool = False
    pooled_tags: bool = False
    places: tuple[int, ...] | None = None
    empty: float | None = None

    @property
    def of_one(self) -> "Objective":
        """The same score of counts (…, 2, 3): those of one class or, where tags are pooled, of all of them summed."""
        if not self.by_tag:
            return self
        return replace(self, by_tag=False, pooled_tags=False, places=None if self.places is None else (1,))

    def of(self, counts: Counts) -> Scores:
        """Score pooled counts or, where scores are by scene, those of one; NaN where there is nothing to score."""
        counts = np.asarray(counts)
        if self.pooled_tags:
            counts = counts.sum(axis=-3)
        scores = self.score.of(counts)
        if self.places is None:
            return scores
        scores = self._pick(scores)
        if self.by_scene and self.empty is None:
            # Whatever is predicted there: the same scenes are to count for every threshold.
            scores = np.where(self._pick(labelled(counts)) > 0, scores, np.nan)
        elif self.empty is not None:
            seen = counts.sum(axis=(-2, -1)) > 0
            scores = np.where(np.isnan(scores) & self._spread(seen), self.empty, scores)
        return nan_mean(scores)

    def over(self, counts: Counts) -> Scores:
        """Score the counts of scenes, (n_scenes, …): their sum, or the mean of each one's own score."""
        counts = np.asarray(counts)
        return nan_mean(self.of(counts), axis=0) if self.by_scene else self.of(counts.sum(axis=0))

    def _pick(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values (…, n) of the classes that count, of those of each label (…, [K,] n_labels)."""
        picked: NDArray[np.float64] = values[..., 1] if self.by_tag and not self.pooled_tags else values
        return picked[..., list(self.places or ())]

    def _spread(self, seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return seen if self.by_tag and not self.pooled_tags else seen[..., None]


def objective_of(settings: EnsembleSettings, classes: Classes) -> Objective:
    """Return what the settings ask for; by default Dice when binary, else macro IoU, for tags macro Dice.

    Raises
    ------
    EnsembleError
        If it does not suit the task, or names an unknown class.
    """
    usual = {"binary": "dice", "multiclass": "macro_iou", "multilabel": "macro_dice"}
    chosen = settings.metric or MetricSettings.model_validate(usual[classes.task])
    by_tag = classes.task == "multilabel"
    _require_suitable(chosen, classes)
    score = _score_of(chosen, classes)
    places = None if chosen.name in WHOLE else _places(chosen, classes)
    pooled_tags = by_tag and not chosen.name.startswith("macro_") and chosen.of is None
    title, meaning = _words(chosen, classes, score, pooled_tags)
    return Objective(
        chosen.name,
        title,
        meaning,
        score,
        by_scene=chosen.over == "scenes",
        by_tag=by_tag,
        pooled_tags=pooled_tags,
        places=places,
        empty=None if chosen.empty == "skip" else float(chosen.empty),
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
        one = f"ame one class: {{name: {name}, of: {classes.names[-1]}}}."
        raise EnsembleError(
            f"ensemble.metric: expected a score over all classes for the task multiclass, got {name}. "
            f"{'N' if chosen.at_least else f'Use macro_{name}, or n'}{one}"
        )
    if classes.task == "multilabel" and chosen.over == "scenes" and (macro or chosen.of is not None):
        raise EnsembleError(
            "ensemble.metric: expected a score of all tags of a scene over scenes, got that of each tag, although few "
            f"tags are in any one. Use {name.removeprefix('macro_')} alone."
        )
    if classes.task == "multilabel" and name == "cost":
        raise EnsembleError(
            "ensemble.metric: expected a score of tags, got cost, which is that of one class taken for another. "
            "Use fbeta, with a beta above 1 where misses are dear."
        )


def _score_of(chosen: MetricSettings, classes: Classes) -> Metric:
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


def _places(chosen: MetricSettings, classes: Classes) -> tuple[int, ...]:
    if chosen.of is not None:
        return (classes.label_names.index(chosen.of),)
    return tuple(range(len(classes.label_names))) if chosen.name.startswith("macro_") else (1,)


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


def _words(chosen: MetricSettings, classes: Classes, score: Metric, pooled_tags: bool) -> tuple[str, str]:
    """Return the title and the meaning."""
    macro, by_scene, by_tag = chosen.name.startswith("macro_"), chosen.over == "scenes", classes.task == "multilabel"
    if chosen.name in WHOLE:
        title, what = score.title, score.meaning
    elif macro:
        title = f"macro {score.title}"
        what = f"mean over the {'tags' if by_tag else 'classes, background too,'} of their {score.title}"
    elif pooled_tags:
        title = score.title if by_scene else f"micro {score.title}"
        what = f"{score.title} of all tags together"
    else:
        title = f"{score.title} of {chosen.of}" if chosen.of else score.title
        what = f"{score.title} of {chosen.of or classes.names[0]}"
    if chosen.name in WHOLE:
        return (f"mean scene {title}", f"mean over the scenes of each one's own: {what}") if by_scene else (title, what)
    if not by_scene:
        return title, f"{what}, pooled over all {'scenes' if by_tag else 'pixels'}"
    rule = "is left out" if chosen.empty == "skip" else f"has {chosen.empty} if nothing is predicted there, else 0"
    thing = "class that is not in a scene" if macro else "scene without any"
    return f"mean scene {title}", f"mean over the scenes of each one's own {what}; a {thing} {rule}"
