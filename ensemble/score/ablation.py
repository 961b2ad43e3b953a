"""Measure what each branch and step is worth: the blend without it, against what is used."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from data.pages.numbers import format_minus
from ensemble.objective import Objective
from ensemble.score.evaluation import BLEND, PLAIN, UNCALIBRATED, UNCLEANED, Evaluation, alone
from ensemble.score.intervals import Interval
from ensemble.score.verdict import FEW_GROUPS, judge_gain
from ensemble.settings import EnsembleSettings

__all__ = ["Ablation", "ablate"]

logger = logging.getLogger(__name__)

STEPS = {UNCALIBRATED: "calibration", PLAIN: "thresholds", UNCLEANED: "cleaning"}
"""Candidate → the step that it lacks."""


@dataclass(frozen=True)
class Ablation:
    """One thing left out.

    Parameters
    ----------
    name : str
        What is left, such as ``trees alone``.
    candidate : str
        Among those of the evaluation.
    score : Interval
        Of the candidate.
    gain : Interval
        Of what is used over the candidate, paired.
    verdict : str
        In words: what is left out, and whether that was worth anything.
    """

    name: str
    candidate: str
    score: Interval
    gain: Interval
    verdict: str


def ablate(
    evaluation: Evaluation, branches: Mapping[str, str], objective: Objective, settings: EnsembleSettings
) -> list[Ablation]:
    """Score the blend without each branch and each step, against what is used.

    Parameters
    ----------
    evaluation : Evaluation
        Nested: what is left out is left out where it was decided, too.
    branches : mapping of str to str
        Member → ``trees`` or ``cnn``. A branch is only asked about where there are both.
    objective : Objective
    settings : EnsembleSettings

    Returns
    -------
    ablations : list of Ablation
        Branches first, then the steps that there are; also logged.
    """
    by_group, level = evaluation.by_group(), settings.confidence_level
    final = by_group[evaluation.final].score(objective)
    ablations = []
    for name, candidate, what in _left_out(evaluation, branches):
        estimate = by_group[candidate].score(objective)
        score, gain = estimate.interval(level), (final - estimate).interval(level)
        ablations.append(Ablation(name, candidate, score, gain, _say_worth(what, gain, settings.smallest_gain)))
    if ablations:
        n_groups = len(set(evaluation.groups.values()))
        few = ", so few that they may be too narrow" if n_groups < FEW_GROUPS else ""
        logger.info("left out, with %s intervals over %d groups%s:", f"{level:.0%}", n_groups, few)
    for ablation in ablations:
        logger.info("%s: %s %.4f; %s", ablation.name, objective.title, ablation.score.value, ablation.verdict)
    return ablations


def _left_out(evaluation: Evaluation, branches: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield what is left, the candidate, and what it lacks."""
    names = {branch: branch.upper() if branch == "cnn" else branch for branch in branches.values()}
    for branch in names if len(names) > 1 else ():
        members = [member for member, of_member in branches.items() if of_member == branch]
        lacking = " and ".join(f"the {name}" for other, name in names.items() if other != branch)
        yield f"{names[branch]} alone", members[0] if len(members) == 1 else alone(branch), lacking
    for candidate, step in STEPS.items():
        # They are steps of the blend, not of a member that is used in its stead.
        if candidate in evaluation.counts and evaluation.final == BLEND:
            yield candidate.removeprefix(f"{BLEND}, "), candidate, step


def _say_worth(what: str, gain: Interval, smallest: float) -> str:
    if gain.low == gain.high == 0:
        return f"{what} added nothing"
    judgement = judge_gain(gain, smallest)
    said = {
        "more than chance": f"{what} gained {{}}: more than chance",
        "adds nothing": f"{what} added nothing: {{}}",
        "harms": f"{what} harmed: {{}}",
    }.get(judgement, f"no gain of {what} is shown: {{}}" if math.isfinite(gain.low) else f"{what}: {{}}, {judgement}")
    ends = f" ({gain.low:+.4f} to {gain.high:+.4f})" if math.isfinite(gain.low) else ""
    return format_minus(said.format(f"{gain.value:+.4f}{ends}"))
