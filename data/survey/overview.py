"""Summarise a catalogue: classes and bands of each split and fold, and the outliers among the scenes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.scenes.catalogue import Catalogue
from data.scenes.opinions import agreement
from data.scenes.scene import Scene

__all__ = ["BandFacts", "Measure", "Outlier", "Overview", "Part", "robust_scores", "summarise"]

FAR = 6.0
"""Robust z-score from which on a scene is an outlier. Iglewicz and Hoaglin 1993 advise 3.5 for normal samples; means of
scenes have heavier tails, and a list of hundreds is not read."""

EDGE = 0.02
"""Least deviation of the share of valid pixels: a few without data at the edge of some scenes are no news."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Part:
    """A split, or what a fold holds out.

    Parameters
    ----------
    name : str
        ``train``, ``val``, ``test`` or ``fold 0`` …
    scenes, groups : int
    labels : tuple of int
        Labelled pixels of each label index; with tags the scenes that have each. Empty without labels.
    shown_by : tuple of int
        Scenes that show each label.
    whole : int
        What shares are of: all labelled pixels, or with tags all scenes.
    blank : tuple of str
        Scenes without a pixel of the positive class, without a tag, or when multiclass without any labelled pixel.
    agreed : float
        Share of the pixels that two annotators gave one label; NaN without several.
    kappas : tuple of float
        Of each label index, see `data.scenes.opinions.agreement`; empty without several annotators.
    """

    name: str
    scenes: int
    groups: int
    labels: tuple[int, ...]
    shown_by: tuple[int, ...]
    whole: int
    blank: tuple[str, ...]
    agreed: float = math.nan
    kappas: tuple[float, ...] = ()

    def share(self, label: int) -> float:
        """Return the share of a label, NaN where nothing is labelled."""
        return self.labels[label] / self.whole if self.whole else math.nan


@dataclass(frozen=True)
class Measure:
    """One number of every scene: the mean or the deviation of a band, or the share of valid pixels.

    Parameters
    ----------
    name : str
    band : str or None
        Whose it is.
    values : (n_scenes,) float64
        In the order of the catalogue's scenes; NaN where a scene has no pixel to tell.
    scores : (n_scenes,) float64
        Robust z-scores against the training scenes; 0 where these do not differ at all.
    usual : float
        Median of the training scenes.
    """

    name: str
    band: str | None
    values: NDArray[np.float64]
    scores: NDArray[np.float64]
    usual: float


@dataclass(frozen=True)
class Outlier:
    """A scene that is unlike the training scenes.

    Parameters
    ----------
    scene : Scene
    measure : Measure
        In which it lies farthest off.
    value, score : float
        Its own, and the robust z-score.
    """

    scene: Scene
    measure: Measure
    value: float
    score: float


@dataclass(frozen=True)
class BandFacts:
    """The pixels of a band in one split.

    Parameters
    ----------
    band, split : str
    minimum, maximum, mean, deviation : float
        Of the finite pixels; NaN where there are none.
    invalid : float
        Share of the pixels that are not finite.
    """

    band: str
    split: str
    minimum: float
    maximum: float
    mean: float
    deviation: float
    invalid: float


@dataclass(frozen=True)
class Overview:
    """What a catalogue tells without reading a pixel again.

    Parameters
    ----------
    parts : tuple of Part
        Splits first, then folds.
    bands : tuple of BandFacts
        Of each band in each split.
    measures : tuple of Measure
    outliers : tuple of Outlier
        Farthest first.
    groups : tuple of tuple of Scene
        Groups of several scenes, largest first.
    """

    parts: tuple[Part, ...]
    bands: tuple[BandFacts, ...]
    measures: tuple[Measure, ...]
    outliers: tuple[Outlier, ...]
    groups: tuple[tuple[Scene, ...], ...]

    @property
    def annotated(self) -> list[Part]:
        """The parts with labels of several annotators."""
        return [part for part in self.parts if part.kappas]


def summarise(catalogue: Catalogue) -> Overview:
    """Summarise a catalogue with groups and folds.

    A scene is an outlier where a measure of it is `FAR` or more robust z-scores from the median of the training
    scenes: 0.6745 (x − median) / MAD, or where MAD is 0 (x − median) / (1.2533 × mean absolute deviation); Iglewicz
    and Hoaglin 1993, "How to detect and handle outliers".
    """
    measures = tuple(_measures(catalogue)) if catalogue.histograms else ()
    splits = [split for split in SPLITS if any(scene.split == split for scene in catalogue.scenes)]
    return Overview(
        tuple(_parts(catalogue, splits)),
        tuple(_band_facts(catalogue, split, band) for band in catalogue.bands for split in splits) if measures else (),
        measures,
        _outliers(catalogue.scenes, measures),
        _groups(catalogue.scenes),
    )


def robust_scores(
    values: NDArray[np.float64], reference: NDArray[np.float64], least: float = 0.0
) -> tuple[NDArray[np.float64], float]:
    """Return how far values lie from the median of others in robust deviations of these, and the median.

    Parameters
    ----------
    values, reference : (n,) float64
        NaN has score 0 and does not count.
    least : float
        A smaller robust deviation is taken for this.
    """
    known = reference[np.isfinite(reference)]
    if not len(known):
        return np.zeros(len(values)), math.nan
    median = float(np.median(known))
    distance = np.abs(known - median)
    scale = float(np.median(distance)) / 0.6745 or float(distance.mean()) * math.sqrt(math.pi / 2)
    scale = max(scale, least)
    # What differs by rounding alone does not differ.
    if scale <= max(1e-9 * abs(median), float(np.finfo(np.float32).tiny)):
        return np.zeros(len(values)), median
    return np.nan_to_num((values - median) / scale), median


def _parts(catalogue: Catalogue, splits: Sequence[str]) -> Iterator[Part]:
    for split in splits:
        yield _part(catalogue, split, [scene for scene in catalogue.scenes if scene.split == split])
    for fold in catalogue.folds:
        yield _part(catalogue, f"fold {fold}", catalogue.in_fold(fold))


def _part(catalogue: Catalogue, name: str, scenes: Sequence[Scene]) -> Part:
    labelled = [scene for scene in scenes if catalogue.statistics[scene.split, scene.id].label_counts]
    counts = np.array(
        [catalogue.statistics[scene.split, scene.id].label_counts for scene in labelled], np.int64
    ).reshape(len(labelled), len(catalogue.classes.label_names))
    telling = counts[:, -len(catalogue.classes.names) :]
    pairs = [found for scene in labelled if (found := catalogue.statistics[scene.split, scene.id].pairs)]
    n_labels = counts.shape[1]
    agreed, kappas = agreement(np.sum(pairs, axis=0).reshape(n_labels, n_labels)) if pairs else (math.nan, np.zeros(0))
    return Part(
        name,
        len(scenes),
        len({scene.group for scene in scenes}),
        tuple(counts.sum(axis=0).tolist()) if labelled else (),
        tuple((counts > 0).sum(axis=0).tolist()) if labelled else (),
        len(labelled) if catalogue.classes.task == "multilabel" else int(counts.sum()),
        tuple(scene.id for scene, row in zip(labelled, telling, strict=True) if not row.any()),
        agreed,
        tuple(kappas.tolist()),
    )


def _band_facts(catalogue: Catalogue, split: str, band: str) -> BandFacts:
    position = catalogue.bands.index(band)
    found = [
        (catalogue.statistics[scene.split, scene.id].bands[position], scene.grid)
        for scene in catalogue.scenes
        if scene.split == split
    ]
    pixels = sum(grid.height * grid.width for _, grid in found)
    seen = [facts for facts, _ in found if facts["count"]]
    count = sum(facts["count"] for facts in seen)
    if not count:
        return BandFacts(band, split, *(math.nan,) * 4, 1.0)
    weight = np.array([facts["count"] / count for facts in seen])
    means, deviations = (np.array([facts[name] for facts in seen]) for name in ("mean", "deviation"))
    mean = float(weight @ means)
    deviation = math.sqrt(float(weight @ (deviations**2 + (means - mean) ** 2)))
    low, high = min(facts["minimum"] for facts in seen), max(facts["maximum"] for facts in seen)
    return BandFacts(band, split, low, high, mean, deviation, 1 - count / pixels)


def _measures(catalogue: Catalogue) -> Iterator[Measure]:
    found = [catalogue.statistics[scene.split, scene.id] for scene in catalogue.scenes]
    train = np.array([scene.split == "train" for scene in catalogue.scenes])

    def measure(name: str, band: str | None, of: Callable[[int], float], least: float = 0.0) -> Measure:
        values = np.array([of(place) for place in range(len(found))])
        scores, usual = robust_scores(values, values[train], least)
        return Measure(name, band, values, scores, usual)

    def of_band(position: int, name: str) -> Callable[[int], float]:
        def value(place: int) -> float:
            facts = found[place].bands[position]
            return float(facts[name]) if facts["count"] else math.nan

        return value

    for position, band in enumerate(catalogue.bands):
        for name in ("mean", "deviation"):
            yield measure(f"{name} of {band}", band, of_band(position, name))
    sizes = [scene.grid.height * scene.grid.width for scene in catalogue.scenes]
    yield measure("share of valid pixels", None, lambda place: found[place].valid_pixels / sizes[place], EDGE)


def _outliers(scenes: Sequence[Scene], measures: Sequence[Measure]) -> tuple[Outlier, ...]:
    if not measures:
        return ()
    scores = np.array([measure.scores for measure in measures])
    farthest = np.abs(scores).argmax(axis=0)
    found = [
        Outlier(scene, measures[row], float(measures[row].values[place]), float(scores[row, place]))
        for place, (scene, row) in enumerate(zip(scenes, farthest, strict=True))
        if abs(scores[row, place]) >= FAR
    ]
    return tuple(sorted(found, key=lambda outlier: -abs(outlier.score)))


def _groups(scenes: Sequence[Scene]) -> tuple[tuple[Scene, ...], ...]:
    found: dict[tuple[str, str], list[Scene]] = {}
    for scene in scenes:
        found.setdefault((scene.split, scene.group), []).append(scene)
    return tuple(tuple(group) for group in sorted(found.values(), key=lambda group: -len(group)) if len(group) > 1)
