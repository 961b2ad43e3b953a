"""Render grids of predictions: held-out scenes, their truth, and what the network predicts, as one picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from cnn.train.validation import Tiles, Validation
from data.files import replacing
from data.pages.quicklook import ERROR_COLORS, draw_errors, label_palette, quicklook_bands, stretch
from data.scenes.classes import IGNORE, Classes

__all__ = ["PIXEL_PANELS", "TAG_PANELS", "Panels", "choose_scenes", "render_grid"]

EACH = 4
"""Scenes spread over all, the same ones every time, and as many of the worst."""
SIDE = 192
"""Pixels on a side of a picture."""
TAGS = 300
"""Pixels of the width of a list of tags."""
GAP = 6
CAPTION = 16


@dataclass(frozen=True)
class Panels:
    """The pictures in a row of a grid.

    Parameters
    ----------
    widths : mapping of str to int
        Of each picture, pixels, by the title of its column.
    draw : callable
        (tiles, number of a tile, its prediction, classes) → pictures, one a column.
    """

    widths: dict[str, int]
    draw: Callable[[Tiles, int, NDArray[Any], Classes], Sequence[Image.Image]]


def choose_scenes(losses: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Return the numbers of scenes that are shown: some spread over all, then the others with the largest losses.

    >>> choose_scenes(np.array([0.1, 0.9, 0.2, 0.3, 0.8, np.nan, 0.7, 0.6, 0.5, 0.4]))
    ([0, 2, 5, 7], [1, 4, 6, 8])
    """
    count = min(EACH, len(losses))
    spread = [number * len(losses) // count for number in range(count)]
    ranked = np.argsort(-np.nan_to_num(losses, nan=-np.inf), kind="stable").tolist()
    return spread, [scene for scene in ranked if scene not in spread and np.isfinite(losses[scene])][:EACH]


def render_grid(
    path: Path,
    tiles: Tiles,
    validation: Validation,
    predict: Callable[[Tensor], NDArray[Any]],
    classes: Classes,
    panels: Panels,
) -> None:
    """Render a grid as PNG, a row a scene: spread over all scenes first, then the worst.

    Parameters
    ----------
    path : Path
    tiles : Tiles
    validation : Validation
        Of these.
    predict : callable
        Inputs (N, C, H, W) → predictions, as the panels draw them.
    classes : Classes
    panels : Panels
    """
    spread, worst = choose_scenes(validation.scene_losses)
    scenes = [*spread, *worst]
    shown = [tiles.shown(scene) for scene in scenes]
    predictions = predict(torch.stack([tiles[number][0] for number in shown]))
    lefts = np.cumsum([GAP, *(width + GAP for width in panels.widths.values())]).tolist()
    height = SIDE + GAP + CAPTION
    grid = Image.new("RGB", (lefts[-1], CAPTION + height * len(scenes)), "white")
    pen = ImageDraw.Draw(grid)
    for left, title in zip(lefts, panels.widths, strict=False):
        pen.text((left, 1), title, "black")
    for row, (scene, number, prediction) in enumerate(zip(scenes, shown, predictions, strict=True)):
        top, rank = CAPTION + row * height, "one of the worst, " if row >= len(spread) else ""
        caption = f"{tiles.scenes[scene].id}: {rank}loss {validation.scene_losses[scene]:.4g}"
        pen.text((GAP, top), _plain(caption), "black")
        for left, picture in zip(lefts, panels.draw(tiles, number, prediction, classes), strict=False):
            grid.paste(picture, (left, top + CAPTION))
    with replacing(path) as temporary:
        grid.save(temporary, "PNG")


def _plain(text: str) -> str:
    """Return a text in the characters that Pillow's own font has."""
    return text.encode("ascii", "replace").decode()


def _composite(tiles: Tiles, number: int) -> tuple[Image.Image, NDArray[np.uint8]]:
    """Return the picture of a tile, and its label (h, w)."""
    channels, label = tiles.store.read(tiles.scenes[tiles.places[number][0]], tiles.window(number))
    names = tiles.store.names
    return Image.fromarray(stretch(channels[[names.index(name) for name in quicklook_bands(names)]])), label


def _draw_maps(tiles: Tiles, number: int, prediction: NDArray[Any], classes: Classes) -> Sequence[Image.Image]:
    """Draw a tile, its label, its predicted label indices (H, W) and where they are wrong."""
    picture, label = _composite(tiles, number)
    picture = picture.resize(label.shape[::-1], Image.Resampling.BICUBIC)
    colors = label_palette(classes)
    prediction = np.where(label == IGNORE, IGNORE, prediction)
    errors = Image.blend(picture, Image.new("RGB", picture.size), 0.6).convert("RGBA")
    errors.alpha_composite(Image.fromarray(draw_errors(label, prediction, classes)))
    flat = [Image.fromarray(colors[label]), Image.fromarray(colors[prediction]), errors.convert("RGB")]
    return [
        picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR),
        *(image.resize((SIDE, SIDE), Image.Resampling.NEAREST) for image in flat),
    ]


def _draw_tags(tiles: Tiles, number: int, proba: NDArray[Any], classes: Classes) -> Sequence[Image.Image]:
    """Draw a tile and a list of the tags that are true or predicted, with their probabilities (K,)."""
    picture, _ = _composite(tiles, number)
    tags = tiles.scenes[tiles.places[number][0]].tags or ()
    lines = []
    for index, (name, chance) in enumerate(zip(classes.names, proba.tolist(), strict=True)):
        outcome = {(True, True): "hit", (True, False): "miss", (False, True): "false alarm"}.get(
            (index in tags, chance >= 0.5)
        )
        if outcome is not None:
            lines.append((f"{name} {chance:.2f}, {outcome}", ERROR_COLORS[outcome]))
    room = SIDE // CAPTION
    if len(lines) > room:
        lines = [*lines[: room - 1], (f"{len(lines) - room + 1} more", (0, 0, 0))]
    listed = Image.new("RGB", (TAGS, SIDE), "white")
    pen = ImageDraw.Draw(listed)
    for line, (text, color) in enumerate(lines):
        pen.text((0, CAPTION * line), _plain(text), color)
    return [picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR), listed]


PIXEL_PANELS = Panels(dict.fromkeys(("scene", "label", "prediction", "errors"), SIDE), _draw_maps)
TAG_PANELS = Panels({"scene": SIDE, "tags": TAGS}, _draw_tags)
