"""Environment variables in paths: they stand in files as ``${NAME}``, and what they hold is never shown."""

import html
import os
import re

from jinja2.utils import htmlsafe_json_dumps

__all__ = ["VARIABLE", "expand_variables", "hide_values"]

VARIABLE = re.compile(r"\$\{(\w+)\}")

SHORTEST = 6
"""Characters of a value that is hidden: a shorter one stands everywhere by chance."""

_expanded: dict[str, str] = {}
"""Variables by name, with the values that they had."""


def expand_variables(text: str) -> str:
    """Return a path with the values of the variables in it; raises KeyError with the name of one that is not set."""

    def value_of(match: re.Match[str]) -> str:
        _expanded[match[1]] = os.environ[match[1]]
        return os.environ[match[1]]

    return VARIABLE.sub(value_of, text)


def hide_values(text: str) -> str:
    """Return a text with the names of variables, as ``${NAME}``, in place of the values that were put into paths."""
    for name, value in sorted(_expanded.items(), key=lambda pair: -len(pair[1])):
        value = value.rstrip("/")
        if len(value) < SHORTEST:
            continue
        for shown in (value, html.escape(value), str(htmlsafe_json_dumps(value))[1:-1]):
            text = text.replace(shown, f"${{{name}}}")
    return text
