"""Order members such that stacks follow what they are on, layers too; refuse stacks that cannot be."""

from collections.abc import Iterable, Mapping

from data.names import near_name
from features.branch import MemberSettings
from terrablend.branches import branch_of

__all__ = ["learning_order", "require_stacks", "with_layers"]

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


def require_stacks(members: Mapping[str, MemberSettings]) -> None:
    """Refuse stacks that cannot be learned.

    Raises
    ------
    ValueError
        As of `learning_order`; if a layer is of what has none, if a strict stack is on what cannot be fitted inside of
        a fold, or if a stack is on maps that are not out of fold.
    """
    learning_order(members)
    for name, member in members.items():
        where = f"members.{name}.stack: expected"
        for below in (network for layer in member.derived.values() for network in layer.stacked_on):
            if branch_of(members[below]).layers is None:
                raise ValueError(f"{where} a layer of a network, got one of {below}. Leave it out")
        for below in member.inner:
            if not branch_of(members[below]).computes:
                raise ValueError(f"{where} strict of a member that is fitted here, got {below}")
            if members[below].stacked_on:
                raise ValueError(f"{where} strict of a member without a stack, got {below}")
        for below in member.stacked_on:
            if below in members and not members[below].decides:
                raise ValueError(
                    f"{where} members whose maps are out of fold, got {below}, which is in-sample. Leave it out"
                )
