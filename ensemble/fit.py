"""Fitting the ensemble: nested decisions, honest scores, and the verdict whether the blend pays."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.catalogue import Catalogue
from data.classes import Classes
from data.errors import EnsembleError
from data.maps import NODATA
from data.progress import Track, untracked
from data.scene import Scene, read_label
from ensemble.blend import Weights, blend_stored
from ensemble.confusion import confusion_counts
from ensemble.decision import Decision, find_thresholds, find_weights, plain_thresholds
from ensemble.ensemble import Ensemble
from ensemble.intervals import Interval, resample_groups, score_interval, sum_by_group
from ensemble.maps import MemberMaps, PixelPool, draw_pool
from ensemble.metrics import METRICS, Metric
from ensemble.settings import EnsembleSettings, MetricName
from ensemble.thresholds import best_threshold, score_histogram

__all__ = ["BLEND", "Evaluation", "fit_ensemble"]

logger = logging.getLogger(__name__)

BLEND = "blend"
"""Name of the blend among the candidates; the others are the members."""

SceneCounts = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Evaluation:
    """Confusion counts of every candidate on every scene, from which all scores and intervals follow.

    Parameters
    ----------
    split : {"train", "val"}
        On ``train`` the counts are nested: weights and thresholds were found on the other folds.
    counts : dict
        Candidate (each member, `BLEND`) → scene → (n_labels, n_labels + 1) int64.
    groups : dict
        Scene → group.
    folds : dict
        Scene → fold; empty for ``val``.
    """

    split: str
    counts: dict[str, SceneCounts]
    groups: dict[str, str]
    folds: dict[str, int]

    def group_sums(self, candidate: str) -> NDArray[np.int64]:
        """Return a candidate's counts by group."""
        return sum_by_group(self.counts[candidate], self.groups)

    def total(self, candidate: str, fold: int | None = None) -> NDArray[np.int64]:
        """Return a candidate's counts over all scenes, or those of one fold."""
        chosen = [
            counts for scene, counts in self.counts[candidate].items() if fold is None or self.folds[scene] == fold
        ]
        total: NDArray[np.int64] = np.add.reduce(chosen)
        return total


def fit_ensemble(
    members: Mapping[str, Path],
    catalogue: Catalogue,
    settings: EnsembleSettings,
    *,
    seed: int,
    track: Track = untracked,
) -> tuple[Ensemble, list[Evaluation]]:
    """Decide, from out-of-fold maps alone, how the members are blended.

    Parameters
    ----------
    members : mapping of str to Path
        Member → its folder.
    catalogue : Catalogue
    settings : EnsembleSettings
    seed : int
    track : Track

    Returns
    -------
    ensemble : Ensemble
        Weights and thresholds found on all folds. If the nested blend does not beat the best member, that member
        alone.
    evaluations : list of Evaluation
        Nested on the training scenes; on the val scenes, if there are any, by the ensemble itself.

    Raises
    ------
    EnsembleError
        If maps are missing or of other classes, or there are fewer than two folds.
    """
    classes, folds = catalogue.classes, catalogue.folds
    if len(folds) < 2:
        raise EnsembleError(f"expected at least two folds to decide out of fold, got {len(folds)}. Raise folds.count.")
    maps = MemberMaps(dict(members))
    scored = (*catalogue.split("train"), *catalogue.split("val"))
    maps.require(scored, classes.names)
    metric = METRICS[metric_of(settings, classes)]
    pool = draw_pool(maps, catalogue, settings.sample, seed, track)

    finder = _Finder(maps, catalogue, pool, metric, settings, track)
    nested = {fold: finder.decide([other for other in folds if other != fold]) for fold in folds}
    final = finder.decide(folds)
    evaluation = _evaluate(maps, catalogue.split("train"), lambda scene: nested[scene.fold or 0], classes, track)

    draws = resample_groups(len(set(evaluation.groups.values())), settings.resamples, seed)
    sums = {name: evaluation.group_sums(name) for name in evaluation.counts}
    scores = {name: float(metric.of(total.sum(axis=0))) for name, total in sums.items()}
    best = max(members, key=lambda name: scores[name])
    gain = score_interval(sums[BLEND], draws, metric, settings.interval, against=sums[best])[0]
    pays = gain.value > 0
    chosen = final[BLEND] if pays else final[best]
    ensemble = Ensemble(
        classes=classes,
        members=maps.names,
        weights_=dict(zip(maps.names, chosen.weights, strict=True)),
        thresholds_=chosen.thresholds,
        metric=metric_of(settings, classes),
        score_=scores[BLEND] if pays else scores[best],
        verdict_=_verdict(list(members), best, scores, gain, metric, settings, chosen.weights),
    )
    logger.info("%s", ensemble.verdict_)
    evaluations = [evaluation]
    if catalogue.split("val"):
        decisions = {**final, BLEND: chosen}
        evaluations.append(_evaluate(maps, catalogue.split("val"), lambda _: decisions, classes, track))
    return ensemble, evaluations


def metric_of(settings: EnsembleSettings, classes: Classes) -> MetricName:
    """Return the metric that is optimised; raises EnsembleError if it does not suit the task."""
    name = settings.metric or ("dice" if classes.task == "binary" else "macro_iou")
    if classes.task == "multiclass" and name in ("dice", "iou"):
        raise EnsembleError(
            f"ensemble.metric: expected a score over all classes for the task multiclass, got {name}. Use macro_{name}."
        )
    return name


class _Finder:
    """Finds decisions on some folds; exact histograms of each blend are read once and kept by fold."""

    def __init__(
        self,
        maps: MemberMaps,
        catalogue: Catalogue,
        pool: PixelPool,
        metric: Metric,
        settings: EnsembleSettings,
        track: Track,
    ) -> None:
        self._maps, self._catalogue, self._pool = maps, catalogue, pool
        self._metric, self._settings, self._track = metric, settings, track
        self._histograms: dict[Weights, dict[int, NDArray[np.float64]]] = {}

    def decide(self, folds: Sequence[int]) -> dict[str, Decision]:
        """Return the decision of every candidate, found on the pixels of some folds."""
        classes, n_members = self._catalogue.classes, len(self._maps.names)
        pool = self._pool.take(np.isin(self._pool.fold, folds))
        weights = {
            name: tuple(float(name == other) for other in self._maps.names) for name in self._maps.names
        }  # fmt: skip
        weights[BLEND] = find_weights(pool, classes, self._metric, self._settings) if n_members > 1 else (1.0,)
        return {name: Decision(chosen, self._thresholds(chosen, pool, folds)) for name, chosen in weights.items()}

    def _thresholds(self, weights: Weights, pool: PixelPool, folds: Sequence[int]) -> tuple[float, ...]:
        classes = self._catalogue.classes
        if self._settings.thresholds == "fixed":
            return plain_thresholds(classes)
        if classes.task == "multiclass":
            return find_thresholds(pool, weights, classes, self._metric)
        by_fold = self._fold_histograms(weights)
        return (best_threshold(np.sum([by_fold[fold] for fold in folds], axis=0), self._metric)[0],)

    def _fold_histograms(self, weights: Weights) -> dict[int, NDArray[np.float64]]:
        if weights not in self._histograms:
            by_fold = {fold: np.zeros((2, NODATA + 1)) for fold in self._catalogue.folds}
            scenes = self._catalogue.split("train")
            for scene in self._track(scenes, "thresholds", len(scenes)):
                blended = blend_stored(self._maps.read(scene), weights)[0]
                by_fold[scene.fold or 0] += score_histogram(blended, read_label(scene))
            self._histograms[weights] = by_fold
        return self._histograms[weights]


def _evaluate(
    maps: MemberMaps,
    scenes: Sequence[Scene],
    decisions: Callable[[Scene], Mapping[str, Decision]],
    classes: Classes,
    track: Track,
) -> Evaluation:
    counts: dict[str, SceneCounts] = {name: {} for name in (*maps.names, BLEND)}
    for scene in track(scenes, f"{scenes[0].split} scenes scored", len(scenes)):
        stored, label = maps.read(scene), read_label(scene)
        for name, decision in decisions(scene).items():
            counts[name][scene.id] = confusion_counts(label, decision.apply(stored), len(classes.label_names))
    groups = {scene.id: scene.group or scene.id for scene in scenes}
    folds = {scene.id: scene.fold for scene in scenes if scene.fold is not None}
    return Evaluation(scenes[0].split, counts, groups, folds)


def _verdict(
    members: Sequence[str],
    best: str,
    scores: Mapping[str, float],
    gain: Interval,
    metric: Metric,
    settings: EnsembleSettings,
    weights: Weights,
) -> str:
    """Say in words whether blending pays."""
    scored = f"{metric.title} {scores[BLEND]:.4f} out of fold, {best} alone {scores[best]:.4f}"
    if len(members) == 1:
        return f"One member, {best}: {metric.title} {scores[best]:.4f} out of fold. There is nothing to blend."
    difference = f"{gain.value:+.4f}, {settings.interval:.0%} interval {gain.low:+.4f} to {gain.high:+.4f}"
    others = " and ".join(name for name in members if name != best)
    if gain.value <= 0:
        return f"{others} adds nothing here, so {best} is used alone: the blend reaches {scored} ({difference})."
    unused = [name for name, weight in zip(members, weights, strict=True) if weight == 0]
    without = f" {' and '.join(unused)} got no weight." if unused else ""
    if gain.low <= 0:
        return f"The blend reaches {scored}: a gain of {difference}, which could be chance.{without}"
    return f"The blend pays: {scored}, a gain of {difference}.{without}"
