"""Run experiments on the same groups and folds, with all labels and with a share of them."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import ExperimentError, FoldError
from data.files import replacing
from data.names import list_names
from data.scenes.catalogue import Catalogue
from data.settings import Settings
from terrablend.compare.counted import Counted, count_run, read_counts, write_counts
from terrablend.experiment import Experiment, change_experiment, load_scene_experiment
from terrablend.run.run_folder import RunFolder, Stage
from terrablend.run.scene_run import Run

__all__ = ["Compared", "open_runs", "run_experiments"]

COUNTS = "compare.parquet"
FOLDS = "folds.csv"


@dataclass(frozen=True)
class Compared:
    """An experiment with a share of the labels.

    Parameters
    ----------
    name : str
        Of the experiment: that of its file.
    share : float
        Of the labelled groups that are learned from.
    run : Run
    """

    name: str
    share: float
    run: Run


def open_runs(paths: Sequence[Path], shares: Sequence[float], out: Path, **machine: Any) -> list[Compared]:
    """Open the runs of some experiments, each with every share of the labels; first come those with all labels.

    Parameters
    ----------
    paths : sequence of Path
        Experiment files; the groups and folds of the first are those of all.
    shares : sequence of float
        Above 0, at most 1.
    out : Path
        Each run has a folder in it.
    **machine
        As of `Run`.

    Raises
    ------
    ExperimentError
        If names are not unique, or tasks, classes or metrics differ: then there is nothing to compare.
    """
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExperimentError(f"expected experiment files of distinct names, got {', '.join(twice)} twice. Rename one.")
    experiments = {path: load_scene_experiment(path) for path in paths}
    first, others = paths[0], paths[1:]
    for path in others:
        _require_alike(experiments[first], experiments[path], path, first)
    compared = []
    for share in sorted({1.0, *shares}, reverse=True):
        for name, path in zip(names, paths, strict=True):
            given = path != first or share != 1
            changes = _changes(experiments[first], out, given)
            experiment = change_experiment(experiments[path], {**changes, "folds.labels": share}, path)
            folder = out / (name if share == 1 else f"{name}-labels-{share:g}")
            compared.append(Compared(name, share, Run(experiment, path, RunFolder(folder), **machine)))
    return compared


def run_experiments(
    compared: Sequence[Compared], shares: Iterable[float], out: Path, overwrite: bool = False
) -> tuple[list[tuple[Compared, Counted]], Catalogue]:
    """Carry out what is to be compared, or what is left of it, and count what is right.

    Returns
    -------
    counted : list of (Compared, Counted)
        Of the shares that are asked for.
    catalogue : Catalogue
        Of the first experiment, with all labels.

    Raises
    ------
    ExperimentError
        If experiments have other scenes or labels than the first.
    """
    whole: dict[str, Catalogue] = {}
    for each in compared:
        if each.share == 1:
            each.run.carry_out([each.run.check], overwrite)
            whole[each.name] = each.run.load_catalogue()
            if len(whole) == 1:
                _write_folds(whole[each.name], out / FOLDS)
            _require_same_scenes(next(iter(whole.values())), whole[each.name], each, compared[0])
    wanted, counted = set(shares), []
    for each in compared:
        if each.share in wanted:
            run = each.run
            table = [run.features] if run.members(lambda branch: branch.reads_table) else []
            stages = [run.check, *table, *map(run.member, run.members()), _count_stage(each, whole[each.name])]
            # That of all labels was checked before, and made anew where that was asked for.
            run.carry_out(stages[1:] if each.share == 1 else stages, overwrite)
            classes = whole[each.name].classes
            counts = read_counts(run.folder.path / COUNTS, classes.n_questions, classes.n_labels)
            counted.append((each, counts))
    return counted, whole[compared[0].name]


def _count_stage(each: Compared, labelled: Catalogue) -> Stage:
    run = each.run
    reads = (run.check, *map(run.member, run.members()))

    def work() -> None:
        write_counts(count_run(run, labelled), run.folder.path / COUNTS)

    # All labels are scored, also those that are hidden from the run.
    digests = sorted(
        (scene.id, labelled.statistics["train", scene.id].label_digest) for scene in labelled.split("train")
    )
    settings = {**run.settings_record("ensemble", "seed"), "labels": [list(pair) for pair in digests]}
    return run.stage("compare", "compare", work, reads, (COUNTS,), settings)


def _changes(first: Experiment, out: Path, given: bool) -> Mapping[str, Any]:
    """Return what is changed in an experiment: it has the seed, and where they are given the folds, of the first."""
    changes: dict[str, Any] = {"seed": first.seed, "scenes.val": None}
    if given or first.folds.match == "none":
        changes["scenes.test"] = None
    if given:
        table = str((out / FOLDS).resolve())
        group = {"file": table, "column": "group", "field": first.folds.group.field}
        changes |= {"folds.group": group, "folds.file": table, "folds.match": "none", "folds.gap": first.folds.gap}
    return changes


def _require_alike(first: Experiment, other: Experiment, path: Path, first_path: Path) -> None:
    if first.task == "multilabel":
        raise ExperimentError(f"{first_path}: expected maps to compare, got the task multilabel.")
    for what, ours, theirs in (
        ("the task", first.task, other.task),
        ("the classes", first.label_classes().names, other.label_classes().names),
        ("ensemble.metric", first.ensemble.metric, other.ensemble.metric),
    ):
        if ours != theirs:
            raise ExperimentError(
                f"{path}: expected {what} of {first_path}, {_words(ours)}, got {_words(theirs)}. Compare experiments "
                "that answer the same question."
            )


def _words(value: Any) -> str:
    if isinstance(value, Settings):
        return " ".join(str(part) for part in value.model_dump(exclude_none=True).values())
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _require_same_scenes(first: Catalogue, other: Catalogue, each: Compared, base: Compared) -> None:
    ours, theirs = (
        {
            scene.id: (scene.grid.height, scene.grid.width, catalogue.statistics["train", scene.id].label_digest)
            for scene in catalogue.split("train")
        }
        for catalogue in (first, other)
    )
    lacking, added = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    if lacking or added:
        raise ExperimentError(
            f"{each.run.file}: expected the training scenes of {base.run.file}"
            f"{f', lacks {list_names(lacking, 100)}' if lacking else ''}"
            f"{f', has also {list_names(added, 100)}' if added else ''}. Name the same scenes in both."
        )
    if differing := [name for name in ours if ours[name] != theirs[name]]:
        raise ExperimentError(
            f"{each.run.file}: expected the labels of {base.run.file}, pixel by pixel, got others in "
            f"{list_names(differing, 100)}. Name the same labels in both, and bring images onto one grid: scenes.grid."
        )


def _write_folds(catalogue: Catalogue, path: Path) -> None:
    """Write groups and folds, unless the file is there as it would be."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "group", "fold"])
    rows.writerows([scene.id, scene.group, scene.fold] for scene in catalogue.split("train"))
    if path.exists():
        before = path.read_text("utf-8")
        if not before.startswith("id,group,fold\n"):
            raise FoldError(
                f"{path}: expected groups and folds of an earlier comparison, got another file. Move it away."
            )
        if before == text.getvalue():
            return
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), "utf-8")
