"""What a trained member of the CNN branch says of itself, in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cnn.settings import CnnSettings
from data.errors import MemberError
from data.records import FileKind

__all__ = ["MEMBER", "MemberRecord"]

MEMBER = FileKind("a trained member of the branch cnn", MemberError, "terrablend cnn")

LARGEST, MOST_FOLDS = 4096, 10_000


@dataclass(frozen=True)
class MemberRecord:
    """``member.json``: what the networks take and tell, and how they were trained.

    Parameters
    ----------
    name : str
    branch : "cnn"
    settings : CnnSettings
    inputs : tuple of str
        Channels, in order.
    formulas : mapping of str to str
        The user's own features, by name.
    bands, classes : tuple of str
    crop, multiple : int
    fixed_size : bool
        As in `CnnMember`.
    folds : mapping of int to mapping
        How the network of each fold was trained.
    parameters : int
        Numbers that training sets.
    seed : int
    versions : mapping of str to str
    """

    name: str
    branch: Literal["cnn"]
    settings: CnnSettings
    inputs: tuple[str, ...]
    formulas: Mapping[str, str]
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    crop: int
    multiple: int
    fixed_size: bool
    folds: Mapping[int, Mapping[str, Any]]
    parameters: int
    seed: int
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        if not (0 < self.crop <= LARGEST and 0 < self.multiple <= LARGEST):
            raise ValueError(f"expected sides of inputs of 1 to {LARGEST} pixels, got {self.crop} and {self.multiple}")
        if not all(0 <= fold < MOST_FOLDS for fold in self.folds) or not self.classes:
            raise ValueError(f"expected folds from 0 to {MOST_FOLDS - 1}, and classes")
