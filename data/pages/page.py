"""Write pages: one HTML file each that works offline, all in one style.

A page extends ``page.html``, which holds ``page.css``, and adds its content; ``parts.html`` has macros of all pages.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from data.files import replacing
from data.pages.numbers import format_area, format_count, format_minus, format_number, format_percent, format_short
from data.scenes.classes import Classes
from data.scenes.colors import hex_color
from data.variables import hide_values

__all__ = ["Mark", "label_marks", "write_page"]

FORMATS = (format_area, format_count, format_minus, format_number, format_percent, format_short)
"""Filters of every template."""


@dataclass(frozen=True)
class Mark:
    """Colour and id of a class on a page; the id, since colour must never be the only sign.

    Parameters
    ----------
    label : str
    id : int
        As in label files.
    color, ink : str
        ``#rrggbb`` of the class, and of text on it.
    """

    label: str
    id: int
    color: str
    ink: str


def label_marks(classes: Classes) -> tuple[Mark, ...]:
    """Return the mark of each label index."""
    return tuple(
        Mark(label, value, hex_color(color), "#000000" if _is_light(color) else "#ffffff")
        for label, value, color in zip(classes.label_names, classes.label_ids, classes.label_colors, strict=True)
    )


def write_page(
    path: Path, package: str, template: str, *, filters: dict[str, Callable[..., str]] | None = None, **values: Any
) -> None:
    """Render a template and write the page, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in ``.html``.
    package : str
        That holds the template, and others that it includes.
    template : str
        Its file, which extends ``page.html``.
    filters : dict, optional
        The page's own; all have those of `data.pages.numbers`, under their names.
    **values
        What the template shows. Text is escaped.
    """
    page = _environment(package, **filters or {}).get_template(template).render(**values)
    with replacing(path) as temporary:
        temporary.write_text(hide_values(page), "utf-8")


@cache
def _environment(package: str, **filters: Callable[..., str]) -> Environment:
    """Return what renders the templates of a package, each of which it compiles once: a page is written many times."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader("data.pages", "")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters.update({write.__name__: write for write in FORMATS}, **filters)
    return environment


def _is_light(color: tuple[int, int, int]) -> bool:
    """Return whether black has more contrast on a colour than white, as WCAG 2 defines it."""
    shares = [value / 255 for value in color]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (luminance + 0.05) ** 2 > 1.05 * 0.05
