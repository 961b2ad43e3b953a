"""What every kind of booster can do, and the kinds there are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from trees.forest import Forest
from trees.settings import DeviceName, TreeSettings

__all__ = ["Booster", "Rows", "check_parameters", "predict_proba"]


@dataclass(frozen=True)
class Rows:
    """Rows to learn from or to be stopped by.

    Parameters
    ----------
    features : (n, F) float32
        NaN where a feature has no value.
    label : (n,) uint8
        Label index.
    weight : (n,) float32
    """

    features: NDArray[np.float32]
    label: NDArray[np.uint8]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, chosen: NDArray[np.bool_]) -> "Rows":
        """Return some of the rows."""
        return Rows(self.features[chosen], self.label[chosen], self.weight[chosen])


class Booster(Protocol):
    """A fitted booster of decision trees."""

    suffix: str
    """Of the file that `save` writes."""
    library: str
    """The distribution that grows the trees."""
    stops: bool
    """Whether `fit` looks at ``stop``: more rounds can harm it."""
    rounds: int
    """Boosting rounds that it was fitted with."""

    @classmethod
    def fit(
        cls,
        rows: Rows,
        names: Sequence[str],
        n_labels: int,
        settings: TreeSettings,
        *,
        stop: Rows | None = None,
        rounds: int | None = None,
        seed: int = 0,
        threads: int = 1,
        device: DeviceName = "auto",
    ) -> Self:
        """Learn from rows.

        Parameters
        ----------
        rows : Rows
        names : sequence of str
            Of the features.
        n_labels : int
            2 when binary; a label that no row has keeps its place.
        settings : TreeSettings
        stop : Rows, optional
            Held-out rows: learning stops when their score, see `trees.stopping`, has not gained for ``patience``
            rounds, and the best round is kept.
            Not looked at where `stops` is False.
        rounds : int, optional
            Instead of ``settings.rounds``.
        seed, threads : int
        device : {"auto", "cpu", "cuda"}

        Raises
        ------
        MemberError
            If a parameter is unknown to the library, or the device is not there.
        """
        ...

    @property
    def forest(self) -> Forest | None:
        """The trees as arrays, which predict faster; None if they hold what a `Forest` cannot."""
        ...

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return what the library itself predicts: probabilities (n, 1) of the positive class, or (n, K), of rows."""
        ...

    def save(self, path: Path) -> None:
        """Write the booster in the library's own format."""
        ...

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a booster that `save` wrote; raises MemberError if it cannot."""
        ...

    def importance(self) -> Mapping[str, float]:
        """Return each feature's share of the total gain."""
        ...


def predict_proba(booster: Booster, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
    """Return a booster's probabilities (n, 1) or (n, K) of rows (n, F), by its forest if it has one."""
    return (booster.forest or booster).predict_proba(features, threads)


def check_parameters(given: Iterable[str], known: Iterable[str], library: str) -> None:
    """Refuse a name that a library does not know; raises MemberError with the nearest that it does."""
    known = list(known)
    for name in given:
        if name not in known:
            nearest = get_close_matches(name, known, n=3)
            advice = f"Did you mean {', '.join(nearest)}?" if nearest else f"See {library}'s list of parameters."
            raise MemberError(f"parameters: expected a parameter of {library}, got {name}. {advice}")
