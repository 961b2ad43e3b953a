"""Look up names that a user wrote: the nearest known name, a scene's row in a table, weights by name."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import PurePath

from data.errors import MemberError

__all__ = ["expand_ranges", "list_names", "listed_name", "named_weights", "near_name", "nearest", "numbered_names"]

RANGE = re.compile(r"(?P<stem>.*?)(?P<first>\d+)(?P<tail>(?:\D.*?)?)\.\.(?P=stem)(?P<last>\d+)(?P=tail)")
"""Names that differ in one number, the first and the last: ``A00..A63``, ``b1_before..b12_before``."""

MOST = 10_000
"""Names of a range."""


def expand_ranges(names: Sequence[str]) -> list[str]:
    """Return names with each range spelled out.

    >>> expand_ranges(["dem", "A08..A11", "b9..b10"])
    ['dem', 'A08', 'A09', 'A10', 'A11', 'b9', 'b10']

    Raises
    ------
    ValueError
        If a range ends before it begins, or is of too many names.
    """
    return [each for name in names for each in _range_of(name)]


def _range_of(name: str) -> Iterator[str]:
    match = RANGE.fullmatch(name)
    if match is None:
        yield name
        return
    first, last = int(match["first"]), int(match["last"])
    if not 0 <= last - first < MOST:
        raise ValueError(f"expected a range that rises, of at most {MOST} names, such as A00..A63, got {name}")
    # A number with leading zeros has as many digits as all others.
    digits = len(match["first"]) if match["first"].startswith("0") else 0
    for number in range(first, last + 1):
        yield f"{match['stem']}{number:0{digits}}{match['tail']}"


def numbered_names(names: Iterable[str], least: int) -> tuple[str, ...]:
    """Return the names that differ from many others, ``least`` with them, in a number alone, such as A00 … A63.

    >>> numbered_names(["red", "A0", "A1", "A2", "B1"], 3)
    ('A0', 'A1', 'A2')
    """
    given, series = list(names), dict[str, set[str]]()
    for name in given:
        for number in re.finditer(r"\d+", name):
            series.setdefault(f"{name[: number.start()]}#{name[number.end() :]}", set()).add(name)
    numbered = set[str]().union(*(members for members in series.values() if len(members) >= least))
    return tuple(name for name in given if name in numbered)


def listed_name(scene_id: str, paths: Iterable[str], listed: Container[str]) -> str | None:
    """Return the name that a table has for a scene: its id, or the name of one of its files, with its suffix or not.

    >>> listed_name("7", ["train-jpg/train_7.jpg"], {"train_7": "clear"})
    'train_7'
    """
    files = [PurePath(path) for path in paths]
    names = [scene_id, *(file.name for file in files), *(file.stem for file in files)]
    return next((name for name in names if name in listed), None)


def list_names(names: Iterable[object], most: int = 300) -> str:
    """Return names that a file holds as a message shows them, apart by commas; of too long a list the beginning.

    >>> list_names(["id", "haze"]), list_names(["a" * 9, 1], 8)
    ('id, haze', 'aaaaaaa…')
    """
    text = ", ".join(map(str, names))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def nearest(name: str, known: Iterable[str], count: int = 5) -> str:
    """Return the known names that are most like one, as text."""
    names = list(known)
    return ", ".join(get_close_matches(name, names, n=count, cutoff=0.5) or sorted(names)[:count])


def near_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that one is a slip of: at most a letter in four is wrong; None where there is none.

    Of fewer than four letters the first must be right: so much alike are many.

    >>> near_name("lerning_rate", ["learning_rate", "l2"])
    'learning_rate'
    >>> near_name("encoder_weights", ["scene_weights", "class_weights"]) is None
    True
    >>> near_name("0", ["name", "task"]) is None
    True
    """
    alike = [other for other in known if len(name) > 3 or (len(name) == 3 and other[:1] == name[:1])]
    if not alike:
        return None
    edits, nearest_name = min((count_edits(name.lower(), other.lower()), other) for other in alike)
    return nearest_name if edits <= max(1, len(name) // 4) else None


def count_edits(first: str, second: str) -> int:
    """Return how many letters to insert, delete, replace or swap with their neighbour make one word the other.

    >>> count_edits("boster", "booster"), count_edits("sampel", "sample")
    (1, 1)
    """
    before: list[int] = []
    last: list[int] = [*range(len(second) + 1)]
    for row, letter in enumerate(first, 1):
        line = [row]
        for col, other in enumerate(second, 1):
            line.append(min(last[col] + 1, line[-1] + 1, last[col - 1] + (letter != other)))
            if row > 1 and col > 1 and letter == second[col - 2] and first[row - 2] == other:
                line[-1] = min(line[-1], before[col - 2] + 1)
        before, last = last, line
    return last[-1]


def named_weights(
    key: str, given: Mapping[str, float], names: Sequence[str], default: Sequence[float]
) -> tuple[float, ...]:
    """Return a weight for each of some names: the one given, else its default.

    >>> named_weights("class_weights", {"kelp": 3}, ["background", "kelp"], [1, 1])
    (1.0, 3.0)

    Raises
    ------
    MemberError
        If a name is none of these, or no weight is above 0.
    """
    unknown = [name for name in given if name not in names]
    if unknown:
        raise MemberError(
            f"{key}: expected names among {', '.join(names)}, got {unknown[0]}. Nearest: {nearest(unknown[0], names)}."
        )
    weights = tuple(float(given.get(name, usual)) for name, usual in zip(names, default, strict=True))
    if not any(weights):
        raise MemberError(
            f"{key}: expected a weight above 0, got 0 for each of {', '.join(names)}. Leave {key} out, or raise one."
        )
    return weights
