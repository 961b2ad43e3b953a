"""What a member of the tree branch can be told in the experiment file."""

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
"""Defaults that only suit one kind of booster."""


class TreeSettings(Settings):
    """A member that is a booster of decision trees: what it learns from and how."""

    branch: Literal["trees"] = "trees"

    booster: BoosterName = "lightgbm"
    features: list[str] | None = Field(None, description="columns of the pixel table; default: all of them")
    sample_weight: Literal["design", "none"] = Field(
        "design", description="rows count 1 / the probability they were drawn with, or all alike"
    )

    class_weights: Literal["none", "balanced"] | dict[str, ClassWeight] = Field(
        "none",
        description="what rows of a class, or scenes with a tag, count besides: all the same, as much in all as those "
        "of any other class, or by name, 1 if not named",
    )

    categorical: list[str] = Field([], description="columns whose values are codes of kinds, whole numbers from 0")
    monotone: dict[str, Literal[-1, 1]] = Field(
        {}, description="columns with which the probability may only rise (1) or fall (-1); of two classes only"
    )

    rounds: int = Field(
        600, ge=1, description="boosting rounds, each adds a tree or one a class; 300 trees in a random forest"
    )
    learning_rate: float = Field(0.05, gt=0, le=1)
    leaves: int = Field(63, ge=2, description="most leaves of a tree; 2047 in a random forest")
    min_leaf_rows: int = Field(
        50, ge=1, description="fewest rows in a leaf, whatever their weights; 5 in a random forest"
    )
    colsample: float = Field(0.3, gt=0, le=1, description="share of the columns that each tree may use")
    subsample: float = Field(0.8, gt=0, le=1, description="share of the rows that each tree is grown on")
    l2: float = Field(1.0, ge=0, description="penalty on squared leaf values")
    extra_trees: bool = Field(
        False, description="LightGBM and random forests: try one random split value a column rather than all"
    )
    bins: int = Field(255, ge=2, le=255, description="distinct values of a column that are told apart")

    validation_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training groups held out to choose a smaller number of rounds; 0: use all rounds, "
        "which serves unseen places better",
    )
    monitor: StopName | None = Field(
        None,
        description="what these are scored by; default: iou of the plain map when binary, else macro_iou; log_loss of "
        "tags",
    )
    patience: int = Field(50, ge=1, description="rounds without a gain there before it stops")
    refit: bool = Field(True, description="then learn from all training groups with that number of rounds")

    device: DeviceName = Field("auto", description="auto takes a GPU when there is one that the library can use")
    parameters: dict[str, Any] = Field({}, description="further parameters of the library, as it names them")

    @model_validator(mode="before")
    @classmethod
    def _suit_the_booster(cls, values: Any) -> Any:
        return {**OTHERWISE.get(values.get("booster"), {}), **values} if isinstance(values, dict) else values
