"""Rank what contradicts labels, by what tells the traces of injected errors from all else."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ensemble.audit.parts import FACTS

__all__ = ["ErrorEstimate", "Ranking"]

Floats = NDArray[np.float64]

FEWEST = 30
"""Injected errors from which on anything is learned of them, of one kind half as many."""

IMPORTANCE = np.array([1.0, 1.0, 2.0])
"""Of the opinions: chosen so that no kind of error is ranked much worse than by the plain score (docs/audit.md)."""

HEAD = 20
"""Regions from which on the head of a list says how many errors there are."""


@dataclass(frozen=True)
class Model:
    """A logistic regression on the facts of a part."""

    weights: Floats
    offset: float

    @classmethod
    def fit(cls, facts: Floats, injected: NDArray[np.bool_], class_weight: str | None = None) -> Self:
        """Learn to tell injected errors from other parts."""
        from sklearn.linear_model import LogisticRegression

        mean, scale = facts.mean(axis=0), facts.std(axis=0) + 1e-9
        model = LogisticRegression(C=0.3, max_iter=1000, class_weight=class_weight)
        model.fit((facts - mean) / scale, injected)
        weights = model.coef_[0] / scale
        return cls(weights, float(model.intercept_[0] - weights @ mean))

    def score(self, facts: Floats) -> Floats:
        """Return the log odds of parts."""
        odds: Floats = facts @ self.weights + self.offset
        return odds


@dataclass(frozen=True)
class Ranking:
    """Three opinions on a part, each as so many standard deviations, added up.

    What tells injected errors of all kinds from other parts knows which scenes are bad; what tells each kind alone, of
    which the mean chance counts, knows single objects; and the plain score counts twice, since it knows of no kind.

    Parameters
    ----------
    together : Model or None
        None: nothing was learned, and parts are ranked by confidence × area^¼.
    kinds : tuple of Model
    scales : (3, 2) float64
        Mean and deviation of each opinion, over parts that may be listed.
    injected : (n,) float64
        Scores of listed parts that are injected errors, rising.
    """

    together: Model | None = None
    kinds: tuple[Model, ...] = ()
    scales: Floats = field(default_factory=lambda: np.tile([0.0, 1.0], (3, 1)))
    injected: Floats = field(default_factory=lambda: np.empty(0))

    @classmethod
    def learn(cls, facts: Floats, kind: NDArray[np.int64], slivers: NDArray[np.bool_]) -> Self:
        """Learn to tell injected errors from all other parts, slivers too; few of them teach nothing.

        What is there anyway, true errors of the labels among it, counts as no error: that lowers all chances alike, and
        hardly changes the order.

        Parameters
        ----------
        facts : (n, len(FACTS)) float64
        kind : (n,) int64
            Of error; -1 where none was injected.
        slivers : (n,) bool
        """
        injected = kind >= 0
        if min(np.count_nonzero(injected), np.count_nonzero(~injected)) < FEWEST:
            return cls()
        kinds = []
        for one in np.unique(kind[injected]).tolist():
            if np.count_nonzero(kind == one) >= FEWEST // 2:
                chosen = ~injected | (kind == one)
                kinds.append(Model.fit(facts[chosen], injected[chosen], "balanced"))
        found = cls(Model.fit(facts, injected), tuple(kinds))
        opinions = found._opinions(facts[~slivers])
        if not opinions.shape[1]:
            return cls()
        scales = np.stack([opinions.mean(axis=1), opinions.std(axis=1) + 1e-9], axis=1)
        found = replace(found, scales=scales)
        return replace(found, injected=np.sort(found.score(facts[injected & ~slivers])))

    def score(self, facts: Floats) -> Floats:
        """Score parts (n, len(FACTS)): higher is more suspicious."""
        if self.together is None:
            plain: Floats = facts[:, FACTS.index("score")]
            return plain
        mean, scale = self.scales.T
        total: Floats = IMPORTANCE @ ((self._opinions(facts) - mean[:, None]) / scale[:, None])
        return total

    def _opinions(self, facts: Floats) -> Floats:
        assert self.together is not None
        together = self.together.score(facts)
        odds = np.stack([model.score(facts) for model in self.kinds or (self.together,)])
        plain = np.log(np.maximum(facts[:, FACTS.index("score")], 1e-3))
        return np.stack([together, np.logaddexp.reduce(np.clip(odds, -30, 12), axis=0), plain])

    def estimate(self, scores: Floats) -> "ErrorEstimate | None":
        """Estimate how many errors a list holds at most, from the scores of all that may be listed.

        None where nothing was learned, or there are too few.

        If errors score as injected ones do, a share s of all of them lies above each place of the list, and no more of
        them than there are places. The tightest of these bounds is taken for their number (a mixture proportion:
        Blanchard, Lee and Scott 2010), from the `HEAD` first places on.
        """
        if not len(self.injected) or len(scores) < HEAD:
            return None
        ranked = np.sort(scores)[::-1]
        above = 1 - np.searchsorted(self.injected, ranked, "left") / len(self.injected)
        places = np.arange(1, len(ranked) + 1)
        seen = (places >= HEAD) & (above > 0)
        if not seen.any():
            return None
        return ErrorEstimate(float(min((places[seen] / above[seen]).min(), len(ranked))), above)


@dataclass(frozen=True)
class ErrorEstimate:
    """How many errors a list should hold.

    Parameters
    ----------
    total : float
        Errors that the map contradicts.
    above : (n,) float64
        Share of them among the first 1, 2, … of the list.
    """

    total: float
    above: Floats

    def among(self, first: int) -> tuple[float, float]:
        """Return the errors among the first of the list, and their share of all."""
        share = float(self.above[min(first, len(self.above)) - 1])
        return min(self.total * share, float(first)), share
