"""Order members such that those that are stacked on others, or on layers of them, come after them."""

from collections.abc import Iterable, Mapping

from data.names import near_name
from features.branch import MemberSettings

__all__ = ["learning_order", "with_layers"]


MOST_LEVELS = 20


def with_layers(members: Mapping[str, MemberSettings]) -> dict[str, MemberSettings]:
    """Return members and the layers that their stacks name, as members too.

    Raises
    ------
    ValueError
        If two stacks want another number of components of the same layer.
    """
    every = dict(members)
    for name, member in members.items():
        for below, layer in member.derived.items():
            if every.setdefault(below, layer) != layer:
                raise ValueError(f"members.{name}.stack: expected as many components of {below} as in other stacks")
    return every


def learning_order(members: Mapping[str, MemberSettings], wanted: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return members and all that they are stacked on, layers too, these first; else as they are listed.

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
    every = with_layers(members)

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
        for below in every[name].stacked_on:
            if below not in every:
                near = near_name(below, members)
                hint = f" Did you mean {near}?" if near else ""
                # A layer is named by the stack of the member above it.
                writer = name if name in members else above[-1]
                raise ValueError(
                    f"members.{writer}.stack: expected members among {', '.join(members)}, got {below}.{hint}"
                )
            place(below, (*above, name))
        ordered[name] = None

    for name in members if wanted is None else wanted:
        place(name, ())
    return tuple(ordered)
