"""Policies: how calibrations and weights are decided on some parts of the pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.progress import Track, untracked
from data.scenes.scene import Scene
from ensemble.decide.calibration.calibrators import Calibrator
from ensemble.decide.decision.blend import UNIONS, Space
from ensemble.decide.decision.calibration import Calibration, Method
from ensemble.decide.decision.decision import Decision, calibrate
from ensemble.decide.sample.choice import Choice
from ensemble.decide.sample.inner_folds import InnerFolds, Parts
from ensemble.decide.sample.trial import Trial
from ensemble.decide.weights.averages import Averager
from ensemble.decide.weights.blenders import Blender, count_jointly
from ensemble.decide.weights.worth import Worth
from ensemble.maps import MemberMaps
from ensemble.settings import EnsembleSettings

__all__ = ["Plan", "Policy", "open_policy"]

VALUES = 500_000
"""Most probabilities of all members and classes that weights are tried on."""
FEWEST_PIXELS = 10_000
FLAT = 10.0
"""Temperature from which on a member says next to nothing; those that know something have about 1."""


@dataclass(frozen=True)
class Plan:
    """What was decided on some parts, thresholds and cleaning still to come.

    Parameters
    ----------
    decision : Decision
        Its thresholds do not matter yet.
    choices : mapping of str to Choice
        Step → what there was to choose from.
    worths : tuple of Worth
        Of each member that others could be compared without.
    """

    decision: Decision
    choices: Mapping[str, Choice]
    worths: tuple[Worth, ...] = ()


class Policy(Protocol):
    """A way to decide."""

    centred: bool
    """Whether thresholds are shrunk towards the metric's own centre, and groups rather than folds are left out."""

    def plan(self, members: tuple[int, ...], parts: Parts) -> Plan:
        """Decide calibrations and the blend of some members, on the pixels of some parts alone."""
        ...


@dataclass
class Cautious:
    """Equal weights of calibrated logits; whatever departs from them must gain more than its noise, and is shrunk.

    Parameters
    ----------
    inner : InnerFolds
    calibrators : sequence of Calibrator
        One a member.
    names : tuple of str
        Of all members.
    settings : EnsembleSettings
    departs : bool
        Whether anything may; else all is averaged.
    """

    inner: InnerFolds
    calibrators: Sequence[Calibrator]
    names: tuple[str, ...]
    settings: EnsembleSettings
    departs: bool = True
    centred: bool = field(init=False, default=True)
    _trials: dict[Parts, tuple[Trial, NDArray[np.uint16], tuple[Calibration, ...]]] = field(
        init=False, default_factory=dict
    )

    def plan(self, members: tuple[int, ...], parts: Parts) -> Plan:
        """Decide calibrations and the blend of some members, on the pixels of some parts alone."""
        trial, calibrated, calibrations = self._trial(parts)
        averager = Averager(
            trial, calibrated, self.names, self.settings.blend, self.inner.fixed_thresholds, calibrations
        )
        if not self.departs:
            named: Space = next((space for space in UNIONS if space == self.settings.blend), "logit")
            return Plan(Decision(calibrations, averager.equal(members, named), ()), {})
        able = tuple(member for member in members if not _knows_nothing(calibrations[member])) or members
        blend, choices, worths = averager.find(members, able)
        return Plan(Decision(calibrations, blend, ()), choices, worths)

    def _trial(self, parts: Parts) -> tuple[Trial, NDArray[np.uint16], tuple[Calibration, ...]]:
        if parts not in self._trials:
            inner, asked = self.inner, self.settings.calibration
            method: Method = "temperature" if asked == "auto" else asked
            calibrations = tuple(calibrator.fit(method, parts) for calibrator in self.calibrators)
            pool = inner.pool.take(inner.where(parts))
            size = max(VALUES // (pool.stored.shape[0] * pool.stored.shape[1]), FEWEST_PIXELS)
            pool = pool.thin(max(size // len(parts), 1))
            trial = Trial.of(pool, inner.blocks, inner.classes, inner.objective)
            self._trials[parts] = trial, calibrate(calibrations, pool.stored), calibrations
        return self._trials[parts]


@dataclass
class Tuned:
    """The best of all candidates on parts left out, the simpler one unless another gains more than one standard error.

    Parameters
    ----------
    inner : InnerFolds
    calibrators : sequence of Calibrator
    names : tuple of str
    settings : EnsembleSettings
    joint : mapping of int to (2, bins + 1, bins + 1) int64
        As `count_jointly` counts two members.
    """

    inner: InnerFolds
    calibrators: Sequence[Calibrator]
    names: tuple[str, ...]
    settings: EnsembleSettings
    joint: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    centred: bool = field(init=False, default=False)
    _blenders: dict[tuple[int, ...], Blender] = field(init=False, default_factory=dict)

    def plan(self, members: tuple[int, ...], parts: Parts) -> Plan:
        """Decide calibrations and the blend of some members, on the pixels of some parts alone."""
        choices: dict[str, Choice] = {}
        methods: list[Method] = []
        for name, calibrator in zip(self.names, self.calibrators, strict=True):
            method, choice = calibrator.choose(self.settings.calibration, parts)
            methods.append(method)
            if choice:
                choices[f"calibration of {name}"] = choice
        raw: tuple[Method, ...] = tuple("none" for _ in methods)
        # Log loss says which calibration is best; whether the score profits from any is seen of the blend.
        fitted: tuple[Method, ...] = tuple(methods)
        options = [fitted] if self.settings.calibration != "auto" or fitted == raw else [raw, fitted]
        blender = self._blenders.setdefault(members, self._blender(members))
        kind, used, choice = blender.choose(options, parts)
        if choice:
            choices["blend"] = choice
        return Plan(blender.fit(kind, used, parts), choices)

    def _blender(self, members: tuple[int, ...]) -> Blender:
        joint = self.joint if len(members) == len(self.names) else {}
        return Blender(self.inner, self.calibrators, members, self.settings.blend, joint)


def open_policy(
    settings: EnsembleSettings, inner: InnerFolds, maps: MemberMaps, scenes: Sequence[Scene], track: Track = untracked
) -> Policy:
    """Return the policy that the settings name, with what it counts of each part once."""
    calibrators = [Calibrator(inner, place) for place in range(len(maps.names))]
    if settings.policy == "tuned":
        joint = count_jointly(inner, maps, scenes, settings.blend, track)
        return Tuned(inner, calibrators, maps.names, settings, joint)
    return Cautious(inner, calibrators, maps.names, settings, departs=settings.policy == "cautious")


def _knows_nothing(calibration: Calibration) -> bool:
    """Return whether a member is no better than chance: the less its logits count, the better."""
    return calibration.method == "temperature" and all(value >= FLAT for (value,) in calibration.values)
