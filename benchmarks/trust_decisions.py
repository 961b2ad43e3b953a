"""Thresholds and label audits in worlds whose truth is known, for benchmarks/trust.py."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from trust_worlds import Cell, World, draw_scenes

from data.maps.geotiff import TOP
from data.scenes.classes import Classes
from ensemble.audit.edges import measure_edges
from ensemble.audit.evidence import Evidence, count_contradictions, weigh_evidence
from ensemble.audit.injection import ERRORS, Inject, inject_errors
from ensemble.audit.label_audit import AuditedScene
from ensemble.audit.parts import Parts, find_parts
from ensemble.audit.ranking import Ranking
from ensemble.decide.decision.thresholds import score_histogram
from ensemble.decide.thresholds.threshold_curves import coarsen
from ensemble.decide.thresholds.threshold_tuning import tune_binary
from ensemble.objective import objective_of
from ensemble.settings import EnsembleSettings

KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))

Label = NDArray[np.uint8]
Stored = NDArray[np.uint16]


def threshold_cells(worlds: int, seed: int) -> Iterator[Cell]:
    """Yield how much Dice is lost to the best threshold of the population, towards the metric's own centre and 0.5."""
    objective = objective_of(EnsembleSettings(), KELP)
    for share in (0.01, 0.05, 0.3):
        label, proba = draw_scenes(World(share=share, side=40), 200, np.random.default_rng([seed, 2]))
        stored = np.rint(proba[:, 0, 1] * TOP).astype(np.uint16)
        scenes = np.stack([score_histogram(*pair)[None] for pair in zip(stored, label.astype(np.uint8), strict=True)])
        whole = scenes.sum(axis=0)[0].astype(float)
        above = np.cumsum(whole[:, ::-1], axis=-1)[:, ::-1]
        dice = 2 * above[1] / np.maximum(above.sum(axis=0) + whole[1].sum(), 1)
        for n in (6, 20):
            lost: dict[bool, list[float]] = {True: [], False: []}
            for number in range(max(worlds // 6, 4)):
                sample = np.random.default_rng([seed, n, number]).choice(len(scenes), n, replace=False)
                counts = scenes[sample].astype(float)
                for centred, losses in lost.items():
                    found = tune_binary(counts, objective, coarsen(counts), centred=centred).thresholds[0]
                    losses.append(float(dice.max() - dice[round(found * TOP)]))
            gained = np.array(lost[False]) - np.array(lost[True])
            error = float(gained.std() / np.sqrt(len(gained)))
            note = f"lost {np.mean(lost[True]):.4f} and {np.mean(lost[False]):.4f}"
            name = f"Dice won by the metric's centre instead of 0.5, {share:.0%} positive, {n} groups"
            values = {"metric's own centre": float(np.mean(lost[True])), "0.5": float(np.mean(lost[False]))}
            cell = Cell(name, float(gained.mean()), error, (0, 1), note)
            yield replace(cell, kind="threshold", row=f"{share:.0%} positive, {n} groups", values=values)


def audit_cells(worlds: int, seed: int) -> Iterator[Cell]:
    """Yield how the learned ranking of an audit compares with the plain score, for each kind of error."""
    for kind, inject in ERRORS.items():
        if kind == "another class":  # of two classes that is a missing object
            continue
        found = [judge_audit(inject, [seed, number])[:2] for number in range(max(worlds // 60, 2))]
        learned, plain = np.array(found).T
        error = float((learned - plain).std() / np.sqrt(len(found)))
        note = f"{plain.mean():.2f} to {learned.mean():.2f}"
        name = f"average precision won by the learned ranking, {kind}"
        values = {"old score": float(plain.mean()), "learned": float(learned.mean())}
        cell = Cell(name, float((learned - plain).mean()), error, (0, 1), note)
        yield replace(cell, kind="audit", row=kind, values=values)


def judge_audit(inject: Inject, seed: list[int], share: float = 0.25) -> tuple[float, float, float, float]:
    """Return the average precision of both rankings of regions, and of both of scenes, where some are spoiled."""
    rng = np.random.default_rng([*seed, 3])
    truth, proba = draw_scenes(World(side=96, smooth=4.0, strength=(2.5, 2.5), common=0.3), 24, rng)
    members = np.rint(ndimage.gaussian_filter(proba[:, :, 1], (0, 0, 1.5, 1.5)) * TOP).astype(np.uint16)
    right = truth.astype(np.uint8)
    labels = [inject(one.copy(), 2, rng) if rng.random() < share else one for one in right]
    labels = [np.where(label > 1, one, label).astype(np.uint8) for label, one in zip(labels, right, strict=True)]
    facts, kinds, slivers = [], [], []
    for _ in range(3):
        for label, maps in zip(labels, members, strict=True):
            spoiled, kind = inject_errors(label, 2, rng)
            parts, wrong = _parts(spoiled, label, maps)[1:]
            seen = parts.fact("confidence") > 0
            facts.append(parts.facts[seen])
            kinds.append(np.where(wrong, kind, -1)[seen])
            slivers.append(parts.slivers[seen])
    ranking = Ranking.learn(np.concatenate(facts), np.concatenate(kinds), np.concatenate(slivers))
    listed, errors, scenes = [], [], []
    for number, (label, true, maps) in enumerate(zip(labels, right, members, strict=True)):
        evidence, parts, wrong = _parts(label, true, maps)
        chosen = (parts.fact("confidence") > 0) & ~parts.slivers
        listed.append(parts.facts[chosen])
        errors.append(wrong[chosen])
        scenes.append(AuditedScene(str(number), *count_contradictions(evidence), measure_edges(evidence, parts)))
    spoiled_scenes = np.array([(label != one).any() for label, one in zip(labels, right, strict=True)])
    of_regions = [_precision(np.concatenate(errors), one.score(np.concatenate(listed))) for one in (ranking, Ranking())]
    by_score = np.array([scene.score for scene in scenes])
    by_share = np.array([scene.share for scene in scenes])
    return (*of_regions, *(_precision(spoiled_scenes, score) for score in (by_score, by_share)))  # type: ignore[return-value]


def _parts(label: Label, right: Label, members: Stored) -> tuple[Evidence, Parts, NDArray[np.bool_]]:
    """Return what contradicts a label, as evidence and in parts, and which of these are errors."""
    blend = members.mean(axis=0).astype(np.uint16)[None]
    prediction = (blend[0] > TOP // 2).astype(np.uint8)
    evidence = weigh_evidence(members[:, None], (0.5, 0.5), blend, label, prediction)
    parts = find_parts(evidence, 2)
    inside = parts.number > 0
    part = parts.number[inside] - 1
    return evidence, parts, np.bincount(part, right[inside] == parts.prediction[part], len(parts)) > parts.area / 2


def _precision(wrong: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    ranks = np.flatnonzero(wrong[np.argsort(-score, kind="stable")]) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else float("nan")
