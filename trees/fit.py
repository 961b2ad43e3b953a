"""Train a member of the tree branch: one booster a fold, on the rows outside it."""

import logging
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from data.files import hash_file, replacing
from data.progress import Track, untracked
from data.records import write_record
from data.scenes.catalogue import Catalogue
from data.scenes.taught import Taught
from features.table import Columns
from trees.learning import PixelRows, TrainingRows
from trees.record import MemberRecord
from trees.settings import DeviceName, TreeSettings
from trees.tag_learning import TagRows

__all__ = ["fit_member", "open_training_rows"]

logger = logging.getLogger(__name__)


def open_training_rows(
    name: str,
    settings: TreeSettings,
    catalogue: Catalogue,
    pixels: Path,
    feature_set: Columns,
    *,
    members: Path | None = None,
    threads: int = 1,
    device: DeviceName = "auto",
) -> TrainingRows:
    """Open the rows that a member learns from, of the pixel table or of the table of scenes; see `TrainingRows`."""
    kind = TagRows if catalogue.classes.task == "multilabel" else PixelRows
    return kind(name, settings, catalogue, pixels, feature_set, members=members, threads=threads, device=device)


def fit_member(
    rows: TrainingRows,
    directory: Path,
    *,
    seed: int,
    folds: Sequence[int] | None = None,
    track: Track = untracked,
    taught: Callable[[int], Taught] | None = None,
) -> None:
    """Train a member's boosters; those that exist are kept.

    Parameters
    ----------
    rows : TrainingRows
        Of the member, see `open_training_rows`.
    directory : Path
        Gets ``member.json`` and, for each fold, the booster and ``fold<K>.json``.
    seed : int
    folds : sequence of int, optional
        Those to train; all by default.
    track : Track
    taught : callable, optional
        Fold → what its booster learns from besides.

    Raises
    ------
    MemberError
        If the training rows lack a class altogether, or the settings do not suit the library.
    """
    record = MemberRecord(
        rows.name,
        rows.settings,
        rows.catalogue.bands,
        rows.learner.table.names,
        rows.formulas,
        rows.catalogue.classes,
        {"terrablend": version("terrablend"), **rows.made_with},
    )
    write_record(directory / "member.json", record)
    paths = {
        fold: directory / f"fold{fold}{rows.suffix}" for fold in (rows.catalogue.folds if folds is None else folds)
    }
    todo = [fold for fold, path in paths.items() if not path.exists()]
    for fold in track(todo, f"{rows.name}: folds", len(todo)):
        start = time.perf_counter()
        learned = rows if taught is None else rows.besides(taught(fold))
        booster, facts = learned.fit(rows.settings, fold, seed)
        with replacing(paths[fold]) as temporary:
            booster.save(temporary)
            facts = {**facts, "importance": dict(booster.importance()), "sha256": hash_file(temporary)}
            write_record(directory / f"fold{fold}.json", facts)
        seconds = time.perf_counter() - start
        what = f"{booster.rounds} rounds on {facts['rows']} rows in {seconds:.0f} s"
        logger.info("%s, fold %d: %s", rows.name, fold, what)
