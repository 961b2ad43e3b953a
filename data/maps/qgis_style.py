"""Write QGIS styles beside maps: a `.qml` of a raster's name is applied when QGIS opens it."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from data.files import replacing
from data.scenes.classes import Classes
from data.scenes.colors import hex_color

__all__ = ["STYLE", "is_own_style", "write_class_style", "write_ramp_style"]

STYLE = ".qml"

HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<!-- written by terrablend -->\n"
"""QGIS drops the comment when it saves a style: one without it is the user's."""

VERSION = "3.22.0"

Color = tuple[int, int, int]


def is_own_style(path: Path) -> bool:
    """Return whether a style is as it was written here, and not saved by QGIS since."""
    return path.is_file() and path.read_text("utf-8", errors="replace").startswith(HEAD)


def write_class_style(raster: Path, classes: Classes) -> None:
    """Write the style of a class map: the classes' colours and names, a binary task's background transparent.

    Parameters
    ----------
    raster : Path
        Of class ids. The style beside it is left alone if it is not ours.
    classes : Classes
    """
    root, renderer = _renderer("paletted")
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for value, name, color in zip(classes.label_ids, classes.label_names, classes.label_colors, strict=True):
        hidden = classes.task == "binary" and name not in classes.names
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(value),
            label=name,
            color=hex_color(color),
            alpha="0" if hidden else "255",
        )
    _write(raster, root)


def write_ramp_style(raster: Path, top: Color, legend: Sequence[str] = ("0", "0.5", "1")) -> None:
    """Write the style of a map of values from 0 to 1: its first band, from transparent to a colour.

    Parameters
    ----------
    raster : Path
        The style beside it is left alone if it is not ours.
    top : tuple of int
        Red, green and blue of 1.
    legend : sequence of str
        What values at equal distances, the first 0 and the last 1, are called.
    """
    root, renderer = _renderer("singlebandpseudocolor", classificationMin="0", classificationMax="1")
    shader = ElementTree.SubElement(
        ElementTree.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="1",
        minimumValue="0",
        maximumValue="1",
        clip="0",
    )
    steps = len(legend) - 1
    for step, label in enumerate(legend):
        share = step / steps
        ElementTree.SubElement(
            shader, "item", value=f"{share:g}", label=label, color=hex_color(top), alpha=str(round(255 * share))
        )
    _write(raster, root)


def _renderer(kind: str, **options: str) -> tuple[ElementTree.Element, ElementTree.Element]:
    root = ElementTree.Element("qgis", version=VERSION, styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    attributes = {"type": kind, "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": "", **options}
    return root, ElementTree.SubElement(pipe, "rasterrenderer", attributes)


def _write(raster: Path, root: ElementTree.Element) -> None:
    path = raster.with_suffix(STYLE)
    if path.exists() and not is_own_style(path):
        return
    ElementTree.indent(root)
    with replacing(path) as temporary:
        temporary.write_text(HEAD + ElementTree.tostring(root, encoding="unicode") + "\n", "utf-8")
