"""The branch of maps that another tool made, as the front door knows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import is_hidden
from data.scenes.classes import Classes
from features.branch import Branch, Loading, ModelInput, Training
from maps.settings import FoldFile, MapsSettings

if TYPE_CHECKING:
    from maps.member import MapsMember

__all__ = ["BRANCH"]


def fit(training: Training[MapsSettings]) -> None:
    """Check a member's maps."""
    from maps.fit import fit_member

    fit_member(
        training.name,
        training.settings,
        training.catalogue,
        training.root,
        training.directory,
        training.executor,
        training.track,
    )


def load(loading: Loading[MapsSettings]) -> "MapsMember":
    """Load a member; its maps are opened when they are asked for."""
    from maps.member import load_member

    return load_member(loading.directory, loading.settings, loading.root, loading.given)


def files(settings: MapsSettings, root: Path) -> list[Path]:
    """Return all files of a member's patterns."""
    patterns = {settings.pattern(split) for split in ("train", "val", "test")} - {None}
    if isinstance(settings.fold, FoldFile):
        patterns.add(settings.fold.file)
    paths = {path for pattern in patterns for path in root.glob(_glob(str(pattern)))}
    return sorted(path for path in paths if path.is_file() and not is_hidden(path))


def inputs(member: Any, classes: Classes) -> Iterator[ModelInput]:
    """Yield nothing: what the other tool took is not known."""
    yield from ()


def _glob(pattern: str) -> str:
    """Return what any id and fold match; other signs in a path mean themselves."""
    for sign in "[*?":
        pattern = pattern.replace(sign, f"[{sign}]")
    return pattern.replace("{id}", "*").replace("{fold}", "*")


BRANCH = Branch(
    name="maps",
    help="Check the maps that another tool made, and take them over.",
    settings=MapsSettings,
    fit=fit,
    load=load,
    architecture=lambda settings: "maps by another tool",
    inputs=inputs,
    computes=False,
    by_process=lambda loading: True,
    files=files,
)
"""Probability maps that another tool made."""
