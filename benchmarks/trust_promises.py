"""Promises about groups that were not seen, kept or broken where the truth is known, for benchmarks/trust.py."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from trust_worlds import Cell, World, draw_scenes, share_cell

from data.maps.geotiff import TOP
from data.scenes.classes import Classes
from ensemble.decide.decision.thresholds import decide
from ensemble.decide.sample.pool import PixelPool
from ensemble.decide.thresholds.promised_recall import promise_recall
from ensemble.decide.thresholds.set_levels import find_levels
from ensemble.objective import objective_of
from ensemble.settings import EnsembleSettings

KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
LAND = Classes("multiclass", (1, 2, 3, 4), ("a", "b", "c", "d"), tuple((9 * shade, 99, 9) for shade in range(4)))

KEPT = (0.93, 1.0)
"""Of promises that are to be kept in 95 of 100 cases."""


@dataclass(frozen=True)
class Drawn:
    """Labels (n, H · W) of scenes, a group each, and stored probabilities (n, n_classes, H · W) of one member."""

    label: NDArray[np.uint8]
    stored: NDArray[np.uint16]
    classes: Classes

    @classmethod
    def of(cls, world: World, n: int, seed: int) -> "Drawn":
        """Draw scenes of a world."""
        label, proba = draw_scenes(world, n, np.random.default_rng([seed, 5]))
        planes = proba[:, 0, 1:] if world.n_labels == 2 else proba[:, 0]
        stored = np.rint(planes * TOP).astype(np.uint16)
        classes = KELP if world.n_labels == 2 else LAND
        return cls(label.reshape(n, -1).astype(np.uint8), stored.reshape(*stored.shape[:2], -1), classes)

    def pool(self, chosen: NDArray[np.intp]) -> tuple[PixelPool, NDArray[np.uint16]]:
        """Return the pixels of some scenes, and what is said of them (n_classes, n_pixels)."""
        stored = np.moveaxis(self.stored[chosen], 0, 1).reshape(self.stored.shape[1], -1)
        label = self.label[chosen].reshape(1, -1)
        scene = np.repeat(np.arange(len(chosen), dtype=np.int32), self.label.shape[1])
        return PixelPool(stored[None], label, np.ones(label.size), np.zeros(label.size, np.int16), scene), stored

    def recalls(self, found: NDArray[np.uint8], value: int) -> NDArray[np.float64]:
        """Return the recall of a label in each scene that has it, by labels (n, H · W) that are predicted."""
        positive = self.label == value
        has = positive.any(axis=1)
        shares: NDArray[np.float64] = ((found == value) & positive)[has].sum(axis=1) / positive[has].sum(axis=1)
        return shares


def promise_cells(worlds: int, seed: int, scenes: int = 1500) -> Iterator[Cell]:
    """Yield how often a recall that was promised is that of the population."""
    for name, world in (
        ("20 %", World()),
        ("2 %, uneven", World(share=0.02, share_spread=1.5, side=24, smooth=1.0)),
        ("one of four classes", World(4)),
    ):
        population = Drawn.of(world, scenes, seed)
        classes = population.classes
        value = 1 if classes is KELP else 3
        of = {} if classes is KELP else {"of": classes.names[value]}
        for recall, n in ((0.8, 20), (0.8, 60), (0.9, 40), (0.9, 120)):
            metric = {"name": "precision_at_recall", "at_least": recall, "confidence": 0.95, **of}
            objective = objective_of(EnsembleSettings.model_validate({"metric": metric}), classes)
            has = np.flatnonzero((population.label == value).any(axis=1))
            kept, pooled, means = [], [], []
            for number in range(worlds):
                chosen = np.random.default_rng([seed, n, number]).choice(has, n, replace=False)
                pool, stored = population.pool(chosen)
                tuned = promise_recall(pool, stored, np.arange(n), classes, objective)
                every = np.moveaxis(population.stored, 1, 0)
                [found] = decide(every, tuned.thresholds, classes.exclusive)
                means.append(float(population.recalls(found, value).mean()))
                kept.append(means[-1] >= recall)
                positive = population.label == value
                pooled.append((found == value)[positive].mean() >= recall)
            note = f"recall {np.mean(means):.3f} in the mean; of all pixels together kept in {np.mean(pooled):.2f}"
            yield share_cell(f"promise of recall {recall:g}, {name}, {n} groups", kept, KEPT, note)


def set_cells(worlds: int, seed: int, scenes: int = 1500) -> Iterator[Cell]:
    """Yield the share of a label's pixels whose prediction sets hold it, in scenes that were not seen."""
    for name, world in (("20 %", World()), ("four classes", World(4))):
        population = Drawn.of(world, scenes, seed)
        plain = (1.0,) * 4 if population.classes.exclusive else (0.5,)
        for n in (12, 40):
            held: list[list[float]] = []
            sizes = []
            for number in range(worlds):
                drawn = np.random.default_rng([seed, n, number]).choice(scenes, n + 40, replace=False)
                pool, stored = population.pool(drawn[:n])
                [mapped] = decide(stored, plain, population.classes.exclusive)
                sets = find_levels(stored, mapped, pool.label[0], pool.weight, pool.scene, coverage=0.9)
                test, said = population.pool(drawn[n:])
                [mapped] = decide(said, plain, population.classes.exclusive)
                found = sets.apply(said, mapped)
                sizes.append(float(found.sum(axis=0).mean()))
                held.append(
                    [
                        np.mean([found[value, inside].mean() for inside in _by_scene(test, value)])
                        for value in range(len(found))
                    ]
                )
            shares = np.array(held)
            least = int(np.argmin(shares.mean(axis=0)))
            error = float(shares[:, least].std() / np.sqrt(worlds))
            note = f"{np.mean(sizes):.2f} labels in the mean"
            yield Cell(
                f"prediction sets of 90 %, {name}, {n} groups, the label that is held least",
                float(shares[:, least].mean()),
                error,
                (0.9, 0.98),
                note,
            )


def _by_scene(pool: PixelPool, value: int) -> Iterator[NDArray[np.bool_]]:
    for scene in np.unique(pool.scene[pool.label[0] == value]):
        yield (pool.scene == scene) & (pool.label[0] == value)
