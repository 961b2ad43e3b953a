"""Guess the scenes of an experiment file from a folder of STAC items."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from data.errors import CatalogueError
from data.scenes.rasters import open_raster
from data.stac.assets import NOT_DATA, find_asset
from data.stac.items import Item, read_items

__all__ = ["Collection", "find_collection"]

RASTERS = (".tif", ".tiff", ".jp2", ".img", ".nc", ".vrt", ".png")


@dataclass(frozen=True)
class Collection:
    """The items below a folder, and which of their assets are images and labels.

    Parameters
    ----------
    path : str
        Of the items, from the folder: the one file that they lie in, or the folder of all of them.
    scenes : frozenset of str
        Ids of the scenes that they are.
    assets : list
        Entries of ``assets`` in the experiment file.
    bands : list of str
    label : str or None
        Key of the asset that is a label.
    label_files : list of str
        Where it lies, of each item.
    """

    path: str
    scenes: frozenset[str]
    assets: list[Any]
    bands: list[str]
    label: str | None
    label_files: list[str]


def find_collection(folder: Path, label_words: re.Pattern[str]) -> Collection | None:
    """Return the STAC items below a folder; None if there are none that have rasters in common."""
    try:
        items, _ = read_items(folder)
    except CatalogueError:
        return None
    shared = [key for key in (items[0].assets if items else ()) if all(key in item.assets for item in items)]
    labels = [key for key in shared if _is_label(items[0].assets[key], key, label_words)]
    assets, bands = list[Any](), list[str]()
    for key in shared:
        if key in labels or not _is_image(items[0].assets[key]):
            continue
        word, names = _name_bands(items[0], key)
        known = names if word == key and len(names) > 1 else None
        if not set(names) & set(bands):
            assets.append(word if known is None else {"asset": key, "bands": names})
            bands += names
    if not assets:
        return None
    sources = {Path(item.source) for item in items}
    parents = {source.parent for source in sources}
    path = sources.pop() if len(sources) == 1 else parents.pop() if len(parents) == 1 else folder
    label = labels[0] if labels else None
    files = [] if label is None else [item.href(label) for item in items]
    ids = frozenset(item.scene for item in items)
    return Collection(path.relative_to(folder).as_posix(), ids, assets, bands, label, files)


def _is_label(asset: Mapping[str, Any], key: str, words: re.Pattern[str]) -> bool:
    roles = asset.get("roles") or ()
    named = any(str(role).startswith("label") for role in roles) or (not roles and words.search(key) is not None)
    return named and _is_raster(asset)


def _is_image(asset: Mapping[str, Any]) -> bool:
    return not NOT_DATA & set(asset.get("roles") or ()) and _is_raster(asset)


def _is_raster(asset: Mapping[str, Any]) -> bool:
    kind = str(asset.get("type", ""))
    suffix = PurePosixPath(urlsplit(str(asset["href"])).path).suffix.lower()
    return "tiff" in kind or "jp2" in kind or suffix in RASTERS


def _name_bands(item: Item, key: str) -> tuple[str, Sequence[str]]:
    """Return the word by which an asset is named in the experiment file, and what its bands are called then."""
    found = find_asset(item, key)
    names = found.names(key)
    if len(found.bands) > 1:
        return key, list(names or [f"{key}_{number}" for number in range(1, len(found.bands) + 1)])
    common = found.bands[0].common_name
    if common and common != key:
        try:
            same = find_asset(item, common).key == key
        except ValueError:
            same = False
        if same:
            return common, [common]
    with open_raster(item.href(key)) as raster:
        count = raster.count
    return key, [key] if count == 1 else [f"{key}_{number}" for number in range(1, count + 1)]
