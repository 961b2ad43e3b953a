"""Fitting with everything that is measured of it: what the report shows and a run keeps."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.maps.geotiff import dequantise
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE
from data.scenes.scene import Split
from ensemble.audit.audit_files import write_audit
from ensemble.audit.label_audit import Audit, audit_labels
from ensemble.decide.decision.cleaning import Masks, no_masks
from ensemble.ensemble import Ensemble
from ensemble.fit import fit_maps
from ensemble.maps import MemberFolder, open_maps
from ensemble.objective import objective_of
from ensemble.rows import RowMaps
from ensemble.score.ablation import Ablation, ablate
from ensemble.score.areas import Areas
from ensemble.score.evaluation import Evaluation, evaluate_in_sample
from ensemble.score.run_areas import areas_of_run, write_areas
from ensemble.score.scores import score_table, write_scores
from ensemble.settings import EnsembleSettings

__all__ = ["FittedEnsemble", "fit_and_measure", "fit_rows"]


@dataclass(frozen=True)
class FittedEnsemble:
    """A fitted ensemble, its scores, what its parts are worth, class areas and the audit of labels.

    Parameters
    ----------
    ensemble : Ensemble
    evaluations : tuple of Evaluation
        As `ensemble.fit.fit_ensemble` returns them: the first is nested.
    scores : DataFrame
        As `ensemble.score.scores.score_table` returns it.
    ablations : tuple of Ablation
    areas : mapping of str to Areas
        By split, those that could be estimated.
    audit : Audit, optional
    """

    ensemble: Ensemble
    evaluations: tuple[Evaluation, ...]
    scores: pl.DataFrame
    ablations: tuple[Ablation, ...] = ()
    areas: Mapping[Split, Areas] = field(default_factory=dict)
    audit: Audit | None = None

    @property
    def nested(self) -> Evaluation:
        """The evaluation of the training scenes, everything decided without their fold."""
        return self.evaluations[0]

    def decide_rows(self, maps: RowMaps, fold: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Predict each row that was fitted to by what was decided without its fold.

        Parameters
        ----------
        maps : RowMaps
        fold : (n,) int

        Returns
        -------
        proba : (n_classes, n) float32
            As they are shown, NaN where nothing was predicted.
        label : (Q, n) uint8
            Label indices, `IGNORE` where nothing was predicted.
        """
        proba = np.full(maps.stored.shape[1:], np.nan, np.float32)
        label = np.full(maps.labels.shape, IGNORE, np.uint8)
        for number, decisions in self.nested.decisions.items():
            decision, inside = decisions[self.nested.final], np.flatnonzero(fold == number)
            blended = decision.proba(maps.stored[:, :, inside])
            proba[:, inside] = dequantise(decision.show(blended))
            label[:, inside] = decision.label(blended)
        return proba, label

    def save(self, folder: Path, catalogue: Catalogue) -> None:
        """Write every result to its file in a folder; ``ensemble.json`` last."""
        if self.audit is not None:
            write_audit(self.audit, folder, catalogue)
        write_scores(self.scores, folder / "scores.parquet")
        if self.areas:
            write_areas(self.areas, folder / "areas.csv")
        self.ensemble.save(folder / "ensemble.json")


def fit_and_measure(
    members: Mapping[str, MemberFolder],
    catalogue: Catalogue,
    settings: EnsembleSettings,
    *,
    seed: int,
    caveats: Sequence[str] = (),
    masks: Masks = no_masks,
    executor: Executor | None = None,
    track: Track = untracked,
) -> FittedEnsemble:
    """Fit the ensemble, score it, and measure what is reported of it.

    Parameters
    ----------
    members : mapping of str to MemberFolder
        On those whose maps of training scenes are in sample nothing is decided: they are scored on val scenes alone.
    catalogue : Catalogue
    settings : EnsembleSettings
    seed : int
    caveats : sequence of str
        Sentences that whoever reads the verdict must know: they are added to it.
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    executor : Executor, optional
        Where the maps of scenes are looked at in parallel; then ``masks`` is pickled.
    track : Track

    Raises
    ------
    EnsembleError
        As `ensemble.fit.fit_ensemble`.
    """
    deciding = {name: member for name, member in members.items() if member.decides}
    paths = {name: member.path for name, member in deciding.items()}
    branches = {name: member.branch for name, member in deciding.items()}
    maps, objective = open_maps(paths, catalogue.classes, executor=executor), objective_of(settings, catalogue.classes)
    ensemble, evaluations = fit_maps(maps, catalogue, settings, seed=seed, branches=branches, masks=masks, track=track)
    ensemble = replace(ensemble, verdict_=" ".join([ensemble.verdict_, *caveats]))
    in_sample = {name: member.path for name, member in members.items() if not member.decides}
    nested, *val = evaluations
    val = [evaluate_in_sample(found, in_sample, catalogue.split("val"), catalogue.classes, track) for found in val]
    evaluations = [nested, *val]
    return FittedEnsemble(
        ensemble,
        tuple(evaluations),
        score_table(evaluations, catalogue.classes, settings),
        tuple(ablate(nested, branches, objective, settings)),
        areas_of_run(evaluations, maps, catalogue, ensemble.decision, settings, masks=masks, track=track),
        audit_labels(maps, catalogue, nested, masks, seed=seed, track=track),
    )


def fit_rows(
    maps: RowMaps,
    catalogue: Catalogue,
    settings: EnsembleSettings,
    *,
    seed: int,
    branches: Mapping[str, str] | None = None,
    caveats: Sequence[str] = (),
    track: Track = untracked,
) -> FittedEnsemble:
    """Fit the ensemble to rows of a table, and score it: there are no areas, and no regions whose labels are wrong.

    Parameters
    ----------
    maps : RowMaps
    catalogue : Catalogue
        Both as `ensemble.rows.open_rows` gives them.
    settings : EnsembleSettings
        What cleans maps is left out.
    seed : int
    branches : mapping of str to str, optional
        Member → its branch.
    caveats : sequence of str
        Sentences that whoever reads the verdict must know: they are added to it.
    track : Track

    Raises
    ------
    EnsembleError
        If there are fewer than two folds.
    """
    if settings.rules or settings.cleaning not in ("auto", "none"):
        raise EnsembleError("ensemble.cleaning: expected none for rows, which lie beside no others. Leave it out.")
    classes = catalogue.classes
    settings, branches = settings.model_copy(update={"cleaning": "none"}), branches or {}
    ensemble, [nested] = fit_maps(maps, catalogue, settings, seed=seed, branches=branches, track=track)
    ensemble = replace(ensemble, verdict_=" ".join([ensemble.verdict_, *caveats]))
    ablations = ablate(nested, branches, objective_of(settings, classes), settings)
    return FittedEnsemble(ensemble, (nested,), score_table([nested], classes, settings), tuple(ablations))
