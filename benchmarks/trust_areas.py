"""Class areas where the truth is known, by labelled scenes and by points, for benchmarks/trust.py."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from trust_worlds import Cell, Population, share_cell

from ensemble.score.area_estimates import Mapped, areas_of_groups, areas_of_sample
from ensemble.score.assisted_areas import SoftSample, assist_areas
from ensemble.score.intervals import GroupCounts

Floats = NDArray[np.float64]

MAP_PIXELS = 400_000
"""Of a map that points are drawn on."""


def area_cells(
    populations: dict[str, Population],
    worlds: int,
    seed: int,
    groups: Sequence[int] = (12, 30, 100),
    scenes: Sequence[int] = (5, 30, 300),
) -> Iterator[Cell]:
    """Yield how often the interval of a class's area in scenes without labels holds it."""
    for name in ("Dice", "Dice, rare and uneven"):
        counts = populations[name].member
        for n in groups:
            for n_test in scenes:
                hits = []
                for sample in populations[name].samples(n + n_test, worlds, seed):
                    train, test = counts[sample[:n]], counts[sample[n:], 0, :, :2]
                    target = Mapped(
                        test.sum(axis=1).astype(float), np.zeros((n_test, 2, 2)), [*map(str, sample[n:])], False
                    )
                    area = areas_of_groups(GroupCounts(train, np.arange(n)), target, ("a", "b"), 0.95).area[1]
                    hits.append(area.low <= test[:, 1].sum() <= area.high)
                yield share_cell(f"area in {n_test} test scenes, {name}, {n} groups", hits, (0.9, 0.99))


def design_cells(worlds: int, seed: int) -> Iterator[Cell]:
    """Yield how often the interval of a design sample holds the area of a class of which a little is overlooked."""
    mapped = np.array([0.98, 0.02]) * 1e6
    for omission in (0.0005, 0.002, 0.01):
        for points in (50, 200, 1000):
            rng, hits = np.random.default_rng([seed, points]), []
            truth = mapped[1] * 0.85 + mapped[0] * omission
            for _ in range(2 * worlds):
                right, overlooked = rng.binomial(points, 0.85), rng.binomial(points, omission)
                counts = np.array([[points - overlooked, points - right, 0], [overlooked, right, 0]])
                area = areas_of_sample(counts, mapped, ("a", "b"), 0.95, metric=False).area[1]
                hits.append(area.low <= truth <= area.high)
            yield share_cell(f"area by {points} points a class, omission {omission:.2%}", hits, (0.9, 0.99))


def assisted_cells(worlds: int, seed: int) -> Iterator[Cell]:
    """Yield how often the interval that probabilities helped to estimate holds the area, and what they save."""
    for omission in (0.002, 0.01, 0.05):
        for strength, offset, what in ((0.0, 0.0, "saying nothing"), (2.5, 0.0, "true"), (2.5, 1.0, "too high")):
            mapped, label, proba = _draw_map(omission, strength, offset, np.random.default_rng([seed, 6]))
            mean = np.stack([proba[mapped == stratum].mean(axis=0) for stratum in (0, 1)])
            places = [np.flatnonzero(mapped == stratum) for stratum in (0, 1)]
            area = np.bincount(mapped).astype(float)
            for points in (50, 200, 1000):
                rng, hits, saved = np.random.default_rng([seed, points]), [], []
                for _ in range(worlds):
                    drawn = np.concatenate([rng.choice(some, points, replace=False) for some in places])
                    sample = SoftSample(mapped[drawn], label[drawn], proba[drawn], mean)
                    found = assist_areas(sample, area, 0.95)
                    hits.append(found.area[1].low <= label.sum() <= found.area[1].high)
                    saved.append(found.saved[1])
                note = f"saved {np.median(saved):.0f} of {2 * points} points"
                name = f"area by {points} points a class and probabilities {what}, omission {omission:.1%}"
                yield share_cell(name, hits, (0.9, 0.99), note)


def _draw_map(
    omission: float, strength: float, offset: float, rng: np.random.Generator, n: int = MAP_PIXELS
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return mapped classes and labels (n,), and probabilities (n, 2), which are true but for an offset of logits."""
    mapped = (np.arange(n) < n // 50).astype(np.int64)
    chance = np.where(mapped == 1, 0.85, omission)
    label = (rng.random(n) < chance).astype(np.int64)
    logit = np.log(chance / (1 - chance)) + strength * (strength * (label - 0.5) + rng.normal(size=n)) + offset
    proba = 1 / (1 + np.exp(-logit))
    return mapped, label, np.stack([1 - proba, proba], axis=1)
