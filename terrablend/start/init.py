"""Guess a first experiment file from a folder of images and labels."""

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rasterio.enums import ColorInterp

from data.errors import ExperimentError
from data.folds.groups import connected_components
from data.names import expand_ranges
from data.scenes.classes import IGNORE
from data.scenes.footprints import overlapping_pairs
from data.scenes.rasters import open_raster, read_grid
from data.scenes.scene import Scene
from terrablend.branches import BRANCHES
from terrablend.start.band_names import as_word, common_names
from terrablend.start.collection import Collection, find_collection
from terrablend.start.drawn import guess_drawn
from terrablend.start.schema import write_experiment_file

__all__ = ["guess_experiment", "require_new", "write_experiment"]

logger = logging.getLogger(__name__)

SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2"}
HEADED = {".dat", ".img", ".bil", ".bip", ".bsq", ".flt"}
"""Rasters if a header lies beside them, as of ENVI and ESRI."""
LABEL_WORDS = re.compile(r"mask|label|truth|annot|(^|[^a-z])gt([^a-z]|$)", re.IGNORECASE)
SPLIT_WORDS = {"val": re.compile(r"val", re.IGNORECASE), "test": re.compile(r"test", re.IGNORECASE)}
SAMPLE = 20
"""Files of a folder that are opened to learn what it holds."""
EMBEDDED = 64
"""Bands of an AlphaEarth embedding, called A00 … A63."""
USUAL = {
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "nir"),
    6: ("blue", "green", "red", "nir", "swir16", "swir22"),
}
"""Bands of a file that does not name them, by how many it has: of pictures, and of Landsat as it is usually stacked."""
FOLDS = 5
MOST_CLASSES = 32
"""Distinct values above which a one-band raster is taken for an image."""


@dataclass(frozen=True)
class RasterFolder:
    """Rasters of one folder whose names differ in one part, the id."""

    pattern: str
    ids: frozenset[str]
    bands: tuple[str, ...]
    nodata: float | None
    values: frozenset[int] | None
    """Values of a one-band raster with few of them, else None."""
    coded: bool = False
    """Whether it has the bytes of an AlphaEarth embedding."""

    @property
    def split(self) -> str:
        """The split that the folder's name contains; train if it contains none."""
        return next((split for split, words in SPLIT_WORDS.items() if words.search(self.pattern)), "train")


def write_experiment(folder: Path, out: Path) -> None:
    """Look at a folder and write an experiment file for it.

    Raises
    ------
    ExperimentError
        If the folder holds no images with labels beside them, or ``out`` exists.
    """
    require_new(out)
    values = guess_experiment(folder)
    head = (
        "# Guessed from the files; read it once: are the bands named right, which values are classes,\n"
        "# and which scenes must share a fold (folds.group) because they show the same place?\n"
    )
    write_experiment_file(out, head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    logger.info("first experiment file in %s. Read it, then run `terrablend check %s`", out, out)


def require_new(out: Path) -> None:
    """Refuse to overwrite an experiment file, which somebody may have worked on."""
    if out.exists():
        raise ExperimentError(f"{out}: expected no such file yet. Remove it, or name another with --out.")


def guess_experiment(folder: Path) -> dict[str, Any]:
    """Return the values of an experiment file for the scenes below a folder.

    Raises
    ------
    ExperimentError
        If there are no images with labels beside them.
    """
    folders, collection = _raster_folders(folder), find_collection(folder, LABEL_WORDS)
    if collection is not None:
        return _guess_items(folder, collection, folders)
    labels = [entry for entry in folders if entry.values is not None and _is_label(entry, folders)]
    images = [entry for entry in folders if entry not in labels]
    scenes: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        label = next((entry for entry in labels if entry.split == split), None)
        # An image that only some scenes have, such as one from before the event, is left out.
        parts = [entry for entry in images if entry.split == split and (label is None or entry.ids >= label.ids)]
        if parts and (label is not None or split == "test"):
            scenes[split] = {"image": _describe_images(parts)}
            if label is not None:
                scenes[split]["label"] = {"path": label.pattern}
    if "train" not in scenes:
        drawn = guess_drawn(folder, [(entry.pattern, sorted(entry.ids), entry.bands) for entry in images])
        if drawn is None:
            found = ", ".join(entry.pattern for entry in folders) or "no rasters"
            raise ExperimentError(
                f"{folder}: expected images and, under the same names in a folder such as masks/, their labels, or a "
                f"file of shapes with a column of classes; got {found}. Write the experiment file by hand."
            )
        return {
            "name": _name_of(folder),
            "root": str(folder.resolve()),
            **drawn,
            "members": _first_members([], sparse=True),
        }
    bands = [band for entry in scenes["train"]["image"] for band in expand_ranges(entry["bands"])]
    experiment = _experiment(folder, scenes, frozenset().union(*(entry.values or () for entry in labels)), bands)
    if _overlap(folder, next(entry for entry in images if entry.split == "train")):
        experiment["folds"]["group"] = {"overlap": True}
    return experiment


def _overlap(folder: Path, images: RasterFolder) -> bool:
    """Return whether some images show the same ground, and enough of them do not to be dealt to folds."""
    scenes = []
    for name in sorted(images.ids):
        grid, _ = read_grid(str(folder / images.pattern.replace("{id}", name)))
        scenes.append(Scene(name, "train", (), grid))
    pairs = overlapping_pairs(scenes).tolist()
    return bool(pairs) and len(set(connected_components(len(scenes), pairs).tolist())) >= FOLDS


def _guess_items(folder: Path, collection: Collection, folders: list[RasterFolder]) -> dict[str, Any]:
    """Return the values of an experiment file for the STAC items of a folder."""
    image = {"stac": collection.path, "assets": collection.assets}
    if collection.label is not None:
        values = _look_at(folder, folder, collection.label_files).values
        label: dict[str, Any] = {"asset": collection.label}
    else:
        beside = [entry for entry in folders if entry.values is not None and entry.ids >= collection.scenes]
        values = beside[0].values if beside else None
        label = {"path": beside[0].pattern} if beside else {}
    if values is None:
        raise ExperimentError(
            f"{folder}: expected labels of the {len(collection.scenes)} STAC items, an asset of theirs or rasters of a "
            "few values named by their ids, got none. Write the experiment file by hand."
        )
    return _experiment(folder, {"train": {"image": image, "label": label}}, values, collection.bands)


def _name_of(folder: Path) -> str:
    return re.sub(r"[^\w.-]+", "-", folder.resolve().name) or "experiment"


def _experiment(folder: Path, scenes: dict[str, Any], found: frozenset[int], bands: list[str]) -> dict[str, Any]:
    """Return the values of an experiment file whose labels are rasters with some values."""
    values = sorted(found)
    # Beside several classes 255 is what nobody knows.
    unknown = [IGNORE] if len(values) > 2 and IGNORE in values else []
    values = [value for value in values if value not in unknown]
    binary = len(values) <= 2
    # Ids are bytes below 255: other values are numbered in their order.
    numbered = not binary and (values[0] < 0 or values[-1] >= IGNORE)
    classes = {place if numbered else value: f"class {value}" for place, value in enumerate(values)}
    experiment: dict[str, Any] = {
        "name": _name_of(folder),
        "task": "binary" if binary else "multiclass",
        "root": str(folder.resolve()),
        "scenes": scenes,
        "classes": {1: "positive"} if binary else classes,
        "folds": {"count": FOLDS},
        "members": _first_members(bands, sparse=False),
    }
    for part in scenes.values():
        if "label" in part and binary and values != [0, 1]:
            part["label"]["values"] = {values[-1]: "positive"}
            if len(values) > 1 and values[0]:
                part["label"]["values"][values[0]] = "background"
        elif "label" in part and numbered:
            part["label"]["values"] = {value: f"class {value}" for value in values}
        if "label" in part and unknown:
            part["label"]["ignore"] = unknown
    return experiment


def _first_members(bands: Sequence[str], sparse: bool) -> dict[str, Any]:
    return {
        name: member for branch in BRANCHES.values() for name, member in branch.first_members(bands, sparse).items()
    }


def _raster_folders(folder: Path) -> list[RasterFolder]:
    names: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        headers = path.with_suffix(".hdr"), path.with_name(f"{path.name}.hdr")
        headed = path.suffix.lower() in HEADED and any(header.is_file() for header in headers)
        if (path.suffix.lower() in SUFFIXES or headed) and path.is_file() and not hidden:
            names[path.parent, path.suffix].append(path.name)
    return [_look_at(folder, parent, files) for (parent, _), files in names.items()]


def _look_at(root: Path, parent: Path, files: list[str]) -> RasterFolder:
    head, tail = _common_ends(files)
    pattern = (parent.relative_to(root) / f"{head}{{id}}{tail}").as_posix()
    ids = frozenset(file[len(head) : len(file) - len(tail)] for file in files)
    values: set[int] | None = set()
    bands: tuple[str, ...] = ()
    nodata = None
    for file in files[:: max(1, len(files) // SAMPLE)]:
        with open_raster(str(parent / file)) as raster:
            bands, nodata = _band_names(raster), raster.nodata
            coded = raster.count == EMBEDDED and set(raster.dtypes) == {"int8"} and nodata == -128
            if values is not None and raster.count == 1:
                found = np.unique(raster.read(1))
                # What is declared to be no data is no class.
                found = found[np.isfinite(found) & (found != (np.nan if nodata is None else nodata))]
                whole = bool((found == np.rint(found)).all() and (np.abs(found) < 2**31).all())
                values = values | set(found.astype(np.int64).tolist()) if whole else None
        if values is not None and (len(bands) > 1 or len(values) > MOST_CLASSES or not values):
            values = None
    return RasterFolder(pattern, ids, bands, nodata, None if values is None else frozenset(values), coded)


def _common_ends(files: list[str]) -> tuple[str, str]:
    """Return what all names start and end with, cut back to whole words.

    >>> _common_ends(["tile_13.tif", "tile_145.tif"])
    ('tile_', '.tif')
    """
    alike = [len(set(letters)) == 1 for letters in zip(*files, strict=False)]
    head = files[0][: sum(1 for _ in takewhile(bool, alike))]
    backwards = [file[::-1] for file in files]
    alike = [len(set(letters)) == 1 for letters in zip(*backwards, strict=False)]
    tail = files[0][len(files[0]) - sum(1 for _ in takewhile(bool, alike)) :]
    head = re.sub(r"[^\W_]*$", "", head)
    tail = re.sub(r"^[^\W_]*", "", tail)
    suffix = Path(files[0]).suffix
    return (head, tail) if len(files) > 1 else ("", suffix)


def _band_names(raster: Any) -> tuple[str, ...]:
    if all(raster.descriptions):
        return common_names(raster.descriptions, Path(raster.name).stem)
    if raster.count == 4 and _is_mask(raster):
        return "red", "green", "blue"
    if raster.count == EMBEDDED and raster.dtypes[0] in ("int8", "float32", "float64"):
        return tuple(f"A{index:02}" for index in range(EMBEDDED))
    return USUAL.get(raster.count, tuple(f"band{index}" for index in range(1, raster.count + 1)))


def _is_mask(raster: Any) -> bool:
    """Return whether the last band is an alpha and says only where there is data.

    Near infrared as the fourth band beside red, green and blue is often declared an alpha, too.
    """
    if raster.colorinterp[-1] != ColorInterp.alpha:
        return False
    whole = np.iinfo(raster.dtypes[-1]).max if np.dtype(raster.dtypes[-1]).kind == "u" else 1
    return bool(np.isin(raster.read(raster.count), (0, whole)).all())


def _is_label(entry: RasterFolder, folders: list[RasterFolder]) -> bool:
    beside = any(other.ids & entry.ids for other in folders if other is not entry and other.split == entry.split)
    return beside and (LABEL_WORDS.search(entry.pattern) is not None or len(entry.values or ()) <= 2)


def _describe_images(parts: list[RasterFolder]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for part in parts:
        bands = list(part.bands)
        if len(bands) >= EMBEDDED and bands == expand_ranges([f"{bands[0]}..{bands[-1]}"]):
            bands = [f"{bands[0]}..{bands[-1]}"]
        elif len(parts) > 1:
            # Several files a scene: their folders tell their bands apart.
            place = as_word(Path(part.pattern).parent.name)
            bands = [f"{band}_{place}" for band in bands]
        entries.append({"path": part.pattern, "bands": bands})
        if part.coded:
            entries[-1]["decode"] = "alphaearth"
        elif part.nodata is not None and np.isfinite(part.nodata):
            entries[-1]["nodata"] = part.nodata
    return entries
