"""Drawn labels: what the shapes of a file mean as the label of a scene."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import LabelError
from data.scenes.classes import IGNORE, Classes
from data.settings import VectorSettings
from data.vectors.shapes import Shapes

__all__ = ["FIELDS", "DrawnLabel", "as_text", "class_codes", "count_unnamed", "drawn_label"]

FIELDS = ("class", "label", "classname", "class_name", "landcover", "land_cover", "code", "category", "type", "name")
"""Names of a column of classes, the likeliest first."""


@dataclass(frozen=True)
class DrawnLabel:
    """The shapes that label a scene, and how they are burnt onto its grid.

    Parameters
    ----------
    path : str
    settings : VectorSettings
    outside : int
        Label index where no shape lies: `IGNORE`, or that of the background.
    area : str or None
        Polygons outside of which nothing is known.
    """

    path: str
    settings: VectorSettings
    outside: int = IGNORE
    area: str | None = None


def drawn_label(path: str, settings: VectorSettings, classes: Classes, area: str | None) -> DrawnLabel:
    """Return a drawn label.

    Raises
    ------
    LabelError
        If what lies outside of the shapes is to be background, and no class is called so.
    """
    if settings.outside == "ignore":
        return DrawnLabel(path, settings, area=area)
    if "background" not in classes.label_names:
        raise LabelError(
            f"label.outside: expected a class called background among {', '.join(classes.label_names)}, got none. "
            "Add it to classes, or leave outside out."
        )
    return DrawnLabel(path, settings, classes.label_names.index("background"), area)


def class_codes(shapes: Shapes, settings: VectorSettings, classes: Classes) -> NDArray[np.uint8]:
    """Return the label index of each shape (n,), `IGNORE` for those to be ignored and those without a class.

    Without ``field`` a column called class, label or the like is taken; in a binary task without one every shape is of
    the class. A value means the class of that name or id, or what ``values`` says.

    Raises
    ------
    LabelError
        If no column is found, or a value means no class.
    """
    name = settings.field or _find_field(shapes)
    if name is None:
        if classes.task == "binary":
            return np.ones(len(shapes), np.uint8)
        raise LabelError(
            f"{shapes.path}: expected a column of classes called {', '.join(FIELDS[:3])}, got "
            f"{', '.join(shapes.values) or 'none'}. Name it: label.field."
        )
    # What has no class was drawn, but not decided yet.
    meanings = {"": IGNORE, **_meanings(settings, classes)}
    texts = [as_text(value) for value in shapes.column(name).tolist()]
    unknown = sorted({text for text in texts if text not in meanings})
    if unknown:
        raise LabelError(
            f"{shapes.path}: expected in {name} the values {', '.join(filter(None, sorted(meanings)))}, got also "
            f"{', '.join(unknown[:5])}. "
            "Declare them under classes, in label.values or in label.ignore."
        )
    return np.array([meanings[text] for text in texts], np.uint8)


def count_unnamed(shapes: Shapes, settings: VectorSettings) -> int:
    """Return how many shapes have no class though there is a column of classes, and it was not said what that means."""
    name = settings.field or _find_field(shapes)
    if name is None or "" in map(as_text, [*(settings.values or ()), *settings.ignore]):
        return 0
    return sum(not as_text(value) for value in shapes.column(name).tolist())


def as_text(value: Any) -> str:
    """Return a value as it is compared: numbers without a trailing zero, small letters.

    >>> as_text(3.0), as_text("Forest "), as_text(None), as_text(datetime(2024, 5, 1))
    ('3', 'forest', '', '2024-05-01')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, datetime) and value.time() == time():
        # GDAL gives days as moments.
        value = value.date()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().lower()
    return text.removesuffix(".0") if text.removesuffix(".0").lstrip("-").isdigit() else text


def _find_field(shapes: Shapes) -> str | None:
    small = {name.lower(): name for name in shapes.values}
    return next((small[name] for name in FIELDS if name in small), None)


def _meanings(settings: VectorSettings, classes: Classes) -> Mapping[str, int]:
    index = {as_text(name): place for place, name in enumerate(classes.label_names)} | {"ignore": IGNORE}
    if settings.values is None:
        ids = {as_text(value): place for place, value in enumerate(classes.label_ids)}
        truths = {as_text(value): ids[as_text(int(value))] for value in (False, True) if as_text(int(value)) in ids}
        meanings = truths | ids | index
    else:
        unknown = sorted({name for name in settings.values.values() if as_text(name) not in index})
        if unknown:
            raise LabelError(
                f"label.values: expected class names among {', '.join(index)}, got {', '.join(unknown)}. "
                "Declare them under classes."
            )
        meanings = {as_text(value): index[as_text(name)] for value, name in settings.values.items()}
    return meanings | dict.fromkeys(map(as_text, settings.ignore), IGNORE)
