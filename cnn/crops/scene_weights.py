"""Weigh scenes by their facts in the catalogue: how much more often some are shown than others."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.names import nearest
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene

__all__ = ["scene_facts", "weigh_scenes"]

logger = logging.getLogger(__name__)


def scene_facts(catalogue: Catalogue, scene: Scene) -> dict[str, float]:
    """Return the facts of a training scene, by name.

    ``valid_share`` and ``labelled_share`` of its pixels; of each class ``has_kelp``, 1 or 0, and ``kelp_share``, of
    the labelled pixels; of each band ``nir_mean``, ``nir_deviation``, ``nir_minimum`` and ``nir_maximum``. Tags have no
    pixels, and so no shares.
    """
    known = catalogue.statistics.get(("train", scene.id))
    if known is None:
        raise MemberError(
            f"scene_weights: expected statistics of the scene {scene.id}, got none. Run `terrablend check` again."
        )
    pixels, labelled = scene.grid.height * scene.grid.width, sum(known.label_counts)
    tags, facts = catalogue.classes.task == "multilabel", {"valid_share": known.valid_pixels / pixels}
    if not tags:
        facts["labelled_share"] = labelled / pixels
    for name, count in zip(catalogue.classes.label_names, known.label_counts, strict=True):
        facts[f"has_{name}"] = float(count > 0)
        if not tags:
            facts[f"{name}_share"] = count / max(labelled, 1)
    for band in known.bands:
        facts |= {f"{band['band']}_{what}": band[what] for what in ("mean", "deviation", "minimum", "maximum")}
    return facts


def weigh_scenes(weights: Mapping[str, float], catalogue: Catalogue, scenes: Sequence[Scene]) -> NDArray[np.float64]:
    """Return the weight (n,) of each of some training scenes.

    Where a fact is highest a scene weighs its weight times as much as where it is lowest, with equal ratios for equal
    steps between: 3 for ``has_kelp`` shows scenes with kelp three times as often as those without, 0.5 half as often.
    Weights of several facts multiply. A fact that is not finite counts as the lowest.

    Raises
    ------
    MemberError
        If a fact is unknown.
    """
    total = np.ones(len(scenes))
    if not weights:
        return total
    facts = [scene_facts(catalogue, scene) for scene in scenes]
    for name, weight in weights.items():
        if name not in facts[0]:
            raise MemberError(
                f"scene_weights: expected facts among {', '.join(facts[0])}, got {name}. "
                f"Nearest: {nearest(name, facts[0])}."
            )
        values = np.array([known[name] for known in facts])
        finite = np.isfinite(values)
        low, high = values[finite].min(initial=np.inf), values[finite].max(initial=-np.inf)
        if low < high:
            total *= weight ** ((np.where(finite, values, low) - low) / (high - low))
        else:
            logger.info("scene_weights: %s is the same in all %d scenes and changes nothing", name, len(scenes))
    return total
