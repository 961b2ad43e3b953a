"""The settings of self-training: what members are taught by, and which are taught."""

from collections.abc import Mapping, Sequence

from pydantic import Field

from data.settings import Settings
from features.branch import MemberSettings
from terrablend.branches import branch_of

__all__ = ["SelfTrainSettings", "require_pupils"]


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


def require_pupils(settings: SelfTrainSettings, members: Mapping[str, MemberSettings], labels: Sequence[str]) -> None:
    """Refuse teachers that cannot teach, and pupils that cannot be taught."""
    for key, names in (("teachers", settings.teachers), ("pupils", settings.pupils)):
        for name in names:
            where = f"self_train.{key}: expected"
            if name not in members:
                raise ValueError(f"{where} members among {', '.join(members)}, got {name}")
            member = members[name]
            if not (member.decides and branch_of(member).computes):
                raise ValueError(f"{where} members that are fitted here, out of fold, got {name}")
            if member.stacked_on:
                raise ValueError(f"{where} members without a stack, got {name}")
            if key == "pupils" and getattr(member, "validation_fraction", None):
                raise ValueError(f"{where} members without validation_fraction, got {name}")
    both = [name for name in settings.pupils if name in settings.teachers]
    if both:
        raise ValueError(
            f"self_train: expected pupils that are no teachers, got {both[0]}: give the pupil another name"
        )
    for name, member in members.items():
        if any(below in settings.pupils for below in (*member.stacked_on, *member.derived)):
            raise ValueError(f"members.{name}.stack: expected members that are no pupils of self_train")
    if isinstance(settings.confidence, dict):
        unknown = [name for name in settings.confidence if name not in labels]
        if unknown:
            raise ValueError(f"self_train.confidence: expected classes among {', '.join(labels)}, got {unknown[0]}")
