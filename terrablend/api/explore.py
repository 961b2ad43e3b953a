"""A scene of a run as a map that a notebook shows: picture, label, what members say, what the ensemble decides."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.transform import array_bounds
from rasterio.warp import Resampling, reproject, transform_bounds

from data.errors import ExperimentError, SceneError
from data.maps.geotiff import NODATA, TOP
from data.names import list_names
from data.pages.quicklook import draw_errors, label_palette, quicklook_bands, stretch
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import Grid, tile_windows
from ensemble.maps import MemberMaps, open_maps
from ensemble.score.evaluation import decide_scene
from terrablend.run.scene_run import Run

__all__ = ["draw_layers", "explore_scene", "place_on_web_map"]

Layer = NDArray[np.uint8]
"""(H, W, 4) uint8: red, green, blue and opacity."""
WEB, DEGREES = "EPSG:3857", "EPSG:4326"
OPAQUE = 215
"""Opacity of a class that is drawn over a picture."""


def explore_scene(run: Run, scene_id: str, side: int = 1024) -> Any:
    """Return a map widget of a training, val or test scene; see `FinishedRun.explore`."""
    try:
        import folium
    except ImportError as error:
        raise ExperimentError(
            "expected folium for maps in notebooks, which is not installed: pip install 'terrablend[explore]'."
        ) from error
    catalogue, ensemble = run.load_catalogue(), run.load_ensemble()
    scenes = {scene.id: scene for scene in catalogue.scenes}
    if scene_id not in scenes:
        raise SceneError(f"expected a scene among {list_names(scenes)}, got {scene_id}.")
    if catalogue.classes.task == "multilabel":
        raise SceneError(f"scene {scene_id}: expected classes of pixels to draw, got tags of whole scenes.")
    scene = scenes[scene_id]
    step = max(1, math.ceil(max(scene.grid.height, scene.grid.width) / side))
    maps = open_maps({name: run.member_path(name) for name in ensemble.members}, catalogue.classes)
    label = np.full((scene.grid.height, scene.grid.width), IGNORE, np.uint8)
    for _, window, [decided] in decide_scene(maps, scene, [ensemble.decision], run.masks):
        label[window.slices] = decided
    layers = draw_layers(scene, maps, label[::step, ::step], step)
    on_earth = scene.grid.crs is not None and scene.grid.transform is not None
    widget = folium.Map(crs="EPSG3857" if on_earth else "Simple", tiles="OpenStreetMap" if on_earth else None)
    for name, layer in layers.items():
        layer, bounds = place_on_web_map(layer, scene.grid, step)
        shown = name in ("picture", "map")
        folium.raster_layers.ImageOverlay(layer, bounds, name=name, show=shown).add_to(widget)
    folium.LayerControl(collapsed=False).add_to(widget)
    widget.fit_bounds(bounds)
    return widget


def draw_layers(scene: Scene, maps: MemberMaps, decided: NDArray[np.uint8], step: int) -> dict[str, Layer]:
    """Draw every ``step``-th pixel of a scene: picture, label and errors where there is one, members, map.

    Parameters
    ----------
    scene : Scene
    maps : MemberMaps
    decided : (H, W) uint8
        Label indices of every ``step``-th pixel.
    step : int

    Returns
    -------
    layers : dict of str to (H, W, 4) uint8
    """
    classes = maps.classes
    bands = quicklook_bands(scene.bands)
    planes = np.full((3, *decided.shape), np.nan, np.float32)
    stored = np.full((len(maps.names), len(classes.names), *decided.shape), NODATA, np.uint16)
    label = np.full(decided.shape, IGNORE, np.uint8)
    for window, here in _strided(scene.grid, step):
        planes[(slice(None), *here)] = read_scene(scene, window, bands=bands)[:, ::step, ::step]
        stored[(slice(None), slice(None), *here)] = maps.read(scene, window)[..., ::step, ::step]
        if scene.label is not None:
            label[here] = maps.label(scene, window)[0, ::step, ::step]
    opaque = np.where(np.isfinite(planes).any(axis=0), 255, 0).astype(np.uint8)
    layers = {"picture": np.dstack([stretch(planes), opaque])}
    layers |= {name: _paint_proba(proba, classes) for name, proba in zip(maps.names, stored, strict=True)}
    layers["map"] = _paint_labels(decided, classes)
    if scene.label is not None:
        layers["label"] = _paint_labels(label, classes)
        layers["errors"] = draw_errors(label, decided, classes)
    return layers


def place_on_web_map(layer: Layer, grid: Grid, step: int) -> tuple[Layer, list[list[float]]]:
    """Warp a layer to the projection of web maps.

    Returns
    -------
    layer : (H, W, 4) uint8
        As given where the grid says not where on Earth it lies.
    bounds : [[south, west], [north, east]]
        In degrees, else in pixels.
    """
    height, width = layer.shape[:2]
    if grid.crs is None or grid.transform is None:
        return layer, [[0.0, 0.0], [float(height * step), float(width * step)]]
    a, b, c, d, e, f = grid.transform
    source = Affine(a * step, b * step, c, d * step, e * step, f)
    left, bottom, right, top = transform_bounds(grid.crs, WEB, *array_bounds(height, width, source))
    rows = max(1, round(width * (top - bottom) / (right - left)))
    target = Affine((right - left) / width, 0, left, 0, (bottom - top) / rows, top)
    warped = np.zeros((4, rows, width), np.uint8)
    places = {"src_transform": source, "src_crs": grid.crs, "dst_transform": target, "dst_crs": WEB}
    reproject(np.moveaxis(layer, -1, 0).copy(), warped, resampling=Resampling.nearest, **places)
    west, south, east, north = transform_bounds(WEB, DEGREES, left, bottom, right, top)
    return np.moveaxis(warped, 0, -1), [[south, west], [north, east]]


def _strided(grid: Grid, step: int) -> Iterator[tuple[Any, tuple[slice, slice]]]:
    """Yield windows that begin at a ``step``-th pixel, and where theirs lie among every ``step``-th pixel."""
    for window in tile_windows(grid.height, grid.width, step * max(1024 // step, 1)):
        row, col = window.row // step, window.col // step
        yield (
            window,
            (slice(row, row + math.ceil(window.height / step)), slice(col, col + math.ceil(window.width / step))),
        )


def _paint_labels(label: NDArray[np.uint8], classes: Classes) -> Layer:
    """Draw classes in their colours; the background, and where there is none, is transparent."""
    opacity = np.full(256, OPAQUE, np.uint8)
    opacity[len(classes.label_names) :] = 0
    if classes.task == "binary":
        opacity[0] = 0
    return np.dstack([label_palette(classes)[label], opacity[label]])


def _paint_proba(stored: NDArray[np.uint16], classes: Classes) -> Layer:
    """Draw the most probable class, the more transparent the less probable."""
    top = np.where(stored == NODATA, 0, stored).max(axis=0)
    index = np.ones(top.shape, np.uint8) if classes.task == "binary" else stored.argmax(axis=0).astype(np.uint8)
    opacity = np.rint(top / TOP * OPAQUE).astype(np.uint8)
    opacity[(stored == NODATA).all(axis=0)] = 0
    return np.dstack([label_palette(classes)[index], opacity])
