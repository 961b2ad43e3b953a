"""Order members such that those that are stacked on others come after them."""

from collections.abc import Iterable, Mapping

from data.names import near_name
from features.branch import MemberSettings

__all__ = ["learning_order"]


MOST_LEVELS = 20


def learning_order(members: Mapping[str, MemberSettings], wanted: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return members and all that they are stacked on, these first; else as they are listed.

    Parameters
    ----------
    members : mapping of str to settings
    wanted : iterable of str, optional
        Names of some members; all by default.

    Raises
    ------
    ValueError
        If a member is stacked on itself, directly or through others, or on an unknown member.
    """
    ordered: dict[str, None] = {}

    def place(name: str, above: tuple[str, ...]) -> None:
        if name in ordered:
            return
        if len(above) > MOST_LEVELS:
            raise ValueError(f"expected members stacked in at most {MOST_LEVELS} levels, got more under {above[0]}")
        if name in above:
            circle = (*above[above.index(name) :], name)
            raise ValueError(
                f"expected members stacked on others than themselves, got {' on '.join(circle)}. "
                "Take one of them out of a stack."
            )
        for below in members[name].stacked_on:
            if below not in members:
                near = near_name(below, members)
                hint = f" Did you mean {near}?" if near else ""
                raise ValueError(
                    f"members.{name}.stack: expected members among {', '.join(members)}, got {below}.{hint}"
                )
            place(below, (*above, name))
        ordered[name] = None

    for name in members if wanted is None else wanted:
        place(name, ())
    return tuple(ordered)
