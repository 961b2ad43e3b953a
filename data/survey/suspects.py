"""Name what looks odd in the values of all scenes together: fill that nobody declared, scales that differ."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.scenes.histogram import BOUNDS, ORDER
from data.scenes.image import ImageFile
from data.scenes.rasters import open_raster

__all__ = ["Declared", "declared_scales", "find_fill", "find_kinds", "find_scales"]

USUAL = (-9999.0, -99999.0, -32768.0, -3.4028234663852886e38, 9.969209968386869e36, 1e20, -1e20, 1e30, -999.0, 65535.0)
"""Fill values of ArcGIS, R, NetCDF, CMIP and others."""

FREQUENT, FAR, TAIL = 0.001, 10.0, 0.01
"""Share of the pixels from which on a value is frequent; ranges of the others that it lies away from them; share of
these at either end that their range leaves out."""


KINDS, MOST_WHOLE = (3, 24), 255
"""Fewest and most values of a band of classes, and the greatest of them."""

TURN, ANGLE = 360.0, re.compile(r"aspect|azimuth|angle|bearing|heading|wind_?dir|direction", re.IGNORECASE)
"""Degrees of a full turn, and words in the name of an angle."""


class Declared(NamedTuple):
    """What the file of a scene declares of a band: physical value = stored × scale + offset."""

    scene: str
    band: str
    scale: float
    offset: float


def find_fill(bands: Sequence[str], totals: Mapping[str, NDArray[np.int64]], ends: NDArray[np.float64]) -> list[str]:
    """Return a line for each band that holds what looks like a value for no data that nobody declared.

    Parameters
    ----------
    bands : sequence of str
    totals : mapping
        Split → how often each value occurs in each band (C, `KEYS`).
    ends : (C, 2) float64
        The least and the greatest finite value of each band.
    """
    counts = np.sum([*totals.values()], axis=0)[:, ORDER]
    found: dict[float, list[tuple[str, float]]] = defaultdict(list)
    for band, row, (low, high) in zip(bands, counts, ends.tolist(), strict=True):
        for value, share in _far_values(row, low, high):
            found[value].append((band, share))
    return [
        f"{', '.join(band for band, _ in held)}: {value:.9g} in up to "
        f"{max(share for _, share in held):.2%} of the pixels, far from all others. If it means no data, "
        f"set scenes.nodata: {value:.9g}."
        for value, held in found.items()
    ]


def _far_values(counts: NDArray[np.int64], low: float, high: float) -> Iterator[tuple[float, float]]:
    occupied, total = np.flatnonzero(counts), counts.sum()
    # Of two values neither is odd.
    if len(occupied) < 3:
        return
    for value, place, others in ((low, occupied[0], occupied[1:]), (high, occupied[-1], occupied[:-1])):
        share = float(counts[place] / total)
        below = np.cumsum(counts[others])
        first, last = (others[np.searchsorted(below, part * below[-1])] for part in (TAIL, 1 - TAIL))
        width = float(BOUNDS[last + 1] - BOUNDS[first])
        nearest = others[0] if place < others[0] else others[-1]
        gap = abs(float(BOUNDS[nearest] - BOUNDS[place]))
        usual = any(np.float32(value) == np.float32(known) for known in USUAL)
        if gap > FAR * width and (share >= FREQUENT or usual):
            yield value, share


def find_kinds(
    bands: Sequence[str],
    totals: Mapping[str, NDArray[np.int64]],
    ends: NDArray[np.float64],
    masks: Sequence[str] = (),
    *,
    fewest_pixels: int = 10_000,
) -> list[str]:
    """Return a line for each band that looks like classes, or like an angle; see `find_fill`.

    Parameters
    ----------
    bands, totals, ends
        As of `find_fill`.
    masks : sequence of str
        Bands that are known to be masks.
    fewest_pixels : int
        Of fewer pixels nothing is said.
    """
    counts = np.sum([*totals.values()], axis=0)[:, ORDER]
    lines = []
    for band, row, (low, high) in zip(bands, counts, ends.tolist(), strict=True):
        if band in masks or row.sum() < fewest_pixels:
            continue
        values = BOUNDS[:-1][row > 0]
        whole = low >= 0 and high <= MOST_WHOLE and bool((values == np.rint(values)).all())
        if whole and KINDS[0] <= len(values) <= KINDS[1]:
            lines.append(
                f"{band}: {len(values)} whole values, as of classes. Then trees should not take them for amounts "
                f"(members.NAME.categorical: [{band}]), nor a warp mix them (resampling: nearest of its file)."
            )
        elif (low >= 0 and TURN - 1 <= high <= TURN) or (0 <= low < high <= TURN and ANGLE.search(band)):
            lines.append(
                f"{band}: {low:.4g} … {high:.4g}, as of an angle: 359° and 1° lie beside each other, but far apart in "
                "numbers. Then give its sine and its cosine as two bands instead."
            )
    return lines


def declared_scales(scene: str, images: Iterable[ImageFile]) -> Iterator[Declared]:
    """Yield the scales that the files of a scene declare and are read by."""
    for image in images:
        if image.scale is None and image.decoding is None:
            with open_raster(image.path) as raster:
                places = image.order or range(raster.count)
                for band, place in zip(image.bands, places, strict=False):
                    yield Declared(scene, band, raster.scales[place], raster.offsets[place])


def find_scales(declared: Sequence[Declared]) -> list[str]:
    """Return a line for each band for which scenes declare different scales or offsets."""
    by_band: dict[str, dict[tuple[float, float], list[str]]] = defaultdict(lambda: defaultdict(list))
    for scene, band, scale, offset in declared:
        by_band[band][scale, offset].append(scene)
    by_scales: dict[str, list[str]] = defaultdict(list)
    for band, scales in by_band.items():
        if len(scales) > 1:
            parts = [
                f"scale {scale:g} and offset {offset:g} in {len(scenes)} scenes ({scenes[0]} …)"
                for (scale, offset), scenes in sorted(scales.items())
            ]
            by_scales["; ".join(parts)].append(band)
    return [
        f"{', '.join(bands)}: scenes declare different scales: {text}. Each is applied as declared; "
        "set scale: none where the files are wrong."
        for text, bands in by_scales.items()
    ]
