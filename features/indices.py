"""Spectral indices as records: name, formula, what they are for, where they come from.

Names and letters follow the Awesome Spectral Indices convention (B blue, G green, R red, N near infrared,
S1 and S2 short-wave infrared near 1.6 and 2.2 µm, RE1 … RE3 red edge). Formulas take the bands' values as they are;
those with additive constants (EVI, SAVI …) were made for reflectance from 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from features.formula import compile_formula

__all__ = ["INDICES", "LETTERS", "SpectralIndex", "indices_of", "letter_bands"]

LETTERS = {
    "coastal": "A",
    "blue": "B",
    "green": "G",
    "red": "R",
    "rededge": "RE1",
    "rededge1": "RE1",
    "rededge2": "RE2",
    "rededge3": "RE3",
    "nir": "N",
    "nir08": "N",
    "swir16": "S1",
    "swir22": "S2",
}
"""STAC common names of bands → letters of the formulas."""


@dataclass(frozen=True)
class SpectralIndex:
    """A published spectral index.

    Parameters
    ----------
    name : str
    formula : str
        In the letters of the bands.
    domain : {"vegetation", "water", "burn", "snow", "soil", "urban"}
    reference : str
    """

    name: str
    formula: str
    domain: str
    reference: str

    @property
    def letters(self) -> frozenset[str]:
        """The letters of the bands that it needs."""
        return compile_formula(self.formula).names


INDICES: dict[str, SpectralIndex] = {
    name: SpectralIndex(name, formula, domain, reference)
    for name, formula, domain, reference in (
        ("NDVI", "(N - R) / (N + R)", "vegetation", "Rouse et al. 1974"),
        ("GNDVI", "(N - G) / (N + G)", "vegetation", "Gitelson et al. 1996"),
        ("BNDVI", "(N - B) / (N + B)", "vegetation", "Wang et al. 2007"),
        ("EVI", "2.5 * (N - R) / (N + 6 * R - 7.5 * B + 1)", "vegetation", "Huete et al. 2002"),
        ("EVI2", "2.5 * (N - R) / (N + 2.4 * R + 1)", "vegetation", "Jiang et al. 2008"),
        ("SAVI", "1.5 * (N - R) / (N + R + 0.5)", "vegetation", "Huete 1988"),
        ("OSAVI", "(N - R) / (N + R + 0.16)", "vegetation", "Rondeaux et al. 1996"),
        ("MSAVI", "0.5 * (2 * N + 1 - sqrt((2 * N + 1) ** 2 - 8 * (N - R)))", "vegetation", "Qi et al. 1994"),
        ("ATSAVI", "1.22 * (N - 1.22 * R - 0.03) / (1.22 * N + R - 1.22 * 0.03 + 0.08 * (1 + 1.22 ** 2))",
         "vegetation", "Baret and Guyot 1991"),
        ("DVI", "N - R", "vegetation", "Richardson and Wiegand 1977"),
        ("SR", "N / R", "vegetation", "Birth and McVey 1968"),
        ("CIG", "N / G - 1", "vegetation", "Gitelson et al. 2003"),
        ("CVI", "N * R / G ** 2", "vegetation", "Vincini et al. 2008"),
        ("NLI", "(N ** 2 - R) / (N ** 2 + R)", "vegetation", "Goel and Qin 1994"),
        ("RDVI", "(N - R) / sqrt(N + R)", "vegetation", "Roujean and Breon 1995"),
        ("NIRv", "N * (N - R) / (N + R)", "vegetation", "Badgley et al. 2017"),
        ("GRVI", "N / G", "vegetation", "Sripada et al. 2006"),
        ("NGRDI", "(G - R) / (G + R)", "vegetation", "Tucker 1979"),
        ("VARI", "(G - R) / (G + R - B)", "vegetation", "Gitelson et al. 2002"),
        ("ExG", "2 * G - R - B", "vegetation", "Woebbecke et al. 1995"),
        ("ExR", "1.3 * R - G", "vegetation", "Meyer et al. 1998"),
        ("GLI", "(2 * G - R - B) / (2 * G + R + B)", "vegetation", "Louhaichi et al. 2001"),
        ("TGI", "-0.5 * (190 * (R - G) - 120 * (R - B))", "vegetation", "Hunt et al. 2011"),
        ("RGBVI", "(G ** 2 - B * R) / (G ** 2 + B * R)", "vegetation", "Bendig et al. 2015"),
        ("NDMI", "(N - S1) / (N + S1)", "vegetation", "Gao 1996; Wilson and Sader 2002"),
        ("MSI", "S1 / N", "vegetation", "Hunt and Rock 1989"),
        ("NDREI", "(N - RE1) / (N + RE1)", "vegetation", "Gitelson and Merzlyak 1994"),
        ("NDAVI", "(N - B) / (N + B)", "water", "Villa et al. 2014"),
        ("WAVI", "1.5 * (N - B) / (N + B + 0.5)", "water", "Villa et al. 2014"),
        ("NDWI", "(G - N) / (G + N)", "water", "McFeeters 1996"),
        ("MNDWI", "(G - S1) / (G + S1)", "water", "Xu 2006"),
        ("AWEInsh", "4 * (G - S1) - 0.25 * N + 2.75 * S2", "water", "Feyisa et al. 2014"),
        ("AWEIsh", "B + 2.5 * G - 1.5 * (N + S1) - 0.25 * S2", "water", "Feyisa et al. 2014"),
        ("LSWI", "(N - S1) / (N + S1)", "water", "Xiao et al. 2004"),
        ("WRI", "(G + R) / (N + S1)", "water", "Shen and Li 2010"),
        ("SABI", "(N - R) / (B + G)", "water", "Alawadi 2010"),
        ("KIVU", "(B - R) / G", "water", "Brivio et al. 2001"),
        ("NDTI", "(R - G) / (R + G)", "water", "Lacaux et al. 2007"),
        ("TurbidityRatio", "R / G", "water", "Doxaran et al. 2002"),
        ("BlueGreenRatio", "B / G", "water", "O'Reilly et al. 1998"),
        ("FAI", "N - (R + (S1 - R) * (859 - 645) / (1640 - 645))", "water", "Hu 2009"),
        ("NBR", "(N - S2) / (N + S2)", "burn", "Key and Benson 2006"),
        ("NBR2", "(S1 - S2) / (S1 + S2)", "burn", "Key and Benson 2006"),
        ("BAI", "1 / ((0.1 - R) ** 2 + (0.06 - N) ** 2)", "burn", "Chuvieco et al. 2002"),
        ("MIRBI", "10 * S2 - 9.8 * S1 + 2", "burn", "Trigg and Flasse 2001"),
        ("CSI", "N / S2", "burn", "Smith et al. 2007"),
        ("NDSI", "(G - S1) / (G + S1)", "snow", "Hall et al. 1995"),
        ("NDGlaI", "(G - R) / (G + R)", "snow", "Keshri et al. 2009"),
        ("BSI", "((S1 + R) - (N + B)) / ((S1 + R) + (N + B))", "soil", "Rikimaru et al. 2002"),
        ("NDSoI", "(S2 - G) / (S2 + G)", "soil", "Deng et al. 2015"),
        ("BI", "sqrt((R ** 2 + N ** 2) / 2)", "soil", "Escadafal 1989"),
        ("RI", "(R - G) / (R + G)", "soil", "Escadafal and Huete 1991"),
        ("NDBI", "(S1 - N) / (S1 + N)", "urban", "Zha et al. 2003"),
        ("UI", "(S2 - N) / (S2 + N)", "urban", "Kawamura et al. 1996"),
        ("VrNIRBI", "(R - N) / (R + N)", "urban", "Estoque and Murayama 2015"),
        ("NBAI", "(S2 - S1 / G) / (S2 + S1 / G)", "urban", "Jieli et al. 2010"),
    )
}  # fmt: skip


def letter_bands(bands: Sequence[str], suffix: str = "") -> dict[str, str]:
    """Return letter → band for the bands whose name ends in a date's suffix.

    >>> letter_bands(["red_after", "nir_after", "nir"], "_after")
    {'R': 'red_after', 'N': 'nir_after'}
    """
    return {letter: name + suffix for name, letter in LETTERS.items() if name + suffix in bands}


def indices_of(bands: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all indices that some bands allow, one of each formula.

    Bands of several dates, such as ``nir_before`` and ``nir_after``, give indices of each.

    >>> indices_of(["red_after", "nir_after"])[:2]
    ('NDVI_after', 'EVI2_after')
    """
    dates = sorted({band[len(name) :] for band in bands for name in LETTERS if band.startswith(name)})
    suffixes = [suffix for suffix in dates if suffix == "" or suffix.startswith("_")]
    names = []
    for suffix in suffixes:
        known = set(letter_bands(bands, suffix))
        seen: set[str] = set()
        for index in INDICES.values():
            # Several indices are one formula under two names, or its negative: one column serves.
            if index.letters <= known and index.formula not in seen:
                seen.add(index.formula)
                names.append(index.name + suffix)
    return tuple(names)
