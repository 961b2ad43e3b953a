"""Names that a user writes, and weights that are given by them."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from data.errors import MemberError

__all__ = ["named_weights", "nearest"]


def nearest(name: str, known: Iterable[str], count: int = 5) -> str:
    """Return the known names that are most like one, as text."""
    names = list(known)
    return ", ".join(get_close_matches(name, names, n=count, cutoff=0.5) or sorted(names)[:count])


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
