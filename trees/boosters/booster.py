"""The interface of every booster: a `Learner` learns from rows, a `Booster` is what it has learned."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Protocol, Self
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from data.errors import MemberError
from features.table import Table
from trees.boosters.stopping import score_held_out, stop_name
from trees.forest.forest import Forest
from trees.settings import Device, DeviceName, TreeSettings

__all__ = [
    "Booster",
    "Learner",
    "Rows",
    "check_parameters",
    "class_contributions",
    "decode_name",
    "encode_name",
    "gain_shares",
    "predict_classes",
    "predict_proba",
    "unreadable",
]

SPECIAL = re.compile(r'[\s%",:\[\]{}<>]')
"""Signs that LightGBM or XGBoost refuses in the name of a feature, or alters."""

Rows = NDArray[np.bool_]
"""Which of all rows (n,) are meant."""


class Booster(Protocol):
    """A fitted booster of decision trees."""

    suffix: str
    """Of the file that `save` writes."""
    rounds: int
    """Boosting rounds that it was fitted with."""

    @property
    def forest(self) -> Forest | None:
        """The trees as arrays, which predict faster on a CPU; None where the library's own prediction is better, or
        the only one.
        """
        ...

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return what the library itself predicts: probabilities (n, 1) of the positive class, or (n, K), of rows."""
        ...

    def contributions(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32] | None:
        """Return the SHAP values that the library gives of rows (n, F); None if it gives none.

        Returns
        -------
        contributions : (n, n_classes, F + 1) float32
            What each feature adds to the sum that becomes the probability, log odds or their like; the last is what
            the sum begins with. Together they are the sum (Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9).
        """
        ...

    def save(self, path: Path) -> None:
        """Write the booster in the library's own format."""
        ...

    @classmethod
    def load(cls, path: Path, device: Device = "cpu") -> Self:
        """Read a booster that `save` wrote; raises MemberError if it cannot.

        On a GPU predict those whose library can. Whoever made the file, it is checked in full before the library's own
        parser sees it, which trusts what it reads; no hash tells that the one who wrote it meant well.
        """
        ...

    def importance(self) -> Mapping[str, float]:
        """Return each feature's share of the total gain."""
        ...


@dataclass
class Learner(ABC):
    """A library, and the rows that it learns from: it bins them once, for any number of fits of parts of them.

    Parameters
    ----------
    table : Table
        Its labels and weights are those that are learned by, until others are given: see `relabel`.
    n_labels : int
        2 when binary; a label that no row has keeps its place.
    threads : int
    device : {"auto", "cpu", "cuda"}
    """

    table: Table
    n_labels: int
    threads: int = 1
    device: DeviceName = "auto"

    booster: ClassVar[type[Booster]]
    """What it makes."""
    library: ClassVar[str]
    """The distribution that grows the trees."""

    title: ClassVar[str]
    """The library's name in messages."""
    stops: ClassVar[bool] = True
    """Whether `fit` looks at ``held``: more rounds can harm it."""

    def __post_init__(self) -> None:
        self.label, self.weight = self.table.label, self.table.weight

    def relabel(self, label: NDArray[np.uint8], weight: NDArray[np.float32]) -> None:
        """Learn other labels (n,) of the same rows, by other weights (n,); what was binned is kept."""
        self.label, self.weight = label, weight

    @abstractmethod
    def fit(self, settings: TreeSettings, chosen: Rows, held: Rows | None = None, seed: int = 0) -> Booster:
        """Learn from some of the rows.

        Parameters
        ----------
        settings : TreeSettings
        chosen : (n,) bool
            The rows to learn from.
        held : (n,) bool, optional
            Rows held out: learning stops when their score, see `trees.boosters.stopping`, has not risen for
            ``patience`` rounds, and the best round is kept.
            Not looked at where `stops` is False.
        seed : int

        Raises
        ------
        MemberError
            If a parameter is unknown to the library, or the device is not there.
        """

    def monitor(self, settings: TreeSettings, held: Rows) -> tuple[str, Callable[[NDArray[np.floating]], float]]:
        """Return the name of the score that is monitored, and what takes the held rows' probabilities to it."""
        name, label, weight = stop_name(settings, self.n_labels), self.label[held], self.weight[held]
        return name, lambda proba: score_held_out(name, label, weight, proba, self.n_labels)

    def failure(self, chosen: Rows, error: Exception) -> MemberError:
        """Return the error that says that the library could not learn from some rows."""
        return MemberError(f"{self.title} could not learn from {np.count_nonzero(chosen)} rows: {error}.")


def predict_proba(booster: Booster, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
    """Return a booster's probabilities (n, 1) or (n, K) of rows (n, F), by its forest if it has one."""
    return (booster.forest or booster).predict_proba(features, threads)


def predict_classes(
    booster: Booster, features: NDArray[np.float32], n_classes: int, threads: int = 1
) -> NDArray[np.float32]:
    """Return probabilities (n, n_classes) of rows (n, F); a booster tells the second of two classes alone."""
    proba = predict_proba(booster, features, threads)
    return proba if proba.shape[1] == n_classes else np.concatenate([1 - proba, proba], axis=1)


def class_contributions(
    booster: Booster, features: NDArray[np.float32], n_classes: int, threads: int = 1
) -> NDArray[np.float32] | None:
    """Return the SHAP values (n, n_classes, F + 1) of rows (n, F), None if there are none; see `predict_classes`."""
    values = booster.contributions(features, threads)
    return values if values is None or values.shape[1] == n_classes else np.concatenate([-values, values], axis=1)


def gain_shares(names: Iterable[str], gains: NDArray[np.floating]) -> dict[str, float]:
    """Return each feature's share of the total gain; 0 of all where there is none."""
    return dict(zip(names, (gains / (gains.sum() or 1.0)).tolist(), strict=True))


def encode_name(name: str) -> str:
    """Return the name of a feature as boosters' files can hold it: other signs as in a web address.

    >>> encode_name("NIR [842 nm]_mean_r1"), decode_name(encode_name("NIR [842 nm]_mean_r1"))
    ('NIR%20%5B842%20nm%5D_mean_r1', 'NIR [842 nm]_mean_r1')
    """
    return SPECIAL.sub(lambda sign: quote(sign[0], safe=""), name)


def decode_name(name: str) -> str:
    """Return the name that `encode_name` encoded."""
    return unquote(name)


def unreadable(path: Path, what: str, error: Exception) -> MemberError:
    """Return the error that says that a file is no booster of a library."""
    lines = str(error).splitlines() or [type(error).__name__]
    # Libraries quote what they found.
    reason = "".join(sign if sign.isprintable() else "?" for sign in lines[0][:300]).rstrip(".")
    return MemberError(f"{path}: expected {what}, got: {reason}. Train the member again.")


def check_parameters(given: Iterable[str], known: Iterable[str], library: str) -> None:
    """Refuse a name that a library does not know; raises MemberError with the nearest that it does."""
    known = list(known)
    for name in given:
        if name not in known:
            nearest = get_close_matches(name, known, n=3)
            advice = f"Did you mean {', '.join(nearest)}?" if nearest else f"See {library}'s list of parameters."
            raise MemberError(f"parameters: expected a parameter of {library}, got {name}. {advice}")
