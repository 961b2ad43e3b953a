"""Count what is right in out-of-fold maps, scene by scene: what all scores and paired intervals follow from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.records import FileKind, read_parquet, write_parquet
from data.scenes.catalogue import Catalogue
from ensemble.fit import fit_ensemble
from ensemble.maps import open_maps
from ensemble.score.evaluation import BLEND, evaluate_members
from terrablend.run.scene_run import Run

__all__ = ["Counted", "count_run", "read_counts", "write_counts"]

COUNTS = FileKind("counts of a comparison", EnsembleError, "terrablend compare")

SCHEMA = pa.schema([("model", pa.string()), ("scene", pa.string()), ("counts", pa.list_(pa.int64()))])


@dataclass(frozen=True)
class Counted:
    """Confusion counts of each model of a run.

    Parameters
    ----------
    counts : mapping
        Member, or the blend of several → scene → (Q, n_labels, n_labels + 1) int64.
    """

    counts: Mapping[str, Mapping[str, NDArray[np.int64]]]

    @property
    def final(self) -> str:
        """The blend, or the only member."""
        return next(iter(self.counts))


def count_run(run: Run, labelled: Catalogue) -> Counted:
    """Decide on the out-of-fold maps of a run, and count what is right.

    Parameters
    ----------
    run : Run
        With trained members. Everything is decided on labels that it learns from, and without the fold that is scored.
    labelled : Catalogue
        Of the same scenes, with all labels: these are scored.
    """
    experiment, catalogue = run.experiment, run.load_catalogue()
    members = {name: run.member_path(name) for name, member in experiment.members.items() if member.decides}
    _, [nested, *_] = fit_ensemble(
        members, catalogue, experiment.ensemble, seed=experiment.seed, masks=run.masks, track=run.track
    )
    models = [*([BLEND] if len(members) > 1 else []), *members]
    maps = open_maps(members, catalogue.classes)
    scored = evaluate_members(
        maps,
        labelled.split("train"),
        lambda scene: {name: nested.decisions[scene.fold or 0][name] for name in models},
        catalogue.classes,
        masks=run.masks,
        track=run.track,
    )
    return Counted({name: scored.counts[name] for name in models})


def write_counts(counted: Counted, path: Path) -> None:
    """Write counts as parquet."""
    rows = [
        {"model": model, "scene": scene, "counts": counts.ravel().tolist()}
        for model, scenes in counted.counts.items()
        for scene, counts in scenes.items()
    ]
    write_parquet(path, pa.Table.from_pylist(rows, SCHEMA))


def read_counts(path: Path, n_questions: int, n_labels: int) -> Counted:
    """Read what `write_counts` wrote; raises EnsembleError if it is missing or damaged."""
    found: dict[str, dict[str, NDArray[np.int64]]] = {}
    for row in read_parquet(path, COUNTS).to_pylist():
        counts = np.array(row["counts"], np.int64).reshape(n_questions, n_labels, n_labels + 1)
        found.setdefault(row["model"], {})[row["scene"]] = counts
    return Counted(found)
