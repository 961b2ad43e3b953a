"""The settings of `terrablend tune`, and the values that its trials choose."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data.settings import Settings
from ensemble.metric_settings import MetricSettings
from features.branch import Range, Space

if TYPE_CHECKING:
    import optuna

__all__ = ["TuneSettings", "chosen_values", "describe_value", "suggest"]


class TuneSettings(Settings):
    """How `terrablend tune` looks for better settings."""

    trials: int = Field(30, ge=1, description="number of settings to try, including those of earlier calls")
    metric: MetricSettings | None = Field(None, description="score to maximise; default: that of the ensemble")
    search: dict[str, Range | list[Any]] = Field(
        {}, description="dotted keys of the experiment file, each with its range or its values"
    )
    compared: dict[str, int] = Field(
        {},
        description="member → settings that were compared on these folds to find its own; `terrablend tune` writes it "
        "into best.yaml, and reports say it",
    )

    @property
    def caveats(self) -> list[str]:
        """What a reader of scores must know of members whose settings were chosen by them, in sentences."""
        return [
            f"The settings of {name} are the best of {count} that were compared on these folds, which flatters it."
            for name, count in self.compared.items()
        ]

    @property
    def record(self) -> dict[str, Any]:
        """What reports depend on."""
        return {"compared": self.compared} if self.compared else {}


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
