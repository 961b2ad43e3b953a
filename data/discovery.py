"""Which files make which scene: patterns with {id}, matched against the files on disk."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.classes import BACKGROUND, IGNORE, Classes
from data.errors import CatalogueError, ExperimentError
from data.scene import ImageFile, LabelFile, Split
from data.settings import FileSettings, LabelSettings, Nodata, SceneSettings, SplitSettings

__all__ = ["SceneFiles", "find_files", "find_scenes", "image_files", "label_values", "mask_rules", "stat_files"]


@dataclass(frozen=True)
class SceneFiles:
    """The files of one scene, found but not yet opened."""

    id: str
    split: Split
    images: tuple[ImageFile, ...]
    label: LabelFile | None


def find_scenes(settings: SceneSettings, classes: Classes, root: Path) -> tuple[list[SceneFiles], list[str]]:
    """Find the scenes of every split.

    Parameters
    ----------
    settings : SceneSettings
    classes : Classes
    root : Path
        Folder that the patterns start from.

    Returns
    -------
    scenes : list of SceneFiles
        Complete scenes, sorted by split and id.
    problems : list of str
        One line for every scene that lacks an image or a label, and every label without an image.

    Raises
    ------
    CatalogueError
        If a pattern matches no file at all.
    ExperimentError
        If the bands of a file are not named, or a band is named twice.
    """
    scenes: list[SceneFiles] = []
    problems: list[str] = []
    splits: tuple[tuple[Split, SplitSettings | None], ...] = (
        ("train", settings.train), ("val", settings.val), ("test", settings.test)
    )  # fmt: skip
    for split, part in splits:
        if part is not None:
            found, missing = _find_split(split, part, settings, classes, root)
            scenes += found
            problems += missing
    return scenes, problems


def image_files(part: SplitSettings, settings: SceneSettings, paths: Sequence[str]) -> tuple[ImageFile, ...]:
    """Return the files of one scene, a path for each entry of ``image``, with the bands and nodata of its entry."""
    return tuple(
        ImageFile(path, _bands_of(file, settings), _values(settings.nodata if file.nodata is None else file.nodata))
        for file, path in zip(part.image, paths, strict=True)
    )


def mask_rules(settings: SceneSettings) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the bands that condemn pixels, as in ``Scene.invalid``."""
    return tuple((band, () if rule == "nonzero" else tuple(rule)) for band, rule in settings.invalid.items())


def stat_files(scenes: list[SceneFiles]) -> list[tuple[str, int, int]]:
    """Return path, size and modification time (ns) of every file of the scenes, to notice a changed input."""
    paths = [image.path for scene in scenes for image in scene.images]
    paths += [scene.label.path for scene in scenes if scene.label is not None]
    stats = ((path, Path(path).stat()) for path in sorted(paths))
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def label_values(settings: LabelSettings, classes: Classes) -> tuple[tuple[int, int], ...]:
    """Return what each value of a label file means, as (file value, label index or `IGNORE`) pairs.

    Without ``values`` a file holds class ids (and 0 for the background of a binary task).

    Raises
    ------
    ExperimentError
        If ``values`` names a class that is not declared.
    """
    index = {name: position for position, name in enumerate(classes.label_names)} | {"ignore": IGNORE}
    if settings.values is None:
        meanings = {value: position for position, value in enumerate(classes.label_ids)}
    else:
        unknown = sorted(set(settings.values.values()) - set(index))
        if unknown:
            raise ExperimentError(
                f"label.values: expected class names among {', '.join(index)}, got {', '.join(unknown)}. "
                "Declare them under classes."
            )
        meanings = {value: index[name] for value, name in settings.values.items()}
        if BACKGROUND in index and BACKGROUND not in settings.values.values():
            meanings.setdefault(0, index[BACKGROUND])
    meanings |= dict.fromkeys(settings.ignore, IGNORE)
    return tuple(sorted(meanings.items()))


def _find_split(
    split: Split, part: SplitSettings, settings: SceneSettings, classes: Classes, root: Path
) -> tuple[list[SceneFiles], list[str]]:
    named = [band for file in part.image for band in _bands_of(file, settings)]
    twice = sorted({band for band in named if named.count(band) > 1})
    if twice:
        raise ExperimentError(
            f"scenes.{split}: expected each band once, got {', '.join(twice)} twice. Rename one of them."
        )
    patterns = [file.path for file in part.image]
    images = [_find_or_name(pattern, root) for pattern in patterns]
    # A path without {id} is a file of every scene; if all are such, there is one scene, named after the first.
    names = set().union(*(found for found in images if isinstance(found, dict))) or {Path(patterns[0]).stem}
    label = _find_or_name(part.label.path, root) if part.label is not None else None
    values = label_values(part.label, classes) if part.label is not None else ()

    scenes, problems = [], []
    for name in sorted(names):
        files = {pattern: _file_of(name, found) for pattern, found in zip(patterns, images, strict=True)}
        label_file = None
        if part.label is not None and label is not None:
            label_file = files[part.label.path] = _file_of(name, label)
        lacking = [pattern for pattern, path in files.items() if path is None]
        if lacking:
            problems.append(
                f"{split} scene {name}: expected {' and '.join(lacking)}, no such file. Add it, or remove the scene."
            )
            continue
        paths = [path for pattern in patterns if (path := files[pattern]) is not None]
        scene_label = None if label_file is None else LabelFile(label_file, values)
        scenes.append(SceneFiles(name, split, image_files(part, settings, paths), scene_label))
    problems += [
        f"{split} scene {name}: expected an image beside its label, got none. Add it, or remove the label."
        for name in sorted(set(label if isinstance(label, dict) else ()) - names)
    ]
    return scenes, problems


def _find_or_name(pattern: str, root: Path) -> dict[str, str] | str:
    return find_files(pattern, root) if "{id}" in pattern else str(root / pattern)


def _file_of(scene: str, found: dict[str, str] | str) -> str | None:
    if isinstance(found, dict):
        return found.get(scene)
    return found if Path(found).is_file() else None


def _bands_of(file: FileSettings, settings: SceneSettings) -> tuple[str, ...]:
    bands = file.bands or settings.bands
    if not bands:
        raise ExperimentError(
            f"{file.path}: expected the names of its bands, got none. Give scenes.bands, or bands beside its path."
        )
    return tuple(bands)


def _values(nodata: Nodata | None) -> tuple[float, ...]:
    return () if nodata is None else tuple(nodata) if isinstance(nodata, list) else (nodata,)


def find_files(pattern: str, root: Path) -> dict[str, str]:
    """Return id → path of every file below a folder that matches a pattern with one {id}.

    Raises
    ------
    ExperimentError
        If the pattern has not exactly one {id}.
    CatalogueError
        If no file matches.
    """
    if pattern.count("{id}") != 1:
        raise ExperimentError(f"{pattern}: expected a pattern with one {{id}}, which stands for the scene's name.")
    head, tail = pattern.split("{id}")
    # Braces other than {id} and glob characters in a path mean themselves.
    expression = re.compile(re.escape(head) + r"(?P<id>[^/]+)" + re.escape(tail))
    glob = _literal(head) + "*" + _literal(tail)
    found = {}
    for path in root.glob(glob):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match:
            found[match["id"]] = str(path)
    if not found:
        raise CatalogueError(
            f"{root / pattern}: expected scenes, got no matching file. "
            "Correct root or the pattern in the experiment file."
        )
    return found


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)
