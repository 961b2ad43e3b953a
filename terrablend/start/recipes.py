"""Recipes: experiment files for data sets that are known, and whether a folder is that data set."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import CatalogueError, ExperimentError, TerrablendError
from data.names import nearest
from data.progress import Track, untracked
from data.scenes.color_labels import read_palette
from data.scenes.image import ImageFile, band_problem
from data.scenes.rasters import open_raster
from data.settings import LabelSettings, SceneSettings
from data.survey.discovery import find_scenes
from data.survey.images import image_files, image_patterns
from data.survey.patterns import find_files
from terrablend.experiment import load_scene_experiment
from terrablend.start.init import require_new
from terrablend.start.schema import write_experiment_file

__all__ = ["recipe_names", "write_recipe"]

logger = logging.getLogger(__name__)

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
"""Beside the packages, in a checkout as where they are installed."""

EXAMPLES = 3


@dataclass(frozen=True)
class Published:
    """What the organisers published under one pattern of files.

    Parameters
    ----------
    files : int or None
        Their number; None where it was not published.
    size : tuple of int
        Height and width in pixels.
    dtypes : tuple of str
        Types that they may have; any if there are none.
    """

    files: int | None
    size: tuple[int, int]
    dtypes: tuple[str, ...] = ()


PUBLISHED: dict[str, dict[str, Published]] = {
    "kelp": {
        "train_satellite/{id}_satellite.tif": Published(5635, (350, 350), ("int16",)),
        "train_kelp/{id}_kelp.tif": Published(5635, (350, 350)),
        "test_satellite/{id}_satellite.tif": Published(1426, (350, 350), ("int16",)),
    },
    "solar": {
        "train/images/{id}.tif": Published(None, (256, 256), ("int16", "float32")),
        "train/masks/{id}.tif": Published(None, (256, 256)),
        "test/images/{id}.tif": Published(None, (256, 256), ("int16", "float32")),
    },
    "deepglobe": {
        "train/{id}_sat.jpg": Published(803, (2448, 2448), ("uint8",)),
        "train/{id}_mask.png": Published(803, (2448, 2448), ("uint8",)),
        "test/{id}_sat.jpg": Published(172, (2448, 2448), ("uint8",)),
    },
    "landcover": {
        "train/images/{id}.png": Published(None, (1024, 1024), ("uint8",)),
        "train/masks/{id}.png": Published(None, (1024, 1024), ("uint8",)),
        "test/images/{id}.png": Published(None, (1024, 1024), ("uint8",)),
    },
    "amazon": {
        "train-jpg/{id}.jpg": Published(40479, (256, 256), ("uint8",)),
        # 40 669 of test-jpg and 20 522 of test-jpg-additional, which a submission needs too.
        "test-jpg/{id}.jpg": Published(61191, (256, 256), ("uint8",)),
    },
    "amazon-tif": {
        "train-tif-v2/{id}.tif": Published(40479, (256, 256), ("uint16",)),
        "test-tif-v2/{id}.tif": Published(61191, (256, 256), ("uint16",)),
    },
}


def recipe_names() -> list[str]:
    """Return the names of the recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def write_recipe(name: str, folder: Path, out: Path, track: Track = untracked) -> None:
    """Check that a folder is the data set of a recipe, and write the experiment file for it.

    Where the folder differs from what was published, but can be used, a warning says so: other numbers of files, other
    sizes or types, no scenes to predict.

    Parameters
    ----------
    name : str
        Of the recipe.
    folder : Path
        As it was downloaded.
    out : Path
        Experiment file to write.
    track : Track

    Raises
    ------
    ExperimentError
        If there is no such recipe, ``out`` exists, or the recipe cannot be followed in this folder: then every
        deviation is listed.
    """
    if name not in recipe_names():
        known = recipe_names()
        raise ExperimentError(
            f"--recipe {name}: expected one of {', '.join(known)}. Nearest: {nearest(name, known, count=1)}."
        )
    require_new(out)
    path, root = RECIPES / f"{name}.yaml", folder.resolve()
    experiment = load_scene_experiment(path, [f"root={json.dumps(str(root))}"])
    settings, notes = experiment.scenes, []
    first = [] if settings.test is None else image_patterns(settings.test, settings)[:1]
    if any(not _any_file(pattern, root) for pattern in first):
        notes.append(f"{first[0]}: expected scenes to predict, got none: scenes.test is left out")
        settings = settings.model_copy(update={"test": None})
    problems, differences = _compare_files(settings, PUBLISHED.get(name, {}), root, track)
    if not problems:
        try:
            problems += find_scenes(settings, experiment.label_classes(), root)[1]
        except TerrablendError as error:
            problems.append(str(error))
    notes += differences
    if problems:
        listed = "\n".join(f"  - {line}" for line in [*problems, *notes])
        raise ExperimentError(
            f"{folder}: expected the data set that recipes/{name}.yaml describes, got {len(problems) + len(notes)} "
            f"deviations:\n{listed}"
        )
    for note in notes:
        logger.warning("%s", note)
    write_experiment_file(out, _fill(path.read_text("utf-8"), root, settings.test is not None))
    logger.info("experiment file in %s. Read it, then run `terrablend check %s`", out, out)


def _any_file(pattern: str, root: Path) -> bool:
    try:
        return bool(find_files(pattern, root))
    except CatalogueError:
        return False


def _compare_files(
    settings: SceneSettings, published: Mapping[str, Published], root: Path, track: Track
) -> tuple[list[str], list[str]]:
    """Open every file; return what makes the recipe useless here, and what else is not as published."""
    problems, notes = [], []
    for part in (settings.train, settings.val, settings.test):
        if part is None:
            continue
        patterns = image_patterns(part, settings)
        kinds: dict[str, ImageFile | LabelSettings] = {
            image.path: image for image in image_files(part, settings, patterns)[0]
        }
        if isinstance(part.label, LabelSettings):
            kinds[part.label.path] = part.label
        for pattern, kind in kinds.items():
            try:
                files = find_files(pattern, root)
            except CatalogueError as error:
                problems.append(str(error))
                continue
            wanted = published.get(pattern)
            if wanted and wanted.files not in (None, len(files)):
                notes.append(f"{pattern}: expected {wanted.files} files, got {len(files)}")
            deviations: dict[tuple[bool, str], list[str]] = {}
            for scene, path in track(sorted(files.items()), pattern, len(files)):
                for deviation in _deviations(path, kind, wanted):
                    deviations.setdefault(deviation, []).append(scene)
            for (useless, text), scenes in deviations.items():
                few = ", ".join(scenes[:EXAMPLES]) + (" …" if len(scenes) > EXAMPLES else "")
                line = f"{pattern}: {text} in {len(scenes)} of {len(files)} files ({few})"
                (problems if useless else notes).append(line)
    return problems, notes


def _deviations(path: str, kind: ImageFile | LabelSettings, wanted: Published | None) -> Iterator[tuple[bool, str]]:
    """Yield what is not as expected in a file, and whether the recipe is useless for that."""
    try:
        with open_raster(path) as raster:
            if isinstance(kind, ImageFile):
                if band_problem(kind, raster):
                    yield True, f"expected {len(kind.bands)} bands ({', '.join(kind.bands)}), got {raster.count}"
                if raster.nodata is not None and raster.nodata not in kind.nodata:
                    usual = ", ".join(f"{value:g}" for value in kind.nodata) or "no"
                    yield False, f"expected {usual} nodata value, got {raster.nodata:g}"
            elif not _is_label(raster, kind):
                what = "a picture of red, green and blue" if kind.colors else "one band"
                yield True, f"expected {what}, got {raster.count} bands of {raster.dtypes[0]}"
            if wanted and raster.shape != wanted.size:
                height, width = wanted.size
                yield False, f"expected {height} × {width} pixels, got {raster.height} × {raster.width}"
            if wanted and wanted.dtypes and raster.dtypes[0] not in wanted.dtypes:
                yield False, f"expected {' or '.join(wanted.dtypes)}, got {raster.dtypes[0]}"
    except TerrablendError:
        yield True, "expected a readable raster, got another file"


def _is_label(raster: Any, settings: LabelSettings) -> bool:
    if not settings.colors:
        return bool(raster.count == 1)
    return read_palette(raster) is not None or (raster.count in (3, 4) and raster.dtypes[0] == "uint8")


def _fill(text: str, root: Path, tested: bool) -> str:
    """Return the text of a recipe with the folder as its root, comments and all."""
    variable = re.search(r"^root: \$\{(\w+)\}$", text, re.MULTILINE)
    if variable is None:
        raise ExperimentError("expected a recipe with a line `root: ${NAME}`, got none. Correct the recipe.")
    text = text.replace(variable[0], f"root: {json.dumps(str(root), ensure_ascii=False)}").replace(variable[1], "root")
    return text if tested else re.sub(r"^  test:", "  # test:", text, flags=re.MULTILINE)
