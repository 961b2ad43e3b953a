"""The paths of an experiment file: as they are written, with variables in them, and as they are used."""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from data.addresses import is_elsewhere, is_remote
from data.errors import ExperimentError
from data.variables import VARIABLE, expand_variables

__all__ = ["expand_paths", "strip_paths", "write_paths"]

PATH_KEYS = frozenset(
    ("root", "image", "path", "maps", "pattern", "label", "vector", "area", "tags", "file", "files", "stac", "scale",
     "heights", "list", "pretrained", "encoder_weights", "train", "val", "test", "groups", "folds")
)  # fmt: skip
"""Keys under which a text is a path, or may be one."""


def expand_paths(values: Any, what: Path) -> tuple[Any, dict[str, str]]:
    """Put the values of variables into the paths of an experiment file, and nowhere else.

    Parameters
    ----------
    values : dict
        As the file has them.
    what : Path
        The file, for messages.

    Returns
    -------
    values : dict
    written : dict of str to str
        Each path that had a variable in it, and as it was written.

    Raises
    ------
    ExperimentError
        If there is no variable of a name, or one would be sent along with an address.
    """
    written: dict[str, str] = {}

    def expand(text: str) -> str:
        try:
            expanded = expand_variables(text)
        except KeyError as error:
            raise ExperimentError(
                f"{what}: expected the environment variable {error.args[0]}, got none. Set it, or write the path out."
            ) from error
        if expanded != text:
            written[expanded] = text
            if is_elsewhere(expanded) and VARIABLE.search(VARIABLE.sub("", text, 1) if text[0] == "$" else text):
                raise _sent(what, text)
        return expanded

    changed = _change(values, expand)
    if isinstance(changed, dict) and is_remote(str(changed.get("root"))):
        for expanded, text in written.items():
            if text != values.get("root") and not is_elsewhere(expanded) and not Path(expanded).is_absolute():
                raise _sent(what, text)
    return changed, written


def _sent(what: Path, text: str) -> ExperimentError:
    return ExperimentError(
        f"{what}: {text}: expected a variable at the beginning of an address alone: whoever answers there would learn "
        "its value. Write the rest out, or put the whole address into one variable."
    )


def write_paths(values: Any, written: Mapping[str, str]) -> Any:
    """Return values with their paths as they were written; see `expand_paths`."""
    return _change(values, lambda text: written.get(text, text)) if written else values


def strip_paths(values: Any) -> Any:
    """Return values with the names of files alone in place of their paths: what of them others may see.

    >>> strip_paths({"image": "/home/me/{id}/B04.tif", "bands": ["red"], "pretrained": "imagenet"})
    {'image': '{id}_B04.tif', 'bands': ['red'], 'pretrained': 'imagenet'}
    """
    return _change(values, _strip)


def _strip(text: str) -> str:
    name = PurePosixPath(text.replace("\\", "/")).name if "/" in text or "\\" in text else text
    return f"{{id}}_{name}" if "{id}" in text and "{id}" not in name else name


def _change(values: Any, change: Callable[[str], str], key: str = "") -> Any:
    if isinstance(values, dict):
        return {name: _change(entry, change, str(name)) for name, entry in values.items()}
    if isinstance(values, list):
        return [_change(entry, change, key) for entry in values]
    return change(values) if isinstance(values, str) and key in PATH_KEYS else values
