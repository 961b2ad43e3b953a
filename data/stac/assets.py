"""Find bands among the assets of STAC items, by key or common name, and what items say of their values and grids."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rasterio.crs import CRS
from rasterio.errors import CRSError

from data.scenes.windows import Grid
from data.stac.items import Item

__all__ = ["NOT_DATA", "AssetBand", "AssetBands", "declared_grid", "find_asset"]

NOT_DATA = frozenset(("thumbnail", "overview", "visual", "metadata"))
"""Roles of pictures: their values are not those that were measured."""


@dataclass(frozen=True)
class AssetBand:
    """What an item says of a band; None where it says nothing.

    Parameters
    ----------
    name, common_name : str or None
    scale, offset : float or None
        Physical value = stored × scale + offset.
    nodata : float or None
    """

    name: str | None = None
    common_name: str | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None


@dataclass(frozen=True)
class AssetBands:
    """Some bands of an asset.

    Parameters
    ----------
    key : str
        Of the asset.
    bands : tuple of AssetBand
    order : tuple of int
        Their places in the file, from 0; empty for all of its bands.
    """

    key: str
    bands: tuple[AssetBand, ...]
    order: tuple[int, ...] = ()

    def names(self, word: str) -> tuple[str, ...] | None:
        """Return what the bands are called where somebody named them by one word; None if that is not enough."""
        if len(self.bands) == 1:
            return (word,)
        names = [band.common_name or band.name for band in self.bands]
        known = tuple(name for name in names if name)
        return known if len(set(known)) == len(names) else None

    @property
    def scales(self) -> tuple[tuple[float, float], ...] | None:
        """Factor and offset of each band; None where the item declares none."""
        if all(band.scale is None and band.offset is None for band in self.bands):
            return None
        return tuple((1.0 if b.scale is None else b.scale, 0.0 if b.offset is None else b.offset) for b in self.bands)

    @property
    def nodata(self) -> tuple[float, ...]:
        """The declared values for no data; what is not finite is no data in any case."""
        return tuple(dict.fromkeys(b.nodata for b in self.bands if b.nodata is not None and math.isfinite(b.nodata)))


def find_asset(item: Item, word: str) -> AssetBands:
    """Find the asset of a key, or the band of a common name or name.

    Raises
    ------
    ValueError
        If there is none, or several assets have such a band; the message says so.
    """
    if word in item.assets:
        return AssetBands(word, _bands(item.assets[word]))
    by_name = [
        (key, place, len(bands))
        for way in ("common_name", "name")
        for key, bands in ((key, _bands(asset)) for key, asset in item.assets.items())
        for place, band in enumerate(bands)
        if getattr(band, way) == word
    ]
    # A picture of red, green and blue has a red band too, and so has a copy in another format.
    measured = [hit for hit in by_name if not NOT_DATA & set(item.assets[hit[0]].get("roles") or ())] or by_name
    best = [hit for hit in measured if hit[2] == min(size for _, _, size in measured)]
    keys = list(dict.fromkeys(key for key, _, _ in best))
    if not keys:
        raise ValueError(
            f"expected an asset {word}, by key or common name, got {', '.join(item.assets)}. Correct the name, or "
            "remove the item."
        )
    if len(keys) > 1:
        raise ValueError(f"expected one asset with a band {word}, got {', '.join(keys)}. Name the asset by its key.")
    key, place, size = best[0]
    bands = _bands(item.assets[key])
    return AssetBands(key, (bands[place],), () if size == 1 else (place,))


def declared_grid(item: Item, key: str) -> Grid | None:
    """Return the grid of an asset by the projection extension, of the asset or of the item; None if they name none.

    Raises
    ------
    ValueError
        If what they say is no grid; the message says so.
    """
    asset, properties = item.assets[key], item.properties

    def field(name: str) -> Any:
        return asset.get(name) or properties.get(name)

    shape, transform, box = field("proj:shape"), field("proj:transform"), field("proj:bbox")
    crs = next((found for found in map(field, ("proj:code", "proj:wkt2", "proj:projjson")) if found), None)
    epsg = field("proj:epsg")
    crs = crs or (f"EPSG:{int(epsg)}" if isinstance(epsg, int | float) and not isinstance(epsg, bool) else epsg)
    if not crs or not _numbers(shape, 2) or not (_numbers(transform, 6) or _numbers(box, 4)):
        return None
    height, width = (int(side) for side in shape[:2])
    if min(height, width) < 1:
        raise ValueError(f"expected proj:shape as [rows, columns], got {shape}. Correct it.")
    try:
        wkt = CRS.from_user_input(crs).to_wkt()
    except (CRSError, ValueError) as error:
        raise ValueError(f"expected a coordinate system, got {str(crs)[:60]}: {error}. Correct it.") from error
    if not _numbers(transform, 6):
        left, bottom, right, top = (float(side) for side in (*box[:2], *box[len(box) // 2 :][:2]))
        transform = ((right - left) / width, 0.0, left, 0.0, (bottom - top) / height, top)
    a, b, c, d, e, f = (float(number) for number in transform[:6])
    return Grid(height, width, wkt, (a, b, c, d, e, f))


def _numbers(value: Any, least: int) -> bool:
    return isinstance(value, Sequence) and len(value) >= least and all(isinstance(part, int | float) for part in value)


def _bands(asset: Mapping[str, Any]) -> tuple[AssetBand, ...]:
    """Return what is said of each band: in STAC 1.0 in ``eo:bands`` and ``raster:bands``, then in ``bands``."""
    lists = [value for name in ("bands", "eo:bands", "raster:bands") if isinstance(value := asset.get(name), list)]
    count = max(map(len, lists), default=0) or 1

    def told(place: int) -> Iterator[Mapping[str, Any]]:
        yield from (each[place] for each in lists if place < len(each) and isinstance(each[place], Mapping))
        # What all bands have in common stands in the asset.
        yield asset

    def find(place: int, *names: str) -> Any:
        found = (each[name] for each in told(place) for name in names if each.get(name) is not None)
        return next(found, None)

    return tuple(
        AssetBand(
            next((each["name"] for each in [*told(place)][:-1] if each.get("name")), None),
            find(place, "eo:common_name", "common_name"),
            _number(find(place, "raster:scale", "scale")),
            _number(find(place, "raster:offset", "offset")),
            _number(find(place, "nodata", "raster:nodata", "file:nodata")),
        )
        for place in range(count)
    )


def _number(value: Any) -> float | None:
    """Return a number that JSON may spell as text, such as "nan"."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
