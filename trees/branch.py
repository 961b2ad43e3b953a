"""The tree branch, as the front door knows it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.progress import Track
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from features.branch import Branch, Loading, ModelInput, Range, TableBranch, Training
from features.explanation import Explanation
from features.table import Table
from trees.settings import TreeSettings

if TYPE_CHECKING:
    from trees.learning import TrainingRows
    from trees.member import TreeMember

__all__ = ["BRANCH"]


def fit(training: Training[TreeSettings]) -> None:
    """Train a member's boosters."""
    from trees.fit import fit_member

    fit_member(
        open_rows(training),
        training.directory,
        seed=training.seed,
        folds=training.folds,
        track=training.track,
        taught=training.taught,
    )


def load(loading: Loading[TreeSettings]) -> "TreeMember":
    """Load a member with its boosters."""
    from trees.member import load_member

    device = loading.device or loading.settings.device
    return load_member(loading.directory, loading.threads, device, loading.executor, loading.members)


def by_process(loading: Loading[TreeSettings]) -> bool:
    """Return whether boosters predict on a CPU, where bytes do not depend on threads."""
    from trees.boosters.device import predicts_on

    return predicts_on(loading.device or loading.settings.device) == "cpu"


def open_rows(training: Training[TreeSettings]) -> "TrainingRows":
    """Open the rows that a member learns from."""
    from trees.fit import open_training_rows

    settings = training.settings
    return open_training_rows(
        training.name,
        settings,
        training.catalogue,
        training.pixels,
        training.columns(),
        members=training.members,
        threads=training.threads,
        device=training.device or settings.device,
    )


def predict_rows(
    loading: Loading[TreeSettings], catalogue: Catalogue, pixels: Path
) -> Iterator[tuple[int, Table, NDArray[np.float32]]]:
    """Predict the rows of each fold by the booster that never saw them."""
    from trees.held_out import predict_held_out

    return predict_held_out(load(loading), catalogue, pixels)


def predict_new(loading: Loading[TreeSettings], columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Predict rows that no booster saw by the mean of all of them."""
    member = load(loading)
    features = np.column_stack([columns[name] for name in member.feature_set.names])
    return member.mean_proba(features, member.folds)


def explain(loading: Loading[TreeSettings], catalogue: Catalogue, pixels: Path, seed: int, track: Track) -> Explanation:
    """Say what a member's boosters look at."""
    from trees.explain import explain_member

    return explain_member(load(loading), catalogue, pixels, seed=seed, track=track)


def earth_engine(member: Any, path: Path, folds: Sequence[int] | None) -> None:
    """Write a member's trees as Earth Engine reads them."""
    from trees.earth_engine import export_trees

    export_trees(member, path, folds)


def first_members(bands: Sequence[str], sparse: bool) -> dict[str, dict[str, Any]]:
    """Return boosted trees; where labels are few, of random split values, which follow them less, and a forest too.

    A class of one small polygon would be lost among the others: in the forest every class weighs the same.
    """
    boosted: dict[str, Any] = {"branch": "trees", "booster": "lightgbm"}
    if not sparse:
        return {"lightgbm": boosted}
    forest = {"branch": "trees", "booster": "random_forest", "extra_trees": True, "class_weights": "balanced"}
    return {"lightgbm": {**boosted, "extra_trees": True}, "forest": forest}


def inputs(member: Any, classes: Classes) -> Iterator[ModelInput]:
    """Yield what the boosters take, the same in every fold."""
    features = member.feature_set.describe()
    what = "scene" if classes.task == "multilabel" else "pixel"
    yield ModelInput(member.name, f"A table of one row a {what}.", features, (-1, len(features)), ("batch", "channel"))


BRANCH = Branch(
    name="trees",
    help="Train the members of the tree branch and write their maps.",
    settings=TreeSettings,
    fit=fit,
    load=load,
    architecture=lambda settings: settings.booster,
    inputs=inputs,
    earth_engine=earth_engine,
    by_process=by_process,
    table=TableBranch(
        open_rows,
        ("booster", "features", "stack", "sample_weight", "class_weights"),
        predict_rows,
        predict_new,
        explain,
    ),
    search_space={
        "leaves": Range(low=7, high=255, log=True),
        "min_leaf_rows": Range(low=5, high=500, log=True),
        "learning_rate": Range(low=0.02, high=0.2, log=True),
        "rounds": Range(low=100, high=1000, log=True),
        "colsample": Range(low=0.1, high=1.0),
        "subsample": Range(low=0.4, high=1.0),
        "l2": Range(low=0.1, high=100.0, log=True),
        "extra_trees": [True, False],
    },
    first_members=first_members,
)
"""Boosted trees, or random forests, on the pixel table."""
