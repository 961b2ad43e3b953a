"""Inner cross-validation: candidates are tried on sampled pixels, in parts that are left out in turn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA
from data.metrics.confusion import group_counts
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from ensemble.decide.decision.thresholds import Thresholds, best_choice, decide, histogram_counts, plain_thresholds
from ensemble.decide.sample.choice import jackknife
from ensemble.decide.sample.pool import PixelPool
from ensemble.objective import Objective

__all__ = ["InnerFolds", "Parts"]

Parts = tuple[int, ...]
"""Parts of the training scenes: the folds or, of few folds, pieces of each."""

VALUES = 12_000_000
"""Most probabilities of all members and classes that candidates are tried on."""
MOST_PIXELS, FEWEST_PIXELS = 200_000, 20_000
FEWEST_PARTS = 5
BLOCKS = 50
"""Most blocks of groups that are left out in turn for a standard error."""
COARSE = 1 << 6
"""Thresholds are tried in steps of 64/65534 here; the exact ones are found later."""


@dataclass(frozen=True)
class InnerFolds:
    """Sampled pixels in parts, and how labels made of them are scored.

    Parameters
    ----------
    pool : PixelPool
        What candidates are tried on. Its ``fold`` is the part of each pixel.
    whole : PixelPool
        All that was drawn, in the same parts.
    classes : Classes
    objective : Objective
    groups : (n_scenes,) int64
        The group of each scene.
    part_of : dict
        Scene → its part.
    parts : dict
        Fold → its parts.
    fixed_thresholds : bool
        Whether thresholds are the plain ones.
    """

    pool: PixelPool
    whole: PixelPool
    classes: Classes
    objective: Objective
    groups: NDArray[np.int64]
    part_of: dict[str, int]
    parts: dict[int, Parts]
    fixed_thresholds: bool = False

    @classmethod
    def of(cls, pool: PixelPool, catalogue: Catalogue, objective: Objective, fixed_thresholds: bool = False) -> Self:
        """Divide a pool into parts: its folds or, where these are fewer than `FEWEST_PARTS`, pieces of them by groups.

        Deciding for one of two or three folds leaves one or two to learn from. In pieces there is still something to
        leave out, and what is fitted to the others rests on most of what it will be fitted to in the end.
        """
        scenes = sorted(catalogue.split("train"), key=lambda scene: scene.id)
        groups = [scene.group or scene.id for scene in scenes]
        place = {group: rank for rank, group in enumerate(sorted(set(groups)))}
        ranks = np.array([place[group] for group in groups], np.int64)
        folds = catalogue.folds
        fold_of = np.array([scene.fold or 0 for scene in scenes], np.int16)
        part_of = fold_of.copy()
        parts: dict[int, Parts] = {fold: (fold,) for fold in folds}
        pieces = -(-FEWEST_PARTS // len(folds))
        # Scenes without a labelled pixel have nothing to decide on: a part of them alone would be empty.
        labelled = np.isin(np.arange(len(scenes)), pool.scene)
        if pieces > 1:
            for position, fold in enumerate(folds):
                part_of[fold_of == fold] = pieces * position
                inside = (fold_of == fold) & labelled
                _, within = np.unique(ranks[inside], return_inverse=True)
                part_of[inside] = pieces * position + within % pieces
                parts[fold] = tuple(np.unique(part_of[inside]).tolist())
        n_members, n_classes = pool.stored.shape[:2]
        size = max(min(VALUES // (n_members * n_classes), MOST_PIXELS), FEWEST_PIXELS)
        thinned = pool.thin(size // len(folds))
        return cls(
            replace(thinned, fold=part_of[thinned.scene]),
            replace(pool, fold=part_of[pool.scene]),
            catalogue.classes,
            objective,
            ranks,
            {scene.id: int(part) for scene, part in zip(scenes, part_of, strict=True)},
            parts,
            fixed_thresholds,
        )

    def outside(self, fold: int | None) -> Parts:
        """Return the parts outside a fold; None: all."""
        return tuple(part for other, parts in self.parts.items() if other != fold for part in parts)

    @property
    def blocks(self) -> NDArray[np.int64]:
        """The block of each scene, (n_scenes,): scenes of a group are in one, of which there are `BLOCKS` at most."""
        return self.groups % BLOCKS

    @property
    def scenes(self) -> list[str]:
        """The training scenes, in the order of the pool's ``scene``."""
        return list(self.part_of)

    def where(self, parts: Sequence[int]) -> NDArray[np.bool_]:
        """Return which pixels lie in some parts."""
        return np.isin(self.pool.fold, parts)

    def tune(self, blended: NDArray[np.uint16], chosen: NDArray[np.bool_]) -> tuple[Thresholds, float]:
        """Return thresholds that suit some pixels, and their score there: to compare candidates by, not yet to use.

        Of several classes that exclude each other plain ones, else the best in steps of about 0.001.

        Parameters
        ----------
        blended : (n_classes, n_chosen) uint16
        chosen : (n,) bool
        """
        exclusive = self.classes.exclusive
        plain = exclusive or self.fixed_thresholds
        thresholds = plain_thresholds(self.classes) if plain else self._best_steps(blended, chosen)
        return thresholds, self._score(decide(blended, thresholds, exclusive), chosen)

    def scored(self, prediction: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Score labels (Q, n_chosen) of some pixels, then without each block of groups in turn, (1 + n_blocks,)."""
        scenes, counts = self._counts(prediction, chosen)
        return jackknife(counts, self.blocks[scenes], self.objective)

    def left_out(
        self, fit: Callable[[Parts], Callable[[NDArray[np.bool_]], NDArray[np.uint8]]], parts: Parts
    ) -> NDArray[np.float64]:
        """Score what is fitted to all parts but one on that one, for each in turn, all together: as `scored` does.

        Parameters
        ----------
        fit : callable
            Parts to fit to → a function that labels the chosen pixels, (n,) bool → (Q, n_chosen).
        parts : tuple of int
        """
        prediction = np.full(self.pool.label.shape, IGNORE, np.uint8)
        for part in parts:
            chosen = self.where([part])
            prediction[:, chosen] = fit(tuple(other for other in parts if other != part))(chosen)
        chosen = self.where(parts)
        return self.scored(prediction[:, chosen], chosen)

    def _score(self, prediction: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> float:
        if self.objective.by_scene:
            return float(self.objective.over(self._counts(prediction, chosen)[1]))
        everything = np.zeros(prediction.shape[1], np.int64)
        [counts] = group_counts(
            self.pool.label[:, chosen], prediction, self.pool.weight[chosen], self.classes.n_labels, everything, 1
        )
        return float(self.objective.score(counts))

    def _counts(
        self, prediction: NDArray[np.uint8], chosen: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the scenes that have chosen pixels, and the counts of each, (n_scenes, Q, n_labels, n_labels + 1)."""
        scenes, place = np.unique(self.pool.scene[chosen], return_inverse=True)
        label, weight = self.pool.label[:, chosen], self.pool.weight[chosen]
        return scenes, group_counts(label, prediction, weight, self.classes.n_labels, place, len(scenes))

    def _best_steps(self, blended: NDArray[np.uint16], chosen: NDArray[np.bool_]) -> Thresholds:
        """Return the best coarse threshold of each class, those of the others being as they are."""
        bins = -(-NODATA // COARSE)
        counts = []
        for stored, label in zip(blended, self.pool.label[:, chosen], strict=True):
            scored = label != IGNORE
            column = np.where(stored == NODATA, bins, stored // COARSE)[scored].astype(np.int64)
            cell = label[scored] * np.int64(bins + 1) + column
            histogram = np.bincount(cell, self.pool.weight[chosen][scored], minlength=2 * (bins + 1))
            counts.append(histogram_counts(histogram.reshape(2, bins + 1).astype(np.float64)))
        middle = bins // 2
        best = np.full(len(counts), middle)
        for place, every in enumerate(counts):
            kept = np.stack([of_class[step] for of_class, step in zip(counts, best, strict=True)])
            tried = np.repeat(kept[None], len(every), axis=0)
            tried[:, place] = every
            best[place] = best_choice(self.objective.score(tried), middle)
        return tuple(float(step * COARSE / (NODATA - 1)) for step in best)
