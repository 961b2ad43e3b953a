"""Fit the boosters of a fold on tagged scenes: one tag after another, on the same rows."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.folds.hold_out import hold_out_scenes
from trees.boosters.booster import Booster
from trees.learning import TrainingRows, fit_part
from trees.settings import TreeSettings
from trees.tag_boosters import TagBoosters

__all__ = ["TagRows"]

logger = logging.getLogger(__name__)


class TagRows(TrainingRows):
    """The rows of the table of scenes: each tag has a booster of its own."""

    @property
    def suffix(self) -> str:
        """Suffix of the file that holds the boosters of a fold."""
        return TagBoosters.suffix

    def fit(self, settings: TreeSettings, fold: int, seed: int) -> tuple[TagBoosters, dict[str, Any]]:
        """Learn every tag from the rows outside a fold; raises MemberError if there is none.

        A tag that all of the rows have, or none, gets a constant: their share, had there been two rows more, one with
        and one without it (Laplace's rule of succession).
        """
        # The plain map has no rare tag in it for many rounds, and so no IoU that could tell them apart.
        settings = settings.model_copy(update={"monitor": settings.monitor or "log_loss"})
        tags, outside = self.learner.table.label, self._fold != fold
        rows, counts = int(np.count_nonzero(outside)), tags[outside].sum(axis=0, dtype=np.int64).tolist()
        if rows == 0:
            raise MemberError(
                f"member {self.name}, fold {fold}: expected scenes to learn from, got none outside the fold. "
                "Use more folds, or tag more scenes."
            )
        held = self._hold_out(settings, fold, seed)
        boosters: list[Booster | float] = []
        facts: dict[str, Any] = {}
        for index, (tag, count) in enumerate(zip(self.labels, counts, strict=True)):
            if count in (0, rows):
                which = "no scene" if count == 0 else "every scene"
                logger.warning("%s, fold %d: %s outside this fold has %s", self.name, fold, which, tag)
                boosters.append((count + 1) / (rows + 2))
                facts[tag] = {"rows": count, "rounds": 0, "chosen_by_groups_held_out": False}
                continue
            label = np.ascontiguousarray(tags[:, index])
            validation = held if _has_both(label, held) and _has_both(label, outside & ~held) else np.zeros_like(held)
            if held.any() and not validation.any():
                logger.warning(
                    "%s, fold %d: too few groups have %s to hold some out, so all %d rounds are used",
                    self.name,
                    fold,
                    tag,
                    settings.rounds,
                )
            self.learner.relabel(label, self._weigh(label, outside, index))
            booster = fit_part(self.learner, settings, outside, validation, seed)
            boosters.append(booster)
            facts[tag] = {"rows": count, "rounds": booster.rounds, "chosen_by_groups_held_out": bool(validation.any())}
        learned = TagBoosters(settings.booster, self.labels, boosters, self.learner.table.names)
        return learned, {"rows": rows, "tags": facts, "importance_by_tag": learned.importances()}

    def _hold_out(self, settings: TreeSettings, fold: int, seed: int) -> NDArray[np.bool_]:
        share = settings.validation_fraction if self.learner.stops else 0
        held = hold_out_scenes(self.catalogue, fold, share, np.random.default_rng([seed, fold]))
        table = self.learner.table
        return np.isin(np.array(table.scenes)[table.scene], [scene.id for scene in held])

    def _weigh(self, label: NDArray[np.uint8], outside: NDArray[np.bool_], index: int) -> NDArray[np.float32]:
        """Return the weight of each row in learning a tag, 1 in the mean of those that are learned from."""
        count, rows = np.count_nonzero(label[outside]), np.count_nonzero(outside)
        weight = np.where(label == 1, (rows - count) / count if self._given is None else self._given[index], 1.0)
        relative: NDArray[np.float32] = (weight / weight[outside].mean()).astype(np.float32)
        return relative


def _has_both(label: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> bool:
    return len(np.unique(label[chosen])) == 2
