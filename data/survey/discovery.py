"""Find the files of every scene by patterns with {id}."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.errors import ExperimentError
from data.names import listed_name
from data.scenes.classes import Classes
from data.scenes.formats import allow_vrt
from data.scenes.image import ImageFile
from data.scenes.labels import label_file
from data.scenes.opinions import SoftLabel
from data.scenes.paths import files_on_disk, is_there, remote_files, resolve_path
from data.scenes.placement import Framing
from data.scenes.scene import LabelFile, Split
from data.scenes.tags import TagTable, read_tag_table
from data.settings import (
    AssetLabelSettings,
    MeaningSettings,
    SceneSettings,
    SplitSettings,
    TagSettings,
    TrainSettings,
    VectorSettings,
)
from data.stac.items import Item, read_items
from data.survey.images import asset_path, band_names, framing, image_files, image_patterns, odd_items, stac_entries
from data.survey.patterns import find_files
from data.survey.scene_list import SceneList, read_list
from data.vectors.drawn import DrawnLabel, drawn_label

__all__ = ["SceneFiles", "find_scenes", "list_paths", "mask_rules"]

SHOWN = 3
"""Rows that a warning names."""


@dataclass(frozen=True)
class SceneFiles:
    """The files of one scene, found but not yet opened, and the tags that a table says it has.

    Its ``framing`` says what gives it its grid. It is read in blocks of a side, if
    ``blocks`` says one. ``items`` are the files of STAC items that name its assets; ``warnings`` are to be shown.
    """

    id: str
    split: Split
    images: tuple[ImageFile, ...]
    label: LabelFile | DrawnLabel | SoftLabel | None = None
    tags: tuple[int, ...] | None = None
    tag_table: str | None = None
    framing: Framing = field(default_factory=Framing)
    blocks: int | str | None = None
    items: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


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
        One line for every scene that lacks an image or a label, every label without an image, and all that is wrong
        in a table of tags; rows without an image are a warning of the first scene.

    Raises
    ------
    CatalogueError
        If a pattern matches no file at all.
    ExperimentError
        If the bands of a file are not named, or a band is named twice.
    LabelError
        If a table of tags cannot be read.
    """
    scenes: list[SceneFiles] = []
    problems: list[str] = []
    tables: dict[str, TagTable] = {}
    splits: tuple[tuple[Split, SplitSettings | None], ...] = (
        ("train", settings.train),
        ("val", settings.val),
        ("test", settings.test),
    )
    for split, part in splits:
        if part is not None:
            found, missing = _find_split(split, part, settings, classes, root)
            problems += missing
            if isinstance(part.label, TagSettings):
                table, wrong = read_tag_table(part.label, classes, root)
                tables[table.path] = table
                found, untagged = _tag_scenes(found, table)
                problems += [*wrong, *untagged]
            scenes += found
    if scenes:
        lost = tuple(_rows_without_image(tables, scenes))
        scenes[0] = replace(scenes[0], warnings=(*scenes[0].warnings, *lost))
    # Splits may share a table, and what is wrong in it.
    return scenes, list(dict.fromkeys(problems))


def mask_rules(settings: SceneSettings) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the mask bands and their values, as in ``Scene.invalid``."""
    return tuple((band, () if rule == "nonzero" else tuple(rule)) for band, rule in settings.invalid.items())


def list_paths(scenes: list[SceneFiles]) -> list[Path]:
    """Return the paths of all files of the scenes, each once; see `data.addresses` of those that lie elsewhere."""
    paths = {path for scene in scenes for image in scene.images for path in image.paths}
    labels = [scene.label for scene in scenes if scene.label is not None]
    paths |= {path for label in labels for path in _paths_of(label)}
    paths |= {label.area for label in labels if isinstance(label, DrawnLabel) and label.area is not None}
    paths |= {path for scene in scenes for path in scene.items}
    paths |= {scene.framing.heights for scene in scenes if scene.framing.heights}
    paths |= {scene.tag_table for scene in scenes if scene.tag_table is not None}
    return files_on_disk(paths) + remote_files(paths)


def _find_split(
    split: Split, part: SplitSettings, settings: SceneSettings, classes: Classes, root: Path
) -> tuple[list[SceneFiles], list[str]]:
    named = band_names(part, settings)
    twice = sorted({band for band in named if named.count(band) > 1})
    if twice:
        raise ExperimentError(
            f"scenes.{split}: expected each band once, got {', '.join(twice)} twice. Rename one of them."
        )
    patterns, collections = image_patterns(part, settings), _Collections.read(part, root)
    label_patterns = _label_patterns(part)
    listed = [*patterns, *label_patterns]
    table = None if part.list is None else read_list(root / part.list)
    found = _own_files({pattern: _find_or_name(pattern, root, table) for pattern in listed})
    if named_vrt := next((pattern for pattern in listed if pattern.lower().startswith("vrt:")), None):
        raise ExperimentError(f"{named_vrt}: expected the file of a VRT itself, with scenes.allow: [vrt]. Name it so.")
    images = [found[pattern] for pattern in patterns]
    # A path without {id} is a file of every scene; if all are such, there is one scene, named after the first.
    if table is not None:
        names = set(table.rows)
    else:
        names = collections.names.union(*(files for files in images if isinstance(files, dict)))
        names = names or {Path(patterns[0]).stem for _ in patterns[:1]}

    scenes, problems, unseen = [], collections.problems, Counter[str]()
    for name in sorted(names):
        files = {pattern: _file_of(name, found[pattern]) for pattern in listed}
        labels = {pattern: path for pattern in label_patterns if (path := files[pattern]) is not None}
        wanted = patterns if labels else listed
        lacking = [_named(pattern, name, root, table) for pattern in wanted if files[pattern] is None]
        lacking += [f"an item in {stac}" for stac, items in collections.items.items() if name not in items]
        if lacking:
            problems.append(
                f"{split} scene {name}: expected {' and '.join(lacking)}, no such file. Add it, or remove the scene."
            )
            continue
        paths = [path for pattern in patterns if (path := files[pattern]) is not None]
        items = collections.of(name)
        images_of, wrong = image_files(part, settings, paths, items)
        if isinstance(part.label, AssetLabelSettings):
            try:
                labels = {"": asset_path(items[0], part.label.asset)}
            except ValueError as error:
                wrong.append(f"{items[0].source}: item {items[0].name}: {error}")
        if wrong:
            problems += wrong
            continue
        if "vrt" in settings.allow:
            images_of = tuple(replace(image, path=allow_vrt(image.path, root)) for image in images_of)
            labels = {pattern: allow_vrt(path, root) for pattern, path in labels.items()}
        unseen.update(pattern for pattern in label_patterns if pattern not in labels)
        scenes.append(
            SceneFiles(
                name,
                split,
                images_of,
                _label_of(labels, part, classes, root) if labels else None,
                framing=framing(part, settings, root),
                blocks=part.blocks if isinstance(part, TrainSettings) else None,
                items=tuple(item.source for item in items),
            )
        )
    if scenes:
        partial = [
            f"{split}: {count} of {len(scenes)} scenes have no {pattern}: other annotators alone count there."
            for pattern, count in unseen.items()
        ]
        scenes[0] = replace(scenes[0], warnings=(*collections.warnings(part), *partial))
    for files_of in (found[pattern] for pattern in label_patterns):
        problems += [
            f"{files_of[name]}: expected an image of {split} scene {name}, got none. Add it, or remove the label."
            for name in sorted(set(files_of) - names)
            if isinstance(files_of, dict)
        ]
    return scenes, problems


@dataclass(frozen=True)
class _Collections:
    """The STAC collections of a split: path → scene → item, and what is wrong with them."""

    items: dict[str, dict[str, Item]]
    problems: list[str]

    @classmethod
    def read(cls, part: SplitSettings, root: Path) -> "_Collections":
        items, problems = dict[str, dict[str, Item]](), list[str]()
        for entry in stac_entries(part):
            found, wrong = read_items(root / entry.stac)
            items[entry.stac] = {item.scene: item for item in found}
            problems += wrong
        return cls(items, problems)

    @property
    def names(self) -> set[str]:
        return {name for items in self.items.values() for name in items}

    def of(self, name: str) -> list[Item]:
        return [items[name] for items in self.items.values()]

    def warnings(self, part: SplitSettings) -> Iterator[str]:
        for entry in stac_entries(part):
            yield from odd_items(entry, list(self.items[entry.stac].values()))


def _own_files(found: Mapping[str, dict[str, str] | str]) -> dict[str, dict[str, str] | str]:
    """Leave each file to the longest pattern that it matches: ``a_scales.npy`` is no scene of ``{id}.npy`` then."""
    owner: dict[str, int] = {}
    for pattern, files in found.items():
        for path in files.values() if isinstance(files, dict) else ():
            owner[path] = max(owner.get(path, 0), len(pattern))
    return {
        pattern: {name: path for name, path in files.items() if owner[path] == len(pattern)}
        if isinstance(files, dict)
        else files
        for pattern, files in found.items()
    }


def _named(pattern: str, name: str, root: Path, table: SceneList | None) -> str:
    """Return the path that a pattern means for a scene."""
    return table.file(pattern, name, root) if table is not None else resolve_path(pattern.replace("{id}", name), root)


def _label_patterns(part: SplitSettings) -> list[str]:
    label = part.label
    if label is None or isinstance(label, TagSettings | AssetLabelSettings):
        return []
    if isinstance(label, VectorSettings):
        return [label.vector]
    return [file.path for file in label] if isinstance(label, list) else [label.path]


def _label_of(
    paths: Mapping[str, str], part: SplitSettings, classes: Classes, root: Path
) -> LabelFile | DrawnLabel | SoftLabel:
    """Return the label of a scene, from its files by their patterns."""
    label, path = part.label, next(iter(paths.values()))
    if isinstance(label, list):
        return SoftLabel(tuple(label_file(paths[file.path], file, classes) for file in label if file.path in paths))
    if isinstance(label, VectorSettings):
        area = None if label.area is None else resolve_path(label.area, root)
        return drawn_label(path, label, classes, area)
    assert isinstance(label, MeaningSettings)
    file = label_file(path, label, classes)
    return SoftLabel((file,), label.certain) if label.certain else file


def _paths_of(label: LabelFile | DrawnLabel | SoftLabel) -> list[str]:
    return [file.path for file in label.files] if isinstance(label, SoftLabel) else [label.path]


def _tag_scenes(scenes: Sequence[SceneFiles], table: TagTable) -> tuple[list[SceneFiles], list[str]]:
    """Give scenes the tags that a table has for them; return those that it has, and a line for each of the others."""
    tagged, problems = [], []
    for scene in scenes:
        name = _row_of(scene, table)
        if name is None:
            what = f"{scene.split} scene {scene.id}"
            problems.append(f"{what}: expected a row in {table.path}, got none. Add it, or remove the scene.")
        else:
            tagged.append(replace(scene, tags=table.tags[name], tag_table=table.path))
    return tagged, problems


def _rows_without_image(tables: Mapping[str, TagTable], scenes: Sequence[SceneFiles]) -> Iterator[str]:
    """Yield a warning of each table that lists more than there are images of, as beside a sample of them."""
    for path, table in tables.items():
        lost = sorted(set(table.tags) - {_row_of(scene, table) for scene in scenes if scene.tag_table == path})
        if lost:
            few = ", ".join(lost[:SHOWN]) + (" …" if len(lost) > SHOWN else "")
            yield f"{path}: {len(lost)} of {len(table.tags)} rows have no image ({few}) and are left out."


def _row_of(scene: SceneFiles, table: TagTable) -> str | None:
    return listed_name(scene.id, [image.path for image in scene.images], table.tags)


def _find_or_name(pattern: str, root: Path, table: SceneList | None) -> dict[str, str] | str:
    if table is not None and any(f"{{{column}}}" in pattern for column in table.columns):
        return table.files(pattern, root)
    if "{id}" in pattern:
        return find_files(pattern, root)
    path = resolve_path(pattern, root)
    if "*" in pattern and not is_there(path):
        raise ExperimentError(
            f"{pattern}: expected {{id}} where the names of scenes differ, got *. Write {{id}} for it."
        )
    return path


def _file_of(scene: str, found: dict[str, str] | str) -> str | None:
    if isinstance(found, dict):
        return found.get(scene)
    return found if is_there(found) else None
