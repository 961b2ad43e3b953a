"""Predict the rows of the pixel table out of fold: each by the model that never saw its group."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.scenes.catalogue import Catalogue
from features.table import Table, open_table
from trees.boosters.booster import predict_classes
from trees.member import TreeMember

__all__ = ["predict_held_out"]


def predict_held_out(
    member: TreeMember, catalogue: Catalogue, pixels: Path
) -> Iterator[tuple[int, Table, NDArray[np.float32]]]:
    """Predict the rows of each fold by the booster that never saw them.

    Parameters
    ----------
    member : TreeMember
    catalogue : Catalogue
        With folds.
    pixels : Path
        Folder of the pixel table.

    Yields
    ------
    fold : int
    table : Table
        The rows that the fold holds out; by their weights they stand for its scenes' pixels.
    proba : (n, n_classes) float32
    """
    for fold in member.folds:
        table = open_table(pixels, catalogue.in_fold(fold), member.feature_set.names)
        booster = member.boosters[fold]
        parts = [
            predict_classes(booster, features, member.n_classes, member.threads) for _, features in table.batches()
        ]
        proba = np.concatenate(parts) if parts else np.empty((0, member.n_classes), np.float32)
        yield fold, table, proba
