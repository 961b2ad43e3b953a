"""What the stages do: check the data, fit members and apply them out of fold, explain them."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from data.cluster import Cluster
from data.errors import ExperimentError
from data.files import replacing
from data.folds.distances import compare_distances
from data.maps.store import open_store, write_maps
from data.progress import untracked
from data.survey.overview import summarise
from data.variables import hide_values
from data.workers import map_ordered
from features.applicability import learn_applicability, weigh_columns
from features.branch import Training
from features.description import describe_table, save_facts
from features.scene_table import open_rows
from features.stacked import inner_folder
from terrablend.branches import branch_of
from terrablend.check.page import CheckFacts, write_check_page
from terrablend.run.run_folder import RunFolder

if TYPE_CHECKING:
    from terrablend.run.base_run import BaseRun

__all__ = ["applicability_file", "check_data", "explain_member", "fit_and_apply", "fit_inside_folds", "write_features"]

logger = logging.getLogger(__name__)

ROWS = 100_000
"""Most rows of the pixel table that its columns are described from."""


def check_data(run: "BaseRun[Any]") -> None:
    """Write the catalogue of a run with its groups and folds, ``folds.txt`` and the page of what was found."""
    folder, experiment = run.folder.path, run.experiment
    catalogue, warnings = run.read_catalogue()
    for warning in warnings:
        logger.warning("%s", warning)
    catalogue, report = run.deal_folds(catalogue)
    distances, unlike = list(compare_distances(catalogue)), run.find_unlike(catalogue)
    lines = [*report.lines(), *(found.sentence for found in distances), *(found.sentence for found in unlike)]
    for line in lines:
        logger.info("%s", line)
    far = [f"{found.sentence} Label some of them: see the areas in check.html." for found in unlike if found.warns]
    for warning in (*report.warnings, *far):
        logger.warning("%s", warning)
    warnings = [*report.warnings, *far, *warnings]
    with replacing(folder / "folds.txt") as temporary:
        temporary.write_text(hide_values("\n".join([*lines, *warnings])) + "\n", "utf-8")
    group = run.folds.group
    facts = CheckFacts(experiment.name, group, experiment.root, report.lines(), warnings, distances, unlike)
    write_check_page(folder / "check.html", catalogue, summarise(catalogue), facts, run.executor, run.track)
    catalogue.save(folder / "catalogue.parquet")


def write_features(run: "BaseRun[Any]") -> None:
    """Write the pixel table of a run, and what its columns are."""
    catalogue = run.load_catalogue()
    run.build_table(catalogue)
    feature_set, labels = run.feature_set(catalogue), catalogue.classes.label_names
    table = open_rows(run.pixels, catalogue, feature_set.names)
    facts = describe_table(table, feature_set, labels, most_rows=ROWS, seed=run.experiment.seed)
    save_facts(facts, run.folder.path / "columns.json")


def fit_and_apply(run: "BaseRun[Any]", name: str, folds: Sequence[int] | None) -> None:
    """Fit a member's models and apply each to the fold that it did not see; or fit those of some folds alone."""
    training = run.training(name, folds)
    unknown = sorted(set(folds or ()) - set(training.catalogue.folds))
    if unknown:
        known = ", ".join(map(str, training.catalogue.folds))
        raise ExperimentError(f"--fold {unknown[0]}: expected one of {known}.")
    branch = branch_of(training.settings)
    if isinstance(run.executor, Cluster) and branch.computes and name in run.experiment.members:
        # The workers of a cluster fit a fold each.
        alone, wanted = replace(run, executor=None, track=untracked).training(name), folds or training.catalogue.folds
        fitted = map_ordered(partial(_fit_fold, alone), wanted, run.executor)
        for _ in run.track(fitted, f"{name}: folds", len(wanted)):
            pass
    # What is fitted is kept; what is written of all folds is written here.
    branch.fit(training)
    if folds is None:
        run.apply_member(name, training.catalogue)


def fit_inside_folds(run: "BaseRun[Any]", name: str) -> None:
    """Fit a member inside of each fold, on the others alone, and map these out of fold: for strict stacks."""
    catalogue = run.load_catalogue()
    if len(catalogue.folds) < 3:
        raise ExperimentError(
            f"members.{name}: expected 3 folds or more for a strict stack on it, got {len(catalogue.folds)}. "
            "Raise folds.count, or leave strict out."
        )
    for fold in catalogue.folds:
        inside = replace(catalogue, scenes=catalogue.outside_fold(fold))
        directory = inner_folder(run.members_folder, name, fold)
        training = replace(run.training(name), catalogue=inside, directory=directory)
        branch = branch_of(training.settings)
        branch.fit(training)
        member = branch.load(replace(run.loading(name), directory=directory))
        write_maps(member, inside, open_store(directory.resolve(), inside.classes), run.track)


def explain_member(run: "BaseRun[Any]", name: str) -> None:
    """Write what the models of a member of the pixel table look at, and where pixels are like those it learned from."""
    if isinstance(run.executor, Cluster):
        # One worker does it: what it looks at is bounded.
        alone = replace(run, folder=RunFolder(run.folder.path.resolve()), executor=None, track=untracked)
        deque(map_ordered(partial(explain_member, alone), [name], run.executor), 0)
        return
    # The same bytes everywhere come from a CPU, unless another device is asked for.
    loading, catalogue = replace(run.loading(name), device=run.device or "cpu"), run.load_catalogue()
    table, seed = branch_of(loading.settings).table, run.experiment.seed
    assert table is not None
    explanation = table.explain(loading, catalogue, run.pixels, seed, run.track)
    explanation.save(run.folder.path / "explain" / f"{name}.json")
    if not run.has_tags:
        # What other members say is no look of a pixel.
        weights = weigh_columns(explanation, run.feature_set(catalogue).names)
        rows = open_rows(run.pixels, catalogue, list(weights))
        applicability = learn_applicability(rows, catalogue, weights, seed=seed)
        applicability.save(run.folder.path / applicability_file(name))


def applicability_file(member: str) -> str:
    """Return where in a run folder lies what tells a member's area of applicability."""
    return f"explain/applicability/{member}.json"


def _fit_fold(training: Training[Any], fold: int) -> None:
    branch_of(training.settings).fit(replace(training, folds=[fold]))
