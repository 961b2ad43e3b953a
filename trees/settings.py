"""The settings of a member of the tree branch."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from data.settings import Settings

__all__ = ["BoosterName", "Device", "DeviceName", "StopName", "TreeSettings"]

ClassWeight = Annotated[float, Field(ge=0)]
BoosterName = Literal["lightgbm", "xgboost", "catboost", "random_forest", "hist_gradient_boosting"]
Device = Literal["cpu", "cuda"]
DeviceName = Literal["auto", "cpu", "cuda"]
StopName = Literal["iou", "macro_iou", "accuracy", "average_precision", "log_loss"]


OTHERWISE: dict[str | None, dict[str, Any]] = {"random_forest": {"rounds": 300, "leaves": 2047, "min_leaf_rows": 5}}
"""Defaults that differ by booster."""


class TreeSettings(Settings):
    """A member of boosted trees or a random forest: what it learns from and how."""

    branch: Literal["trees"] = Field("trees", description="trees learn from the pixel table")

    booster: BoosterName = Field("lightgbm", description="the library that grows the trees")
    features: list[str] | None = Field(None, description="columns of the pixel table to learn from; default: all")
    sample_weight: Literal["design", "none"] = Field(
        "design", description="weight of a row: design: 1 / its probability of being sampled; none: 1"
    )

    class_weights: Literal["none", "balanced"] | dict[str, ClassWeight] = Field(
        "none",
        description="factor on the weights of a class's rows, or of scenes with a tag: none; balanced: every class has "
        "the same total; or name → factor, 1 if not named",
    )

    categorical: list[str] = Field([], description="columns that hold category codes, whole numbers from 0")
    monotone: dict[str, Literal[-1, 1]] = Field(
        {}, description="column → 1 or -1: the probability may only rise or only fall with it; binary tasks and tags"
    )

    rounds: int = Field(
        600,
        ge=1,
        description="boosting rounds, of one tree each, or of one a class; a random forest: trees, 300 by default",
    )
    learning_rate: float = Field(0.05, gt=0, le=1, description="factor on each tree's leaf values")
    leaves: int = Field(63, ge=2, description="most leaves of a tree; a random forest: 2047 by default")
    min_leaf_rows: int = Field(
        50, ge=1, description="fewest rows in a leaf, not weighted; a random forest: 5 by default"
    )
    colsample: float = Field(0.3, gt=0, le=1, description="share of the columns that each tree may use, 0 … 1")
    subsample: float = Field(0.8, gt=0, le=1, description="share of the rows that each tree is grown on, 0 … 1")
    l2: float = Field(1.0, ge=0, description="L2 penalty on leaf values")
    extra_trees: bool = Field(
        False, description="LightGBM and random forests: try one random split value a column rather than all"
    )
    bins: int = Field(255, ge=2, le=255, description="most bins that a column's values are put into")

    validation_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training groups held out for early stopping, 0 … 1; 0: no early stopping, which "
        "scores better at unseen places",
    )
    monitor: StopName | None = Field(
        None,
        description="score of the groups held out; default: iou if binary, macro_iou if multiclass, log_loss of tags",
    )
    patience: int = Field(50, ge=1, description="rounds without a better `monitor` before learning stops")
    refit: bool = Field(
        True, description="after early stopping learn again from all training groups, with the best number of rounds"
    )

    device: DeviceName = Field("auto", description="auto: a GPU if there is one that the library can use")
    parameters: dict[str, Any] = Field({}, description="further parameters of the library, under its own names")

    @model_validator(mode="before")
    @classmethod
    def _suit_the_booster(cls, values: Any) -> Any:
        return {**OTHERWISE.get(values.get("booster"), {}), **values} if isinstance(values, dict) else values
