"""The settings of a member of the tree branch."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data.settings import BandNames, aliases
from features.branch import DeviceName, MemberSettings
from features.stack_settings import StackingSettings, derived_members

__all__ = ["BoosterName", "Device", "DeviceName", "StopName", "TreeSettings"]

ClassWeight = Annotated[float, Field(ge=0)]
BoosterName = Literal["lightgbm", "xgboost", "catboost", "random_forest", "hist_gradient_boosting"]
Device = Literal["cpu", "cuda"]
StopName = Literal["iou", "macro_iou", "accuracy", "average_precision", "log_loss"]


OTHERWISE: dict[str | None, dict[str, Any]] = {"random_forest": {"rounds": 300, "leaves": 2047, "min_leaf_rows": 5}}
"""Defaults that differ by booster."""

LEAF_ROWS, FEWEST_LEAF_ROWS, LEAVES_A_CLASS = 50, 5, 6
"""Fewest rows in a leaf by default; the fewest where rows are few; leaves that the rarest class can then fill."""


class TreeSettings(StackingSettings):
    """A member of boosted trees or a random forest: what it learns from and how."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        **{
            key: f"Each library has its own: write parameters: {{{key}: …}}."
            for key in (
                "max_depth",
                "reg_alpha",
                "lambda_l1",
                "min_child_weight",
                "min_split_gain",
                "gamma",
                "max_delta_step",
            )
        },
        "scale_pos_weight": "class_weights says what rows of a class count.",
        "is_unbalance": "Write class_weights: balanced.",
        "auto_class_weights": "Write class_weights: balanced.",
        "objective": "It follows from the experiment's task.",
        "num_class": "It follows from the experiment's classes.",
        **dict.fromkeys(("seed", "random_state", "random_seed"), "Write seed at the top of the experiment file."),
        **dict.fromkeys(("n_jobs", "num_threads", "nthread", "thread_count"), "Say --workers on the command line."),
    }

    branch: Literal["trees"] = Field("trees", description="trees learn from the pixel table")

    booster: BoosterName = Field("lightgbm", description="the library that grows the trees")
    features: BandNames | None = Field(None, description="columns of the pixel table to learn from; default: all")
    sample_weight: Literal["design", "none"] = Field(
        "design",
        description="weight of a row: design: 1 / its probability of being sampled; none: 1",
        json_schema_extra=aliases("sample_weights"),
    )

    class_weights: Literal["none", "balanced"] | dict[str, ClassWeight] = Field(
        "none",
        description="factor on the weights of a class's rows, or of scenes with a tag: none; balanced: every class has "
        "the same total; or name → factor, 1 if not named",
        json_schema_extra=aliases("class_weight"),
    )

    categorical: list[str] = Field(
        [],
        description="columns that hold category codes, whole numbers from 0",
        json_schema_extra=aliases("categorical_feature", "categorical_features", "cat_features"),
    )
    monotone: dict[str, Literal[-1, 1]] = Field(
        {},
        description="column → 1 or -1: the probability may only rise or only fall with it; binary tasks and tags",
        json_schema_extra=aliases("monotone_constraints", "monotonic_cst"),
    )

    rounds: int = Field(
        600,
        ge=1,
        description="boosting rounds, of one tree each, or of one a class; a random forest: trees, 300 by default",
        json_schema_extra=aliases("n_estimators", "num_boost_round", "num_iterations", "iterations", "max_iter"),
    )
    learning_rate: float = Field(
        0.05, gt=0, le=1, description="factor on each tree's leaf values", json_schema_extra=aliases("lr", "eta")
    )
    leaves: int = Field(
        63,
        ge=2,
        description="most leaves of a tree; a random forest: 2047 by default",
        json_schema_extra=aliases("num_leaves", "max_leaves", "max_leaf_nodes"),
    )
    min_leaf_rows: int | None = Field(
        None,
        ge=1,
        description="fewest rows in a leaf, not weighted; default: 50, or if less a sixth of the rows of the "
        "rarest class, but 5 or more; of a random forest 5",
        json_schema_extra=aliases("min_data_in_leaf", "min_child_samples", "min_samples_leaf"),
    )
    colsample: float = Field(
        0.3,
        gt=0,
        le=1,
        description="share of the columns that each tree may use, 0 … 1",
        json_schema_extra=aliases("colsample_bytree", "feature_fraction", "rsm"),
    )
    subsample: float = Field(
        0.8,
        gt=0,
        le=1,
        description="share of the rows that each tree is grown on, 0 … 1",
        json_schema_extra=aliases("bagging_fraction"),
    )
    l2: float = Field(
        1.0,
        ge=0,
        description="L2 penalty on leaf values",
        json_schema_extra=aliases("reg_lambda", "lambda_l2", "l2_leaf_reg", "l2_regularization"),
    )
    extra_trees: bool = Field(
        False, description="LightGBM and random forests: try one random split value a column rather than all"
    )
    bins: int = Field(
        255,
        ge=2,
        le=255,
        description="most bins that a column's values are put into",
        json_schema_extra=aliases("max_bin", "max_bins", "border_count"),
    )

    validation_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training groups held out for early stopping, 0 … 1; 0: no early stopping, which "
        "scores better at unseen places",
        json_schema_extra=aliases("val_fraction", "validation_split"),
    )
    monitor: StopName | None = Field(
        None,
        description="score of the groups held out; default: iou if binary, macro_iou if multiclass, log_loss of tags",
        json_schema_extra=aliases("eval_metric"),
    )
    patience: int = Field(
        50,
        ge=1,
        description="rounds without a better `monitor` before learning stops",
        json_schema_extra=aliases("early_stopping_rounds", "early_stopping_round", "n_iter_no_change"),
    )
    refit: bool = Field(
        True, description="after early stopping learn again from all training groups, with the best number of rounds"
    )

    device: DeviceName = Field("auto", description="auto: a GPU if there is one that the library can use")
    parameters: dict[str, Any] = Field(
        {}, description="further parameters of the library, under its own names", json_schema_extra=aliases("params")
    )

    @property
    def leaf_rows(self) -> int:
        """Fewest rows in a leaf."""
        return LEAF_ROWS if self.min_leaf_rows is None else self.min_leaf_rows

    def suit_rows(self, label: NDArray[np.uint8]) -> "TreeSettings":
        """Return the settings with leaves that the rarest class of the rows (n,) can fill, unless they are given.

        >>> few, many = np.repeat(np.uint8([0, 1]), [900, 42]), np.repeat(np.uint8([0, 1]), [900, 700])
        >>> [TreeSettings().suit_rows(label).leaf_rows for label in (few, many)]
        [7, 50]
        """
        counts = np.bincount(label)
        if self.min_leaf_rows is not None or not counts.any():
            return self
        fill = int(counts[counts > 0].min()) // LEAVES_A_CLASS
        return self.model_copy(update={"min_leaf_rows": min(LEAF_ROWS, max(FEWEST_LEAF_ROWS, fill))})

    @property
    def derived(self) -> Mapping[str, MemberSettings]:
        """Layers of its stack."""
        return derived_members(self.stack)

    @model_validator(mode="before")
    @classmethod
    def _suit_the_booster(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return cls.with_defaults(values, OTHERWISE.get(values.get("booster"), {}))
