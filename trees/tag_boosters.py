"""One booster a tag, as if all were one booster: a member's model of a fold, where scenes have any number of tags."""

import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from data.archives import open_zip
from data.errors import MemberError
from data.records import FileKind
from trees.boosters.booster import Booster, predict_proba
from trees.learning import LEARNERS
from trees.settings import BoosterName, Device

__all__ = ["TagBoosters"]


@dataclass(frozen=True)
class About:
    """What the boosters of a file are."""

    booster: BoosterName
    features: list[str]
    tags: list[str]
    constant: dict[str, Annotated[float, Field(gt=0, lt=1)]]


ABOUT = TypeAdapter(About)
ZIP = FileKind("a booster a tag", MemberError, "terrablend trees")


class TagBoosters:
    """Boosters that each tell one tag, of the same features.

    Parameters
    ----------
    kind : str
        Booster that they are, a key of `trees.learning.LEARNERS`.
    tags : sequence of str
    boosters : sequence of Booster or float
        For each tag; a probability where there was nothing to learn from.
    names : sequence of str
        Of the features.
    """

    suffix = ".zip"
    forest = None
    """Each tag's booster has its own."""

    def __init__(
        self, kind: BoosterName, tags: Sequence[str], boosters: Sequence[Booster | float], names: Sequence[str]
    ) -> None:
        self.kind, self.tags, self.boosters, self.names = kind, tuple(tags), tuple(boosters), tuple(names)
        self.rounds = max((booster.rounds for booster in self._fitted()), default=0)

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return the probability of each tag (n, n_classes) of rows (n, F)."""
        proba = np.empty((len(features), len(self.tags)), np.float32)
        for column, booster in enumerate(self.boosters):
            known = booster if isinstance(booster, float) else predict_proba(booster, features, threads)[:, 0]
            proba[:, column] = known
        return proba

    def contributions(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32] | None:
        """Return the SHAP values (n, n_classes, F + 1) of rows (n, F); None if the library gives none."""
        found = np.zeros((len(features), len(self.tags), len(self.names) + 1), np.float32)
        for column, booster in enumerate(self.boosters):
            if isinstance(booster, float):
                found[:, column, -1] = np.log(booster / (1 - booster))
                continue
            values = booster.contributions(features, threads)
            if values is None:
                return None
            found[:, column] = values[:, 0]
        return found

    def save(self, path: Path) -> None:
        """Write a zip archive of a file a tag, in the library's own format, and what they are."""
        about: dict[str, Any] = {"booster": self.kind, "features": self.names, "tags": self.tags}
        about["constant"] = {
            tag: one for tag, one in zip(self.tags, self.boosters, strict=True) if isinstance(one, float)
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, tempfile.TemporaryDirectory() as folder:
            # Without a date of its own, the file is the same whenever it is written.
            archive.writestr(zipfile.ZipInfo("tags.json"), json.dumps(about, ensure_ascii=False))
            for number, booster in enumerate(self.boosters):
                if not isinstance(booster, float):
                    file = Path(folder) / f"{number}{booster.suffix}"
                    booster.save(file)
                    archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes(), zipfile.ZIP_DEFLATED)

    @classmethod
    def load(cls, path: Path, device: Device = "cpu") -> Self:
        """Read what `save` wrote; raises MemberError if it cannot."""
        with open_zip(path, ZIP) as archive, tempfile.TemporaryDirectory() as folder:
            about = ABOUT.validate_json(archive.read("tags.json"))
            kind = LEARNERS[about.booster].booster
            boosters: list[Booster | float] = []
            for number, tag in enumerate(about.tags):
                if tag in about.constant:
                    boosters.append(about.constant[tag])
                    continue
                file = Path(archive.extract(f"{number}{kind.suffix}", folder))
                try:
                    booster = kind.load(file, device)
                except MemberError as error:
                    raise ValueError(str(error).removeprefix(f"{folder}/")) from error
                if [*booster.importance()] != about.features:
                    raise ValueError(f"the booster of {tag} is of other features")
                boosters.append(booster)
        return cls(about.booster, about.tags, boosters, about.features)

    def importance(self) -> Mapping[str, float]:
        """Return each feature's share of the total gain, in the mean of the tags."""
        shares = [booster.importance() for booster in self._fitted()]
        return {name: sum(share[name] for share in shares) / max(len(shares), 1) for name in self.names}

    def importances(self) -> Mapping[str, Mapping[str, float]]:
        """Return each feature's share of the total gain, by tag; 0 where there was nothing to learn from."""
        nothing = dict.fromkeys(self.names, 0.0)
        return {
            tag: nothing if isinstance(booster, float) else booster.importance()
            for tag, booster in zip(self.tags, self.boosters, strict=True)
        }

    def _fitted(self) -> list[Booster]:
        return [booster for booster in self.boosters if not isinstance(booster, float)]
