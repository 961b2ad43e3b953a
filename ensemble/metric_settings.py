"""What is optimised, as it is written in the experiment file."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from data.names import nearest
from data.settings import Settings

__all__ = ["MetricSettings", "ObjectiveName"]

ObjectiveName = Literal[
    "dice", "iou", "f2", "fbeta", "macro_dice", "macro_iou", "macro_f2", "macro_fbeta", "accuracy", "kappa",
    "precision_at_recall", "recall_at_precision", "cost",
]  # fmt: skip
NAMES: tuple[str, ...] = ObjectiveName.__args__  # type: ignore[attr-defined]

NEEDS = {
    "fbeta": "beta",
    "macro_fbeta": "beta",
    "precision_at_recall": "at_least",
    "recall_at_precision": "at_least",
    "cost": "costs",
}
"""Score → the setting without which it is not defined, and that suits no other."""


class MetricSettings(Settings):
    """A score: its name alone, or with what else defines it."""

    shorthand: ClassVar[str] = "name"

    name: ObjectiveName = Field(
        description="dice, iou, f2 and fbeta are those of the positive class (multilabel: of all tags together), "
        "macro_… the mean over all classes"
    )
    beta: float | None = Field(None, gt=0, description="fbeta: how many times as important recall is as precision")
    at_least: float | None = Field(
        None, gt=0, le=1, description="the recall of precision_at_recall, the precision of recall_at_precision"
    )
    confidence: float | None = Field(
        None,
        ge=0.5,
        lt=1,
        description="precision_at_recall: confidence that new groups reach that recall, such as 0.95; "
        "thresholds are then the most precise that promise it; refused where groups are too few",
    )
    of: str | None = Field(None, description="the only class or tag that is scored, if there are several")
    costs: dict[str, dict[str, Annotated[float, Field(ge=0)]]] | None = Field(
        None, description="label → prediction → cost, such as {kelp: {background: 5}}; other errors cost 1"
    )
    over: Literal["pixels", "scenes"] = Field(
        "pixels", description="pixels: of all scenes pooled; scenes: the mean over the scenes of each one's own score"
    )
    empty: Literal["skip", 0, 1] = Field(
        "skip",
        description="with `over: scenes`, a scene without positives: left out, or what it scores if nothing is "
        "predicted there either (else 0)",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str) and name not in NAMES:
            raise ValueError(f"expected one of {', '.join(NAMES)}, got {name}. Nearest: {nearest(name, NAMES)}")
        return value

    @model_validator(mode="after")
    def _is_defined(self) -> "MetricSettings":
        for key in ("beta", "at_least", "costs"):
            if key == NEEDS.get(self.name) and getattr(self, key) is None:
                raise ValueError(f"expected {key} with {self.name}, got none. Write {{name: {self.name}, {key}: …}}")
            if key != NEEDS.get(self.name) and getattr(self, key) is not None:
                users = ", ".join(name for name, need in NEEDS.items() if need == key)
                raise ValueError(f"expected {key} with {users} alone, got it with {self.name}. Leave {key} out")
        if self.confidence is not None and self.name != "precision_at_recall":
            raise ValueError(
                f"expected confidence with precision_at_recall alone, got it with {self.name}. Leave confidence out"
            )
        if self.confidence is not None and self.at_least == 1:
            raise ValueError("expected at_least below 1 with confidence, got 1: no sample shows that nothing is missed")
        if self.over == "pixels" and self.empty != "skip":
            raise ValueError(f"expected empty with over: scenes, got empty: {self.empty} alone. Add over: scenes")
        if self.over == "scenes" and (self.at_least is not None or self.name == "kappa"):
            raise ValueError(f"expected {self.name} over pixels, got it over scenes. Leave over out")
        return self
