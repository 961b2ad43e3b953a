"""Does the final choice flatter itself? What is reported against the truth, for benchmarks/trust.py."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from policies import NEW, PARTS, RULES, Sample, whole
from simulated_members import World
from trust_worlds import Cell

from data.metrics.confusion import group_counts
from ensemble.decide.decision.decision import Decision

Counts = NDArray[np.float64]

BIAS = (-0.006, 0.004)
POPULATION = 400
"""Groups whose score is the truth."""
CHEAP = 4000
"""Samples by which the bias of the Dice of few groups as such is known."""


def choice_cells(
    worlds: int, seed: int, groups: Sequence[int] = (6, 12, 30, 100), members: Sequence[int] = (2, 4, 8)
) -> Iterator[Cell]:
    """Yield by how much the score that is reported of what is used exceeds its score in the population.

    All members are equally good, so whatever is chosen among them is chosen by chance. The blend, the weights and who
    leaves are decided without each fold for the score that is reported, and on all groups for what is used. Most of
    the chance of a sample is that of one decision that learned nothing, whose mean is known from many samples.
    """
    for m in members:
        world = World(strength=(2.2,) * m, pixels=100)
        draw = world.draw(POPULATION, np.random.default_rng([seed, 7, m]))
        population = whole(draw, world.classes)
        fixed = RULES["average"](population)
        truth = count(population, fixed)
        for n in groups:
            cheap = [
                dice(truth[np.random.default_rng([seed, n, number]).choice(POPULATION, n, replace=False)])
                for number in range(CHEAP)
            ]
            found = []
            for number in range(max(worlds // 15, 4)):
                chosen = np.sort(np.random.default_rng([seed, n, number]).choice(POPULATION, n, replace=False))
                reported = dice(nested_counts(population, chosen))
                used = RULES[NEW](whole(draw.within(chosen), world.classes))
                found.append(reported - dice(count(population, used)) - dice(truth[chosen]))
            error = float(np.std(found) / np.sqrt(len(found)))
            bias = float(np.mean(found) + np.mean(cheap))
            yield Cell(f"bias of the score of what is used of {m} equal members, {n} groups", bias, error, BIAS)


def nested_counts(population: Sample, chosen: NDArray[np.int64]) -> Counts:
    """Return the counts (n_groups, 1, 2, 3) of some groups, each fold of them as decided without it."""
    fold = np.arange(len(chosen)) % min(PARTS, len(chosen))
    parts = []
    for one in np.unique(fold):
        decision = RULES[NEW](whole(population.draw.within(chosen[fold != one]), population.classes))
        parts.append(count(whole(population.draw.within(chosen[fold == one]), population.classes), decision))
    return np.concatenate(parts)


def count(sample: Sample, decision: Decision) -> Counts:
    """Return the counts of each group."""
    draw, n_groups = sample.draw, int(sample.draw.group.max()) + 1
    return group_counts(
        draw.label, decision.apply(draw.stored), sample.weight, sample.classes.n_labels, draw.group, n_groups
    )


def dice(counts: Counts) -> float:
    """Return the Dice of the counts of groups together."""
    total = counts.sum(axis=0)[0]
    return float(2 * total[1, 1] / (total[1].sum() + total[:, 1].sum()))
