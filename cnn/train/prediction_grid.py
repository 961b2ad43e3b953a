"""A sheet of pictures: what scenes look like, what is true, what the network says, and where it is wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from cnn.train.validation import Tiles, Validation
from data.files import replacing
from data.pages.quicklook import draw_errors, label_palette, quicklook_bands, stretch
from data.scenes.classes import IGNORE, Classes

__all__ = ["caption_of", "choose_scenes", "composite", "draw_sheet", "plain"]

EACH = 4
"""Scenes of each kind on a sheet: spread over all, the same ones every time, and the worst."""
SIDE = 192
"""Pixels on a side of a picture."""
GAP = 6
CAPTION = 16
COLUMNS = ("scene", "label", "prediction", "errors")


def choose_scenes(losses: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Return the numbers of scenes that are shown: some spread over all, then the others with the largest losses.

    >>> choose_scenes(np.array([0.1, 0.9, 0.2, 0.3, 0.8, np.nan, 0.7, 0.6, 0.5, 0.4]))
    ([0, 2, 5, 7], [1, 4, 6, 8])
    """
    count = min(EACH, len(losses))
    spread = [number * len(losses) // count for number in range(count)]
    ranked = np.argsort(-np.nan_to_num(losses, nan=-np.inf), kind="stable").tolist()
    return spread, [scene for scene in ranked if scene not in spread and np.isfinite(losses[scene])][:EACH]


def draw_sheet(
    path: Path, tiles: Tiles, found: Validation, predict: Callable[[Tensor], NDArray[np.uint8]], classes: Classes
) -> None:
    """Draw a sheet as PNG, a row a scene: spread over all scenes first, then the worst.

    Parameters
    ----------
    path : Path
    tiles : Tiles
    found : Validation
        Of these.
    predict : callable
        Inputs (N, C, H, W) → label indices (N, H, W).
    classes : Classes
    """
    spread, worst = choose_scenes(found.scene_losses)
    scenes = [*spread, *worst]
    chosen = [tiles.telling(scene) for scene in scenes]
    predictions = predict(torch.stack([tiles[number][0] for number in chosen]))
    cell = SIDE + GAP
    sheet = Image.new("RGB", (GAP + cell * len(COLUMNS), CAPTION + (cell + CAPTION) * len(scenes)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(COLUMNS):
        pen.text((GAP + column * cell, 1), name, "black")
    for row, (scene, prediction) in enumerate(zip(scenes, predictions, strict=True)):
        top = CAPTION + row * (cell + CAPTION)
        pen.text((GAP, top), caption_of(tiles, found, scene, row >= len(spread)), "black")
        pictures = _draw_tile(tiles, chosen[row], prediction, classes)
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (GAP + column * cell, top + CAPTION))
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def caption_of(tiles: Tiles, found: Validation, scene: int, is_worst: bool) -> str:
    """Return what stands above the pictures of a scene."""
    place = "one of the worst, " if is_worst else ""
    return plain(f"{tiles.scenes[scene].id}: {place}loss {found.scene_losses[scene]:.4g}")


def plain(text: str) -> str:
    """Return a text in the characters that Pillow's own font has."""
    return text.encode("ascii", "replace").decode()


def composite(names: Sequence[str], channels: NDArray[np.float32]) -> Image.Image:
    """Draw the channels (C, H, W) of a tile, which have these names."""
    return Image.fromarray(stretch(channels[[names.index(name) for name in quicklook_bands(tuple(names))]]))


def _draw_tile(tiles: Tiles, number: int, prediction: NDArray[np.uint8], classes: Classes) -> Sequence[Image.Image]:
    """Draw a tile in each of the columns."""
    channels, label = tiles.store.read(tiles.scenes[tiles.places[number][0]], tiles.window(number))
    look = composite(tiles.store.names, channels).resize(label.shape[::-1], Image.Resampling.BICUBIC)
    colors = label_palette(classes)
    prediction = np.where(label == IGNORE, IGNORE, prediction)
    errors = Image.blend(look, Image.new("RGB", look.size), 0.6).convert("RGBA")
    errors.alpha_composite(Image.fromarray(draw_errors(label, prediction, classes)))
    flat = [Image.fromarray(colors[label]), Image.fromarray(colors[prediction]), errors.convert("RGB")]
    return [
        look.resize((SIDE, SIDE), Image.Resampling.BILINEAR),
        *(picture.resize((SIDE, SIDE), Image.Resampling.NEAREST) for picture in flat),
    ]
