"""Fit the ensemble: once without each fold, for nested scores, and once on all folds."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.errors import EnsembleError
from data.maps.store import MOST_BYTES
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene
from ensemble.decide.calibration.calibrators import Calibrator
from ensemble.decide.calibration.shown import fit_shown
from ensemble.decide.cleaning.cleaners import choose_cleanings
from ensemble.decide.decision.calibration import Method
from ensemble.decide.decision.cleaning import Masks, candidate_cleanings, no_masks
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.thresholds import plain_thresholds
from ensemble.decide.sample.choice import Choice
from ensemble.decide.sample.inner_folds import InnerFolds, Parts
from ensemble.decide.sample.pool import PixelPool, sample_pool
from ensemble.decide.thresholds.threshold_tuning import TunedThresholds
from ensemble.decide.thresholds.tune_thresholds import tune_each
from ensemble.decide.weights.blenders import Blender, count_jointly
from ensemble.ensemble import Ensemble
from ensemble.maps import MemberMaps, open_maps
from ensemble.objective import Objective, objective_of
from ensemble.score.evaluation import BLEND, PLAIN, UNCALIBRATED, UNCLEANED, Evaluation, alone, evaluate_members
from ensemble.score.verdict import verdict_text
from ensemble.settings import EnsembleSettings

__all__ = ["fit_ensemble"]

logger = logging.getLogger(__name__)


def fit_ensemble(
    members: Mapping[str, Path],
    catalogue: Catalogue,
    settings: EnsembleSettings,
    *,
    seed: int,
    branches: Mapping[str, str] | None = None,
    masks: Masks = no_masks,
    track: Track = untracked,
    most_bytes: int = MOST_BYTES,
) -> tuple[Ensemble, list[Evaluation]]:
    """Decide, from out-of-fold maps alone, how the members are calibrated, blended, cut and cleaned.

    Each of these is decided for every fold without it, and at last on all folds. What there is to choose is chosen by
    scores on parts left out among those that may be looked at, and the simpler stays unless another gains more than
    noise. Calibration, weights and multiclass multipliers are fitted to a weighted sample of pixels; binary thresholds
    and all scores are exact, from every pixel.

    Parameters
    ----------
    members : mapping of str to Path
        Member → its folder.
    catalogue : Catalogue
    settings : EnsembleSettings
    seed : int
    branches : mapping of str to str, optional
        Member → its branch. Where branches have several members, each is also blended alone, for comparison.
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    track : Track
    most_bytes : int
        That the members' maps of a window may take; see `data.maps.store.read_windows`.

    Returns
    -------
    ensemble : Ensemble
        Decided on all folds. If the nested blend does not beat the best member, that member alone.
    evaluations : list of Evaluation
        Nested on the training scenes; on the val scenes, if there are any, by the ensemble itself.

    Raises
    ------
    EnsembleError
        If maps are missing, of other classes or of another size, the metric does not suit the task, or fewer
        than two folds have anything to score.
    """
    classes, maps = catalogue.classes, open_maps(members, catalogue.classes, most_bytes)
    objective = objective_of(settings, classes)
    train, val = catalogue.split("train"), catalogue.split("val")
    if not members:
        raise EnsembleError("expected members to blend, got none. Name them under members in the experiment file.")
    if len(catalogue.folds) < 2:
        raise EnsembleError(
            f"expected at least two folds to decide out of fold, got {len(catalogue.folds)}. Raise folds.count."
        )
    maps.require((*train, *val))
    pool = sample_pool(maps, catalogue, settings.sample, seed, track)
    _require_scorable(pool, classes)

    inner = InnerFolds.of(pool, catalogue, objective, fixed_thresholds=settings.thresholds == "fixed")
    decided = _decide(inner, maps, train, settings, dict(branches or {}), masks, seed, track)
    nested = {fold: decided[inner.outside(fold)].decisions for fold in catalogue.folds}
    final = decided[inner.outside(None)]
    counted = evaluate_members(maps, train, lambda scene: nested[scene.fold or 0], classes, masks=masks, track=track)
    used = _final_name(counted, maps.names, objective)
    nested = {
        fold: {**decisions, used: _calibrated(decisions[used], inner, inner.outside(fold))}
        for fold, decisions in nested.items()
    }
    evaluation = replace(counted, decisions=nested, final=used)
    chosen = _calibrated(final.decisions[used], inner, inner.outside(None))
    weights = dict(zip(maps.names, chosen.weights, strict=True))
    ensemble = Ensemble(
        classes=classes,
        members=maps.names,
        metric=objective.title,
        decision=chosen,
        spread_=final.tuned[used].spread,
        kept_default_=final.tuned[used].kept_default,
        choices_=final.choices,
        score_=float(evaluation.by_group()[used].score(objective).value),
        verdict_=verdict_text(
            evaluation, maps.names, [name for name in maps.names if weights[name] > 0], objective, settings
        ),
    )
    logger.info("%s", ensemble.verdict_)
    if not val:
        return ensemble, [evaluation]
    decisions = {**final.decisions, BLEND: chosen}
    scored = evaluate_members(maps, val, lambda _: decisions, classes, masks=masks, track=track)
    return ensemble, [evaluation, replace(scored, final=BLEND)]


@dataclass(frozen=True)
class Found:
    """The decision of every candidate on some parts, its thresholds, and the choices that were made."""

    decisions: dict[str, Decision]
    tuned: dict[str, TunedThresholds]
    choices: dict[str, Choice]


def _decide(
    inner: InnerFolds,
    maps: MemberMaps,
    train: tuple[Scene, ...],
    settings: EnsembleSettings,
    branches: Mapping[str, str],
    masks: Masks,
    seed: int,
    track: Track,
) -> dict[Parts, Found]:
    """Return, for the parts outside each fold and for all of them, what is decided on the pixels of these alone."""
    classes, names = inner.classes, maps.names
    calibrators = [Calibrator(inner, place) for place in range(len(names))]
    joint = count_jointly(inner, maps, train, settings.blend, track)
    blenders = {BLEND: Blender(inner, calibrators, tuple(range(len(names))), settings.blend, joint)}
    for branch in sorted(set(branches.values())):
        of_branch = tuple(place for place, name in enumerate(names) if branches.get(name) == branch)
        if 1 < len(of_branch) < len(names):
            blenders[alone(branch)] = Blender(inner, calibrators, of_branch, settings.blend)
    problems = [inner.outside(fold) for fold in (*inner.parts, None)]
    planned, choices = {}, {}
    for parts in track(problems, "calibration and weights", len(problems)):
        planned[parts], choices[parts] = _plan(parts, names, calibrators, blenders, settings)
    tuned = tune_each(
        ((parts, decision) for parts, of_parts in planned.items() for decision in of_parts.values()),
        inner,
        maps,
        train,
        track,
    )
    decided = {
        parts: {
            name: replace(decision, thresholds=tuned[parts, decision].thresholds) for name, decision in of_parts.items()
        }
        for parts, of_parts in planned.items()
    }
    cleanings = choose_cleanings(
        {parts: of_parts[BLEND] for parts, of_parts in decided.items()},
        candidate_cleanings(settings, classes),
        inner,
        maps,
        train,
        masks,
        seed,
        track,
    )
    results = {}
    for parts, of_parts in decided.items():
        cleaning, choice = cleanings[parts]
        plain = replace(of_parts[BLEND], thresholds=plain_thresholds(classes))
        cleaned = {name: replace(decision, cleaning=cleaning) for name, decision in {**of_parts, PLAIN: plain}.items()}
        # Tags are of one pixel: there is nothing to clean.
        if classes.task != "multilabel":
            cleaned[UNCLEANED] = of_parts[BLEND]
        tunings = {name: tuned[parts, decision] for name, decision in planned[parts].items()}
        results[parts] = Found(cleaned, tunings, {**choices[parts], **({"cleaning": choice} if choice else {})})
    return results


def _plan(
    parts: Parts,
    names: tuple[str, ...],
    calibrators: list[Calibrator],
    blenders: Mapping[str, Blender],
    settings: EnsembleSettings,
) -> tuple[dict[str, Decision], dict[str, Choice]]:
    """Return each candidate's calibrations and blend as fitted to some parts, thresholds still to be found."""
    choices: dict[str, Choice] = {}
    methods: list[Method] = []
    for name, calibrator in zip(names, calibrators, strict=True):
        method, choice = calibrator.choose(settings.calibration, parts)
        methods.append(method)
        if choice:
            choices[f"calibration of {name}"] = choice
    raw: tuple[Method, ...] = tuple("none" for _ in names)
    # Log loss says which calibration is best; whether the score profits from any is seen of the blend.
    fitted: tuple[Method, ...] = tuple(methods)
    options = [fitted] if settings.calibration != "auto" or fitted == raw else [raw, fitted]
    decisions: dict[str, Decision] = {}
    for name, blender in blenders.items():
        kind, used, choice = blender.choose(options, parts)
        decisions[name] = replace(blender.fit(kind, used, parts), thresholds=())
        if choice:
            choices[name] = choice
        if name == BLEND:
            decisions[UNCALIBRATED] = replace(blender.fit(kind, raw, parts), thresholds=())
    blend = decisions[BLEND]
    members = {name: Decision(blend.calibrations, blenders[BLEND].alone(place), ()) for place, name in enumerate(names)}
    return {**members, **decisions}, choices


def _calibrated(decision: Decision, inner: InnerFolds, parts: Parts) -> Decision:
    return replace(decision, shown=fit_shown(inner, decision, parts))


def _final_name(evaluation: Evaluation, members: tuple[str, ...], objective: Objective) -> str:
    """Return the candidate to use: the blend if it beats the best member by its nested score, else that member."""
    pooled = evaluation.by_group()
    scores = {name: float(pooled[name].score(objective).value) for name in (*members, BLEND)}
    best = max(members, key=lambda name: -np.inf if np.isnan(scores[name]) else scores[name])
    return BLEND if scores[BLEND] > scores[best] else best


def _require_scorable(pool: PixelPool, classes: Classes) -> None:
    scorable = pool.label != IGNORE if classes.exclusive else pool.label == 1
    folds = sorted({int(fold) for fold in pool.fold[scorable.any(axis=0)]})
    if len(folds) < 2:
        what = "labelled pixels" if classes.exclusive else f"labelled {' or '.join(classes.names)}"
        raise EnsembleError(
            f"expected {what} in at least two folds, to decide on some and score on others, got it in "
            f"{'fold ' + str(folds[0]) if folds else 'none'}. Label more scenes, or lower folds.count."
        )
