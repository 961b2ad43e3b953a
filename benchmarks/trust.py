"""Can the numbers be trusted? Worlds whose truth is known, and what Terrablend says of samples of them.

    python benchmarks/trust.py --worlds 300 --seed 0 [--plots docs]

Prints a line for each cell: what was found, and the goal. The last line counts the goals that are met and names those
that are not; then the exit status is 1. A cell misses its goal if it is outside by more than two standard errors.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from trust_areas import area_cells, assisted_cells, design_cells
from trust_choice import choice_cells
from trust_decisions import audit_cells, threshold_cells
from trust_plots import write_plots
from trust_promises import promise_cells, set_cells
from trust_worlds import COVERED, GROUPS, SMALLEST, WORLDS, Cell, Population, World, one_question, share_cell

from data.metrics.metric import METRICS
from ensemble.score.intervals import GroupCounts
from ensemble.score.verdict import judge_gain


def score_cells(
    populations: dict[str, Population], worlds: int, seed: int, groups: Sequence[int] = GROUPS
) -> Iterator[Cell]:
    """Yield how often intervals of a score and of a gain hold those of the population."""
    for name, population in populations.items():
        labels = population.member.shape[-2]
        metric, places = ("dice", [(0, 1)]) if labels == 2 else ("macro_iou", [(0, label) for label in range(labels)])
        score = one_question(METRICS[metric].score)  # type: ignore[index]
        truth = [float(score(counts.sum(axis=0))) for counts in (population.member, population.blend)]
        for n in groups:
            found: dict[str, list[tuple[bool, float]]] = {"score": [], "gain": []}
            for sample in population.samples(n, 4 * worlds, seed):
                member, blend = (
                    GroupCounts(counts[sample], np.arange(n)).pooled(score, places)
                    for counts in (population.member, population.blend)
                )
                for what, estimate, true in (
                    ("score", member, truth[0]),
                    ("gain", blend - member, truth[1] - truth[0]),
                ):
                    interval = estimate.interval(0.95)
                    if math.isfinite(interval.low):
                        found[what].append((interval.low <= true <= interval.high, interval.high - interval.low))
            for what, some in found.items():
                if len(some) >= worlds / 10:
                    hits, widths = zip(*some, strict=True)
                    note = f"median width {np.median(widths):.3f}"
                    cell = share_cell(f"interval of {name}, {what}, {n} groups", hits, COVERED, note)
                    yield replace(cell, series=name if what == "score" else f"{name}: {what}", at=n)


def rare_cells(populations: dict[str, Population], worlds: int, seed: int) -> Iterator[Cell]:
    """Yield how often an interval is printed of a macro score whose class lies in one to three groups."""
    population = populations["macro IoU, a class in half the groups"]
    score, places = one_question(METRICS["macro_iou"].score), [(0, label) for label in range(4)]
    has = np.flatnonzero(population.member[:, 0, 3].sum(axis=1) > 0)
    lacks = np.flatnonzero(population.member[:, 0, 3].sum(axis=1) == 0)
    for few in (1, 2, 3):
        printed = []
        for number in range(worlds):
            rng = np.random.default_rng([seed, few, number])
            sample = np.concatenate([rng.choice(has, few, replace=False), rng.choice(lacks, 12 - few, replace=False)])
            estimate = GroupCounts(population.member[sample], np.arange(12)).pooled(score, places)
            printed.append(math.isfinite(estimate.interval(0.95).low))
        yield Cell(f"an interval of a macro score whose class lies in {few} groups", float(np.mean(printed)), 0, (0, 0))


def verdict_cells(worlds: int, seed: int) -> Iterator[Cell]:
    """Yield how often wrong words are said on a second member: that it adds nothing, or that it surely gains."""
    score = one_question(METRICS["dice"].score)
    for world in (
        World(strength=(2.5, 2.3), common=0.75),
        World(strength=(2.5, 2.4), common=0.3),
        World(strength=(2.5, 0.0)),
    ):
        population = Population.of(world, seed)
        true = float(score(population.blend.sum(axis=0)) - score(population.member.sum(axis=0)))
        for n in GROUPS:
            said = []
            for sample in population.samples(n, worlds, seed):
                member, blend = (
                    GroupCounts(counts[sample], np.arange(n)).pooled(score, [(0, 1)])
                    for counts in (population.member, population.blend)
                )
                said.append(judge_gain((blend - member).interval(0.95), SMALLEST))
            wrong = ("more than chance",) if true < 0 else ("adds nothing", "harms")
            yield share_cell(
                f"wrong words on a second member, true gain {true:+.3f}, {n} groups",
                [one in wrong for one in said],
                (0, 0.05),
                f"shown in {np.mean([one == 'more than chance' for one in said]):.0%}",
            )


def cells(worlds: int, seed: int) -> Iterator[Cell]:
    """Yield everything that is measured."""
    populations = {name: Population.of(world, seed) for name, world in WORLDS.items()}
    yield from score_cells(populations, worlds, seed)
    yield from rare_cells(populations, worlds, seed)
    yield from area_cells(populations, worlds, seed)
    yield from design_cells(worlds, seed)
    yield from assisted_cells(worlds, seed)
    yield from verdict_cells(worlds, seed)
    yield from choice_cells(worlds, seed)
    yield from threshold_cells(worlds, seed)
    yield from promise_cells(worlds, seed)
    yield from set_cells(worlds, seed)
    yield from audit_cells(worlds, seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--worlds", type=int, default=300, help="simulations of a cell; of the cheap ones several times"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plots", type=Path, help="folder that plots are written to")
    options = parser.parse_args(arguments)
    found = []
    for cell in cells(options.worlds, options.seed):
        print(cell.line, flush=True)
        found.append(cell)
    if options.plots:
        write_plots(found, options.plots)
    missed = [cell.name for cell in found if not cell.met]
    print(
        f"{len(found) - len(missed)} of {len(found)} goals met" + (f"; missed: {'; '.join(missed)}" if missed else "")
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
