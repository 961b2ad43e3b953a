"""A sheet of scenes with the tags that they have, and those that the network gives them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from cnn.train.prediction_grid import CAPTION, GAP, SIDE, caption_of, choose_scenes, composite, plain
from cnn.train.validation import Tiles, Validation
from data.files import replacing
from data.pages.quicklook import ERROR_COLORS
from data.scenes.classes import Classes

__all__ = ["draw_tag_sheet"]

WIDTH = 300
"""Pixels of the column of tags."""


def draw_tag_sheet(
    path: Path, tiles: Tiles, found: Validation, predict: Callable[[Tensor], NDArray[Any]], classes: Classes
) -> None:
    """Draw a sheet as PNG, a row a scene: spread over all scenes first, then the worst.

    Beside the first tile of a scene stand the tags that it has, with the probability that the network gives them, and
    those that it has not and is told to have: hits, misses and false alarms in the colours of errors.

    Parameters
    ----------
    path : Path
    tiles : Tiles
    found : Validation
        Of these.
    predict : callable
        Inputs (N, C, H, W) → probabilities (N, K).
    classes : Classes
    """
    spread, worst = choose_scenes(found.scene_losses)
    scenes = [*spread, *worst]
    chosen = [next(k for k, (other, _) in enumerate(tiles.places) if other == scene) for scene in scenes]
    told = predict(torch.stack([tiles[number][0] for number in chosen]))
    row_height = SIDE + GAP + CAPTION
    sheet = Image.new("RGB", (3 * GAP + SIDE + WIDTH, row_height * len(scenes)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (scene, number, proba) in enumerate(zip(scenes, chosen, told, strict=True)):
        top = row * row_height
        pen.text((GAP, top), caption_of(tiles, found, scene, row >= len(spread)), "black")
        channels, _ = tiles.store.read(tiles.scenes[scene], tiles.window(number))
        look = composite(tiles.store.names, channels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        sheet.paste(look, (GAP, top + CAPTION))
        for line, (text, color) in enumerate(_tag_lines(tiles.scenes[scene].tags or (), proba, classes)):
            pen.text((2 * GAP + SIDE, top + CAPTION * (line + 1)), plain(text), color)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def _tag_lines(
    tags: tuple[int, ...], proba: NDArray[np.float32], classes: Classes
) -> list[tuple[str, tuple[int, int, int]]]:
    """Return a line, and its colour, for each tag that a scene has or is told to have; as many as there is room for."""
    lines = []
    for index, (name, chance) in enumerate(zip(classes.names, proba.tolist(), strict=True)):
        kind = {(True, True): "hit", (True, False): "miss", (False, True): "false alarm"}.get(
            (index in tags, chance >= 0.5)
        )
        if kind is not None:
            lines.append((f"{name} {chance:.2f}, {kind}", ERROR_COLORS[kind]))
    room = SIDE // CAPTION
    return lines if len(lines) <= room else [*lines[: room - 1], (f"{len(lines) - room + 1} more", (0, 0, 0))]
