"""Read STAC items: from one file each, an ItemCollection, a collection with its items, or stac-geoparquet."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import CatalogueError

__all__ = ["Item", "read_items"]

SUFFIXES = (".json", ".geojson")

LINES = (".ndjson", ".jsonl", ".geojsonl")
"""One item a line."""

FIELDS = frozenset(
    ("type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
)
"""Columns of stac-geoparquet that are no properties."""

LONGEST_ID = 200
"""Bytes: the names of a scene's maps hold it."""


@dataclass(frozen=True)
class Item:
    """A STAC item.

    Parameters
    ----------
    source : str
        The file that it was read from.
    values : mapping
        As in its JSON.
    """

    source: str
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its id."""
        return str(self.values["id"])

    @cached_property
    def scene(self) -> str:
        """Its id as the names of files can hold it."""
        return re.sub(r"[^\w.-]+", "_", self.name).lstrip(".") or "_"

    @property
    def properties(self) -> Mapping[str, Any]:
        """Its metadata."""
        properties: Mapping[str, Any] = self.values.get("properties") or {}
        return properties

    @property
    def assets(self) -> Mapping[str, Mapping[str, Any]]:
        """Its files, by key."""
        assets: Mapping[str, Mapping[str, Any]] = self.values["assets"]
        return assets

    def href(self, key: str) -> str:
        """Return where an asset lies, as GDAL opens it: a local path, or an address.

        A relative one starts from the file that the item was read from, or where there is no such file from the item's
        own address.
        """
        href = str(self.assets[key]["href"])
        if href.startswith("file:"):
            return unquote(urlsplit(href).path)
        if "://" in href or href.startswith("/"):
            return href
        path = (Path(self.source).parent / href).resolve()
        own = next((link.get("href") for link in self.values.get("links") or () if link.get("rel") == "self"), None)
        remote = isinstance(own, str) and own.startswith(("http://", "https://", "s3://", "gs://"))
        return urljoin(str(own), href) if remote and not path.exists() else str(path)


def read_items(path: Path) -> tuple[list[Item], list[str]]:
    """Read all items of a file or a folder.

    Parameters
    ----------
    path : Path
        A folder is searched for JSON files; a collection or catalogue for the items that its links lead to.

    Returns
    -------
    items : list of Item
        Whole ones, with ids of their own.
    problems : list of str
        A line for each file that cannot be read and each item that is broken or has the id of another.

    Raises
    ------
    CatalogueError
        If there is no such file or folder, or no item in it.
    """
    problems: list[str] = []
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        found = [each for file in files for each in _read_file(file, problems, follow=False)]
    elif path.is_file():
        found = [*_read_file(path, problems, follow=True)]
    else:
        raise CatalogueError(
            f"{path}: expected STAC items, a file or a folder of them on this disk, got none. Correct the path, or "
            "save what a search returned as one JSON file."
        )
    items: dict[str, Item] = {}
    for item in found:
        problem = _problem(item) or _clash(item, items)
        if problem:
            problems.append(f"{item.source}: {problem}")
        else:
            items[item.scene] = item
    if not items and not problems:
        raise CatalogueError(f"{path}: expected STAC items, got none. Name a file or a folder that holds them.")
    return list(items.values()), problems


def _read_file(path: Path, problems: list[str], follow: bool, seen: frozenset[Path] = frozenset()) -> Iterator[Item]:
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            yield from (Item(str(path), _from_row(row)) for row in pq.read_table(path).to_pylist())
            return
        text = path.read_text("utf-8")
        parts = text.splitlines() if path.suffix.lower() in LINES else [text]
        objects = [json.loads(part) for part in parts if part.strip()]
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        problems.append(f"{path}: expected STAC items, got: {error}. Correct the file, or remove it.")
        return
    for value in objects:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in ("Feature", "FeatureCollection"):
            features = [value] if kind == "Feature" else value.get("features") or ()
            # A folder may hold other GeoJSON, such as polygons.
            yield from (Item(str(path), part) for part in features if follow or _is_stac(part))
        elif kind in ("Collection", "Catalog") and follow:
            for link in value.get("links") or ():
                yield from _follow(path, link, problems, seen | {path.resolve()})


def _is_stac(value: Any) -> bool:
    return isinstance(value, dict) and ("assets" in value or "stac_version" in value)


def _follow(path: Path, link: Mapping[str, Any], problems: list[str], seen: frozenset[Path]) -> Iterator[Item]:
    href = str(link.get("href", ""))
    if link.get("rel") not in ("item", "items", "child"):
        return
    if "://" in href:
        problems.append(
            f"{path}: expected links to items on this disk, got {href}. Save the items as one JSON file, and name it."
        )
        return
    target = (path.parent / href).resolve()
    if target not in seen:
        yield from _read_file(target, problems, True, seen)


def _problem(item: Item) -> str | None:
    """Return why an item cannot be used."""
    if not isinstance(item.values, Mapping) or not item.values.get("id"):
        return "expected items with an id, got one without. Correct it."
    what, assets = f"item {item.name}", item.values.get("assets")
    if not isinstance(assets, Mapping) or not assets:
        return f"{what}: expected assets, got none. Correct it, or remove the item."
    bare = [key for key, asset in assets.items() if not isinstance(asset, Mapping) or not asset.get("href")]
    if bare:
        return f"{what}: expected an href of each asset, got none of {', '.join(map(str, bare))}. Correct it."
    if len(item.scene.encode()) > LONGEST_ID:
        return f"{what[:60]}…: expected an id of at most {LONGEST_ID} bytes, got a longer one. Shorten it."
    return None


def _clash(item: Item, items: Mapping[str, Item]) -> str | None:
    other = items.get(item.scene)
    if other is None:
        return None
    return (
        f"item {item.name}: expected an id that no other item has, got that of {other.name} in {other.source}. "
        "Remove one of them."
    )


def _from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of a row of stac-geoparquet, without the columns that it does not fill."""
    values = {key: _without_nulls(value) for key, value in row.items() if value is not None and key != "geometry"}
    assets = values.get("assets")
    if isinstance(assets, str):
        values["assets"] = json.loads(assets)
    elif isinstance(assets, list):
        values["assets"] = dict(assets)
    kept = {key: value for key, value in values.items() if key in FIELDS}
    return {**kept, "properties": {key: value for key, value in values.items() if key not in FIELDS}}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value
