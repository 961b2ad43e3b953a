"""Write the verdict: whether blending pays, and what an interval allows to conclude."""

import math
from collections.abc import Sequence

from ensemble.objective import Objective
from ensemble.score.evaluation import BLEND, Evaluation
from ensemble.score.intervals import Interval
from ensemble.settings import EnsembleSettings

__all__ = ["gain_text", "judge_gain", "verdict_text"]


def judge_gain(gain: Interval) -> str:
    """Return what the interval of a paired difference allows to conclude.

    >>> judge_gain(Interval(0.002, -0.001, 0.004)), judge_gain(Interval(0.02, 0.01, 0.03))
    ('could be chance', 'more than chance')
    >>> judge_gain(Interval(0.0, 0.0, 0.0)), judge_gain(Interval(0.1, float("nan"), float("nan")))
    ('no difference', 'a single group, which says nothing of chance')
    """
    if gain.value == 0 and not (gain.low < 0 or gain.high > 0):
        return "no difference"
    if not math.isfinite(gain.low):
        return "a single group, which says nothing of chance"
    return "could be chance" if gain.low <= 0 <= gain.high else "more than chance"


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
    seed: int,
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
    seed : int
    """
    pooled = evaluation.pool(settings.n_resamples, seed)
    estimates = {name: pooled[name].score(objective) for name in (*members, BLEND)}
    scores = {name: float(estimate.value) for name, estimate in estimates.items()}
    best = max(members, key=lambda name: -math.inf if math.isnan(scores[name]) else scores[name])
    title = objective.title
    if len(members) == 1:
        return f"One member, {best}: {title} {scores[best]:.4f} out of fold. There is nothing to blend."
    gain = (estimates[BLEND] - estimates[best]).interval(settings.confidence_level)
    scored = f"{title} {scores[BLEND]:.4f} out of fold, {best} alone {scores[best]:.4f}"
    difference, unused = gain_text(gain, settings.confidence_level), [name for name in members if name not in used]
    if len(used) == 1:
        lost = f"{_listed(unused)} {'adds' if len(unused) == 1 else 'add'} nothing here, so {used[0]} is used alone"
        if judge_gain(gain) == "no difference" and used[0] == best:
            return f"{lost}: {title} {scores[best]:.4f} out of fold, and every fold's blend does the same."
        if gain.value <= 0:
            return f"{lost}: the blend reaches {scored} ({difference})."
        return (
            f"The blends chosen fold by fold reach {scored} ({difference}), but on all folds together {used[0]} alone "
            "is best and is used alone."
        )
    without = f" {_listed(unused)} got no weight." if unused else ""
    if gain.value <= 0:
        return (
            f"Out of fold blending does not pay: {scored} ({difference}). It is used as it was chosen on all folds "
            f"together.{without}"
        )
    judgement = judge_gain(gain)
    if judgement == "more than chance":
        return f"The blend pays: {scored}, a gain of {difference}.{without}"
    which = "which could be chance" if judgement == "could be chance" else f"from {judgement}"
    return f"The blend reaches {scored}: a gain of {difference}, {which}.{without}"


def _listed(names: Sequence[str]) -> str:
    """Name some members, the first few of many.

    >>> _listed(["a"]), _listed(["a", "b", "c"]), _listed(["a", "b", "c", "d", "e"])
    ('a', 'a, b and c', 'a, b, c and 2 others')
    """
    shown = [*names[:3], f"{len(names) - 3} others"] if len(names) > 4 else list(names)
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
