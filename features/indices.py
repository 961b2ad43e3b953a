"""Spectral indices as records: ``indices.csv`` beside this file lists name, formula, domain and reference.

Names and letters follow the Awesome Spectral Indices convention (B blue, G green, R red, N near infrared,
S1 and S2 short-wave infrared near 1.6 and 2.2 µm, RE1 … RE3 red edge, T thermal). Formulas take the bands' values
as they are; those with additive constants (EVI, SAVI …) were made for reflectance from 0 to 1. Constants are those
of the papers: L 0.5, but 1 in EVI; a soil line of slope 1.22 and intercept 0.03; wavelengths of Landsat 8.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from features.formula import Formula, compile_formula

__all__ = ["INDICES", "LETTERS", "SpectralIndex", "contrasts_of", "dates_of", "indices_of", "letter_bands"]

CONTRAST = re.compile(r"\((\w+) - (\w+)\) / \(\1 \+ \2\)")

LETTERS: dict[str, tuple[str, ...]] = {
    "A": ("coastal",),
    "B": ("blue",),
    "G": ("green",),
    "G1": ("green05",),
    "Y": ("yellow",),
    "R": ("red",),
    "RE1": ("rededge1", "rededge071", "rededge"),
    "RE2": ("rededge2", "rededge075"),
    "RE3": ("rededge3", "rededge078"),
    "N": ("nir", "nir08"),
    "N2": ("nir08",),
    "S1": ("swir16",),
    "S2": ("swir22",),
    "T": ("lwir", "lwir11"),
    "T1": ("lwir11",),
    "T2": ("lwir12",),
    "VV": ("vv",),
    "VH": ("vh",),
    "HH": ("hh",),
    "HV": ("hv",),
}
"""Letters of the formulas → STAC common names of the bands they mean, the likeliest first."""


@dataclass(frozen=True)
class SpectralIndex:
    """A published spectral index.

    Parameters
    ----------
    name : str
    formula : str
        In the letters of the bands.
    domain : {"vegetation", "water", "burn", "snow", "soil", "urban", "cloud", "radar"}
    reference : str
    """

    name: str
    formula: str
    domain: str
    reference: str

    @cached_property
    def compiled(self) -> Formula:
        """The formula, to be called with planes by letter."""
        return compile_formula(self.formula)

    @property
    def letters(self) -> frozenset[str]:
        """The letters of the bands that it needs."""
        return self.compiled.names


with files("features").joinpath("indices.csv").open(encoding="utf-8") as _lines:
    INDICES: dict[str, SpectralIndex] = {row["name"]: SpectralIndex(**row) for row in csv.DictReader(_lines)}


def letter_bands(bands: Sequence[str], suffix: str = "") -> dict[str, str]:
    """Return letter → band for the bands whose name ends in a date's suffix.

    >>> letter_bands(["red_after", "nir_after", "nir"], "_after")
    {'R': 'red_after', 'N': 'nir_after'}
    """
    found = {}
    for letter, names in LETTERS.items():
        present = [name + suffix for name in names if name + suffix in bands]
        if present:
            found[letter] = present[0]
    return found


def dates_of(bands: Sequence[str]) -> list[str]:
    """Return what the bands' names end in after their common name: ``""``, or the suffix of each date.

    >>> dates_of(["red_before", "red_after", "nir_after"])
    ['_after', '_before']
    """
    common = {name for names in LETTERS.values() for name in names}
    ends = {band[len(name) :] for band in bands for name in common if band.startswith(name)}
    return sorted(end for end in ends if end == "" or (end.startswith("_") and "_" not in end[1:]))


def indices_of(bands: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all indices that some bands allow, one of each formula.

    Bands of several dates, such as ``nir_before`` and ``nir_after``, give indices of each.

    >>> indices_of(["red_after", "nir_after"])[:2]
    ('NDVI_after', 'ATSAVI_after')
    """
    names = []
    for suffix in dates_of(bands):
        known = letter_bands(bands, suffix)
        seen: set[str] = set()
        for index in INDICES.values():
            if index.letters <= set(known):
                # Several indices are one formula under two names, or of two letters for one band: one column serves.
                formula = " ".join(known.get(part, part) for part in re.split(r"(\w+)", index.formula))
                if formula not in seen:
                    seen.add(formula)
                    names.append(index.name + suffix)
    return tuple(names)


def contrasts_of(bands: Sequence[str]) -> tuple[str, ...]:
    """Return the names of indices that are the normalised difference of two bands, one of each pair.

    What else there is of two bands, their ratio for one, mostly orders pixels as this does, so that trees, which ask
    for nothing but order, learn the same from it.

    >>> contrasts_of(["red", "nir", "green"])
    ('NDVI', 'GNDVI', 'NGRDI')
    """
    names, seen = [], set()
    for name in indices_of(bands):
        index, _, date = name.partition("_")
        suffix = f"_{date}" if date else ""
        match = CONTRAST.fullmatch(INDICES[index].formula)
        if match and (pair := frozenset(letter_bands(bands, suffix)[letter] for letter in match.groups())) not in seen:
            seen.add(pair)
            names.append(name)
    return tuple(names)
