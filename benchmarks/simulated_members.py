"""Simulated members of which the truth is known: labels, groups, and probabilities that err together and apart."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import quantise
from data.scenes.classes import Classes, Task

__all__ = ["Draw", "World", "families"]

PRIOR_SPREAD = 0.7
"""Standard deviation over groups of the logit of a class's frequency."""
HALF_SHARED = np.sqrt(0.5)


@dataclass(frozen=True)
class Draw:
    """Members' probabilities and labels.

    Parameters
    ----------
    stored : (n_members, n_classes, n) uint16
    label : (Q, n) uint8
    group : (n,) int64
    """

    stored: NDArray[np.uint16]
    label: NDArray[np.uint8]
    group: NDArray[np.int64]

    def take(self, members: slice) -> "Draw":
        """Return what some members say."""
        return replace(self, stored=self.stored[members])

    def within(self, groups: NDArray[np.int64]) -> "Draw":
        """Return the pixels of some groups, which are numbered anew."""
        inside = np.isin(self.group, groups)
        _, group = np.unique(self.group[inside], return_inverse=True)
        return Draw(self.stored[:, :, inside], self.label[:, inside], group.astype(np.int64))


@dataclass(frozen=True)
class World:
    """What members are like.

    Parameters
    ----------
    task : {"binary", "multiclass", "multilabel"}
    n_classes : int
    prevalence : float
        Of positives; of several classes that of all but the first.
    strength : tuple of float or of tuple of float
        Distance of the means of a class's logits, of each member, or of each member and class. A member of 0 knows
        how frequent classes are, and nothing of pixels.
    pixels : int
        Of a group.
    uneven : float
        Standard deviation over groups of a shift of logits, half of it common to members.
    sharp : tuple of float
        Factor of each member's logits.
    bias : tuple of tuple of float
        Added to each member's logits, one a class.
    copy : float, optional
        The second member is the first one with noise of that standard deviation.
    """

    task: Task = "binary"
    n_classes: int = 1
    prevalence: float = 0.2
    strength: tuple[float | tuple[float, ...], ...] = (2.2, 2.2)
    pixels: int = 400
    uneven: float = 0.5
    sharp: tuple[float, ...] = ()
    bias: tuple[tuple[float, ...], ...] = ()
    copy: float | None = None

    @property
    def classes(self) -> Classes:
        """The classes that are mapped."""
        shades = tuple((9 * place, 99, 255 - 9 * place) for place in range(self.n_classes))
        names = tuple(f"class {place}" for place in range(self.n_classes))
        return Classes(self.task, tuple(range(1, self.n_classes + 1)), names, shades)

    def draw(self, n_groups: int, rng: np.random.Generator) -> Draw:
        """Draw groups of pixels."""
        n, n_members, k = n_groups * self.pixels, len(self.strength), self.n_classes
        group = np.repeat(np.arange(n_groups), self.pixels)
        prior = self._prior()
        odds = prior[:, 0] + PRIOR_SPREAD * rng.normal(size=(n_groups, k))
        if self.task == "multiclass":
            share = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
            label = (rng.random(n)[:, None] > np.cumsum(share, axis=1)[group]).sum(axis=1).clip(0, k - 1)[None]
            truth = label == np.arange(k)[:, None]
        else:
            label = (rng.random((k, n)) < (1 / (1 + np.exp(-odds)))[group].T).astype(int)
            truth = label == 1
        strength = np.stack([np.broadcast_to(np.asarray(each, float), k) for each in self.strength])[:, :, None]
        noise, own = rng.normal(size=(1, k, n)), rng.normal(size=(n_members, k, n))
        logits = strength * (strength * (truth - 0.5) + HALF_SHARED * noise + HALF_SHARED * own) + prior
        logits = np.where(strength == 0, prior + own, logits)
        shift = rng.normal(size=(n_groups, 1, k)) + rng.normal(size=(n_groups, n_members, k))
        logits += np.moveaxis((self.uneven * HALF_SHARED * shift)[group], 0, -1)
        for member, factor in enumerate(self.sharp):
            logits[member] *= factor
        for member, offset in enumerate(self.bias):
            logits[member] += np.reshape(offset, (-1, 1))
        if self.copy is not None:
            logits[1] = logits[0] + self.copy * rng.normal(size=(k, n))
        if self.task == "multiclass":
            proba = np.exp(logits - logits.max(axis=1, keepdims=True))
            proba /= proba.sum(axis=1, keepdims=True)
        else:
            proba = 1 / (1 + np.exp(-logits))
        return Draw(quantise(proba.astype(np.float32)), label.astype(np.uint8), group)

    def _prior(self) -> NDArray[np.float64]:
        if self.task == "multiclass":
            rest = self.prevalence / (self.n_classes - 1)
            return np.log([1 - self.prevalence, *[rest] * (self.n_classes - 1)])[:, None]
        spread = np.linspace(-1, 1, self.n_classes) if self.n_classes > 1 else np.zeros(1)
        return (np.log(self.prevalence / (1 - self.prevalence)) + spread)[:, None]


TASKS = {
    "binary": World(),
    "4 classes": World("multiclass", 4, 0.5, (1.6, 1.6)),
    "tags": World("multilabel", 4, 0.15, (2.0, 2.0), pixels=60),
}


def families() -> Iterator[tuple[str, World]]:
    """Yield worlds by name: what members are like, and the task."""
    for task, world in TASKS.items():
        s, k = float(world.strength[0]), world.n_classes  # type: ignore[arg-type]

        def members(*strength: float | tuple[float, ...], world: World = world) -> World:
            return replace(world, strength=strength)

        last = (*[0.0] * (k - 1), 1.0)
        yield f"equal, {task}", members(s, s)
        yield f"useless, {task}", members(s, 0.0)
        yield f"noisy copy, {task}", replace(world, copy=1.0)
        yield f"better by .01, {task}", members(s, s * 0.97)
        yield f"better by .03, {task}", members(s, s * 0.9)
        yield f"better by .1, {task}", members(s, s * 0.7)
        yield f"miscalibrated, {task}", replace(world, sharp=(2.0, 0.5), bias=(last, tuple(-one for one in last)))
        if k > 1:
            yield f"good at one class, {task}", members(s, tuple(1.3 * s * one for one in last))
        else:
            yield f"rare, {task}", replace(members(1.3 * s, s), prevalence=0.02, pixels=1500)
        if task != "tags":
            yield f"5 equal, {task}", members(*[s] * 5)
            yield f"5 with two useless, {task}", members(s, s, 0.9 * s, 0.0, 0.0)
            yield f"12 mixed, {task}", members(*np.linspace(0.2 * s, s, 12).tolist())
