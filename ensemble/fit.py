"""Fit the ensemble: once without each fold, for nested scores, and once on all folds."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from data.errors import EnsembleError
from data.maps.store import MOST_BYTES
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene
from ensemble.decide.calibration.shown import fit_shown
from ensemble.decide.cleaning.cleaners import choose_cleanings
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.cleaning import Masks, candidate_cleanings, no_masks
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.prediction_sets import PredictionSets
from ensemble.decide.decision.thresholds import plain_thresholds
from ensemble.decide.policy.policies import Plan, open_policy
from ensemble.decide.sample.choice import Choice
from ensemble.decide.sample.inner_folds import InnerFolds, Parts
from ensemble.decide.sample.pool import PixelPool, sample_pool
from ensemble.decide.thresholds.set_levels import fit_sets, measure_sets
from ensemble.decide.thresholds.threshold_tuning import TunedThresholds
from ensemble.decide.thresholds.tune_thresholds import tune_each
from ensemble.decide.weights.worth import Worth
from ensemble.ensemble import Ensemble
from ensemble.maps import MemberMaps, open_maps
from ensemble.objective import objective_of
from ensemble.score.evaluation import BLEND, PLAIN, UNCALIBRATED, UNCLEANED, Evaluation, alone, evaluate_members
from ensemble.score.verdict import verdict_text
from ensemble.settings import EnsembleSettings

__all__ = ["fit_ensemble", "fit_maps"]

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
    """Decide, from members' out-of-fold maps alone, how they are calibrated, blended, cut and cleaned.

    Each of these is decided for every fold without it, and at last on all folds, by the policy of the settings.
    Calibration, weights and multiclass multipliers are fitted to a weighted sample of pixels; binary thresholds
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
        Decided on all folds.
    evaluations : list of Evaluation
        Nested on the training scenes; on the val scenes, if there are any, by the ensemble itself.

    Raises
    ------
    EnsembleError
        If maps are missing, of other classes or of another size, the metric does not suit the task, or fewer
        than two folds have anything to score.
    """
    maps = open_maps(members, catalogue.classes, most_bytes)
    return fit_maps(maps, catalogue, settings, seed=seed, branches=branches, masks=masks, track=track)


def fit_maps(
    maps: MemberMaps,
    catalogue: Catalogue,
    settings: EnsembleSettings,
    *,
    seed: int,
    branches: Mapping[str, str] | None = None,
    masks: Masks = no_masks,
    track: Track = untracked,
) -> tuple[Ensemble, list[Evaluation]]:
    """Decide as `fit_ensemble` does, from maps that are open."""
    classes, objective = catalogue.classes, objective_of(settings, catalogue.classes)
    train, val = catalogue.split("train"), catalogue.split("val")
    if not maps.names:
        raise EnsembleError("expected members to blend, got none. Name them under members in the experiment file.")
    if len(catalogue.folds) < 2:
        raise EnsembleError(
            f"expected at least two folds to decide out of fold, got {len(catalogue.folds)}. Raise folds.count."
        )
    maps.require((*train, *val))
    pool = sample_pool(maps, catalogue, settings.sample, seed, track)
    _require_scorable(pool, classes)

    inner = InnerFolds.of(pool, catalogue, objective, fixed_thresholds=settings.thresholds == "fixed")
    decided = _decide(inner, maps, catalogue.labelled, settings, dict(branches or {}), masks, seed, track)
    nested = {fold: decided[inner.outside(fold)].decisions for fold in catalogue.folds}
    final = decided[inner.outside(None)]
    counted = evaluate_members(maps, train, lambda scene: nested[scene.fold or 0], classes, masks=masks, track=track)
    nested = {
        fold: {**decisions, BLEND: _calibrated(decisions[BLEND], inner, inner.outside(fold))}
        for fold, decisions in nested.items()
    }
    evaluation = replace(counted, decisions=nested)
    chosen = _calibrated(final.decisions[BLEND], inner, inner.outside(None))
    sets = _fit_sets(inner, {fold: decisions[BLEND] for fold, decisions in nested.items()}, chosen, settings)
    weights = dict(zip(maps.names, chosen.weights, strict=True))
    ensemble = Ensemble(
        classes=classes,
        members=maps.names,
        metric=objective.title,
        decision=chosen,
        spread_=final.tuned[BLEND].spread,
        kept_default_=final.tuned[BLEND].kept_default,
        choices_=final.choices,
        worths_=final.worths,
        sets_=sets,
        score_=float(evaluation.by_group()[BLEND].score(objective).value),
        verdict_=verdict_text(
            evaluation, maps.names, [name for name in maps.names if weights[name] > 0], objective, settings
        ),
    )
    logger.info("%s", ensemble.verdict_)
    if sets is not None:
        logger.info("%s", sets.words(classes.label_names))
    if not val:
        return ensemble, [evaluation]
    scored = evaluate_members(maps, val, lambda _: final.decisions, classes, masks=masks, track=track)
    return ensemble, [evaluation, scored]


@dataclass(frozen=True)
class Found:
    """The decision of every candidate on some parts, its thresholds, the choices and what members are worth."""

    decisions: dict[str, Decision]
    tuned: dict[str, TunedThresholds]
    choices: dict[str, Choice]
    worths: tuple[Worth, ...]


def _decide(
    inner: InnerFolds,
    maps: MemberMaps,
    labelled: tuple[Scene, ...],
    settings: EnsembleSettings,
    branches: Mapping[str, str],
    masks: Masks,
    seed: int,
    track: Track,
) -> dict[Parts, Found]:
    """Return, for the parts outside each fold and for all of them, what is decided on the pixels of these alone."""
    classes, names = inner.classes, maps.names
    policy = open_policy(settings, inner, maps, labelled, track)
    asked = {BLEND: tuple(range(len(names)))}
    for branch in sorted(set(branches.values())):
        of_branch = tuple(place for place, name in enumerate(names) if branches.get(name) == branch)
        if 1 < len(of_branch) < len(names):
            asked[alone(branch)] = of_branch
    problems = [inner.outside(fold) for fold in (*inner.parts, None)]
    planned, plans = {}, {}
    for parts in track(problems, "calibration and weights", len(problems)):
        blends = {name: policy.plan(members, parts) for name, members in asked.items()}
        planned[parts], plans[parts] = _candidates(blends, names, classes.exclusive), blends[BLEND]
    tuned = tune_each(
        ((parts, decision) for parts, of_parts in planned.items() for decision in of_parts.values()),
        inner,
        maps,
        labelled,
        policy.centred,
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
        labelled,
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
        made = {**plans[parts].choices, **({"cleaning": choice} if choice else {})}
        results[parts] = Found(cleaned, tunings, made, plans[parts].worths)
    return results


def _candidates(plans: Mapping[str, Plan], names: tuple[str, ...], exclusive: bool) -> dict[str, Decision]:
    """Return every candidate as decided on some parts: members, blends, and the blend without calibration."""
    blend = plans[BLEND].decision
    rows = [tuple(float(place == other) for other in range(len(names))) for place in range(len(names))]
    alone_each = {
        name: replace(blend, blend=Blend((row,), exclusive=exclusive)) for name, row in zip(names, rows, strict=True)
    }
    candidates = alone_each | {name: plan.decision for name, plan in plans.items()}
    candidates[UNCALIBRATED] = replace(blend, calibrations=(Calibration(),) * len(names))
    return {name: replace(decision, thresholds=()) for name, decision in candidates.items()}


def _fit_sets(
    inner: InnerFolds, nested: Mapping[int, Decision], final: Decision, settings: EnsembleSettings
) -> PredictionSets | None:
    """Return the prediction sets of the final decision, and how those without each fold did on it; None of tags."""
    if inner.classes.task == "multilabel":
        return None
    fitted = {
        fold: (decision, fit_sets(inner, decision, inner.outside(fold), settings.set_coverage))
        for fold, decision in nested.items()
    }
    held, size = measure_sets(inner, fitted)
    sets = fit_sets(inner, final, inner.outside(None), settings.set_coverage)
    return replace(sets, held=tuple(held.tolist()), size=size)


def _calibrated(decision: Decision, inner: InnerFolds, parts: Parts) -> Decision:
    return replace(decision, shown=fit_shown(inner, decision, parts))


def _require_scorable(pool: PixelPool, classes: Classes) -> None:
    scorable = pool.label != IGNORE if classes.exclusive else pool.label == 1
    folds = sorted({int(fold) for fold in pool.fold[scorable.any(axis=0)]})
    if len(folds) < 2:
        what = "labelled pixels" if classes.exclusive else f"labelled {' or '.join(classes.names)}"
        raise EnsembleError(
            f"expected {what} in at least two folds, to decide on some and score on others, got it in "
            f"{'fold ' + str(folds[0]) if folds else 'none'}. Label more scenes, or lower folds.count."
        )
