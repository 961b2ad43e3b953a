"""What tuning may change, and between which values."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from data.settings import Settings
from ensemble.metric_settings import MetricSettings

if TYPE_CHECKING:
    import optuna

__all__ = ["Range", "Space", "TuneSettings", "chosen_values", "describe_value", "suggest"]


class Range(Settings):
    """Numbers between two others; whole ones if both are."""

    low: int | float = Field(description="least value")
    high: int | float = Field(description="greatest value")
    log: bool = Field(False, description="look as closely between 1 and 10 as between 10 and 100")

    @model_validator(mode="after")
    def _rises(self) -> "Range":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"expected low < high, and above 0 where log is set, got {self.low} and {self.high}")
        return self


Space = Mapping[str, Range | list[Any]]
"""What may be changed, by dotted key of the experiment file: a range, or a list of values."""


class TuneSettings(Settings):
    """How `terrablend tune` looks for better settings."""

    trials: int = Field(30, ge=1, description="settings that are tried, those of earlier calls included")
    metric: MetricSettings | None = Field(None, description="what is raised; default: that of the ensemble")
    search: dict[str, Range | list[Any]] = Field(
        {}, description="dotted keys of the experiment file, each with its range or its values"
    )


SPACES: dict[Literal["trees", "cnn"], Space] = {
    "trees": {
        "leaves": Range(low=7, high=255, log=True),
        "min_leaf_rows": Range(low=5, high=500, log=True),
        "learning_rate": Range(low=0.02, high=0.2, log=True),
        "rounds": Range(low=100, high=1000, log=True),
        "colsample": Range(low=0.1, high=1.0),
        "subsample": Range(low=0.4, high=1.0),
        "l2": Range(low=0.1, high=100.0, log=True),
        "extra_trees": [True, False],
    },
    "cnn": {
        "learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "weight_decay": Range(low=1e-4, high=1e-1, log=True),
        "loss": ["ce", "dice", "ce+dice"],
    },
}
"""What is searched of a member for which the experiment file names nothing."""


def suggest(trial: "optuna.Trial", space: Space) -> dict[str, Any]:
    """Let a trial choose a value for each key."""
    return {key: _suggest(trial, key, choice) for key, choice in space.items()}


def chosen_values(parameters: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Return the values that a trial chose, from what Optuna holds of it."""
    return {key: json.loads(value) if isinstance(space[key], list) else value for key, value in parameters.items()}


def describe_value(value: Any) -> str:
    """Return a value as it is written in an experiment file."""
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _suggest(trial: "optuna.Trial", key: str, choice: Range | list[Any]) -> Any:
    if isinstance(choice, list):
        # Optuna takes plain values alone: what stands for each is its text.
        return json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in choice]))
    if isinstance(choice.low, int) and isinstance(choice.high, int):
        return trial.suggest_int(key, choice.low, choice.high, log=choice.log)
    return trial.suggest_float(key, choice.low, choice.high, log=choice.log)
