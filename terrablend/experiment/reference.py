"""Describe every setting of the experiment file: values, default, meaning, place, and the libraries' names for it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from textwrap import indent
from typing import Any

import yaml

from data.errors import ExperimentError
from data.names import near_name
from data.settings import Settings

__all__ = ["Setting", "describe_settings", "find_settings", "list_settings", "settings_page", "spellings"]

ANY = "NAME"
"""Stands in a place for a name that the user gives."""

Schema = dict[str, Any]

TYPES = {
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "object": "keys and values",
}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


@dataclass(frozen=True)
class Setting:
    """A setting, as it may be written in the experiment file.

    Parameters
    ----------
    place : tuple of str
        Keys from the top of the file; `ANY` for a name of the user's own.
    branch : str
        Kind of member that has it; empty outside ``members``.
    takes : str
        Values that it takes, in words.
    default : str or None
        In YAML; None where there is none, or the description says it.
    required : bool
    description : str
    aliases : tuple of str
        Names that libraries have for it, which are read too.
    """

    place: tuple[str, ...]
    branch: str
    takes: str
    default: str | None
    required: bool
    description: str
    aliases: tuple[str, ...]

    @property
    def name(self) -> str:
        """The key itself."""
        return self.place[-1]

    @property
    def key(self) -> str:
        """The dotted key, with the branch where the user's name of a member stands."""
        named = [self.branch if part == ANY and above == "members" else part for above, part in self._steps]
        return ".".join(part for part in named if part != ANY)

    @property
    def facts(self) -> str:
        """What it takes, and what it is by default."""
        last = "; required" if self.required else "" if self.default is None else f"; default {self.default}"
        return self.takes + last

    @property
    def example(self) -> str:
        """Where it stands in the file, in YAML."""
        lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(self.place)]
        if self.branch and self.name != "branch":
            lines.insert(2, f"    branch: {self.branch}")
        return "\n".join(lines) + f" {'…' if self.default is None else self.default}"

    @property
    def _steps(self) -> Iterator[tuple[str, str]]:
        return zip(("", *self.place), self.place, strict=False)


@lru_cache(maxsize=4)
def list_settings(*experiments: type[Settings]) -> tuple[Setting, ...]:
    """Return the settings of some kinds of experiment, in the order of the file, each once."""
    listed: dict[str, Setting] = {}
    for experiment in experiments:
        schema = experiment.model_json_schema()
        for setting in _settings(schema, schema["$defs"]):
            listed.setdefault(setting.key, setting)
    return tuple(listed.values())


def spellings(settings: Iterable[Setting], dotted: str) -> set[str]:
    """Return every name of the setting that a dotted key in the file means: it and its aliases; empty if unknown."""
    *above, last = dotted.split(".")
    names: set[str] = set()
    for setting in settings:
        *parents, name = setting.place
        fits = len(parents) == len(above) and all(part in (ANY, key) for part, key in zip(parents, above, strict=True))
        if fits and last in (name, *setting.aliases):
            names |= {name, *setting.aliases}
    return names


def find_settings(settings: Sequence[Setting], key: str) -> list[Setting]:
    """Return the setting of a key with all below it, or those of this name anywhere in the file.

    Raises
    ------
    ExperimentError
        If there is none; the message names the nearest.
    """
    below = [setting for setting in settings if f"{setting.key}.".startswith(f"{key}.")]
    last = key.rpartition(".")[2]
    matching = below or [setting for setting in settings if last in (setting.name, *setting.aliases)]
    if not matching:
        keys = {setting.key: setting.key for setting in settings}
        names = {name: setting.key for setting in settings for name in (setting.name, *setting.aliases)}
        near = near_name(key, keys) or near_name(last, names)
        hint = f" Did you mean {(keys | names)[near]}?" if near else " `terrablend settings` lists all."
        raise ExperimentError(f"expected a key of the experiment file, got {key}.{hint}")
    return matching


def describe_settings(settings: Sequence[Setting]) -> str:
    """Return settings as text for the terminal; one alone with its place in the file."""
    return "\n".join(line for setting in settings for line in _lines(setting, alone=len(settings) == 1))


def settings_page(settings: Sequence[Setting]) -> str:
    """Return all settings as a page in Markdown."""
    lines = [
        "# Settings",
        "",
        "Every key of the experiment file. This page is written by `terrablend settings --markdown`; `terrablend "
        "settings KEY` shows",
        "a part of it on the terminal. A key is also read under the names that libraries have for it.",
    ]
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.key.rpartition(".")[0], []).append(setting)
    tables: dict[str, str] = {}
    for group, members in groups.items():
        table = "\n".join(
            ["| key | takes | meaning | also read as |", "| --- | --- | --- | --- |", *map(_row, members)]
        )
        same = tables.setdefault(table, group)
        lines += ["", f"## {group or 'At the top'}", "", table if same == group else f"The keys of `{same}`."]
    return "\n".join(lines) + "\n"


def _row(setting: Setting) -> str:
    aliases = ", ".join(f"`{alias}`" for alias in setting.aliases)
    cells = (f"`{setting.name}`", setting.facts, setting.description, aliases)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _lines(setting: Setting, alone: bool) -> Iterator[str]:
    yield f"{setting.key}  ({setting.facts})"
    yield f"    {setting.description}"
    if setting.aliases:
        yield f"    also read as {', '.join(setting.aliases)}"
    if alone:
        yield "\nin the file:"
        yield indent(setting.example, "    ")


def _settings(
    schema: Schema, kinds: Schema, above: tuple[str, ...] = (), branch: str = "", alone: bool = True
) -> Iterator[Setting]:
    """Yield the settings of an object and of those below it; without required ones where it is not ``alone``."""
    for key, value in schema["properties"].items():
        default = value.get("default")
        below = list(_below(value, kinds))
        yield Setting(
            (*above, key),
            branch,
            ", or ".join(dict.fromkeys(_takes(value, kinds))),
            None if default is None or below else _flow(default),
            alone and key in schema.get("required", ()),
            value.get("description", ""),
            tuple(value.get("aliases", ())),
        )
        kinds_below = [
            inner for number, (_, inner) in enumerate(below) if inner not in [other for _, other in below[:number]]
        ]
        for inner in kinds_below:
            place = next(place for place, other in below if other == inner)
            kind = inner["properties"].get("branch", {}).get("const", branch)
            yield from _settings(inner, kinds, (*above, key, *place), kind, kind != branch or len(kinds_below) == 1)


def _below(value: Schema, kinds: Schema) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Yield the objects with keys of ours that a value may be or hold, each with the user's names on the way to it."""
    value = _resolve(value, kinds)
    if "properties" in value:
        yield (), value
        return
    for form in _forms(value):
        yield from _below(form, kinds)
    if "items" in value:
        yield from _below(value["items"], kinds)
    for entry in _entries(value):
        yield from (((ANY, *place), inner) for place, inner in _below(entry, kinds))


def _takes(value: Schema, kinds: Schema) -> Iterator[str]:
    """Yield in words the forms that a value may have."""
    value = _resolve(value, kinds)
    kind, forms, entries = value.get("type", ""), _forms(value), _entries(value)
    if forms:
        for form in forms:
            yield from _takes(form, kinds)
    elif "properties" in value:
        yield "the keys below it"
    elif "enum" in value or "const" in value:
        yield ", ".join(_flow(choice) for choice in value.get("enum", [value.get("const")]))
    elif "prefixItems" in value:
        yield f"list of {len(value['prefixItems'])}: {_one_of(value['prefixItems'][0], kinds)}"
    elif kind == "array":
        yield f"list of: {_one_of(value['items'], kinds)}"
    elif entries:
        yield f"name → {_one_of(entries[0], kinds)}"
    elif kind != "null":
        bounds = [f"{sign} {value[bound]:g}" for bound, sign in BOUNDS.items() if bound in value]
        yield " ".join([TYPES.get(kind, "any value"), *[" and ".join(bounds)] * bool(bounds)])


def _one_of(value: Schema, kinds: Schema) -> str:
    return " or ".join(dict.fromkeys(_takes(value, kinds)))


def _forms(value: Schema) -> list[Schema]:
    return [*value.get("anyOf", ()), *value.get("oneOf", ())]


def _entries(value: Schema) -> list[Schema]:
    """Return what is below names of the user's own."""
    entries = [value.get("additionalProperties"), *value.get("patternProperties", {}).values()]
    return [entry for entry in entries if isinstance(entry, dict)]


def _resolve(value: Schema, kinds: Schema) -> Schema:
    resolved: Schema = kinds[value["$ref"].rpartition("/")[2]] if "$ref" in value else value
    return resolved


def _flow(value: Any) -> str:
    """Return a value in YAML, on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("\n...\n").strip()
    )
