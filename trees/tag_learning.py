"""The scenes that a member learns tags from, with their folds and groups: one tag after another, of the same rows."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from data.folds.hold_out import hold_out_scenes
from data.names import named_weights
from data.scenes.catalogue import Catalogue
from features.scene_table import open_scene_table
from features.table import Columns
from trees.boosters.booster import Booster
from trees.learning import LEARNERS, check_columns, fit_part, library_version
from trees.settings import DeviceName, TreeSettings
from trees.tag_boosters import TagBoosters

__all__ = ["TagRows"]

logger = logging.getLogger(__name__)


class TagRows:
    """All scenes that a member learns from, fold by fold.

    Parameters
    ----------
    name : str
        Of the member, for messages.
    settings : TreeSettings
    catalogue : Catalogue
        With folds, of a multilabel task.
    pixels : Path
        Folder of the table of scenes.
    feature_set : Columns
        Of the table.
    threads : int
    device : {"auto", "cpu", "cuda"}

    Raises
    ------
    MemberError
        If the settings do not suit the table or the tags.
    """

    booster = TagBoosters

    def __init__(
        self,
        name: str,
        settings: TreeSettings,
        catalogue: Catalogue,
        pixels: Path,
        feature_set: Columns,
        *,
        threads: int = 1,
        device: DeviceName = "auto",
    ) -> None:
        self.name, self.tags, self._catalogue = name, catalogue.classes.names, catalogue
        columns = check_columns(name, settings, feature_set.names)
        if settings.monotone:
            raise MemberError(
                f"member {name}: expected no monotone columns with tags, got {', '.join(settings.monotone)}. "
                "Leave monotone out."
            )
        self._given = _given_weights(settings, self.tags)
        table = open_scene_table(pixels, catalogue, columns)
        kind = LEARNERS[settings.booster]
        self.learner = kind(table, 2, threads, device)
        self.made_with: Mapping[str, str] = {kind.library: library_version(kind.library, name)}
        fold = {scene.id: scene.fold for scene in catalogue.split("train")}
        self._fold = np.array([fold[table.scenes[place]] for place in table.scene])

    def fit(self, settings: TreeSettings, fold: int, seed: int) -> tuple[TagBoosters, dict[str, Any]]:
        """Learn every tag from the rows outside a fold.

        Parameters
        ----------
        settings : TreeSettings
        fold, seed : int

        Returns
        -------
        boosters : TagBoosters
            A tag that all of the rows have, or none, gets a constant: their share, had there been two rows more, one
            with and one without it (Laplace's rule of succession).
        facts : dict
            Rows learned from; for each tag the rows that have it, rounds, and whether these were chosen by groups
            held out.

        Raises
        ------
        MemberError
            If there is no row, or the settings do not suit the library.
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
        for index, (tag, count) in enumerate(zip(self.tags, counts, strict=True)):
            if count in (0, rows):
                which = "no scene" if count == 0 else "every scene"
                logger.warning("%s, fold %d: %s outside this fold has %s", self.name, fold, which, tag)
                boosters.append((count + 1) / (rows + 2))
                facts[tag] = {"rows": count, "rounds": 0, "chosen_by_groups_held_out": False}
                continue
            label = np.ascontiguousarray(tags[:, index])
            own = held if _has_both(label, held) and _has_both(label, outside & ~held) else np.zeros_like(held)
            if held.any() and not own.any():
                logger.warning(
                    "%s, fold %d: too few groups have %s to hold some out, so all %d rounds are used",
                    self.name,
                    fold,
                    tag,
                    settings.rounds,
                )
            self.learner.relabel(label, self._weigh(label, outside, index))
            booster = fit_part(self.learner, settings, outside, own, seed)
            boosters.append(booster)
            facts[tag] = {"rows": count, "rounds": booster.rounds, "chosen_by_groups_held_out": bool(own.any())}
        learned = TagBoosters(settings.booster, self.tags, boosters, self.learner.table.names)
        return learned, {"rows": rows, "tags": facts, "importance_by_tag": learned.importances()}

    def _hold_out(self, settings: TreeSettings, fold: int, seed: int) -> NDArray[np.bool_]:
        share = settings.validation_fraction if self.learner.stops else 0
        held = hold_out_scenes(self._catalogue, fold, share, np.random.default_rng([seed, fold]))
        table = self.learner.table
        return np.isin(np.array(table.scenes)[table.scene], [scene.id for scene in held])

    def _weigh(self, label: NDArray[np.uint8], outside: NDArray[np.bool_], index: int) -> NDArray[np.float32]:
        """Return what each row counts in learning a tag, 1 in the mean of those that are learned from."""
        count, rows = np.count_nonzero(label[outside]), np.count_nonzero(outside)
        weight = np.where(label == 1, (rows - count) / count if self._given is None else self._given[index], 1.0)
        relative: NDArray[np.float32] = (weight / weight[outside].mean()).astype(np.float32)
        return relative


def _given_weights(settings: TreeSettings, tags: tuple[str, ...]) -> tuple[float, ...] | None:
    """Return what a row counts that has a tag, of each tag; None if as much in all as those that have it not."""
    if settings.class_weights == "balanced":
        return None
    given = {} if settings.class_weights == "none" else settings.class_weights
    return named_weights("class_weights", given, tags, [1.0] * len(tags))


def _has_both(label: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> bool:
    return len(np.unique(label[chosen])) == 2
