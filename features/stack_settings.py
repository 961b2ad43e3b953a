"""What a stack can name: members, whose probabilities it takes, and layers of networks, whose features."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field, field_validator, model_validator

from data.settings import Settings
from features.branch import MemberSettings

__all__ = ["LayerSettings", "StackEntry", "Stacked", "StackingSettings", "derived_members", "stack_names"]


class Stacked(Settings):
    """What a member is stacked on, and how."""

    member: str = Field(description="the member that is read: its probabilities, or with `layer` its features")
    layer: str | None = Field(
        None,
        pattern=r"^(decoder|encoder\.[1-9])$",
        description="trees: read this layer of the member's networks; decoder: the last one before the classes; "
        "encoder.N: the N-th output of the encoder, from 1, the finest; each has half the resolution of the one before",
    )
    components: int = Field(
        8, ge=1, le=64, description="columns of a layer: what the networks of all folds agree on, most agreement first"
    )
    strict: bool = Field(
        False,
        description="learn from maps of models that saw neither the scene's fold nor the fold that is held out: with K "
        "folds K - 1 further models are fitted for each model of the member; for small data",
    )

    @property
    def name(self) -> str:
        """Of the folder of the maps; that of a layer no member can have."""
        return self.member if self.layer is None else f"{self.member}@{self.layer}"

    @model_validator(mode="after")
    def _strict_of_probabilities(self) -> "Stacked":
        if self.strict and self.layer is not None:
            raise ValueError("expected strict of probabilities alone: inside of each fold networks have other axes")
        return self


StackEntry = str | Stacked


class LayerSettings(MemberSettings):
    """A layer that is mapped as a member is, for stacks alone: nothing is decided on its maps."""

    branch: Literal["layers"] = "layers"
    member: str
    layer: str
    components: int

    @property
    def stacked_on(self) -> Sequence[str]:
        """Return the member that has the layer."""
        return [self.member]

    @property
    def planes(self) -> tuple[str, ...]:
        """Return the numbers of the components, from 1."""
        return tuple(str(number + 1) for number in range(self.components))


def stack_names(stack: Iterable[StackEntry]) -> list[str]:
    """Return the folders of the maps that a stack takes."""
    return [entry if isinstance(entry, str) else entry.name for entry in stack]


def strict_members(stack: Iterable[StackEntry]) -> list[str]:
    """Return the members of a stack that must be fitted inside of each fold."""
    return [entry.name for entry in stack if isinstance(entry, Stacked) and entry.strict]


def derived_members(stack: Iterable[StackEntry]) -> Mapping[str, LayerSettings]:
    """Return the layers of a stack, as members by their names."""
    return {
        entry.name: LayerSettings(member=entry.member, layer=entry.layer, components=entry.components)
        for entry in stack
        if isinstance(entry, Stacked) and entry.layer is not None
    }


class StackingSettings(MemberSettings):
    """What the settings of members that may learn from the maps of others have in common."""

    stack: list[StackEntry] = Field(
        [],
        description="members whose probabilities are learned from too, one a class, out of fold in training scenes; "
        "for trees also features of layers of networks; not with the task multilabel",
    )

    @property
    def stacked_on(self) -> list[str]:
        """Members, and layers, whose maps are learned from."""
        return stack_names(self.stack)

    @property
    def inner(self) -> list[str]:
        """Members that it is stacked on strictly."""
        return strict_members(self.stack)

    @field_validator("stack")
    @classmethod
    def _names_differ(cls, stack: list[StackEntry]) -> list[StackEntry]:
        names = stack_names(stack)
        if len(set(names)) < len(names):
            raise ValueError(f"expected each member once, got {', '.join(names)}")
        return stack
