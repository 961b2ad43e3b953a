"""Experiment files: read with what the command line overrides, changed, and written with every default."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from data.addresses import FOLDERS, is_elsewhere, is_remote, remote_path
from data.errors import ExperimentError
from data.files import replacing
from terrablend.experiment.reference import list_settings, spellings
from terrablend.experiment.settings import AnyExperiment, BaseExperiment, E, Experiment, TableExperiment
from terrablend.experiment.written_paths import expand_paths
from terrablend.experiment.yaml_text import brief, parse_yaml

__all__ = [
    "LIBRARIES",
    "change_experiment",
    "experiment_file",
    "load_experiment",
    "load_scene_experiment",
    "read_experiment",
    "save_experiment",
]

MOST_PROBLEMS = 50
"""Of an experiment file, that are listed."""

DEEPEST_KEY = 20
"""Dots in a key of --set."""

LIBRARIES = (
    "terrablend",
    "numpy",
    "rasterio",
    "pyarrow",
    "lightgbm",
    "xgboost",
    "torch",
    "segmentation-models-pytorch",
)
"""Whose versions are written down."""


def experiment_file(source: Path) -> Path:
    """Return the experiment file of what a user named: a run folder's, or the file itself."""
    return source / "experiment.yaml" if source.is_dir() else source


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> AnyExperiment:
    """Read an experiment file: on a table of the user's own if it has the key ``table``, else on scenes.

    Parameters
    ----------
    path : Path
        A YAML file; ``${NAME}`` in its paths stands for an environment variable, and a relative ``root`` starts
        from the file's folder.
    overrides : sequence of str
        ``members.lightgbm.rounds=300``: a dotted key and its value, in YAML.

    Raises
    ------
    ExperimentError
        If the file cannot be read, or any value in it is missing, unknown or of the wrong kind; all of these
        are listed at once.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: expected an experiment file in YAML, got: {error}") from error
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ExperimentError(f"{path}: expected keys such as name, task and scenes, got {type(values).__name__}.")
    return read_experiment(values, path, overrides)


def read_experiment(values: dict[str, Any], path: Path, overrides: Sequence[str] = ()) -> AnyExperiment:
    """Return the experiment of what stands in an experiment file; see `load_experiment`.

    Parameters
    ----------
    values : dict
        It is changed by overrides.
    path : Path
        Of the file, for messages and a relative ``root``.
    overrides : sequence of str
    """
    kind = TableExperiment if "table" in values else Experiment
    for override in overrides:
        _override(kind, values, override)
    given = values.get("root")
    values, written = expand_paths(values, path)
    if isinstance(given, str):
        root = values["root"] = _find_root(values["root"], path)
        if is_remote(root):
            written[str(root)] = given
        elif "${" in given:
            # Written into a run folder, it must mean the same.
            written[str(root)] = given if given.startswith(("$", "/", "~")) else str(path.parent.resolve() / given)
    experiment: AnyExperiment = _validate(kind, values, path)
    experiment._written = written
    return experiment


def change_experiment(experiment: E, changes: Mapping[str, Any], path: Path) -> E:
    """Return an experiment with other values.

    Parameters
    ----------
    experiment : Experiment or TableExperiment
        Defaults that depend on what is changed change with it, values that somebody wrote do not.
    changes : mapping of str to value
        By dotted key, such as ``members.lightgbm.rounds``.
    path : Path
        Of the experiment, for messages.

    Raises
    ------
    ExperimentError
        If a key is unknown, or a value of the wrong kind.
    """
    values = experiment.model_dump(mode="json", exclude_unset=True)
    for key, value in changes.items():
        _set(type(experiment), values, key, value, key)
    changed: E = _validate(type(experiment), values, path)
    changed._written = experiment._written
    return changed


def load_scene_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file that must be on scenes; see `load_experiment`."""
    experiment = load_experiment(path, overrides)
    if isinstance(experiment, TableExperiment):
        raise ExperimentError(f"{path}: expected an experiment on scenes, got one on a table, which makes no maps.")
    return experiment


def save_experiment(experiment: AnyExperiment, path: Path) -> None:
    """Write an experiment with every default, and what it was made with, such that it can be loaded again."""
    values = experiment.dump_written()
    made = [f"{name} {version(name)}" for name in LIBRARIES] + [f"Python {platform.python_version()}"]
    commit = _git_commit()
    header = f"# Made with {', '.join(made)}" + (f"; git commit {commit}" if commit else "")
    with replacing(path) as temporary:
        temporary.write_text(f"{header}\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}", "utf-8")


def _override(kind: type[BaseExperiment], values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key or key.count(".") > DEEPEST_KEY:
        raise ExperimentError(f"--set {brief(override, plain=True)}: expected KEY=VALUE, such as folds.count=5.")
    what = f"--set {brief(override, plain=True)}"
    _set(kind, values, key, parse_yaml(text, what), what)


def _set(kind: type[BaseExperiment], values: dict[str, Any], key: str, value: Any, what: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ExperimentError(
                f"{what}: expected a key with keys below it, got the value {brief(values)} at {parent}."
            )
    for name in spellings(list_settings(kind), key):
        # What the file says under another name of the same setting gives way.
        values.pop(name, None)
    values[last] = value


def _validate(kind: type[BaseExperiment], values: dict[str, Any], path: Path) -> Any:
    try:
        experiment = kind.model_validate(values)
        experiment.label_classes()
    except ValidationError as error:
        raise ExperimentError(f"{path}: " + _list_problems(error)) from error
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from error
    return experiment


def _find_root(root: str, path: Path) -> Path:
    if is_elsewhere(root):
        address = remote_path(root)
        if not is_remote(address) or "?" in root or ".." in address.parts:
            kinds = ", ".join(f"{kind}://" for kind in FOLDERS)
            raise ExperimentError(f"{path}: root: expected a folder, or an address of {kinds}, got {brief(root)}.")
        return address
    try:
        return (path.parent.resolve() / Path(root).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ExperimentError(f"{path}: root: expected a folder, got {brief(root)}: {error}.") from error


def _list_problems(error: ValidationError) -> str:
    lines, total = [], error.error_count()
    for problem in error.errors(include_url=False)[:MOST_PROBLEMS]:
        where = ".".join(brief(str(part), plain=True) for part in problem["loc"])
        message = brief(problem["msg"].removeprefix("Value error, "), 1000, plain=True)
        got = "" if problem["type"] in ("missing", "value_error") else f" Got {brief(problem['input'])}."
        lines.append(f"{where + ': ' if where else ''}{message}{got}")
    if total == 1:
        return lines[0]
    lines += [f"and {total - len(lines)} more"] * (total > len(lines))
    return f"{total} problems:\n" + "\n".join(f"  - {line}" for line in lines)


def _git_commit() -> str:
    """Return the commit of Terrablend's own checkout, empty where it was not installed from one."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
