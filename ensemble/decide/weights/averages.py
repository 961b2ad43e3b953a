"""Average first: members weigh the same unless groups left out say otherwise."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import TOP
from ensemble.decide.decision.blend import UNIONS, Blend, Space
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.stacked import Stacked
from ensemble.decide.decision.thresholds import Thresholds, decide, plain_thresholds
from ensemble.decide.sample.choice import CLEAR, Choice, choose, clarity
from ensemble.decide.sample.trial import Trial
from ensemble.decide.thresholds.centre import centre_levels, logit_counts
from ensemble.decide.weights.regression import Kind, LogitSample
from ensemble.decide.weights.worth import Worth, measure_worth

__all__ = ["Averager"]

Floats = NDArray[np.float64]
Stored = NDArray[np.uint16]
Used = tuple[int, ...]

MEANS: dict[str, Space] = {"equal weights of logits": "logit", "equal weights of probabilities": "probability"}
UNITED: dict[str, Space] = {
    "largest probability": "largest",
    "smallest probability": "smallest",
    "at least one is right": "noisy-or",
}
"""Name → how the members are united; it must gain more than two standard errors."""
KINDS: dict[Kind, str] = {"shared": "likeliest weights", "by class": "likeliest weights of each class"}
DEPARTURES: dict[str, tuple[Kind, ...]] = {
    "auto": ("shared", "by class"),
    "greedy": ("shared",),
    "convex": ("shared",),
    "stacked": ("shared", "by class"),
}
"""The setting ``blend`` → the weights that may depart from equal ones; of others none."""


@dataclass
class Averager:
    """Finds the blend of some members: equal weights of logits, and what departs from these and gains beyond its noise.

    Parameters
    ----------
    trial : Trial
        Its pixels alone are looked at.
    calibrated : (n_members, n_classes, n) uint16
        What all members say of these, calibrated.
    names : tuple of str
        Of all members.
    allowed : str
        The setting ``blend``.
    plain : bool
        Whether thresholds stay plain.
    calibrations : tuple of Calibration
        How the members were calibrated; by default they were not.
    """

    trial: Trial
    calibrated: Stored
    names: tuple[str, ...]
    allowed: str = "auto"
    plain: bool = False
    calibrations: tuple[Calibration, ...] = ()
    _scored: dict[Blend | Stacked, tuple[Floats, Floats]] = field(init=False, default_factory=dict)

    def find(self, members: Used, able: Used) -> tuple[Blend | Stacked, dict[str, Choice], tuple[Worth, ...]]:
        """Return the blend, the choices that led to it, and what each of some members is worth.

        Parameters
        ----------
        members : tuple of int
        able : tuple of int
            Those of them that may have weight.
        """
        used, choices = able, {}
        if self.allowed == "best":
            used, choices["member"] = self._best(able)
        elif len(able) > 1:
            used, choices["members"] = self._leave(able)
        blend, weights = self._depart(used, used if self.allowed == "best" else able)
        if weights:
            choices["weights"] = weights
        worths = [
            measure_worth(
                self.names[member],
                blend.shares[member] > 0,
                self._scores(tuple(sorted({*used, member}))),
                self._scores(tuple(other for other in used if other != member)),
            )
            for member in members
            if used != (member,)
        ]
        return blend, choices, tuple(worths)

    def equal(self, used: Used, space: Space = "logit") -> Blend:
        """Return the blend of some members by equal weights."""
        return self._weighted(used, np.ones(len(used)), space)

    def _weighted(self, used: Used, values: Floats, space: Space = "logit") -> Blend:
        row = np.zeros(len(self.names))
        row[list(used)] = np.maximum(values, 0) / np.maximum(values, 0).sum()
        return Blend((tuple(row.tolist()),), space, self.trial.classes.exclusive)

    def _best(self, members: Used) -> tuple[Used, Choice]:
        """Return the member of the best score."""
        replicates = np.stack([self._scores((member,)) for member in members])
        choice = choose([self.names[member] for member in members], replicates, [False] * len(members))
        return (members[choice.chosen],), choice

    def _leave(self, members: Used) -> tuple[Used, Choice]:
        """Let members go one by one, each time the one whose going is the clearest gain, while there is one."""
        used, path = members, [members]
        while len(used) > 1:
            rests = [tuple(other for other in used if other != member) for member in used]
            rest = max(rests, key=lambda rest: self._clarity(rest, used))
            path.append(rest)
            if self._choose(["", ""], [self.equal(used), self.equal(rest)], CLEAR).chosen == 0:
                break
            used = rest
        if used == members:
            path = [members, *rests] if len(members) > 1 else path
        names = [f"without {', '.join(self.names[one] for one in members if one not in some)}" for some in path[1:]]
        return used, self._choose(["all members", *names], [self.equal(some) for some in path], CLEAR)

    def _clarity(self, used: Used, before: Used) -> float:
        """Return how clearly a blend of equal weights gains over another, the clearer of score and log loss."""
        gains = (
            new - old for new, old in zip(self._tried(self.equal(used)), self._tried(self.equal(before)), strict=True)
        )
        return max(clarity(gain) for gain in gains) if self._scores(used)[0] > self._scores(before)[0] else -1.0

    def _choose(self, names: list[str], blends: list[Blend | Stacked], least: float = 1.0) -> Choice:
        """Choose the first blend, or one that gains at least so many standard errors; of unions two."""
        replicates, evidence = zip(*(self._tried(blend) for blend in blends), strict=True)
        errors = [CLEAR if isinstance(blend, Blend) and blend.space in UNIONS else least for blend in blends[1:]]
        return choose(names, np.stack(replicates), [0.0, *errors], np.stack(evidence))

    def _depart(self, used: Used, members: Used) -> tuple[Blend | Stacked, Choice | None]:
        """Return equal weights, or what gains more than its noise over these on groups that it was not fitted to.

        What departs is tried with all members too, since who is of no use at equal weights may be of some otherwise.
        """
        if (named := next((space for space in UNIONS if space == self.allowed), None)) is not None:
            return self.equal(used, named), None
        if len(members) == 1 or len(np.unique(self.trial.groups)) < 2:
            return self.equal(used), None
        blends: list[Blend | Stacked] = [self.equal(used, space) for space in MEANS.values()]
        names = list(MEANS)
        for some in dict.fromkeys([used, members]):
            pool, exclusive = self.trial.pool, self.trial.classes.exclusive
            sample = LogitSample.of(self.calibrated[list(some)], pool.label, pool.weight, exclusive)
            others = "" if some == used else " of all members"
            if self.allowed == "auto" and len(some) > 1:
                blends += [self.equal(some, space) for space in UNITED.values()]
                names += [f"{name}{others}" for name in UNITED]
            start = np.tile(np.append(np.full(len(some), 1 / len(some)), 0), (self.calibrated.shape[1], 1))
            # Of one class alone its weights are those of all classes.
            for kind in DEPARTURES.get(self.allowed, ())[: len(start)] if len(some) > 1 else ():
                start = self._shrunk(kind, some, sample, start)
                blends.append(self._read(kind, some, start))
                names.append(f"{KINDS[kind]}{others}")
        choice = self._choose(names, blends)
        return blends[choice.chosen], choice

    def _shrunk(self, kind: Kind, used: Used, sample: LogitSample, start: Floats) -> Floats:
        """Return likeliest weights and intercepts, shrunk towards those given; they are scored on groups left out."""
        warm, exclusive = start, self.trial.classes.exclusive

        def fit(chosen: NDArray[np.bool_]) -> Floats:
            nonlocal warm
            found = sample.take(chosen).fit(kind, start, warm)
            warm = found if chosen.all() else warm
            return found.ravel()

        def label(values: Floats, chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
            blend = self._read(kind, used, values.reshape(start.shape))
            return decide(blend.apply(self.calibrated[:, :, chosen]), self._thresholds(blend), exclusive)

        def loss(values: Floats, chosen: NDArray[np.bool_]) -> Floats:
            blend = self._read(kind, used, values.reshape(start.shape))
            return self._loss(blend.apply(self.calibrated[:, :, chosen]), chosen)

        found = self.trial.depart(start.ravel(), fit, label, loss, sample.change)
        values = found.values.reshape(start.shape)
        self._scored[self._read(kind, used, values)] = found.replicates, found.evidence
        return values

    def _read(self, kind: Kind, used: Used, values: Floats) -> Blend | Stacked:
        """Return the blend of weights and intercepts (n_classes, n_used + 1)."""
        if kind == "shared" and values.min() >= 0 and values.sum() > 0:
            return self._weighted(used, values[0, :-1])
        rows = np.zeros((len(values), len(self.names)))
        rows[:, list(used)] = values[:, :-1]
        coefficients = tuple(tuple(row) for row in rows.tolist())
        return Stacked(coefficients, tuple(values[:, -1].tolist()), self.trial.classes.exclusive)

    def _scores(self, used: Used) -> Floats:
        return self._tried(self.equal(used))[0]

    def _tried(self, blend: Blend | Stacked) -> tuple[Floats, Floats]:
        """Return the scores of a blend, and minus its log loss; each of all pixels, then without each group in turn."""
        if blend not in self._scored:
            blended, everything = blend.apply(self.calibrated), np.ones(len(self.trial.place), bool)
            labels = decide(blended, self._thresholds(blend, blended), self.trial.classes.exclusive)
            scores = self.trial.score(self.trial.count(labels))
            self._scored[blend] = scores, self.trial.weigh(self._loss(blended, everything))
        return self._scored[blend]

    def _loss(self, blended: Stored, chosen: NDArray[np.bool_]) -> Floats:
        """Return the log loss of each pixel at the temperature that suits these, which says nothing of weights."""
        pool, exclusive = self.trial.pool, self.trial.classes.exclusive
        sample = LogitSample.of(blended[None], pool.label[:, chosen], pool.weight[chosen], exclusive)
        return sample.losses(sample.fit("shared", np.tile([1.0, 0.0], (len(blended), 1))))

    def _thresholds(self, blend: Blend | Stacked, blended: Stored | None = None) -> Thresholds:
        """Return the metric's own centre for a blend, or what is plain."""
        classes, pool = self.trial.classes, self.trial.pool
        if classes.exclusive or self.plain:
            return plain_thresholds(classes)
        stored = blend.apply(self.calibrated) if blended is None else blended
        counts = logit_counts(stored, pool.label, pool.weight)
        decision = Decision(self.calibrations or (Calibration(),) * len(self.names), blend, ())
        return tuple(level / TOP for level in centre_levels(counts, self.trial.objective, decision.sharpness))
