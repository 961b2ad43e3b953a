"""Cleaning: what is done to the labels of a whole scene once they are decided.

Specks are taken by what surrounds them, holes are filled, outlines are smoothed, and rules of the user's hold. What
pays is chosen out of fold, like weights and thresholds; cleaning nothing is always among the candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.names import nearest
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from ensemble.decide.decision.label_filters import fill_holes, majority, take_specks
from ensemble.settings import CleaningSettings, EnsembleSettings, RuleSettings

__all__ = ["Cleaning", "Masks", "Rule", "candidate_cleanings", "no_masks"]

Label = NDArray[np.uint8]
Masks = Callable[[Scene], Mapping[str, NDArray[np.bool_]]]
"""Scene → the text of each rule's condition → (H, W) bool, where it holds."""

WIDEST = 512
"""Radius of the widest square in which labels vote."""

AUTO = CleaningSettings(min_size=[0, 8, 64], fill=[0, 8, 64], smooth=[0, 1])
"""What is tried by default, in pixels."""


def no_masks(scene: Scene) -> Mapping[str, NDArray[np.bool_]]:
    """Return the masks of a scene where there are no rules."""
    return {}


@dataclass(frozen=True)
class Rule:
    """A rule: the label that replaces another where a condition holds.

    Parameters
    ----------
    label : int
        Label index that is replaced.
    where : str
        A formula of the scene's bands.
    becomes : int
        Label index.
    """

    label: int
    where: str
    becomes: int


@dataclass(frozen=True)
class Cleaning:
    """Steps on a scene's labels: smooth, fill holes, take specks, and after each of them apply the rules.

    What rules cut off may be a speck, and nothing may be filled again that they forbid.

    Parameters
    ----------
    min_size : int
        Objects (pixels of one label that touch, corners count) of fewer pixels are taken by the commonest label
        around them, if there is any; 0 leaves all.
    fill : int
        Holes of at most this many pixels are filled: what is not an object's label, is surrounded by the object, and
        touches neither the edge of the scene nor a pixel without prediction, beyond which it might go on.
    smooth : int
        Radius of a square in which the labels vote; 0 does not smooth. Of equals a pixel's own label wins, then the
        first.
    rules : tuple of Rule
        In the order in which they are applied.
    background : bool
        Whether label 0 is the background, of which there are no objects and which has no holes.
    """

    min_size: int = 0
    fill: int = 0
    smooth: int = 0
    rules: tuple[Rule, ...] = ()
    background: bool = True

    def __post_init__(self) -> None:
        if not (self.min_size >= 0 and self.fill >= 0 and 0 <= self.smooth <= WIDEST):
            raise ValueError(f"expected sizes of 0 or more, and to smooth over at most {WIDEST} pixels")

    @property
    def idle(self) -> bool:
        """Whether nothing is done."""
        return not (self.min_size > 1 or self.fill or self.smooth or self.rules)

    def apply(
        self,
        label: Label,
        masks: Mapping[str, NDArray[np.bool_]] | None = None,
        done: "dict[Cleaning, Label] | None" = None,
    ) -> Label:
        """Clean the labels of a whole scene.

        Parameters
        ----------
        label : (Q, H, W) uint8
            Label indices, `IGNORE` where nothing was predicted: that is never changed and never votes.
        masks : mapping of str to (H, W) bool, optional
            Where the condition of each rule holds.
        done : dict of Cleaning to (Q, H, W) uint8, optional
            What others made of the same labels, to which this one's steps are added: many that begin alike then share
            these steps.

        Returns
        -------
        cleaned : (Q, H, W) uint8

        Raises
        ------
        EnsembleError
            If there is no mask of a rule.
        """
        return label if self.idle else self._made(label, masks or {}, {} if done is None else done)

    def _made(self, label: Label, masks: Mapping[str, NDArray[np.bool_]], done: "dict[Cleaning, Label]") -> Label:
        if self not in done:
            before = replace(self, min_size=0) if self.min_size else replace(self, fill=0)
            made = (label if before == self else before._made(label, masks, done)).copy()
            for plane in made:
                if self.min_size:
                    take_specks(plane, self.min_size, self.background)
                elif self.fill:
                    fill_holes(plane, self.fill, self.background)
                elif self.smooth:
                    plane[...] = majority(plane, self.smooth)
                _obey(plane, self.rules, masks)
            done[self] = made
        return done[self]

    @property
    def words(self) -> str:
        """The steps in words; empty where there are none."""
        parts = [
            f"objects under {self.min_size} pixels removed" if self.min_size > 1 else "",
            f"holes of up to {self.fill} pixels filled" if self.fill else "",
            f"a majority vote of radius {self.smooth}" if self.smooth else "",
            *(f"a rule where {rule.where}" for rule in self.rules),
        ]
        return ", ".join(part for part in parts if part)


def candidate_cleanings(settings: EnsembleSettings, classes: Classes) -> list[Cleaning]:
    """Return what may be done to labels, the least first.

    Rules always hold, unless ``cleaning`` is ``auto``: then none, each alone, and all of them are tried. Nothing is
    done where a metric has a ``confidence``: what a threshold promises would not hold of labels that are cleaned.

    Raises
    ------
    EnsembleError
        If a rule names a class that there is not, or does not say what its label becomes, or there is anything to
        clean in tags.
    """
    if classes.task == "multilabel":
        if settings.rules or settings.cleaning not in ("auto", "none"):
            raise EnsembleError(
                "ensemble.cleaning: expected none for the task multilabel, whose tags are no regions, got sizes or "
                "rules. Leave cleaning and rules out."
            )
        return [Cleaning()]
    if settings.metric is not None and settings.metric.confidence is not None:
        return [Cleaning()]
    rules = tuple(_rule(rule, classes) for rule in settings.rules)
    choices, sizes = [rules], settings.cleaning
    if sizes == "none":
        sizes = CleaningSettings()
    elif sizes == "auto":
        choices = list(dict.fromkeys([(), *((rule,) for rule in rules), rules]))
        sizes = AUTO
    background = not classes.exclusive
    candidates = [
        Cleaning(min_size, fill, smooth, chosen, background)
        for min_size, fill, smooth, chosen in product(sizes.min_size, sizes.fill, sizes.smooth, choices)
    ]
    return sorted(candidates, key=_effort)


def _effort(cleaning: Cleaning) -> tuple[int, ...]:
    sizes = cleaning.min_size, cleaning.fill, cleaning.smooth
    return sum(size > 0 for size in sizes) + len(cleaning.rules), *sizes


def _rule(rule: RuleSettings, classes: Classes) -> Rule:
    names, becomes = classes.label_names, rule.becomes
    if becomes is None:
        if classes.task != "binary":
            raise EnsembleError(
                f"ensemble.rules: expected what {rule.label} becomes where {rule.where}, got nothing. "
                f"Add `becomes`: one of {', '.join(names)}."
            )
        becomes = next(name for name in names if name != rule.label)
    for name in (rule.label, becomes):
        if name not in names:
            raise EnsembleError(
                f"ensemble.rules: expected labels among {', '.join(names)}, got {name}. "
                f"Nearest: {nearest(name, names, 1)}."
            )
    return Rule(names.index(rule.label), rule.where, names.index(becomes))


def _obey(label: Label, rules: Sequence[Rule], masks: Mapping[str, NDArray[np.bool_]]) -> None:
    for rule in rules:
        if rule.where not in masks:
            raise EnsembleError(
                f"expected a mask of the rule where {rule.where}, got {', '.join(masks) or 'none'}. "
                "Apply this ensemble to scenes with their bands, not to maps alone."
            )
        label[(label == rule.label) & masks[rule.where]] = rule.becomes
