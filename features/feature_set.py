"""Named features of a scene: one recipe for the pixel table, the trees' maps and the CNN's channels.

A name says all there is to know: ``nir`` is a band, ``NDVI`` an index of the bands, ``NDVI_after`` that of the bands
``nir_after`` and ``red_after``, ``NDVI_std_r7`` its standard deviation within 7 pixels.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from data.errors import FeatureError
from data.scene import Scene, read_scene
from data.windows import Window
from features.context import STATISTICS, local_statistics
from features.formula import compile_formula
from features.indices import INDICES, SpectralIndex, indices_of, letter_bands

__all__ = ["Feature", "FeatureSet"]

Plane = NDArray[np.float32]

CONTEXT = re.compile(rf"(?P<base>.+)_(?P<statistic>{'|'.join(STATISTICS)})_r(?P<radius>[1-9]\d*)")


@dataclass(frozen=True)
class Feature:
    """One column of the table.

    Parameters
    ----------
    name : str
    base : str
        The band or index that it is made of; the feature itself if it is one.
    statistic : str or None
        Key of `features.context.STATISTICS`.
    radius : int
        Pixels; 0 without a statistic.
    """

    name: str
    base: str
    statistic: str | None = None
    radius: int = 0

    @property
    def halo(self) -> int:
        """Pixels around a window that it needs."""
        return self.radius + (STATISTICS[self.statistic].reach if self.statistic else 0)


class FeatureSet:
    """Features found by name.

    Parameters
    ----------
    bands : sequence of str
        Bands of the scenes.
    names : sequence of str
        Features wanted, in the order wanted.

    Attributes
    ----------
    names : tuple of str
    bands : tuple of str
        The bands that the features need, in the scenes' order.
    halo : int
        Pixels around a window that its features depend on.

    Raises
    ------
    FeatureError
        If a name is no feature of these bands.
    """

    def __init__(self, bands: Sequence[str], names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.features = tuple(_parse(name, bands) for name in names)
        self._letters = {feature.base: _letters_of(feature.base, bands) for feature in self.features}
        needed = {band for letters in self._letters.values() for band in letters.values()}
        self.bands = tuple(band for band in bands if band in needed)
        self.halo = max((feature.halo for feature in self.features), default=0)

    def __len__(self) -> int:
        return len(self.names)

    def compute(self, scene: Scene, window: Window | None = None) -> NDArray[np.float32]:
        """Compute the features of a scene or a window of it.

        Returns
        -------
        features : (F, height, width) float32
            NaN where a feature has no value; never infinite.
        """
        pixels = read_scene(scene, window, self.halo, self.bands)
        features = self.compute_planes(dict(zip(self.bands, pixels, strict=True)))
        inside = slice(self.halo, -self.halo or None)
        return features[:, inside, inside]

    def compute_planes(self, planes: Mapping[str, Plane]) -> NDArray[np.float32]:
        """Compute the features of whole planes.

        Parameters
        ----------
        planes : mapping of str to (H, W) float32
            By band; NaN where there is no data.

        Returns
        -------
        features : (F, H, W) float32
        """
        bases = {base: self._base(base, planes) for base in self._letters}
        shape = next(iter(bases.values())).shape
        features = np.empty((len(self.features), *shape), np.float32)
        around: dict[tuple[str, int], list[int]] = defaultdict(list)
        for position, feature in enumerate(self.features):
            if feature.statistic is None:
                features[position] = bases[feature.base]
            else:
                around[feature.base, feature.radius].append(position)
        # Statistics of one base and radius share their sums.
        for (base, radius), positions in around.items():
            wanted = {self.features[position].statistic: position for position in positions}
            for statistic, plane in local_statistics(bases[base], radius, [name for name in wanted if name]).items():
                features[wanted[statistic]] = plane
        return features

    def describe(self) -> list[dict[str, str | int]]:
        """Say of each feature what it is: name, kind, definition, halo, reference."""
        rows: list[dict[str, str | int]] = []
        for feature in self.features:
            index = _index_of(feature.base)
            kind, definition, reference = "band", f"the band {feature.base}", ""
            if index is not None and feature.base not in self.bands:
                kind, definition, reference = f"{index.domain} index", index.formula, index.reference
            if feature.statistic is not None:
                side = 2 * feature.radius + 1
                kind, definition = (
                    "context",
                    f"{STATISTICS[feature.statistic].meaning} {side} × {side} of {feature.base}",
                )
            rows.append(
                {
                    "name": feature.name,
                    "kind": kind,
                    "definition": definition,
                    "halo": feature.halo,
                    "reference": reference,
                }
            )
        return rows

    def _base(self, base: str, planes: Mapping[str, Plane]) -> Plane:
        if base in planes:
            return planes[base]
        formula = compile_formula(INDICES[base.partition("_")[0]].formula)
        return formula({letter: planes[band] for letter, band in self._letters[base].items()})


def _parse(name: str, bands: Sequence[str]) -> Feature:
    match = CONTEXT.fullmatch(name)
    base = match["base"] if match and name not in bands else name
    if base not in bands and not _letters_of(base, bands):
        raise FeatureError(f"feature {name}: {_why_unknown(base, bands)}")
    if match and name not in bands:
        return Feature(name, base, match["statistic"], int(match["radius"]))
    return Feature(name, base)


def _why_unknown(base: str, bands: Sequence[str]) -> str:
    index = _index_of(base)
    if index is not None:
        return (
            f"expected the bands {', '.join(sorted(index.letters))} for {index.name} = {index.formula}, "
            f"the scenes have {', '.join(bands)}. Give bands their common names, or leave the feature out."
        )
    nearest = get_close_matches(base, [*bands, *indices_of(bands)], n=3, cutoff=0.4)
    return (
        f"expected a band ({', '.join(bands)}), an index of them, or a statistic of one such as {bands[0]}_mean_r3, "
        f"got {base}." + (f" Did you mean {' or '.join(nearest)}?" if nearest else "")
    )


def _index_of(base: str) -> SpectralIndex | None:
    return INDICES.get(base.partition("_")[0])


def _letters_of(base: str, bands: Sequence[str]) -> dict[str, str]:
    """Return letter → band of what a base is computed from; empty if these bands do not give it."""
    if base in bands:
        return {"": base}
    index = _index_of(base)
    if index is None:
        return {}
    letters = letter_bands(bands, base.removeprefix(index.name))
    return {letter: letters[letter] for letter in index.letters} if index.letters <= set(letters) else {}
