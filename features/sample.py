"""Sample the pixels of a scene by strata, each with a known probability."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from data.errors import TableError
from data.scenes.classes import IGNORE, Classes
from data.scenes.windows import Window
from features.settings import SampleSettings

__all__ = ["PixelSample", "Strata", "sample_pixels", "strata_names", "stratify"]

UNUSED = 255
"""Stratum of pixels that are never drawn: not labelled, not valid."""


@dataclass(frozen=True)
class Strata:
    """The stratum of every pixel of a window, and its label.

    Parameters
    ----------
    label : (h, w) uint8
        Label index.
    stratum : (h, w) uint8
        Index into `strata_names`, `UNUSED` where no pixel is to be drawn.
    """

    label: NDArray[np.uint8]
    stratum: NDArray[np.uint8]


@dataclass(frozen=True)
class PixelSample:
    """Pixels drawn from a window of a scene, in row-major order.

    Parameters
    ----------
    rows, cols : (n,) int32
        In the scene.
    label : (n,) uint8
        Label index.
    stratum : (n,) uint8
        Index into `strata_names`.
    weight : (n,) float32
        1 / the probability of having been drawn: the pixels of the scene that a drawn one stands for.
    """

    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    label: NDArray[np.uint8]
    stratum: NDArray[np.uint8]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)


def strata_names(classes: Classes) -> tuple[str, ...]:
    """Return the strata that pixels are drawn from: positives, ring and others, or one a class."""
    return ("positive", "ring", "other") if classes.task == "binary" else classes.label_names


def stratify(label: NDArray[np.uint8], halo: int, valid: NDArray[np.bool_], classes: Classes) -> Strata:
    """Return the stratum of each pixel of a window.

    Parameters
    ----------
    label : (h + 2 halo, w + 2 halo) uint8
        Label index, `IGNORE` where it must not be learned from.
    halo : int
        Pixels around a positive that make the ring, a square; binary only, else 0.
    valid : (h, w) bool
        Where the scene has data.
    classes : Classes
    """
    inside = slice(halo, -halo or None)
    inner = label[inside, inside]
    if classes.task == "binary":
        positive = (label == 1).astype(np.uint8)
        near = cv2.dilate(positive, np.ones((2 * halo + 1, 2 * halo + 1), np.uint8))[inside, inside]
        stratum = 2 - near - positive[inside, inside]
    else:
        stratum = inner.copy()
    stratum[~valid | (inner == IGNORE)] = UNUSED
    return Strata(inner, stratum)


def sample_pixels(
    windows: Sequence[Window],
    strata_of: Callable[[Window], Strata],
    classes: Classes,
    settings: SampleSettings,
    rng: np.random.Generator,
) -> Iterator[tuple[Window, PixelSample]]:
    """Sample pixels of a scene for the table, window by window.

    Of each stratum a number is drawn without replacement, all of its pixels alike wherever they lie, so the weights
    of a stratum sum to its number of pixels. With a ``spacing`` only the pixels of a lattice are drawn from, which is
    placed at random: weights then sum to the number of pixels on average.

    Parameters
    ----------
    windows : sequence of Window
        That cover the scene exactly once. They are looked at twice, and held one at a time.
    strata_of : callable
        Gives the strata of a window.
    classes : Classes
    settings : SampleSettings
    rng : Generator

    Yields
    ------
    window : Window
        In order; those without a pixel are left out.
    sample : PixelSample

    Raises
    ------
    TableError
        If a stratum has a thousand million pixels or more.
    """
    step = settings.spacing
    origin = rng.integers(step, size=2) if step > 1 else (0, 0)

    @lru_cache(maxsize=1)
    def lattice_of(window: Window) -> Strata:
        strata = strata_of(window)
        if step > 1:
            kept = np.zeros(strata.stratum.shape, bool)
            kept[(origin[0] - window.row) % step :: step, (origin[1] - window.col) % step :: step] = True
            strata.stratum[~kept] = UNUSED
        return strata

    n_strata = len(strata_names(classes))
    counts = np.array([np.bincount(lattice_of(window).stratum.ravel(), minlength=256)[:n_strata] for window in windows])
    totals = counts.sum(axis=0)
    wanted = _limit([_amount(*pair) for pair in zip(_amounts(classes, settings), totals, strict=True)], settings.cap)
    shares = np.stack([_deal(*each, rng) for each in zip(counts.T, wanted, strict=True)], axis=1)
    weights = (step**2 * totals / np.maximum(wanted, 1)).astype(np.float32)
    for window, share in zip(windows, shares, strict=True):
        if share.any():
            yield window, _sample_window(window, lattice_of(window), share, weights, rng)


def _amounts(classes: Classes, settings: SampleSettings) -> list[str | int | float]:
    if classes.task == "binary":
        return [settings.positives, settings.ring, settings.negatives]
    unknown = [name for name in settings.quotas if name not in classes.label_names]
    if unknown:
        raise TableError(
            f"features.sample.quotas: expected classes among {', '.join(classes.label_names)}, got {unknown[0]}."
        )
    return [settings.quotas.get(name, settings.quota) for name in classes.label_names]


def _amount(amount: str | int | float, total: int) -> int:
    """Return how many of ``total`` pixels an amount is."""
    if isinstance(amount, str):
        return total
    return min(amount, total) if isinstance(amount, int) else max(round(amount * total), min(total, 1))


def _limit(wanted: list[int], cap: int | None) -> list[int]:
    """Reduce all strata in proportion, but for the last pixel of each, where they are more than the cap."""
    total = sum(wanted)
    if cap is None or total <= cap:
        return wanted
    return [max(count * cap // total, min(count, 1)) for count in wanted]


def _deal(counts: NDArray[np.integer], wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how many of ``wanted`` pixels, drawn from all windows alike, fall into each."""
    if wanted == counts.sum():
        return np.asarray(counts, np.int64)
    if counts.sum() >= 10**9:
        raise TableError(
            f"expected fewer than 1e9 pixels of a stratum in a scene, got {counts.sum()}. Split the scene into tiles."
        )
    return np.asarray(rng.multivariate_hypergeometric(counts, wanted, method="marginals"), np.int64)


def _sample_window(
    window: Window, strata: Strata, share: NDArray[np.int64], weights: NDArray[np.float32], rng: np.random.Generator
) -> PixelSample:
    flat = strata.stratum.ravel()
    drawn = []
    for kind, count in enumerate(share.tolist()):
        members = np.flatnonzero(flat == kind) if count else np.empty(0, np.int64)
        drawn.append(members if count == len(members) else rng.choice(members, count, replace=False))
    position = np.sort(np.concatenate(drawn))
    rows, cols = np.divmod(position, window.width)
    stratum = flat[position]
    return PixelSample(
        (rows + window.row).astype(np.int32),
        (cols + window.col).astype(np.int32),
        strata.label.ravel()[position],
        stratum,
        weights[stratum],
    )
