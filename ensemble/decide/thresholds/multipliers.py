"""Tune the multipliers of exclusive classes' probabilities before the argmax."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.compiled import compiled
from data.maps.geotiff import NODATA
from data.metrics.confusion import group_counts
from data.scenes.classes import IGNORE
from ensemble.decide.decision.thresholds import best_choice, decide
from ensemble.decide.sample.choice import CLEAR, clarity
from ensemble.decide.sample.trial import Trial
from ensemble.decide.thresholds.one_standard_error import resample, shrink_to_plain
from ensemble.objective import Objective

__all__ = ["best_multipliers", "shrink_multipliers", "tune_multipliers"]

Floats = NDArray[np.float64]

SPAN = 3.0
"""Multipliers are sought within e^±3 where they are only tuned."""
PRIOR = 1.0
"""Where they are shrunk, within e^±1: more is a fault of the members."""
STEPS, SCENE_STEPS = 512, 64
"""Equal parts of that range: steps of about 1.2 %, by scene of 10 %."""
SWEEPS = 4
"""Most rounds over all classes; the ascent settles after two or three."""
SCENES = 64
"""Scenes that are counted at a time."""
SHARES = np.linspace(0, 1, 9)
"""How much of what was found is tried on pixels left out; 0 is the plain argmax."""


def tune_multipliers(
    stored: NDArray[np.uint16],
    label: NDArray[np.uint8],
    weight: Floats,
    objective: Objective,
    scene: NDArray[np.integer],
    block: NDArray[np.integer],
    fold: NDArray[np.integer],
) -> tuple[Floats, Floats]:
    """Find multipliers and keep as much of them as pays on pixels that they were not found on.

    They are found without each fold in turn; their geometric mean is raised to a power from 0, the plain argmax, to 1.
    Which, is chosen by the score of every fold left out: the least power that is not clearly worse than the best, see
    `one_standard_error`. What the fitting pixels alone would gain is mostly luck, as scenes are few.

    Parameters
    ----------
    stored : (K, n) uint16
    label : (n,) uint8
    weight : (n,) float64
    objective : Objective
    scene : (n,) int
        From 0 to n_scenes - 1.
    block : (n_scenes,) int
        From 0 to n_blocks - 1.
    fold : (n,) int

    Returns
    -------
    multipliers : (K,) float64
        With a geometric mean of 1; never worse than the plain argmax on these pixels.
    spread : (K,) float64
        Standard error of the logarithm of the best ones, by the jackknife over folds.
    """
    n, n_scenes, folds = len(stored), len(block), np.unique(fold)
    if len(folds) < 2:
        return np.ones(n), np.zeros(n)
    logs = np.empty((len(folds), n))
    counts = np.zeros((n_scenes, len(SHARES), 1, n, n + 1))
    for position, left_out in enumerate(folds):
        out = fold == left_out
        best = best_multipliers(stored[:, ~out], label[~out], weight[~out], objective, scene[~out])
        logs[position] = np.log(best)
        for share, power in enumerate(SHARES):
            prediction = decide(stored[:, out], np.exp(power * logs[position]).tolist(), exclusive=True)
            counts[:, share] += group_counts(label[None, out], prediction, weight[out], n, scene[out], n_scenes)
    spread = np.sqrt(len(folds) - 1) * logs.std(axis=0)
    scores, resampled = _score_blocks(counts, block, objective)
    share = shrink_to_plain(scores, resampled, best_choice(scores, 0), 0)
    multipliers = np.exp(SHARES[share] * logs.mean(axis=0))
    pixels = _Pixels.of(stored, label, weight, scene if objective.by_scene else None)
    better = share > 0 and pixels.score(multipliers, objective) > pixels.score(np.ones(n), objective)
    return (multipliers if better else np.ones(n)), spread


def shrink_multipliers(stored: NDArray[np.uint16], trial: Trial) -> tuple[Floats, Floats]:
    """Find multipliers within e^±1, shrink each by its spread over halves of the groups, and keep them if they pay.

    Where they do not gain clearly even on the pixels that they were found on, they are not tried on others.

    Parameters
    ----------
    stored : (K, n) uint16
        Of the pixels of the trial.
    trial : Trial

    Returns
    -------
    multipliers : (K,) float64
        1 each, unless others gain more than two standard errors on groups that they were not found on: of what could
        depart they have gone wrong most often.
    spread : (K,) float64
        Standard error of the logarithm of the best ones; 0 where they were not tried on others.
    """
    n, pool, everything = len(stored), trial.pool, np.ones(len(trial.place), bool)
    if len(np.unique(trial.groups)) < 2:
        return np.ones(n), np.zeros(n)

    def fit(chosen: NDArray[np.bool_]) -> Floats:
        some = stored[:, chosen], pool.label[0, chosen], pool.weight[chosen]
        found = np.log(best_multipliers(*some, trial.objective, trial.place[chosen], PRIOR))
        return np.clip(found, -PRIOR, PRIOR)

    def label(values: Floats, chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
        return decide(stored[:, chosen], np.exp(values).tolist(), exclusive=True)

    def pays(replicates: Floats) -> bool:
        return clarity(replicates - plain) > CLEAR

    plain = trial.score(trial.count(label(np.zeros(n), everything)))
    if not pays(trial.score(trial.count(label(fit(everything), everything)))):
        return np.ones(n), np.zeros(n)
    found = trial.depart(np.zeros(n), fit, label)
    return (np.exp(found.values) if pays(found.replicates) else np.ones(n)), found.spread


def best_multipliers(
    stored: NDArray[np.uint16],
    label: NDArray[np.uint8],
    weight: Floats,
    objective: Objective,
    scene: NDArray[np.integer],
    span: float = SPAN,
) -> Floats:
    """Find the multipliers that suit these pixels best, by coordinate ascent.

    With all other multipliers fixed, a pixel goes to class k once k's multiplier exceeds the ratio of the greatest
    other product to p_k. One histogram of these ratios by label and rival gives the confusion counts of every
    multiplier at once, so a step costs a pass over the pixels and is exact to the width of a bin. Parameters and result
    are as `tune_multipliers` has them; multipliers are sought within e^±``span``.
    """
    n = len(stored)
    pixels = _Pixels.of(stored, label, weight, scene if objective.by_scene else None)
    steps = round((SCENE_STEPS if objective.by_scene else STEPS) * span / SPAN / 2) * 2
    edges = np.linspace(-span, span, steps + 1)
    shift = np.zeros(n)
    start = best = pixels.score(np.ones(n), objective)
    for _ in range(SWEEPS):
        gained = False
        for place in range(n):
            scores = pixels.scores(place, shift, edges, objective)
            choice = best_choice(scores, len(edges) // 2)
            if scores[choice] > best + 1e-9:
                best, shift[place], gained = float(scores[choice]), edges[choice], True
        if not gained:
            break
    multipliers: Floats = np.exp(shift - shift.mean())
    # Decisions are made in float32, where a pixel on the edge can fall to the other side.
    return multipliers if pixels.score(multipliers, objective) > start else np.ones(n)


@dataclass(frozen=True)
class _Pixels:
    """Pixels in order of the units that are scored: their scenes, or all as one."""

    stored: NDArray[np.uint16]
    label: NDArray[np.uint8]
    weight: Floats
    unit: NDArray[np.int64]
    n_units: int
    logs: NDArray[np.float32]
    """(n, K), of the probabilities."""
    starts: NDArray[np.int64]
    """Where the pixels of each unit begin, and where the last ends."""

    @classmethod
    def of(
        cls, stored: NDArray[np.uint16], label: NDArray[np.uint8], weight: Floats, scene: NDArray[np.integer] | None
    ) -> "_Pixels":
        unit = np.zeros(len(label), np.int64)
        if scene is not None:
            _, unit = np.unique(scene, return_inverse=True)
            order = np.argsort(unit, kind="stable")
            stored, label, weight, unit = stored[:, order], label[order], weight[order], unit[order]
        n_units = int(unit[-1]) + 1 if len(unit) else 1
        logs = np.log(np.ascontiguousarray(stored.T) + np.float32(0.5), dtype=np.float32)
        return cls(stored, label, weight, unit, n_units, logs, np.searchsorted(unit, np.arange(n_units + 1)))

    def score(self, multipliers: Floats, objective: Objective) -> float:
        """Score the labels that multipliers give."""
        prediction = decide(self.stored, multipliers.tolist(), exclusive=True)
        counts = group_counts(self.label[None], prediction, self.weight, len(self.stored), self.unit, self.n_units)
        return float(objective.over(counts))

    def scores(self, place: int, shift: Floats, edges: Floats, objective: Objective) -> Floats:
        """Score every multiplier of a class, of logarithm ``edges``, beside those of the others."""
        n = len(self.stored)
        total, seen = np.zeros(len(edges)), np.zeros(len(edges))
        for first in range(0, self.n_units, SCENES):
            last = min(first + SCENES, self.n_units)
            pixels = slice(self.starts[first], self.starts[last])
            # Pixels by unit, place between the edges, label and rival; the last plane has those without a prediction.
            moved = np.zeros((last - first, len(edges) + 2, n, n))
            _move(
                self.logs[pixels],
                self.stored[0, pixels],
                shift.astype(np.float32),
                self.label[pixels],
                self.weight[pixels],
                self.unit[pixels] - first,
                place,
                edges[0],
                edges[1] - edges[0],
                moved,
            )
            # At edge b the pixels of all places up to b belong to the class.
            taken = np.cumsum(moved[:, : len(edges)], axis=1)
            counts = np.zeros((last - first, len(edges), n, n + 1))
            counts[..., :n] = moved[:, :-1].sum(axis=1)[:, None] - taken
            counts[..., place] += taken.sum(axis=-1)
            counts[..., n] = moved[:, -1, :, 0][:, None]
            scores = objective.score(counts[:, :, None])
            total += np.nansum(scores, axis=0)
            seen += np.isfinite(scores).sum(axis=0)
        with np.errstate(invalid="ignore"):
            mean: Floats = total / seen
        return mean


@compiled
def _move(
    logs: NDArray[np.float32],
    first: NDArray[np.uint16],
    shift: NDArray[np.float32],
    label: NDArray[np.uint8],
    weight: Floats,
    unit: NDArray[np.int64],
    place: int,
    low: float,
    step: float,
    moved: Floats,
) -> None:
    n_pixels, n = logs.shape
    last = moved.shape[1] - 1
    for pixel in range(n_pixels):
        if label[pixel] == IGNORE:
            continue
        if first[pixel] == NODATA:
            moved[unit[pixel], last, label[pixel], 0] += weight[pixel]
            continue
        rival, most = 0, -np.inf
        for other in range(n):
            if other != place and logs[pixel, other] + shift[other] > most:
                rival, most = other, logs[pixel, other] + shift[other]
        edge = int(np.ceil((most - logs[pixel, place] - low) / step))
        moved[unit[pixel], min(max(edge, 0), last - 1), label[pixel], rival] += weight[pixel]


def _score_blocks(counts: Floats, block: NDArray[np.integer], objective: Objective) -> tuple[Floats, Floats]:
    """Score counts (n_scenes, n_choices, …) of each choice, and over blocks of scenes drawn again."""
    n_blocks = int(block.max()) + 1
    draws = resample(n_blocks)
    member = (block[None] == np.arange(n_blocks)[:, None]).astype(np.float64)
    if not objective.by_scene:
        sums = np.tensordot(member, counts, 1)
        return objective.score(counts.sum(axis=0)), objective.score(np.tensordot(draws, sums, 1))
    scores = objective.score(counts)
    with np.errstate(invalid="ignore"):
        resampled = draws @ (member @ np.nan_to_num(scores)) / (draws @ (member @ np.isfinite(scores)))
    return objective.over(counts), resampled
