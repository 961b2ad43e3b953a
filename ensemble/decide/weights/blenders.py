"""Choose and fit the blend: the best member alone, equal weights, or fitted weights if they gain enough."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.maps.geotiff import NODATA
from data.progress import Track, untracked
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene
from ensemble.decide.calibration.calibrators import Calibrator
from ensemble.decide.decision.blend import Blend, Space, Weights, mix, spread_out
from ensemble.decide.decision.calibration import STORED, Calibration, Method
from ensemble.decide.decision.decision import Decision, calibrate
from ensemble.decide.decision.stacked import Stacked
from ensemble.decide.decision.thresholds import is_class
from ensemble.decide.sample.choice import Choice, choose
from ensemble.decide.sample.inner_folds import InnerFolds, Parts
from ensemble.decide.weights.joint import bin_values, joint_histogram, score_weights
from ensemble.decide.weights.regression import fit_stacked
from ensemble.decide.weights.weights import grid_weights, likeliest_weights, select_greedily, take_best
from ensemble.maps import MemberMaps

__all__ = ["Blender", "blend_names", "count_jointly"]

BEST, EQUAL, EQUAL_LOGITS = "best member alone", "equal weights", "equal weights of logits"
PLAIN_NAMES = (BEST, EQUAL, EQUAL_LOGITS)
CONVEX, CONVEX_LOGITS = "convex weights", "convex weights of logits"
GREEDY, GREEDY_LOGITS = "greedy selection", "greedy selection of logits"
LIKELIEST, BY_CLASS, STACKED = "likeliest weights", "likeliest weights of each class", "logistic regression"
LIKELY = (LIKELIEST, BY_CLASS)

CALIBRATED = ", calibrated"

MOST_CONVEX = 3
"""Members beyond which a grid has too many points."""


def blend_names(allowed: str, n_members: int, n_classes: int) -> tuple[str, ...]:
    """Return the candidates that a setting allows, simplest first.

    Raises
    ------
    EnsembleError
        If a grid is asked for over too many members to be searched.

    Examples
    --------
    >>> blend_names("equal", 2, 1)
    ('best member alone', 'equal weights', 'equal weights of logits')
    """
    if allowed == "convex" and n_members > MOST_CONVEX:
        raise EnsembleError(
            f"ensemble.blend convex: expected at most {MOST_CONVEX} members, got {n_members}. Use greedy for more."
        )
    if n_members == 1 or allowed == "best":
        return (BEST,)
    grid, greedy = (CONVEX, CONVEX_LOGITS), (GREEDY, GREEDY_LOGITS)
    likeliest = (LIKELIEST, BY_CLASS) if n_classes > 1 else (LIKELIEST,)
    fitted = {
        "equal": (),
        "convex": (*grid, *likeliest),
        "greedy": greedy,
        "stacked": (STACKED,),
        "auto": (*(grid if n_members == 2 else greedy), *likeliest, STACKED),
    }
    return (*PLAIN_NAMES, *fitted[allowed])


@dataclass
class Blender:
    """Fits blends of some members to any parts of the pixels.

    Parameters
    ----------
    inner : InnerFolds
    calibrators : sequence of Calibrator
        One a member.
    members : tuple of int
        Those that may have weight.
    allowed : str
        The setting ``blend``.
    joint : mapping of int to (2, bins + 1, bins + 1) int64
        Part → its pixels counted by both members, as `count_jointly` counts them: convex weights then rest on every
        pixel. Else empty, and they rest on the sampled ones.
    """

    inner: InnerFolds
    calibrators: Sequence[Calibrator]
    members: tuple[int, ...]
    allowed: str = "auto"
    joint: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    _fitted: dict[tuple[str, tuple[Method, ...], Parts], Decision] = field(init=False, default_factory=dict)
    _calibrated: tuple[object, NDArray[np.uint16]] | None = field(init=False, default=None)

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates, simplest first."""
        return blend_names(self.allowed, len(self.members), len(self.inner.classes.names))

    def choose(
        self, options: Sequence[tuple[Method, ...]], parts: Parts
    ) -> tuple[str, tuple[Method, ...], Choice | None]:
        """Choose a candidate, of calibrated members or not, by its scores on parts left out.

        Parameters
        ----------
        options : sequence of tuple of str
            Calibration of each member: one way, or first the plain one and then another.
        parts : tuple of int

        Returns
        -------
        name : str
        methods : tuple of str
        choice : Choice or None
        """
        # Each is tried as it is made for: a likelihood wants what is calibrated, a regression calibrates by itself.
        candidates = [
            (name, methods)
            for name in self.names
            for methods in (options[:1] if name in (BEST, STACKED) else options[-1:] if name in LIKELY else options)
        ]
        candidates.sort(key=lambda candidate: _intricacy(candidate[0], candidate[1] != options[0]))
        if len(candidates) == 1 or len(parts) < 2:
            return *candidates[0], None
        replicates = [
            self.inner.left_out(partial(self._labeller, name, methods), parts) for name, methods in candidates
        ]
        titles = [name + (CALIBRATED if methods != options[0] else "") for name, methods in candidates]
        fitted = [_intricacy(name, methods != options[0]) > 0 for name, methods in candidates]
        choice = choose(titles, np.stack(replicates), fitted)
        return *candidates[choice.chosen], choice

    def fit(self, name: str, methods: tuple[Method, ...], parts: Parts) -> Decision:
        """Return the decision of a candidate fitted to some parts, with thresholds fit for a comparison alone."""
        key = name, methods, parts
        if key not in self._fitted:
            chosen = self.inner.where(parts)
            calibrated = self._calibrate(methods, parts)
            calibrations = self.calibrations(methods, parts)
            blend = self._blend(name, calibrated, calibrations, parts)
            thresholds, _ = self.inner.tune(blend.apply(calibrated), chosen)
            self._fitted[key] = Decision(calibrations, blend, thresholds)
        return self._fitted[key]

    def calibrations(self, methods: tuple[Method, ...], parts: Parts) -> tuple[Calibration, ...]:
        """Return the calibration of each member fitted to some parts."""
        return tuple(
            calibrator.fit(method, parts) for calibrator, method in zip(self.calibrators, methods, strict=True)
        )

    def alone(self, member: int) -> Blend:
        """Return the blend that is one member."""
        return Blend((self._row({member: 1.0}),), exclusive=self.inner.classes.exclusive)

    def _labeller(
        self, name: str, methods: tuple[Method, ...], parts: Parts
    ) -> Callable[[NDArray[np.bool_]], NDArray[np.uint8]]:
        decision = self.fit(name, methods, parts)
        return lambda chosen: decision.apply(self.inner.pool.stored[:, :, chosen])

    def _calibrate(self, methods: tuple[Method, ...], parts: Parts) -> NDArray[np.uint16]:
        # Candidates are fitted one after the other to the same pixels.
        key = methods, parts
        if self._calibrated is None or self._calibrated[0] != key:
            stored = self.inner.pool.stored[:, :, self.inner.where(parts)]
            self._calibrated = key, calibrate(self.calibrations(methods, parts), stored)
        return self._calibrated[1]

    def _row(self, weights: dict[int, float]) -> Weights:
        return tuple(float(weights.get(member, 0.0)) for member in range(len(self.calibrators)))

    def _rows(self, *rows: Weights) -> tuple[Weights, ...]:
        return tuple(self._row(dict(zip(self.members, row, strict=True))) for row in rows)

    def _blend(
        self, name: str, calibrated: NDArray[np.uint16], calibrations: Sequence[Calibration], parts: Parts
    ) -> Blend | Stacked:
        exclusive, n, chosen = self.inner.classes.exclusive, len(self.members), self.inner.where(parts)
        space: Space = "logit" if name in (EQUAL_LOGITS, CONVEX_LOGITS, GREEDY_LOGITS) else "probability"
        if name == STACKED:
            return self._stacked(calibrated, chosen)
        if name == BEST:
            scores = [self.inner.tune(calibrated[member], chosen)[1] for member in self.members]
            return self.alone(self.members[int(np.argmax(np.nan_to_num(np.round(scores, 6), nan=-np.inf)))])
        if name in (EQUAL, EQUAL_LOGITS):
            rows: Sequence[Weights] = [(1 / n,) * n]
        elif name == LIKELIEST:
            rows = [self._likeliest(calibrated, chosen)]
        elif name == BY_CLASS:
            rows = [self._likeliest(calibrated, chosen, place) for place in range(calibrated.shape[1])]
        else:
            rows = [self._searched(name, space, calibrated, calibrations, parts)]
        return Blend(self._rows(*rows), space, exclusive)

    def _searched(
        self, name: str, space: Space, calibrated: NDArray[np.uint16], calibrations: Sequence[Calibration], parts: Parts
    ) -> Weights:
        """Return the weights of the best score."""
        tried = list(grid_weights(len(self.members))) if name in (CONVEX, CONVEX_LOGITS) else []
        if tried and self.joint:
            values = [calibrations[member].curve(0, np.clip(bin_values(), STORED[0], STORED[-1])) for member in (0, 1)]
            histograms = np.stack([self.joint[part] for part in parts])
            firsts = [first for first, _ in tried]
            return take_best(
                tried, score_weights(histograms, firsts, self.inner.objective, space, (values[0], values[1]))
            )
        score = self._scorer(calibrated, self.inner.where(parts), space)
        if tried:
            return take_best(tried, np.array([score(weights) for weights in tried]))
        return select_greedily(len(self.members), score)

    def _scorer(
        self, calibrated: NDArray[np.uint16], chosen: NDArray[np.bool_], space: Space
    ) -> Callable[[Weights], float]:
        exclusive = self.inner.classes.exclusive
        values = [spread_out(calibrated[member], space, exclusive) for member in self.members]
        known = [(calibrated[member, :1] != NODATA).astype(np.float32) for member in self.members]

        def score(weights: Weights) -> float:
            total, mass = np.zeros_like(values[0]), np.zeros_like(known[0])
            for weight, value, seen in zip(weights, values, known, strict=True):
                if weight > 0:
                    total += np.float32(weight) * value
                    mass += np.float32(weight) * seen
            return self.inner.tune(mix(total, mass, space, exclusive), chosen)[1]

        return score

    def _likeliest(
        self, calibrated: NDArray[np.uint16], chosen: NDArray[np.bool_], place: int | None = None
    ) -> Weights:
        """Return the likeliest weights of all classes, or of one against the rest."""
        label, weight = self.inner.pool.label[:, chosen], self.inner.pool.weight[chosen]
        exclusive, n_classes = self.inner.classes.exclusive, calibrated.shape[1]
        if place is None and exclusive:
            known = (label != IGNORE) & (calibrated[:, 0] != NODATA).all(axis=0)
            labelled = np.where(known, label, 0)[None].astype(np.int64)
            stored = np.take_along_axis(
                calibrated, np.broadcast_to(labelled, (len(calibrated), 1, len(weight))), axis=1
            )
            likelihood = proba_of(stored[:, 0])
            return likeliest_weights(likelihood[list(self.members)], weight * known[0])
        truth, labelled_at = is_class(label, n_classes, exclusive), label != IGNORE
        parts, weights = [], []
        for position in range(n_classes) if place is None else [place]:
            known = labelled_at[0 if exclusive else position] & (calibrated[:, position] != NODATA).all(axis=0)
            proba = proba_of(calibrated[:, position])
            parts.append(np.where(truth[position], proba, 1 - proba))
            weights.append(weight * known)
        likelihood = np.concatenate(parts, axis=1)
        return likeliest_weights(likelihood[list(self.members)], np.concatenate(weights))

    def _stacked(self, calibrated: NDArray[np.uint16], chosen: NDArray[np.bool_]) -> Stacked:
        pool = self.inner.pool
        stacked = fit_stacked(
            calibrated[list(self.members)], pool.label[:, chosen], pool.weight[chosen], self.inner.classes.exclusive
        )
        return Stacked(self._rows(*stacked.coefficients), stacked.intercepts, stacked.exclusive)


def _intricacy(name: str, calibrated: bool) -> int:
    """Return what is fitted: nothing, calibrations, weights, or both."""
    return int(calibrated) + 2 * int(name not in PLAIN_NAMES)


def count_jointly(
    inner: InnerFolds, maps: MemberMaps, scenes: Sequence[Scene], allowed: str, track: Track = untracked
) -> dict[int, NDArray[np.int64]]:
    """Count every pixel of the training scenes by label and both members, part by part; nothing unless it is of use.

    It is where there are two members of a binary task, convex weights may be tried, the score is of pooled counts, and
    all pixels count the same.
    """
    pooled = inner.classes.task == "binary" and not inner.objective.by_scene
    of_use = pooled and len(maps.names) == 2 and not inner.fixed_thresholds and not maps.weighted
    if not of_use or allowed not in ("auto", "convex"):
        return {}
    joint: dict[int, NDArray[np.int64]] = {}
    counted = track(maps.each(_count_scene, scenes), "members counted jointly", len(scenes))
    for scene, counts in zip(scenes, counted, strict=True):
        part = inner.part_of[scene.id]
        joint[part] = joint[part] + counts if part in joint else counts
    nothing = np.zeros_like(counts)
    return {part: joint.get(part, nothing) for part in set(inner.part_of.values())}


def _count_scene(maps: MemberMaps, scene: Scene) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.sum(
        [
            joint_histogram(stored[0, 0], stored[1, 0], maps.label(scene, window)[0])
            for window, stored in maps.windows(scene)
        ],
        axis=0,
    )
    return counts


def proba_of(stored: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return probabilities, half a step inside 0 and 1; any value for nodata."""
    table = np.append(STORED, 0.5)
    proba: NDArray[np.float64] = table[stored]
    return proba
