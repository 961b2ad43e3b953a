"""Worlds whose truth is known, for benchmarks/trust.py: scenes, two members' maps of them, and what is measured."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

POPULATION = 1500
"""Groups, one scene each, whose score is the truth."""

GROUPS = (6, 12, 30, 100)
COVERED = (0.92, 0.98)
SMALLEST = 0.002


@dataclass(frozen=True)
class World:
    """What scenes and two members' maps of them are drawn from.

    Parameters
    ----------
    n_labels : int
    share : float
        Of positives; with more labels the spread of their frequencies is all that varies.
    share_spread : float
        Standard deviation over groups of the logit of the share.
    side, smooth : int, float
        Pixels of a scene, and of the blur of its objects.
    strength : tuple of float
        How far apart each member's logits of label and other are.
    common : float
        Share of the members' noise that they have in common.
    lacking : float
        Share of groups in which the last label is not.
    """

    n_labels: int = 2
    share: float = 0.2
    share_spread: float = 0.8
    side: int = 20
    smooth: float = 2.0
    strength: tuple[float, float] = (2.5, 2.0)
    common: float = 0.5
    lacking: float = 0.0


WORLDS = {
    "Dice": World(),
    "Dice, rare and uneven": World(share=0.02, share_spread=1.5, side=24, smooth=1.0),
    "macro IoU": World(4),
    "macro IoU, a class in half the groups": World(4, lacking=0.5),
}


@dataclass(frozen=True)
class Cell:
    """Something that was measured, and between what it should lie.

    Parameters
    ----------
    name : str
    found, error : float
        With its standard error.
    goal : (float, float)
    note : str
    series, at : str, float
        The line of a plot that it is a point of, and where.
    kind, row, values : str, str, mapping of str to float
        The plot of bars that it is a row of, and the bars.
    """

    name: str
    found: float
    error: float
    goal: tuple[float, float]
    note: str = ""
    series: str = ""
    at: float = math.nan
    kind: str = ""
    row: str = ""
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the goal is met, as far as can be told."""
        return self.goal[0] - 2 * self.error <= self.found <= self.goal[1] + 2 * self.error

    @property
    def line(self) -> str:
        """Write the cell."""
        goal = f"{self.goal[0]:g} to {self.goal[1]:g}"
        return f"{'met ' if self.met else 'MISS'}  {self.name:<78}{self.found:>8.3f}   goal {goal:<14}{self.note}"


def share_cell(name: str, hits: Sequence[bool], goal: tuple[float, float], note: str = "") -> Cell:
    """Return the cell of a share."""
    share = float(np.mean(hits))
    return Cell(name, share, math.sqrt(max(share * (1 - share), 0.01) / len(hits)), goal, note)


def draw_fields(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Floats:
    """Return smooth noise (…, H, W) of unit variance."""
    field = ndimage.gaussian_filter(rng.normal(size=shape), (0,) * (len(shape) - 2) + (sigma, sigma), mode="wrap")
    scaled: Floats = field / field.std(axis=(-2, -1), keepdims=True)
    return scaled


def draw_scenes(world: World, n: int, rng: np.random.Generator) -> tuple[Counts, Floats]:
    """Return the labels (n, H, W) of scenes, and two members' probabilities (n, 2, n_labels, H, W)."""
    labels, size = world.n_labels, (world.side, world.side)
    if labels == 2:
        logit = np.log(world.share / (1 - world.share)) + world.share_spread * rng.normal(size=n)
        field = draw_fields(rng, (n, *size), world.smooth)
        cut = [np.quantile(one, 1 / (1 + np.exp(level))) for one, level in zip(field, logit, strict=True)]
        label = (field > np.reshape(cut, (n, 1, 1))).astype(np.int64)
        prior = np.array([0.0, np.log(world.share / (1 - world.share))])
    else:
        prior = np.linspace(0, -0.8, labels)
        level = prior + world.share_spread / 2 * rng.normal(size=(n, labels))
        level[rng.random(n) < world.lacking, -1] = -99
        label = (draw_fields(rng, (n, labels, *size), world.smooth) + level[..., None, None]).argmax(axis=1)
    noise = [draw_fields(rng, (n, many, labels, *size), 1.0) for many in (1, 2)]
    strength = np.array(world.strength) * np.exp(0.3 * rng.normal(size=(n, 2)) - 0.045)
    shift = 0.35 * (rng.normal(size=(n, 1, labels)) + rng.normal(size=(n, 2, labels)))
    signal = np.moveaxis(np.eye(labels)[label], -1, 1)[:, None] * strength[..., None, None, None]
    seen = signal + np.sqrt(world.common) * noise[0] + np.sqrt(1 - world.common) * noise[1]
    scale = np.array(world.strength)[:, None, None, None] / (np.sqrt(2) if labels == 2 else 1)
    proba = np.exp(scale * seen + (prior + shift)[..., None, None])
    return label, proba / proba.sum(axis=2, keepdims=True)


def count_scenes(label: Counts, proba: Floats) -> Counts:
    """Return the confusion counts (n, 1, n_labels, n_labels + 1) of the likeliest labels."""
    n, labels = proba.shape[:2]
    cell = (np.arange(n)[:, None, None] * labels + label) * (labels + 1) + proba.argmax(axis=1)
    size = n * labels * (labels + 1)
    return np.bincount(cell.ravel(), minlength=size).reshape(n, 1, labels, labels + 1)


@dataclass(frozen=True)
class Population:
    """Confusion counts of a member and of a blend of two with equal weights, on every scene of a world."""

    member: Counts
    blend: Counts

    @classmethod
    def of(cls, world: World, seed: int, scenes: int = POPULATION) -> "Population":
        """Draw it."""
        label, proba = draw_scenes(world, scenes, np.random.default_rng([seed, 1]))
        return cls(count_scenes(label, proba[:, 0]), count_scenes(label, proba.mean(axis=1)))

    def samples(self, n: int, count: int, seed: int) -> Iterator[NDArray[np.int64]]:
        """Yield ``count`` samples of n scenes, as places."""
        for number in range(count):
            yield np.random.default_rng([seed, n, number]).choice(len(self.member), n, replace=False)


def one_question(score: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    """Return the score of counts that have an axis of a single question."""
    return lambda counts: score(counts[..., 0, :, :])
