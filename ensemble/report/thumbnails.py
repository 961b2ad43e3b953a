"""Small pictures of a scene: the image, its label, each member's map, the final map and its errors."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from data.pages.pictures import Picture, flat, photograph
from data.pages.quicklook import draw_errors, label_palette, richest_window
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene
from data.scenes.windows import Window
from ensemble.decide.decision.cleaning import Masks, no_masks
from ensemble.decide.decision.decision import Decision
from ensemble.maps import MemberMaps
from ensemble.score.evaluation import decide_scene

__all__ = ["Quicklook", "draw_crop", "draw_scene", "draw_thumbnails"]

Quicklook = Callable[[Scene, Window | None], Picture]

CROP = 512
"""Side in pixels of the part that is shown of a larger scene."""


def draw_thumbnails(
    parts: Sequence[tuple[Scene, Decision]],
    maps: MemberMaps,
    classes: Classes,
    quicklook: Quicklook,
    side: int,
    masks: Masks = no_masks,
) -> list[str]:
    """Draw scene, label, each member, the map and its errors; of a large scene the part with most of the rarer labels.

    Parameters
    ----------
    parts : sequence of (Scene, Decision)
        A scene, or the blocks of one, and the decision that makes the map of each.
    maps : MemberMaps
    classes : Classes
    quicklook : callable
        (scene, window) → picture (H, W, 3) uint8.
    side : int
        Most pixels on a side of a picture.
    masks : callable
        Scene → where the condition of each cleaning rule holds.

    Returns
    -------
    pictures : list of str
        Data URIs.
    """
    scene = parts[0][0].whole
    window = richest_window(scene, CROP)
    [label], prediction = maps.label(scene, window), np.full((window.height, window.width), IGNORE, np.uint8)
    for part, decision in parts:
        place = part.place.meet(window)
        if place.height and place.width:
            own = Window(place.row - part.place.row, place.col - part.place.col, place.height, place.width)
            prediction[place.within(window)] = _decide(maps, part, own, decision, masks)
    colors = label_palette(classes)
    return [
        photograph(quicklook(scene, window), side),
        flat(colors[label], side),
        *(photograph(_draw_proba(stored, colors), side) for stored in maps.read(scene, window)),
        flat(colors[prediction], side),
        flat(draw_errors(label, prediction, classes), side),
    ]


def draw_crop(
    scene: Scene,
    window: Window,
    maps: MemberMaps,
    decision: Decision,
    classes: Classes,
    quicklook: Quicklook,
    side: int,
    masks: Masks = no_masks,
) -> list[str]:
    """Draw a part of a scene, its label and the map of it, as data URIs."""
    colors = label_palette(classes)
    return [
        photograph(quicklook(scene, window), side),
        flat(colors[maps.label(scene, window)[0]], side),
        flat(colors[_decide(maps, scene, window, decision, masks)], side),
    ]


def draw_scene(scene: Scene, quicklook: Quicklook, side: int) -> str:
    """Draw all of a scene, alone, as a data URI."""
    return photograph(quicklook(scene, scene.grid.window), side)


def _decide(maps: MemberMaps, scene: Scene, window: Window, decision: Decision, masks: Masks) -> NDArray[np.uint8]:
    """Return the labels that a decision makes of a window; cleaning needs the whole scene."""
    label: NDArray[np.uint8]
    if decision.cleaning.idle:
        [label] = decision.apply(maps.read(scene, window))
        return label
    ((_, _, [label]),) = decide_scene(maps, scene, [decision], masks)
    part: NDArray[np.uint8] = label[window.slices]
    return part


def _draw_proba(stored: NDArray[np.uint16], colors: NDArray[np.uint8]) -> Picture:
    """Draw the most probable class, paler where less certain; binary: from the background's colour to the class's."""
    top = stored.max(axis=0)
    sure = np.where(top == NODATA, 0, top / TOP)[..., None]
    if len(stored) == 1:
        pure, other = colors[1], colors[0]
    else:
        pure, other = colors[stored.argmax(axis=0)], np.full(3, 255)
    picture: Picture = np.rint(sure * pure + (1 - sure) * other).astype(np.uint8)
    picture[top == NODATA] = colors[IGNORE]
    return picture
