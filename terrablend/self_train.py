"""The settings of self-training: what members are taught by, and which are taught."""

from pydantic import Field

from data.settings import Settings

__all__ = ["SelfTrainSettings"]


class SelfTrainSettings(Settings):
    """Members that learn from scenes without labels too, by what others say of them."""

    teachers: list[str] = Field(min_length=1, description="members whose blend labels the scenes without labels")
    pupils: list[str] = Field(min_length=1, description="members that learn from these labels besides the given ones")
    confidence: float | dict[str, float] = Field(
        0.8,
        description="least probability of the most probable class for a pixel to be labelled, one number or by "
        "class, 0.8 if not named",
    )
    weight: float = Field(
        0.3, gt=0, le=1, description="share of such pixels that are labelled: how much they count beside given labels"
    )

    def confidence_of(self, name: str) -> float:
        """Return the least probability of a class."""
        if isinstance(self.confidence, dict):
            return self.confidence.get(name, 0.8)
        return self.confidence
