"""Write the verdict: whether blending pays, and what an interval allows to conclude."""

import math
from collections.abc import Sequence

from ensemble.objective import Objective
from ensemble.score.evaluation import BLEND, Evaluation
from ensemble.score.intervals import FEWEST, Interval
from ensemble.settings import EnsembleSettings

__all__ = ["FEW_GROUPS", "gain_text", "judge_gain", "verdict_text"]


FEW_GROUPS = 6
"""Groups below which no simulation has shown that intervals hold what they promise (docs/trust.md)."""


def judge_gain(gain: Interval, smallest: float) -> str:
    """Return what the interval of a paired difference allows to conclude.

    Parameters
    ----------
    gain : Interval
    smallest : float
        The smallest gain that matters: what cannot be that much is nothing.

    Examples
    --------
    >>> judge_gain(Interval(0.02, 0.01, 0.03), 0.002), judge_gain(Interval(-0.02, -0.03, -0.01), 0.002)
    ('more than chance', 'harms')
    >>> judge_gain(Interval(0.002, -0.001, 0.004), 0.002), judge_gain(Interval(0.0, -0.001, 0.001), 0.002)
    ('no gain shown; it could be up to +0.0040', 'adds nothing')
    >>> judge_gain(Interval(0.1, float("nan"), float("nan")), 0.002)
    'too few groups for an interval'
    """
    if not math.isfinite(gain.low):
        return "too few groups for an interval"
    if gain.high < 0:
        return "harms"
    if gain.high < smallest:
        return "adds nothing"
    return "more than chance" if gain.low > 0 else f"no gain shown; it could be up to {gain.high:+.4f}"


def gain_text(gain: Interval, confidence_level: float) -> str:
    """Write a paired difference with its interval.

    >>> gain_text(Interval(0.002, -0.001, 0.004), 0.95)
    '+0.0020, 95% interval -0.0010 to +0.0040'
    """
    if not math.isfinite(gain.low):
        return f"{gain.value:+.4f}"
    return f"{gain.value:+.4f}, {confidence_level:.0%} interval {gain.low:+.4f} to {gain.high:+.4f}"


def verdict_text(
    evaluation: Evaluation,
    members: Sequence[str],
    used: Sequence[str],
    objective: Objective,
    settings: EnsembleSettings,
) -> str:
    """Write whether blending pays.

    Parameters
    ----------
    evaluation : Evaluation
        Nested: what each scene's blend does was decided without the scene's fold.
    members : sequence of str
    used : sequence of str
        Those that have any weight in the end.
    objective : Objective
    settings : EnsembleSettings
    """
    by_group = evaluation.by_group()
    estimates = {name: by_group[name].score(objective) for name in (*members, BLEND)}
    scores = {name: float(estimate.value) for name, estimate in estimates.items()}
    best = max(members, key=lambda name: -math.inf if math.isnan(scores[name]) else scores[name])
    title, n_groups = objective.title, by_group[BLEND].n_groups
    few = f" Of {n_groups} groups alone intervals may be too narrow." if FEWEST <= n_groups < FEW_GROUPS else ""
    if len(members) == 1:
        return f"One member, {best}: {title} {scores[best]:.4f} out of fold. There is nothing to blend."
    gain = (estimates[BLEND] - estimates[best]).interval(settings.confidence_level)
    scored = f"{title} {scores[BLEND]:.4f} out of fold, {best} alone {scores[best]:.4f}"
    difference, judgement = gain_text(gain, settings.confidence_level), judge_gain(gain, settings.smallest_gain)
    unused = _listed([name for name in members if name not in used])
    if len(used) == 1:
        # In every fold as well, unless the blends differ from it somewhere.
        everywhere = gain.value == 0 and not (gain.low < 0 or gain.high > 0)
        reached = (
            f"{title} {scores[best]:.4f} out of fold" if everywhere else f"the blend reaches {scored} ({difference})"
        )
        many = len(members) > 2
        if gain.value > 0:
            said = (
                f"The blends chosen fold by fold reach {scored} ({difference}), but on all folds together {used[0]} "
                "alone is best and is used alone"
            )
        elif judgement in ("adds nothing", "harms"):
            what = {"adds nothing": "add nothing here", "harms": "harm"}[judgement]
            verb = what if many else what.replace("add", "adds").replace("harm", "harms")
            said = f"{unused} {verb}, so {used[0]} is used alone: {reached}"
        else:
            said = f"{used[0]} is used alone, {judgement}: {reached}"
        return f"{said}.{few}"
    without = f" {unused} got no weight." if unused else ""
    if gain.value <= 0:
        return (
            f"Out of fold blending does not pay: {scored} ({difference}). It is used as it was chosen on all folds "
            f"together.{without}{few}"
        )
    if judgement == "more than chance":
        return f"The blend pays: {scored}, a gain of {difference}.{without}{few}"
    return f"The blend reaches {scored}: {difference}; {judgement}.{without}{few}"


def _listed(names: Sequence[str]) -> str:
    """Name some members, the first few of many.

    >>> _listed([]), _listed(["a"]), _listed(["a", "b", "c"]), _listed(["a", "b", "c", "d", "e"])
    ('', 'a', 'a, b and c', 'a, b, c and 2 others')
    """
    if not names:
        return ""
    shown = [*names[:3], f"{len(names) - 3} others"] if len(names) > 4 else list(names)
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
