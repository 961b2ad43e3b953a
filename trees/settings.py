"""What a member of the tree branch can be told in the experiment file."""

from typing import Any, Literal

from pydantic import Field

from data.settings import Settings

__all__ = ["BoosterName", "DeviceName", "TreeSettings"]

BoosterName = Literal["lightgbm", "xgboost"]
DeviceName = Literal["auto", "cpu", "cuda"]


class TreeSettings(Settings):
    """A member that is a booster of decision trees: what it learns from and how."""

    branch: Literal["trees"] = "trees"

    booster: BoosterName = "lightgbm"
    features: list[str] | None = Field(None, description="columns of the pixel table; default: all of them")
    weights: Literal["design", "none"] = Field(
        "design", description="rows count 1 / the probability they were drawn with, or all alike"
    )

    rounds: int = Field(1000, ge=1, description="most boosting rounds; each adds a tree, or one a class")
    learning_rate: float = Field(0.05, gt=0, le=1)
    leaves: int = Field(63, ge=2, description="most leaves of a tree")
    min_leaf_rows: int = Field(50, ge=1, description="fewest rows in a leaf, whatever their weights")
    feature_share: float = Field(0.3, gt=0, le=1, description="share of the columns that each tree may use")
    row_share: float = Field(0.8, gt=0, le=1, description="share of the rows that each tree is grown on")
    l2: float = Field(1.0, ge=0, description="penalty on squared leaf values")
    random_cuts: bool = Field(
        True,
        description="LightGBM: try one random cut a column rather than all, which carries over better to new places",
    )
    bins: int = Field(255, ge=2, le=255, description="distinct values of a column that are told apart")

    holdout: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of the training groups held out to choose the number of rounds; 0: use all rounds",
    )
    patience: int = Field(50, ge=1, description="rounds without a gain there before it stops")
    refit: bool = Field(True, description="then learn from all training groups with that number of rounds")

    device: DeviceName = Field("auto", description="auto takes a GPU when there is one that the library can use")
    parameters: dict[str, Any] = Field({}, description="further parameters of the library, as it names them")
