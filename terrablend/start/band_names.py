"""What bands are called: STAC common names for the numbers of known sensors, and for words that files use for them."""

import re
from collections.abc import Mapping, Sequence

__all__ = ["as_word", "common_names", "of_file"]

LANDSAT_8 = {"1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "nir", "6": "swir16", "7": "swir22"}
LANDSAT_4 = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir16", "7": "swir22"}
SENTINEL_2 = {
    "1": "coastal",
    "2": "blue",
    "3": "green",
    "4": "red",
    "5": "rededge071",
    "6": "rededge075",
    "7": "rededge078",
    "8": "nir",
    "8a": "nir08",
    "9": "nir09",
    "11": "swir16",
    "12": "swir22",
}

SENSORS: Sequence[tuple[re.Pattern[str], Mapping[str, str]]] = (
    (re.compile(r"(^|[^a-z])(l[ceto]0?[89]|lsat_?[89]|landsat_?[89])", re.IGNORECASE), LANDSAT_8),
    (re.compile(r"(^|[^a-z])(l[te]0?[4-7]|lsat_?[4-7]|landsat_?[4-7])", re.IGNORECASE), LANDSAT_4),
    (re.compile(r"(^|[^a-z])(s2[ab]?|sentinel_?-?2|msi|t\d\d[a-z]{3})([^a-z]|$)", re.IGNORECASE), SENTINEL_2),
)
"""By the name of a file: which STAC common name the number of a band means."""

NUMBERED = re.compile(r"(?:sr_|toa_)?b(?:and)?[ _]?0?(\d{1,2}a?)", re.IGNORECASE)

WORDS = {
    **{name: name for name in ("coastal", "blue", "green", "red", "nir", "nir08", "nir09", "swir16", "swir22")},
    **{name: name for name in ("vv", "vh", "hh", "hv")},
    "near_infrared": "nir",
    "swir1": "swir16",
    "swir_1": "swir16",
    "swir2": "swir22",
    "swir_2": "swir22",
    "red_edge": "rededge",
}


def of_file(stem: str, number: str) -> str | None:
    """Return the common name of a band of the sensor that a file is named after; None if it is not known.

    >>> of_file("lsat7_2000_40", "4"), of_file("S2A_T32TQM_B08", "8"), of_file("scene", "4")
    ('nir', 'nir', None)
    """
    return (_bands_of(stem) or {}).get(number)


def common_names(names: Sequence[str], stem: str = "") -> tuple[str, ...]:
    """Return the names of a file's bands, with STAC common names for those that say what they are.

    Numbers mean a sensor's bands where the file is named after it, or where only one sensor has all of them, or all
    that have them mean the same.

    Parameters
    ----------
    names : sequence of str
        As the file describes its bands.
    stem : str
        The file's name.

    Examples
    --------
    >>> common_names(["B2", "B3", "B4", "B8", "B12"])
    ('blue', 'green', 'red', 'nir', 'swir22')
    >>> common_names(["SR_B2", "SR_B3", "SR_B4", "SR_B6", "QA_PIXEL"], "LC08_044034")
    ('blue', 'green', 'red', 'swir16', 'QA_PIXEL')
    >>> common_names(["B1", "B2", "B3"])
    ('B1', 'B2', 'B3')
    >>> common_names(["Red", "NIR", "SWIR 1", "VV"])
    ('red', 'nir', 'swir16', 'vv')
    """
    numbers = [match and match[1].lower() for match in map(NUMBERED.fullmatch, names)]
    given = {number for number in numbers if number}
    named = _bands_of(stem)
    possible = [named] if named else [bands for _, bands in SENSORS if given <= set(bands)]
    found = []
    for name, number in zip(names, numbers, strict=True):
        meanings = {bands.get(number) for bands in possible} if number else set()
        meaning = meanings.pop() if len(meanings) == 1 else None
        found.append(meaning or WORDS.get(as_word(name.strip()), name))
    return tuple(found) if len(set(found)) == len(found) else tuple(names)


def as_word(text: str) -> str:
    """Return a text as a name of bands may hold it.

    >>> as_word("SWIR 1")
    'swir_1'
    """
    return re.sub(r"\W+", "_", text).lower()


def _bands_of(stem: str) -> Mapping[str, str] | None:
    """Return the bands of the sensor that a file is named after; None if it is named after none."""
    return next((bands for sensor, bands in SENSORS if sensor.search(stem)), None)
