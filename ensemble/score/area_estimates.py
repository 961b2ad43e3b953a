"""Estimate class areas: mapped areas, corrected by a reference for the errors of the map.

Olofsson et al. 2014, "Good practices for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148, doi:10.1016/j.rse.2014.02.015; the strata are the classes of the map, and equations are theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from data.metrics.metric import CLASS_METRICS, METRICS
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from ensemble.score.area_spread import area_interval, spread_of_rates, spread_of_scenes
from ensemble.score.areas import Areas, pixel_sizes
from ensemble.score.evaluation import Evaluation
from ensemble.score.intervals import GroupCounts, Interval, Places, Score
from ensemble.settings import EnsembleSettings

__all__ = ["Mapped", "adjust_counts", "areas_of_evaluation", "areas_of_groups", "areas_of_sample"]

Floats = NDArray[np.float64]


def adjust_counts(counts: NDArray[np.integer] | Floats, mapped: Floats) -> Floats:
    """Turn reference counts into shares of the mapped area (equation 4).

    Parameters
    ----------
    counts : (…, n_labels, n_labels + 1)
        Reference by label and mapped class. The last column, where nothing was mapped, is no part of the mapped area.
    mapped : (n_labels,) float64
        Area of each mapped class, in any unit.

    Returns
    -------
    shares : (…, n_labels, n_labels + 1) float64
        They sum to 1, the last column is 0; NaN in a mapped class of which there is no reference. All 0 where nothing
        is mapped.

    Examples
    --------
    Half of the points lie on water, which is a tenth of the map; so an error there weighs a fifth of its number:

    >>> adjust_counts(np.array([[50, 10, 0], [0, 40, 0]]), np.array([900, 100])).round(2).tolist()
    [[0.9, 0.02, 0.0], [0.0, 0.08, 0.0]]
    """
    seen = counts[..., :-1].astype(np.float64)
    drawn = seen.sum(axis=-2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = mapped / mapped.sum()
        shares = np.where(weights > 0, weights * seen / drawn, 0)
    return np.concatenate([shares, np.zeros((*shares.shape[:-1], 1))], axis=-1)


def areas_of_sample(
    counts: NDArray[np.int64], mapped: Floats, labels: Sequence[str], confidence_level: float, *, metric: bool
) -> Areas:
    """Estimate from a design sample: pixels drawn at random within each mapped class.

    Intervals are those of Jeffreys' posterior: the share of a label among all pixels of a mapped class is Beta(k + ½,
    n - k + ½) where k of n points have it. Unlike those of the paper they hold, too, where an error is so rare that the
    sample shows few of it or none (docs/trust.md).

    Parameters
    ----------
    counts : (n_labels, n_labels + 1) int64
        Points by label and mapped class; at least two in every class that is mapped.
    mapped : (n_labels,) float64
        m² or pixels of each mapped class.
    labels : sequence of str
    confidence_level : float
        Of the intervals, such as 0.95.
    metric : bool
        Whether ``mapped`` is in m².
    """
    shares, total = adjust_counts(counts, mapped), mapped.sum()
    tail = (1 - confidence_level) / 2

    def intervals(values: Floats, drawn: Floats, unit: float = 1.0) -> tuple[Interval, ...]:
        low, high = np.quantile(drawn, (tail, 1 - tail), axis=0)
        ends = np.minimum(low, values), np.maximum(high, values)
        return tuple(Interval(*map(float, three)) for three in unit * np.stack([values, *ends], axis=1))

    posterior = _posterior_shares(counts, mapped)
    right = np.diagonal(posterior, axis1=1, axis2=2)
    area = posterior.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        user, producer = right / (mapped / total), right / area
    return Areas(
        labels=tuple(labels),
        mapped=tuple(mapped.tolist()),
        area=intervals(shares.sum(axis=1), area, total),
        user=intervals(CLASS_METRICS["precision"].score(shares), user),
        producer=intervals(CLASS_METRICS["recall"].score(shares), producer),
        overall=intervals(np.atleast_1d(METRICS["accuracy"].score(shares)), right.sum(axis=1, keepdims=True))[0],
        metric=metric,
    )


def _posterior_shares(counts: NDArray[np.int64], mapped: Floats, n_draws: int = 20_000) -> Floats:
    """Return draws (n_draws, n_labels, n_labels) of the share of the mapped area by label and mapped class."""
    seen = counts[:, :-1]
    rng = np.random.default_rng(0)
    rates = rng.beta(seen + 0.5, seen.sum(axis=0) - seen + 0.5, size=(n_draws, *seen.shape))
    with np.errstate(invalid="ignore"):
        shares: Floats = rates * np.nan_to_num(mapped / mapped.sum())
    return shares


@dataclass(frozen=True)
class Mapped:
    """What is mapped, scene by scene, and what of it is labelled.

    Parameters
    ----------
    area : (n_scenes, n_labels) float64
        m² or pixels of each mapped class.
    labelled : (n_scenes, n_labels, n_labels) float64
        Those that are labelled, by label and mapped class; zeros where nothing is.
    group : sequence of str
        Of each scene.
    metric : bool
        Whether areas are in m².
    """

    area: Floats
    labelled: Floats
    group: Sequence[str]
    metric: bool

    @property
    def rest(self) -> Floats:
        """What is mapped and not labelled, (n_scenes, n_labels)."""
        rest: Floats = np.round(np.maximum(self.area - self.labelled.sum(axis=1), 0), 6)
        return rest


def areas_of_groups(counts: GroupCounts, target: Mapped, labels: Sequence[str], confidence_level: float) -> Areas:
    """Estimate from labelled scenes: the labelled area as it is, and the rest by how the map errs elsewhere.

    It is taken for granted that the map errs on the rest as often, class by class, as on the labelled pixels. Two
    things make that uncertain: the rates of errors, which other groups of labelled scenes would have given otherwise
    (a jackknife), and the scenes of the rest themselves, which differ from each other as the labelled ones do: see
    `ensemble.score.area_spread`. Where all is labelled nothing is uncertain, and there is no interval.

    Parameters
    ----------
    counts : GroupCounts
        Of the labelled scenes, of one question.
    target : Mapped
        What is mapped.
    labels : sequence of str
    confidence_level : float
    """
    mapped, rest, known = target.area.sum(axis=0), target.rest.sum(axis=0), target.labelled.sum(axis=(0, 2))
    places = [(0, label) for label in range(len(labels))]

    def rated(some: Floats) -> Floats:
        area: Floats = rest.sum() * adjust_counts(some[..., 0, :, :], rest).sum(axis=-1)
        return area

    def accuracies(score: Score, at: Places) -> list[Interval]:
        return counts.pooled(lambda some: score(adjust_counts(some[..., 0, :, :], mapped)), at).intervals(
            confidence_level
        )

    _, group = np.unique(target.group, return_inverse=True)
    estimate, of_scenes = counts.pooled(rated, places), spread_of_scenes(counts, target.rest.sum(axis=1), group)
    area = []
    for label, value in enumerate(estimate.value.tolist()):
        interval = Interval(value, np.nan, np.nan)
        if estimate.enough[label] and 0 < value < rest.sum() and np.isfinite(estimate.without[:, label]).all():
            of_rates = spread_of_rates(value, estimate.without[:, label])
            interval = area_interval(value, rest.sum(), (of_rates, of_scenes[label]), confidence_level)
        area.append(Interval(*(float(known[label] + end) for end in asdict(interval).values())))
    return Areas(
        labels=tuple(labels),
        mapped=tuple(mapped.tolist()),
        area=tuple(area),
        user=tuple(accuracies(CLASS_METRICS["precision"].score, places)),
        producer=tuple(accuracies(CLASS_METRICS["recall"].score, places)),
        overall=accuracies(METRICS["accuracy"].score, ())[0],
        metric=target.metric,
        labelled=float(1 - rest.sum() / mapped.sum()) if mapped.sum() else 0.0,
    )


def areas_of_evaluation(
    evaluation: Evaluation,
    mapped: Mapping[str, NDArray[np.int64]],
    scenes: Sequence[Scene],
    classes: Classes,
    settings: EnsembleSettings,
    *,
    labelled: bool,
) -> Areas:
    """Estimate the areas of mapped scenes from an evaluation of the map's errors.

    Parameters
    ----------
    evaluation : Evaluation
        Its labelled pixels are the reference. Out-of-fold counts serve scenes mapped by the same decision.
    mapped : mapping
        Scene → pixels of each label that its map shows, such as ``evaluation.mapped[evaluation.final]``.
    scenes : sequence of Scene
        Those that are mapped.
    classes : Classes
        Not of a multilabel task: tags have no area.
    settings : EnsembleSettings
    labelled : bool
        Whether the evaluation is one of these scenes.
    """
    sizes, metric = pixel_sizes(scene.grid for scene in scenes)
    area = np.stack([mapped[scene.id] * size for scene, size in zip(scenes, sizes, strict=True)])
    own = np.zeros((*area.shape, area.shape[1]))
    if labelled:
        counts = evaluation.counts[evaluation.final]
        own = np.stack([counts[scene.id][0, :, :-1] * size for scene, size in zip(scenes, sizes, strict=True)])
    target = Mapped(area, own, [scene.group or scene.id for scene in scenes], metric)
    reference = evaluation.by_group()[evaluation.final]
    return areas_of_groups(reference, target, classes.label_names, settings.confidence_level)
