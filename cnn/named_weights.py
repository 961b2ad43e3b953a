"""Weights that a user gives to some things by their names."""

from collections.abc import Mapping, Sequence

from cnn.network import nearest
from data.errors import MemberError

__all__ = ["named_weights"]


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
