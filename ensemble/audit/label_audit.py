"""Audit labels: find those that out-of-fold predictions contradict most confidently."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.pages.numbers import format_percent
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid, Window
from ensemble.audit.edges import EdgeNoise, measure_edges
from ensemble.audit.evidence import Evidence, count_contradictions, weigh_evidence
from ensemble.audit.injection import inject_errors
from ensemble.audit.parts import Parts, find_parts
from ensemble.audit.ranking import ErrorEstimate, Ranking
from ensemble.audit.regions import Candidate, Region, list_candidates, outline_region
from ensemble.decide.decision.cleaning import Masks, no_masks
from ensemble.decide.decision.decision import Decision
from ensemble.maps import MemberMaps
from ensemble.score.evaluation import Evaluation

__all__ = ["Audit", "AuditedScene", "audit_labels"]

logger = logging.getLogger(__name__)

REGIONS = 200
"""Most regions that are kept."""

SPOILED, ROUNDS = 8_000_000, 4
"""Pixels whose labels are spoiled to learn from, each scene so many times at most."""

MOVED = 7.0
"""How many times as suspicious a scene is whose label a move mends."""

CROP = 96
"""Least pixels on a side of what is drawn around a region, where the scene has them."""


@dataclass(frozen=True)
class AuditedScene:
    """Contradictions between the ensemble and the label of one scene.

    Parameters
    ----------
    scene : str
    labelled : int
        Labelled pixels (multilabel: tags) that were predicted.
    contradicted : int
        Those with another prediction.
    error : float
        Labels among them that are wrong if the probabilities hold: p(prediction) − p(label), summed.
    edges : EdgeNoise
        Of outlines that lie a little beside those of the map; none of tags.
    """

    scene: str
    labelled: int
    contradicted: int
    error: float
    edges: EdgeNoise = field(default_factory=EdgeNoise)

    @property
    def share(self) -> float:
        """The expected share of wrong labels."""
        return self.error / max(self.labelled, 1)

    @property
    def score(self) -> float:
        """What scenes are ordered by: the share, several times as large where a move of the label clearly mends it.

        A label that was moved has few wrong pixels, but a move explains most of what is contradicted there, which it
        hardly ever does where a scene is hard to map (docs/audit.md).
        """
        return self.share * (MOVED if self.edges.down or self.edges.right else 1.0)


@dataclass(frozen=True)
class Audit:
    """Regions and scenes whose labels should be checked, the worst first.

    Parameters
    ----------
    regions : tuple of Region
        Up to the number that was asked for. Multilabel: tags of scenes, which have no outline.
    scenes : tuple of AuditedScene
        Every training scene, the most suspicious label first.
    estimate : ErrorEstimate, optional
        How many errors the list should hold.
    """

    regions: tuple[Region, ...]
    scenes: tuple[AuditedScene, ...]
    estimate: ErrorEstimate | None = None

    def words(self, first: int = 50) -> str:
        """Write how many errors the first regions should hold; nothing where it could not be estimated."""
        if self.estimate is None or not self.regions:
            return ""
        first = min(first, len(self.regions))
        errors, _ = self.estimate.among(first)
        share = self.estimate.among(len(self.regions))[1]
        return (
            f"Of the first {first} at most about {errors:.0f} should be errors; about {format_percent(share)} of all "
            "errors that the map contradicts are in this list, if they are such as people make."
        )

    def crops(self, catalogue: Catalogue, most: int = 20) -> list[tuple[Region, Window]]:
        """Return the worst regions, each with the part of its scene that is to be drawn around it."""
        grids = {scene.id: scene.grid for scene in catalogue.split("train")}
        return [(region, _around(region.window, grids[region.scene])) for region in self.regions[:most]]


def audit_labels(
    maps: MemberMaps,
    catalogue: Catalogue,
    evaluation: Evaluation,
    masks: Masks = no_masks,
    *,
    seed: int = 0,
    ranking: Ranking | None = None,
    most: int = REGIONS,
    track: Track = untracked,
) -> Audit:
    """Rank regions and scenes by how suspiciously the ensemble contradicts their labels.

    Each training scene is predicted by members that never saw its group, then blended and decided as was chosen
    without its fold. Memory holds about a dozen bytes a pixel of one scene, and the worst regions.

    Parameters
    ----------
    maps : MemberMaps
    catalogue : Catalogue
    evaluation : Evaluation
        Of the training scenes; its final candidate is compared with the labels.
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    seed : int
        Of the errors that are injected, to learn what errors look like.
    ranking : Ranking, optional
        By default it is learned.
    most : int
        Regions to keep.
    track : Track
    """
    scenes, classes = catalogue.split("train"), catalogue.classes
    ranking = ranking or _learn_ranking(maps, catalogue.labelled, evaluation, classes, masks, seed, track)
    candidates: list[Candidate] = []
    scores: list[NDArray[np.float64]] = []
    audited = []
    decisions = [evaluation.decisions[evaluation.folds[scene.id]][evaluation.final] for scene in scenes]
    work = partial(_audit_scene, classes=classes, masks=masks, ranking=ranking, most=most)
    for scene, listed, found in track(maps.each(work, scenes, decisions), "labels audited", len(scenes)):
        audited.append(scene)
        scores += listed
        candidates = sorted([*candidates, *found], key=lambda one: -_score(ranking, one))[:most]
    audited.sort(key=lambda scene: -scene.score)
    regions = tuple(outline_region(one, _score(ranking, one)) for one in candidates)
    audit = Audit(regions, tuple(audited), ranking.estimate(np.concatenate(scores)))
    logger.info(
        "label audit: %d regions of %d scenes, the worst in %s. %s",
        len(regions),
        len(scenes),
        regions[0].scene if regions else "none",
        audit.words(),
    )
    return audit


def _score(ranking: Ranking, candidate: Candidate) -> float:
    return float(ranking.score(candidate.facts[None])[0])


def _audit_scene(
    maps: MemberMaps, scene: Scene, decision: Decision, classes: Classes, masks: Masks, ranking: Ranking, most: int
) -> tuple[AuditedScene, list[NDArray[np.float64]], list[Candidate]]:
    """Return what contradicts a scene's label: in numbers, the score of each part by question, the worst parts."""
    scores, worst = [], []
    counts, edges = [], EdgeNoise()
    weighed = _weigh_scene(maps, scene, decision, classes, masks)
    for evidence, names in zip(weighed, classes.answers, strict=True):
        parts = find_parts(evidence, len(names))
        # A threshold can make a prediction of what is less probable than the label.
        listed = np.flatnonzero(~parts.slivers & (parts.fact("confidence") > 0))
        score = ranking.score(parts.facts[listed])
        scores.append(score)
        found = list_candidates(scene.id, parts, listed[np.argsort(-score, kind="stable")[:most]], names)
        if maps.grid(scene) != scene.grid:
            # The only pixel stands for the whole scene.
            found = [replace(one, window=scene.grid.window, mask=np.empty(0, np.uint8)) for one in found]
        else:
            edges = measure_edges(evidence, parts)
        worst += found
        counts.append(count_contradictions(evidence))
    labelled, wrong, error = (sum(column) for column in zip(*counts, strict=True))
    return AuditedScene(scene.id, int(labelled), int(wrong), error, edges), scores, worst


def _learn_ranking(
    maps: MemberMaps,
    scenes: Sequence[Scene],
    evaluation: Evaluation,
    classes: Classes,
    masks: Masks,
    seed: int,
    track: Track,
) -> Ranking:
    """Spoil the labels of scenes and learn what tells the traces of that from those of all else."""
    if classes.task == "multilabel":
        return Ranking()
    rng = np.random.default_rng(seed)
    windows = {scene.id: _middle(scene.grid.window) for scene in scenes}
    pixels = np.mean([window.height * window.width for window in windows.values()])
    passes = int(np.clip(SPOILED // pixels, 1, ROUNDS * len(scenes)))
    order = [place for _ in range(ROUNDS) for place in rng.permutation(len(scenes)).tolist()][:passes]
    facts, kinds, slivers = [], [], []
    for scene in track([scenes[place] for place in order], "errors injected", len(order)):
        decision = evaluation.decisions[evaluation.folds[scene.id]][evaluation.final]
        [label] = maps.label(scene, windows[scene.id])
        spoiled, kind = inject_errors(label, classes.n_labels, rng)
        [evidence] = _weigh_scene(maps, scene, decision, classes, masks, windows[scene.id], spoiled[None])
        parts = find_parts(evidence, classes.n_labels)
        seen = parts.fact("confidence") > 0
        facts.append(parts.facts[seen])
        kinds.append(np.where(_is_injected(parts, label), kind, -1)[seen])
        slivers.append(parts.slivers[seen])
    return Ranking.learn(np.concatenate(facts), np.concatenate(kinds), np.concatenate(slivers))


def _is_injected(parts: Parts, label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return of which parts most pixels had the label, before it was spoiled, that the ensemble predicts."""
    inside = parts.number > 0
    part = parts.number[inside] - 1
    agrees = np.bincount(part, label[inside] == parts.prediction[part], len(parts))
    return agrees > parts.area / 2


def _middle(window: Window, most: int = 1024) -> Window:
    height, width = min(window.height, most), min(window.width, most)
    return Window((window.height - height) // 2, (window.width - width) // 2, height, width)


def _weigh_scene(
    maps: MemberMaps,
    scene: Scene,
    decision: Decision,
    classes: Classes,
    masks: Masks,
    area: Window | None = None,
    label: NDArray[np.uint8] | None = None,
) -> list[Evidence]:
    """Return the evidence on each question that the label of a scene, or of an area of it, answers."""
    top, left = (area.row, area.col) if area else (0, 0)
    label = maps.label(scene, area) if label is None else label
    prediction = np.full_like(label, IGNORE)
    odds, least, error = (np.zeros(label.shape, kind) for kind in (np.float32, np.float32, np.uint16))
    for window, stored in maps.windows(scene, area):
        inside = Window(window.row - top, window.col - left, window.height, window.width).slices
        blended = decision.proba(stored)
        shown = decision.show(blended)
        prediction[:, *inside] = decision.label(blended)
        for question, labelled in enumerate(label):
            planes, part = slice(None) if classes.exclusive else [question], (question, *inside)
            evidence = weigh_evidence(
                stored[:, planes], decision.weights, shown[planes], labelled[inside], prediction[part]
            )
            odds[part], least[part], error[part] = evidence.odds, evidence.least, evidence.error
    if not decision.cleaning.idle:
        conditions = {name: mask[area.slices] if area else mask for name, mask in masks(scene).items()}
        cleaned = decision.cleaning.apply(prediction, conditions)
        # Cleaning takes these predictions back: they are no evidence.
        for plane in (odds, least, error):
            plane[cleaned != prediction] = 0
        prediction = cleaned
    return [Evidence(*planes) for planes in zip(label, prediction, odds, least, error, strict=True)]


def _around(window: Window, grid: Grid) -> Window:
    """Return a window and a margin of half its size around it, at least `CROP` pixels, within the scene."""
    row, height = _span(window.row, window.height, grid.height)
    col, width = _span(window.col, window.width, grid.width)
    return Window(row, col, height, width)


def _span(start: int, length: int, limit: int) -> tuple[int, int]:
    wanted = min(max(2 * length, CROP), limit)
    return min(max(start + length // 2 - wanted // 2, 0), limit - wanted), wanted
