"""Map the values or colours of a label file to label indices, as the experiment file says."""

from collections.abc import Mapping

from data.errors import ExperimentError
from data.scenes.classes import BACKGROUND, IGNORE, Classes
from data.scenes.color_labels import pack_color
from data.scenes.scene import LabelFile
from data.settings import MeaningSettings

__all__ = ["label_file", "label_values"]


def label_file(path: str, settings: MeaningSettings, classes: Classes) -> LabelFile:
    """Return a scene's label with the meaning of its values; raises what `label_values` raises."""
    return LabelFile(path, label_values(settings, classes), settings.colors is not False, settings.nearest)


def label_values(settings: MeaningSettings, classes: Classes) -> tuple[tuple[int, int], ...]:
    """Return what each value of a label file means, as (file value, label index or `IGNORE`) pairs.

    Without ``values`` and ``colors`` a file holds class ids (and 0 for the background of a binary task). The value of a
    colour is that of `data.scenes.color_labels.pack_color`.

    Raises
    ------
    ExperimentError
        If a name is of no class, or two classes have one colour.
    """
    index = {name: position for position, name in enumerate(classes.label_names)} | {"ignore": IGNORE}
    if settings.colors is not False:
        meanings = _color_values(settings, classes, index)
    elif settings.values is None:
        meanings = {value: position for position, value in enumerate(classes.label_ids)}
    else:
        _require_known("values", set(settings.values.values()), index)
        meanings = {value: index[name] for value, name in settings.values.items()}
        if BACKGROUND in index and BACKGROUND not in settings.values.values():
            meanings.setdefault(0, index[BACKGROUND])
    meanings |= dict.fromkeys(settings.ignore, IGNORE)
    return tuple(sorted(meanings.items()))


def _color_values(settings: MeaningSettings, classes: Classes, index: Mapping[str, int]) -> dict[int, int]:
    given = {} if isinstance(settings.colors, bool) else settings.colors
    _require_known("colors", set(given), index)
    # The background of a binary task has no colour of its own: it is black, as in most masks.
    usual = dict(zip(classes.names, classes.colors, strict=True))
    if classes.task == "binary":
        usual[BACKGROUND] = (0, 0, 0)
    meanings: dict[int, int] = {}
    for name, colors in {**usual, **given}.items():
        for color in [colors] if isinstance(colors[0], int) else colors:
            value = pack_color(color)
            if meanings.setdefault(value, index[name]) != index[name]:
                raise ExperimentError(
                    f"label.colors: expected a colour for one class alone, got {color} for {name} and another. "
                    "Correct it here, or the color under classes."
                )
    return meanings


def _require_known(key: str, names: set[str], index: Mapping[str, int]) -> None:
    unknown = sorted(names - set(index))
    if unknown:
        raise ExperimentError(
            f"label.{key}: expected class names among {', '.join(index)}, got {', '.join(unknown)}. "
            "Declare them under classes."
        )
