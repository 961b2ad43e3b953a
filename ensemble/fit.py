"""Fitting the ensemble: nested decisions, honest scores, and the verdict whether the blend pays."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.catalogue import Catalogue
from data.classes import Classes
from data.errors import EnsembleError
from data.maps import NODATA
from data.metrics import METRICS, Metric, MetricName
from data.progress import Track, untracked
from data.scene import read_label
from ensemble.blend import Weights, blend_stored
from ensemble.decision import Decision, Thresholds, find_thresholds, find_weights, plain_thresholds
from ensemble.ensemble import Ensemble
from ensemble.evaluation import BLEND, Evaluation, evaluate_members
from ensemble.intervals import Interval, score_interval
from ensemble.maps import MemberMaps, PixelPool, draw_pool
from ensemble.settings import EnsembleSettings
from ensemble.thresholds import best_threshold, score_histogram

__all__ = ["fit_ensemble", "metric_of"]

logger = logging.getLogger(__name__)

FoldHistograms = dict[int, NDArray[np.float64]]
"""Fold → (2, 65536): how often each stored probability occurs in it, by label."""


def fit_ensemble(
    members: Mapping[str, Path],
    catalogue: Catalogue,
    settings: EnsembleSettings,
    *,
    seed: int,
    track: Track = untracked,
) -> tuple[Ensemble, list[Evaluation]]:
    """Decide, from out-of-fold maps alone, how the members are blended.

    Weights and multiclass multipliers are searched on a weighted sample of pixels; binary thresholds and all
    scores are exact, from every pixel.

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
        If maps are missing, of other classes or of another size, the metric does not suit the task, or fewer
        than two folds have anything to score.
    """
    classes, folds, maps = catalogue.classes, catalogue.folds, MemberMaps(dict(members))
    name = metric_of(settings, classes)
    metric = METRICS[name]
    train, val = catalogue.split("train"), catalogue.split("val")
    if not members:
        raise EnsembleError("expected members to blend, got none. Name them under members in the experiment file.")
    if len(folds) < 2:
        raise EnsembleError(f"expected at least two folds to decide out of fold, got {len(folds)}. Raise folds.count.")
    maps.require((*train, *val), classes.names)
    pool = draw_pool(maps, catalogue, settings.sample, seed, track)
    _require_scorable(pool, classes)

    *without, final = _decide_each(
        [*([other for other in folds if other != fold] for fold in folds), folds],
        maps, catalogue, pool, metric, settings, track,
    )  # fmt: skip
    nested = dict(zip(folds, without, strict=True))
    evaluation = replace(
        evaluate_members(maps, train, lambda scene: nested[scene.fold or 0], classes, track), decisions=nested
    )

    pooled = evaluation.pool(settings.resamples, seed)
    scores = {candidate: float(metric.of(sums.total)) for candidate, sums in pooled.items()}
    best = max(members, key=lambda member: scores[member])
    gain = score_interval(pooled[BLEND], metric, settings.interval, against=pooled[best])[0]
    pays = gain.value > 0
    chosen = final[BLEND] if pays else final[best]
    ensemble = Ensemble(
        classes=classes,
        members=maps.names,
        weights_=dict(zip(maps.names, chosen.weights, strict=True)),
        thresholds_=chosen.thresholds,
        metric=name,
        score_=scores[BLEND] if pays else scores[best],
        verdict_=_verdict(list(members), best, scores, gain, metric, settings, chosen.weights),
    )
    logger.info("%s", ensemble.verdict_)
    if not val:
        return ensemble, [evaluation]
    decisions = {**final, BLEND: chosen}
    return ensemble, [evaluation, evaluate_members(maps, val, lambda _: decisions, classes, track)]


def metric_of(settings: EnsembleSettings, classes: Classes) -> MetricName:
    """Return the metric that is optimised.

    Raises
    ------
    EnsembleError
        If it does not suit the task.
    """
    name = settings.metric or ("dice" if classes.task == "binary" else "macro_iou")
    if classes.task == "multiclass" and name in ("dice", "iou"):
        raise EnsembleError(
            f"ensemble.metric: expected a score over all classes for the task multiclass, got {name}. Use macro_{name}."
        )
    return name


def _require_scorable(pool: PixelPool, classes: Classes) -> None:
    found = sorted({int(fold) for fold in pool.fold[(pool.label > 0) | (classes.task == "multiclass")]})
    if len(found) < 2:
        what = f"labelled {classes.names[0]}" if classes.task == "binary" else "labelled pixels"
        raise EnsembleError(
            f"expected {what} in at least two folds, to decide on some and score on others, got it in "
            f"{'fold ' + str(found[0]) if found else 'none'}. Label more scenes, or lower folds.count."
        )


def _decide_each(
    choices: Sequence[Sequence[int]],
    maps: MemberMaps,
    catalogue: Catalogue,
    pool: PixelPool,
    metric: Metric,
    settings: EnsembleSettings,
    track: Track,
) -> list[dict[str, Decision]]:
    """Return, for each choice of folds, the decision of every candidate found on the pixels of these folds alone."""
    classes = catalogue.classes
    alone = {name: tuple(float(name == other) for other in maps.names) for name in maps.names}
    weights = []
    for chosen in track(choices, "weights", len(choices)):
        part = pool.take(np.isin(pool.fold, chosen))
        weights.append({**alone, BLEND: find_weights(part, classes, metric, settings)})
    thresholds: dict[tuple[int, Weights], Thresholds] = {}
    wanted = sorted({(number, one) for number, found in enumerate(weights) for one in found.values()})
    if settings.thresholds == "fixed":
        thresholds = dict.fromkeys(wanted, plain_thresholds(classes))
    elif classes.task == "binary":
        histograms = _fold_histograms(maps, catalogue, {one for _, one in wanted}, track)
        for number, one in wanted:
            total = np.sum([histograms[one][fold] for fold in choices[number]], axis=0)
            thresholds[number, one] = (best_threshold(total, metric)[0],)
    else:
        for number, one in track(wanted, "thresholds", len(wanted)):
            part = pool.take(np.isin(pool.fold, choices[number]))
            thresholds[number, one] = find_thresholds(part, one, classes, metric)
    return [
        {name: Decision(one, thresholds[number, one]) for name, one in found.items()}
        for number, found in enumerate(weights)
    ]


def _fold_histograms(
    maps: MemberMaps, catalogue: Catalogue, weights: Iterable[Weights], track: Track
) -> dict[Weights, FoldHistograms]:
    """Return the exact histograms of each binary blend by fold, all from one pass over the maps."""
    histograms = {one: {fold: np.zeros((2, NODATA + 1)) for fold in catalogue.folds} for one in weights}
    scenes = catalogue.split("train")
    for scene in track(scenes, "thresholds", len(scenes)):
        for window, stored in maps.windows(scene):
            label = read_label(scene, window)
            for one, by_fold in histograms.items():
                by_fold[scene.fold or 0] += score_histogram(blend_stored(stored, one)[0], label)
    return histograms


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
    if len(members) == 1:
        return f"One member, {best}: {metric.title} {scores[best]:.4f} out of fold. There is nothing to blend."
    scored = f"{metric.title} {scores[BLEND]:.4f} out of fold, {best} alone {scores[best]:.4f}"
    difference = f"{gain.value:+.4f}, {settings.interval:.0%} interval {gain.low:+.4f} to {gain.high:+.4f}"
    others = [name for name in members if name != best]
    if gain.value <= 0:
        lost = f"{' and '.join(others)} {'adds' if len(others) == 1 else 'add'} nothing here, so {best} is used alone"
        if gain.value == gain.low == gain.high == 0:
            return f"{lost}: {metric.title} {scores[best]:.4f} out of fold, and every fold's blend does the same."
        return f"{lost}: the blend reaches {scored} ({difference})."
    used = [name for name, weight in zip(members, weights, strict=True) if weight > 0]
    if len(used) == 1:
        return (
            f"The blends chosen fold by fold reach {scored} ({difference}), but on all folds together {used[0]} alone "
            "is best and is used alone."
        )
    unused = [name for name in members if name not in used]
    without = f" {' and '.join(unused)} got no weight." if unused else ""
    if gain.low <= 0:
        return f"The blend reaches {scored}: a gain of {difference}, which could be chance.{without}"
    return f"The blend pays: {scored}, a gain of {difference}.{without}"
