"""Search better settings of a member with Optuna; an interrupted search goes on where it was."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import polars as pl
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from data.csv_cells import quote_formula
from data.errors import ExperimentError, TerrablendError
from data.files import TIMINGS, read_json, replacing, write_json
from ensemble.objective import Objective, objective_of
from ensemble.settings import EnsembleSettings
from features.branch import Range, Space
from terrablend.branches import branch_of
from terrablend.experiment import AnyExperiment, E, Experiment, change_experiment, save_experiment
from terrablend.experiment.search import chosen_values, describe_value, suggest
from terrablend.run.base_run import BaseRun
from terrablend.run.run_folder import Stage
from terrablend.tune.page import write_tuning_page
from terrablend.tune.records import SearchResult, Trial
from terrablend.tune.trials import Counts, Trials

__all__ = ["tune_member", "tune_stage"]

logger = logging.getLogger(__name__)

SWEEPS = 20
"""Most rounds over questions whose thresholds depend on each other."""

FEWEST = 4
"""Trials below which nothing is said of what matters."""

ENDS = {TrialState.COMPLETE: "done", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}


def tune_stage(run: BaseRun[E], name: str, trials: int) -> Stage:
    """Return the stage that searches better settings of a member, up to a number of trials."""
    record = {
        **run.settings_record("features", "seed"),
        "member": run.member_record(name),
        "tune": run.experiment.tune.model_dump(mode="json", exclude={"trials", "compared"}),
    }
    outputs = f"tune/{name}"
    work = partial(tune_member, run, name, trials, run.folder.path / outputs)
    # There can always be more trials.
    return run.stage(f"tune-{name}", f"tune {name}", work, run.member_inputs(name), (outputs,), record, complete=False)


def tune_member(run: BaseRun[E], name: str, trials: int, directory: Path) -> None:
    """Try settings of a member, up to a number of trials, those of earlier calls included.

    Parameters
    ----------
    run : BaseRun
        Whose check is done, and for a member of the trees its pixel table.
    name : str
        Of the member.
    trials : int
    directory : Path
        Gets ``study.db``, which Optuna's own tools read, ``trials.csv``, ``index.html`` and ``best.yaml``, and in
        ``timings.json`` the seconds of each trial.

    Raises
    ------
    ExperimentError
        If the search or the metric does not suit the experiment.
    """
    space, metric = search_space(run.experiment, name, run.source), objective_to_raise(run.experiment)
    member = Trials(run, name, directory / "work")
    with quiet_optuna():
        study = open_study(directory)
        with timing(directory, 0):
            try_as_written(study, member, metric)
        tried = len(finished_trials(study))
        for number in run.track(range(tried, trials), f"{name}: trials", max(trials - tried, 0)):
            # What is tried next depends on the seed and the trials that ended, not on interruptions.
            seed = run.experiment.seed + number
            study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=False)
            with timing(directory, number + 1):
                try_next(study, member, space, metric)
        member.close()
        result = read_study(study, name, space, metric)
    write_table(result, directory / "trials.csv")
    write_tuning_page(result, directory / "index.html", run.experiment.name)
    # Settings that an earlier search found were themselves the best of some.
    earlier = run.experiment.tune.compared.get(name, 1)
    compared = {f"tune.compared.{name}": earlier + len(result.trials)}
    best = change_experiment(run.experiment, {**result.best.values, **compared}, run.source)
    save_experiment(best, directory / "best.yaml")
    for line in describe(result):
        logger.info("%s", line)


@contextmanager
def timing(directory: Path, number: int) -> Iterator[None]:
    """Note the seconds of a trial in a file apart: they differ from run to run, as nothing else does."""
    begun = time.perf_counter()
    yield
    path = directory / TIMINGS
    seconds = read_json(path) if path.exists() else {}
    if str(number) not in seconds:
        write_json(path, {**seconds, str(number): round(time.perf_counter() - begun, 1)})


def search_space(experiment: AnyExperiment, name: str, source: Path) -> Space:
    """Return what may be changed of a member, and of the features.

    Raises
    ------
    ExperimentError
        If a key would change what trials are compared on, or one of its values does not suit the experiment.
    """
    prefix = f"members.{name}."
    search = experiment.tune.search
    space: Space = {
        key: choice for key, choice in search.items() if not key.startswith("members.") or key.startswith(prefix)
    }
    if not space:
        space = {prefix + key: choice for key, choice in branch_of(experiment.members[name]).search_space.items()}
    if not space:
        raise ExperimentError(
            f"{source}: expected settings to search, got member {name}, which learns nothing. Tune another one."
        )
    for key, choice in space.items():
        if not key.startswith((prefix, "features.")):
            raise ExperimentError(
                f"{source}: tune.search: expected settings of members and features, got {key}. Leave it out: "
                "trials are compared on the same scenes, classes and folds."
            )
        for value in (choice.low, choice.high) if isinstance(choice, Range) else choice:
            change_experiment(experiment, {key: value}, source)
    return space


def objective_to_raise(experiment: AnyExperiment) -> Objective:
    """Return what is raised.

    Raises
    ------
    EnsembleError
        If the score does not suit the task.
    ExperimentError
        If it is a mean over scenes, which pooled counts do not know.
    """
    metric = experiment.tune.metric or (experiment.ensemble.metric if isinstance(experiment, Experiment) else None)
    objective = objective_of(EnsembleSettings(metric=metric), experiment.label_classes())
    if objective.by_scene:
        raise ExperimentError(
            f"tune.metric: expected a score over pixels, got {objective.title}: trials are scored by the counts of "
            "whole folds. Name another one under tune.metric."
        )
    return objective


def open_study(directory: Path) -> optuna.Study:
    """Open the study in a folder, or begin one; a trial that was interrupted is forgotten."""
    directory.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{directory / 'study.db'}",
        study_name="tune",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that came to their own end: those that were interrupted say nothing."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in ENDS and trial.user_attrs.get("end") == ENDS[trial.state]
    ]


def try_as_written(study: optuna.Study, member: Trials[E], metric: Objective) -> None:
    """Score the settings as they are written, once."""
    if "as_written" not in study.user_attrs:
        score, folds = nested_scores(list(member.count({})), metric)
        study.set_user_attr("as_written", {"score": score, "folds": folds})


def try_next(study: optuna.Study, member: Trials[E], space: Space, metric: Objective) -> None:
    """Try what the study suggests, fold by fold; what falls behind the others is stopped."""
    trial = study.ask()
    counted: list[Counts] = []
    n_folds, end = len(member.catalogue.folds), TrialState.COMPLETE
    try:
        for counts in member.count(suggest(trial, space)):
            counted.append(counts)
            trial.report(best_score(counted, metric), len(counted))
            if len(counted) < n_folds and trial.should_prune():
                end = TrialState.PRUNED
                break
    except TerrablendError as error:
        logger.warning("trial %d: %s", trial.number + 1, error)
        end = TrialState.FAIL
    score, folds = nested_scores(counted, metric) if end is TrialState.COMPLETE else (None, [])
    trial.set_user_attr("folds", folds)
    # One that is stopped from here on is told to have failed, which is not the end that it names.
    trial.set_user_attr("end", ENDS[end])
    study.tell(trial, score, end)


def best_score(counted: Sequence[Counts], metric: Objective) -> float:
    """Return the score of some folds together, at the thresholds that serve them best."""
    total = sum(counted[1:], start=counted[0])
    return _score(_take(total, best_thresholds(total, metric)), metric)


def nested_scores(counted: Sequence[Counts], metric: Objective) -> tuple[float, list[float]]:
    """Return the score of all folds together, and of each, at thresholds that were chosen on the others."""
    total = sum(counted[1:], start=counted[0])
    chosen = [_take(counts, best_thresholds(total - counts, metric)) for counts in counted]
    return _score(sum(chosen[1:], start=chosen[0]), metric), [_score(counts, metric) for counts in chosen]


def best_thresholds(counts: Counts, metric: Objective) -> NDArray[np.intp]:
    """Return the position of each question's best threshold; where counts are pooled, beside those of the others."""
    n_thresholds, n_questions = counts.shape[:2]
    positions = np.full(n_questions, n_thresholds // 2)
    for _ in range(SWEEPS if metric.pooled else 1):
        before = positions.copy()
        for question in range(n_questions) if metric.pooled else metric.questions:
            tried = counts[:, question, None]
            if metric.pooled:
                kept = _take(counts, positions)
                tried = tried + (kept.sum(axis=0) - kept[question])
            positions[question] = np.argmax(np.nan_to_num(metric.of_question(question).score(tried)))
        if (positions == before).all():
            break
    return positions


def _take(counts: Counts, positions: NDArray[np.intp]) -> Counts:
    """Return the counts (Q, n_labels, n_labels + 1) at a threshold of each question."""
    return counts[positions, np.arange(len(positions))]


def _score(counts: Counts, metric: Objective) -> float:
    return float(np.nan_to_num(metric.score(counts)))


def read_study(study: optuna.Study, name: str, space: Space, metric: Objective) -> SearchResult:
    """Return what a study holds."""
    written = study.user_attrs["as_written"]
    trials = tuple(
        Trial(
            number,
            chosen_values(trial.params, space),
            trial.value if trial.value is not None else math.nan,
            tuple(trial.user_attrs["folds"]),
            ENDS[trial.state],
        )
        for number, trial in enumerate(finished_trials(study), 1)
    )
    as_written = Trial(0, {}, written["score"], tuple(written["folds"]), "done")
    importance: dict[str, float] = {}
    if len({trial.score for trial in trials if trial.end == "done"}) >= FEWEST:
        importance = optuna.importance.get_param_importances(study)
    return SearchResult(name, metric, space, as_written, trials, importance)


def describe(result: SearchResult) -> Iterator[str]:
    """Yield lines that say what a search found."""
    title, best, before = result.metric.title, result.best, result.as_written
    ends = [trial.end for trial in result.trials]
    others = ", ".join(f"{ends.count(end)} {end}" for end in ("stopped early", "failed") if end in ends)
    yield f"{result.member}: {len(ends)} trials" + (f" ({others})" if others else "")
    if best is before:
        yield f"{result.member}: no trial beats the settings as they are written, {title} {before.score:.4f}"
        return
    better = sum(new > old for new, old in zip(best.folds, before.folds, strict=True))
    yield (
        f"{result.member}: {title} {best.score:.4f} by trial {best.number}, {before.score:.4f} as written; "
        f"better on {better} of {len(best.folds)} folds. The best of many flatters itself: expect less elsewhere."
    )
    yield "  ".join(f"{key}={describe_value(value)}" for key, value in best.values.items())


def write_table(result: SearchResult, path: Path) -> None:
    """Write a row a trial."""
    rows = [
        {
            "trial": trial.number,
            "end": trial.end,
            result.metric.name: trial.score,
            **{f"{result.metric.name}_fold{number}": value for number, value in enumerate(trial.folds)},
            **{key: quote_formula(describe_value(value)) for key, value in trial.values.items()},
        }
        for trial in (result.as_written, *result.trials)
    ]
    with replacing(path) as temporary:
        pl.DataFrame(rows, infer_schema_length=None).write_csv(temporary)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from logging, but for warnings."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
