"""Hide the labels of some groups, so that nothing is learned from them: what fewer labels would have given."""

import logging
from dataclasses import replace

import numpy as np

from data.folds.label_share import learned_groups
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene
from data.survey.inspection import read_label_statistics

__all__ = ["hide_labels"]

logger = logging.getLogger(__name__)


def hide_labels(catalogue: Catalogue, share: float, seed: int) -> Catalogue:
    """Return a catalogue in which only a share of the labelled groups of each fold still have labels.

    The scenes of the others stay where they are, and are mapped; their labels read as unlabelled.

    Parameters
    ----------
    catalogue : Catalogue
        With groups and folds.
    share : float
        As of `data.folds.label_share.learned_groups`.
    seed : int
    """
    train = catalogue.split("train")
    counts = np.array([catalogue.label_counts(scene.id) for scene in train])
    folds = [-1 if scene.fold is None else scene.fold for scene in train]
    learned = learned_groups([scene.group for scene in train], folds, counts, share, seed)
    scenes, statistics = list[Scene](), dict(catalogue.statistics)
    for scene in catalogue.scenes:
        if scene.split == "train" and scene.label is not None and scene.group not in learned:
            nothing = tuple((value, IGNORE) for value, _ in scene.label.values)
            scene = replace(scene, label=replace(scene.label, values=nothing))
            known = statistics["train", scene.id]
            statistics["train", scene.id] = read_label_statistics(scene, known, catalogue.classes)
        scenes.append(scene)
    logger.info("labels of %d groups are learned from, those of all others are hidden", len(learned))
    return replace(catalogue, scenes=tuple(scenes), statistics=statistics)
