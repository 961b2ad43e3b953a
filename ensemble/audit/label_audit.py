"""Audit labels: find those that out-of-fold predictions contradict most confidently."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid, Window
from ensemble.audit.regions import Evidence, Region, count_contradictions, find_regions, weigh_evidence
from ensemble.decide.decision.cleaning import Masks, no_masks
from ensemble.decide.decision.decision import Decision
from ensemble.maps import MemberMaps
from ensemble.score.evaluation import Evaluation

__all__ = ["Audit", "AuditedScene", "audit_labels"]

logger = logging.getLogger(__name__)

REGIONS = 200
"""Most regions that are kept."""

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
    """

    scene: str
    labelled: int
    contradicted: int
    error: float

    @property
    def share(self) -> float:
        """The expected share of wrong labels."""
        return self.error / max(self.labelled, 1)


@dataclass(frozen=True)
class Audit:
    """Regions and scenes whose labels should be checked, the worst first.

    Parameters
    ----------
    regions : tuple of Region
        Up to the number that was asked for. Multilabel: tags of scenes, which have no outline.
    scenes : tuple of AuditedScene
        Every training scene, by the expected share of wrong labels.
    """

    regions: tuple[Region, ...]
    scenes: tuple[AuditedScene, ...]

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
    most: int = REGIONS,
    track: Track = untracked,
) -> Audit:
    """Rank regions and scenes by how confidently the ensemble contradicts their labels.

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
    most : int
        Regions to keep.
    track : Track
    """
    regions: list[Region] = []
    audited = []
    scenes = catalogue.split("train")
    for scene in track(scenes, "labels audited", len(scenes)):
        decision = evaluation.decisions[evaluation.folds[scene.id]][evaluation.final]
        above = regions[-1].score if len(regions) == most else 0.0
        counts = []
        weighed = _weigh_scene(maps, scene, decision, catalogue.classes, masks)
        for evidence, names in zip(weighed, catalogue.classes.answers, strict=True):
            contradicted = find_regions(scene.id, evidence, names, most, above)
            if maps.grid(scene) != scene.grid:
                # The only pixel stands for the whole scene.
                contradicted = [replace(region, window=scene.grid.window, outline=()) for region in contradicted]
            regions = sorted([*regions, *contradicted], key=lambda region: -region.score)[:most]
            counts.append(count_contradictions(evidence))
        labelled, wrong, error = (sum(column) for column in zip(*counts, strict=True))
        audited.append(AuditedScene(scene.id, int(labelled), int(wrong), error))
    audited.sort(key=lambda scene: -scene.share)
    logger.info(
        "label audit: %d regions of %d scenes, the worst in %s",
        len(regions),
        len(scenes),
        regions[0].scene if regions else "none",
    )
    return Audit(tuple(regions), tuple(audited))


def _weigh_scene(maps: MemberMaps, scene: Scene, decision: Decision, classes: Classes, masks: Masks) -> list[Evidence]:
    """Return the evidence on each question that the label of a scene answers."""
    label = maps.label(scene)
    prediction = np.full_like(label, IGNORE)
    odds, error = np.zeros(label.shape, np.float32), np.zeros(label.shape, np.uint16)
    for window, stored in maps.windows(scene):
        blended = decision.proba(stored)
        shown = decision.show(blended)
        prediction[:, *window.slices] = decision.label(blended)
        for question, labelled in enumerate(label):
            planes, part = slice(None) if classes.exclusive else [question], (question, *window.slices)
            evidence = weigh_evidence(
                stored[:, planes], decision.weights, shown[planes], labelled[window.slices], prediction[part]
            )
            odds[part], error[part] = evidence.odds, evidence.error
    if not decision.cleaning.idle:
        cleaned = decision.cleaning.apply(prediction, masks(scene))
        # Cleaning takes these predictions back: they are no evidence.
        odds[cleaned != prediction], error[cleaned != prediction] = 0, 0
        prediction = cleaned
    return [Evidence(*planes) for planes in zip(label, prediction, odds, error, strict=True)]


def _around(window: Window, grid: Grid) -> Window:
    """Return a window and a margin of half its size around it, at least `CROP` pixels, within the scene."""
    row, height = _span(window.row, window.height, grid.height)
    col, width = _span(window.col, window.width, grid.width)
    return Window(row, col, height, width)


def _span(start: int, length: int, limit: int) -> tuple[int, int]:
    wanted = min(max(2 * length, CROP), limit)
    return min(max(start + length // 2 - wanted // 2, 0), limit - wanted), wanted
