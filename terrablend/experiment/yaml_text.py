"""Parse the YAML that a user writes: plain values alone, of a bounded size whatever the text says."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from reprlib import Repr
from typing import Any

import yaml

from data.errors import ExperimentError

__all__ = ["brief", "parse_yaml"]

PLAIN = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
"""Tags that are read; a date is a text, as in YAML 1.2."""

UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

MOST_BITS = 1024
"""Of an integer: what a double holds has no more."""

LONGEST_KEY = 200


class PlainLoader(yaml.SafeLoader):
    """Composes no more values than a bound, aliases counted as often as they are used, and no deeper than another."""

    most_nodes, most_levels = 200_000, 40

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._path: list[str] = []
        self._nodes = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a value; refuse one that holds itself, and more or deeper ones than the bounds."""
        event, before = self.peek_event(), self._nodes  # type: ignore[no-untyped-call]
        self._path.append(str(getattr(index, "value", index)))
        if len(self._path) > self.most_levels:
            raise self._refusal(f"expected at most {self.most_levels} levels, got more", event)
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if node not in self._sizes:
                raise self._refusal(f"expected values that do not hold themselves, got *{event.anchor}", event)
            self._nodes += self._sizes[node]
        elif node is not None:
            self._nodes += 1
            self._sizes[node] = self._nodes - before
        if self._nodes > self.most_nodes:
            raise self._refusal(f"expected at most {self.most_nodes} values, aliases written out, got more", event)
        self._path.pop()
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node; what Python cannot take for a value of its tag is an error of the text."""
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
            got = f"{node.tag.rpartition(':')[2]} {brief(node.value)}"
            raise yaml.constructor.ConstructorError(None, None, f"no value: {got}", node.start_mark) from error
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"an integer of {value.bit_length()} bits", node.start_mark
            )
        if isinstance(value, str) and UNPRINTABLE.search(value):
            raise yaml.constructor.ConstructorError(
                None, None, f"a text with unprintable characters: {brief(value)}", node.start_mark
            )
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the values by key; a key is a short text or a number."""
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and len(key.value) > LONGEST_KEY:
                raise yaml.constructor.ConstructorError(
                    None, None, f"a key of {len(key.value)} characters", key.start_mark
                )
        return super().construct_mapping(node, deep)

    def _refusal(self, problem: str, event: Any) -> yaml.MarkedYAMLError:
        where = brief(".".join(self._path[1:]), plain=True)
        return yaml.composer.ComposerError(None, None, f"{problem} at {where or 'the top'}", event.start_mark)


PlainLoader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in PLAIN
}
PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in PLAIN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

SHORT = Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxlong, SHORT.maxother = 3, 60, 40, 60
SHORT.maxdict = SHORT.maxlist = SHORT.maxtuple = SHORT.maxset = 6


def parse_yaml(text: str, what: str) -> Any:
    """Return the value that a YAML text holds.

    Parameters
    ----------
    text : str
    what : str
        Holds the text, such as a file; for messages.

    Raises
    ------
    ExperimentError
        In one line, with the place in the text.
    """
    with _one_line(what):
        loader = PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()


def brief(value: Any, most: int = 120, plain: bool = False) -> str:
    """Return a value as a message shows it, on one line; of a long one the beginning.

    >>> brief(["a", 1]), brief("x" * 500, 10), brief("name", plain=True)
    ("['a', 1]", "'xxxxxxxx…", 'name')
    """
    text = UNPRINTABLE.sub("?", " ".join(value[: most + 1].split())) if plain else SHORT.repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = brief(" ".join(filter(None, (error.context, error.problem))), plain=True)
        raise ExperimentError(f"{what}{where}: expected plain YAML, got: {problem}. Correct it there.") from error
    except yaml.YAMLError as error:
        raise ExperimentError(f"{what}: expected plain YAML, got: {brief(str(error), plain=True)}.") from error
