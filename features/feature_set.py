"""Compute named features of a scene, the same for the pixel table, the trees' maps and the CNN's channels."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from data.errors import FeatureError
from data.scenes.scene import Scene, read_scene, valid_mask
from data.scenes.windows import Grid, Window, tile_windows
from features.bases import Base, Bases
from features.context import STATISTICS, Surroundings, local_statistics
from features.feature import Feature, parse_feature
from features.scene_facts import SceneFacts, lattice_of, measure_scene

__all__ = ["FeatureSet", "OpenBlock", "OpenScene", "Opened"]

Plane = NDArray[np.float32]

KEPT_BYTES = 2**29
"""Of the features of a large scene that are kept while its blocks are computed, which share them."""

WINDOW_VALUES = 2**26
"""Most values of all bands in a window: of a scene of many bands, such as an embedding, it has fewer pixels."""

WIDTH = 16_384
"""Most pixels along a row of a window."""


class FeatureSet:
    """Features found by name; see `features.feature` for what names there are.

    Parameters
    ----------
    scene_bands : sequence of str
        Bands of the scenes.
    names : sequence of str
        Features wanted, in the order wanted.
    formulas : mapping of str to str, optional
        The user's own, by name.
    block : int
        Pixels on a side of the blocks, counted from the scene's corner, in which context is computed. Every window
        consists of parts of these, so it has the same bits as the whole scene, though sums run on from pixel to pixel.
        A block with all that is made of it also fits into a processor's cache.
    window_pixels : int
        About how many pixels a window of `windows` has.

    Attributes
    ----------
    names : tuple of str
    bands : tuple of str
        The bands that the features need, in the scenes' order.
    halo : int
        Pixels around a window that its features depend on.

    Raises
    ------
    FeatureError
        If a name is no feature of these bands and formulas, or a formula is none.
    """

    def __init__(
        self,
        scene_bands: Sequence[str],
        names: Sequence[str],
        formulas: Mapping[str, str] | None = None,
        *,
        block: int = 256,
        window_pixels: int = 4 * 2**20,
    ) -> None:
        bases = Bases(scene_bands, formulas or {})
        self.block, self.window_pixels = block, window_pixels
        self.scene_bands, self.names, self.formulas = bases.bands, tuple(names), bases.formulas
        self.features = tuple(parse_feature(name, bases) for name in names)
        needed = frozenset[str]().union(*(feature.bands for feature in self.features))
        self.bands = tuple(band for band in scene_bands if band in needed)
        self.halo = max((feature.halo for feature in self.features), default=0)
        self._facts: dict[tuple[str, str], SceneFacts] = {}
        self._whole: OpenScene | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __reduce__(self) -> tuple[Callable[..., "FeatureSet"], tuple[object, ...]]:
        # Compiled formulas cannot be sent to a worker; it compiles them once.
        formulas = tuple(self.formulas.items())
        return _feature_set, (self.scene_bands, self.names, formulas, self.block, self.window_pixels)

    def only(self, names: Collection[str]) -> "FeatureSet":
        """Return those of the features that are named, in order: they have the same bits."""
        kept = tuple(name for name in self.names if name in names)
        if kept == self.names:
            return self
        return FeatureSet(self.scene_bands, kept, self.formulas, block=self.block, window_pixels=self.window_pixels)

    def open(self, scene: Scene) -> "Opened":
        """Return the scene, ready to have its features computed window by window.

        Raises
        ------
        FeatureError
            If it lacks a band.
        """
        if lacking := [band for band in self.bands if band not in scene.bands]:
            raise FeatureError(
                f"scene {scene.id}: expected the bands {', '.join(lacking)}, which features are computed of, got "
                f"{', '.join(scene.bands)}. Name them in scenes.bands as they were when the models learned."
            )
        if scene.block is None:
            return OpenScene(self, scene)
        if self._whole is None or self._whole.scene != scene.whole:
            self._whole = OpenScene(self, scene.whole)
        return OpenBlock(self._whole, scene.block.window)

    def compute(self, scene: Scene, window: Window | None = None) -> Plane:
        """Compute the features of a scene or a window of it; see `OpenScene.compute`."""
        return self.open(scene).compute(window)

    def windows(self, grid: Grid) -> Iterator[Window]:
        """Yield the windows in which features are computed: bands of whole rows, as files are read fastest.

        They bound memory by their size, whatever the scene's, and consist of whole blocks.
        """
        width = min(grid.width, WIDTH)
        pixels = min(self.window_pixels, WINDOW_VALUES // max(len(self.scene_bands), 1))
        height = max(pixels // width // self.block, 1) * self.block
        for row in range(0, grid.height, height):
            for col in range(0, grid.width, width):
                yield Window(row, col, min(height, grid.height - row), min(width, grid.width - col))

    def describe(self) -> list[dict[str, str | int]]:
        """Return name, kind, definition, halo, reference and unit of each feature."""
        return [feature.describe() for feature in self.features]


class OpenScene:
    """A scene whose features are computed; the pixels read last are kept.

    Parameters
    ----------
    feature_set : FeatureSet
    scene : Scene
    """

    def __init__(self, feature_set: FeatureSet, scene: Scene) -> None:
        self.feature_set, self.scene = feature_set, scene
        self._held: Window | None = None
        self._kept: dict[Window, Plane] = {}
        self._pixels = np.empty((0, 0, 0), np.float32)

    @cached_property
    def facts(self) -> SceneFacts:
        """What the features need to know of the scene as a whole; measured once for a scene."""
        known, key = self.feature_set._facts, (self.scene.split, self.scene.id)
        if key not in known:
            needy = [feature for feature in self.feature_set.features if feature.needs_scene]
            known[key] = measure_scene(needy, *self._read_lattice()) if needy else {}
        return known[key]

    def compute(self, window: Window | None = None) -> Plane:
        """Compute the features of a window; the whole scene by default.

        Returns
        -------
        features : (F, height, width) float32
            NaN where a feature has no value; never infinite. The same bits whatever the window.
        """
        window = window or self.scene.grid.window
        out = np.full((len(self.feature_set), window.height, window.width), np.nan, np.float32)
        inner = window.meet(self.scene.grid.window)
        target, facts = out[:, *inner.within(window)], self.facts
        held, planes = self._read(inner)
        rows = np.arange(inner.row, inner.row + inner.height)[:, None]
        cols = np.arange(inner.col, inner.col + inner.width)[None, :]
        bands = {band: plane[inner.within(held)] for band, plane in planes.items()}
        for position, values in self._direct(bands, rows, cols, facts):
            target[position] = values
        for block, position, values in self._context(held, planes, self.blocks(inner)):
            both = block.meet(inner)
            target[position, *both.within(inner)] = values[both.within(block)]
        return out

    def gather(self, window: Window, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Plane:
        """Compute the features of some pixels of a window.

        Parameters
        ----------
        window : Window
        rows, cols : (n,) int
            In the scene; within the window.

        Returns
        -------
        features : (F, n) float32
            The same bits as in `compute`.
        """
        facts = self.facts
        held, planes = self._read(window)
        out = np.empty((len(self.feature_set), len(rows)), np.float32)
        bands = {band: plane[rows - held.row, cols - held.col] for band, plane in planes.items()}
        for position, values in self._direct(bands, rows, cols, facts):
            out[position] = values
        if self.feature_set.halo:
            inside = {block: np.flatnonzero(_inside(block, rows, cols)) for block in self.blocks(window)}
            inside = {block: pixels for block, pixels in inside.items() if len(pixels)}
            for block, position, values in self._context(held, planes, list(inside)):
                pixels = inside[block]
                out[position, pixels] = values[rows[pixels] - block.row, cols[pixels] - block.col]
        return out

    def keep(self, block: Window) -> Plane:
        """Return the features (F, height, width) of a block in which context is computed; the last are kept."""
        if block not in self._kept:
            planes = self.compute(block)
            while self._kept and (len(self._kept) + 1) * planes.nbytes > KEPT_BYTES:
                self._kept.pop(next(iter(self._kept)))
            self._kept[block] = planes
        return self._kept[block]

    def valid(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return where a window of the scene has data, (height, width) bool."""
        window = window or self.scene.grid.window
        valid = np.zeros((window.height, window.width), bool)
        inner = window.meet(self.scene.grid.window)
        held, _ = self._read(inner)
        valid[inner.within(window)] = valid_mask(self.scene, self._pixels[:, *inner.within(held)])
        return valid

    def blocks(self, window: Window) -> list[Window]:
        """Return the blocks that a window within the scene lies in, up to the scene's edge."""
        side = self.feature_set.block
        area = window.cover(side)
        return [
            Window(area.row + block.row, area.col + block.col, side, side).meet(self.scene.grid.window)
            for block in tile_windows(area.height, area.width, side)
        ]

    def _read(self, window: Window) -> tuple[Window, dict[str, Plane]]:
        """Return a window that holds all that another within the scene depends on, and its bands."""
        halo = self.feature_set.halo
        held = window.cover(self.feature_set.block).meet(self.scene.grid.window).grow(halo) if halo else window
        if held != self._held:
            self._pixels = self.read_pixels(held)
            self._held = held
        bands = zip(self.scene.bands, self._pixels, strict=True)
        return held, {band: plane for band, plane in bands if band in self.feature_set.bands}

    def read_pixels(self, window: Window) -> Plane:
        """Read all bands of a window, (C, height, width), NaN where there is no data and outside of the scene."""
        return read_scene(self.scene, window)

    def _read_lattice(self) -> tuple[dict[str, Plane], NDArray[np.bool_]]:
        parts: dict[str, list[Plane]] = defaultdict(list)
        valid = []
        for window in self.feature_set.windows(self.scene.grid):
            held, planes = self._read(window)
            lattice = lattice_of(self.scene.grid, window)
            for band, plane in planes.items():
                parts[band].append(plane[window.within(held)][lattice].ravel())
            valid.append(self.valid(window)[lattice].ravel())
        return {band: np.concatenate(vectors) for band, vectors in parts.items()}, np.concatenate(valid)

    def _direct(
        self, planes: Mapping[str, Plane], rows: NDArray[np.integer], cols: NDArray[np.integer], facts: SceneFacts
    ) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """Yield the features that need no surroundings, by position."""
        values: dict[str, Plane] = {}
        for position, feature in enumerate(self.feature_set.features):
            if feature.operation in STATISTICS:
                continue
            if feature.operation == "share":
                yield position, facts[feature.name]
            elif feature.base is None:
                yield position, _coordinate(self.scene, feature, rows, cols)
            else:
                if feature.base.name not in values:
                    values[feature.base.name] = _evaluate(feature.base, planes)
                base = values[feature.base.name]
                if feature.operation == "above":
                    yield position, base - facts[feature.name]
                elif feature.operation == "rank":
                    yield position, _rank(base, facts[feature.name])
                else:
                    yield position, base

    def _context(
        self, held: Window, planes: Mapping[str, Plane], blocks: Sequence[Window]
    ) -> Iterator[tuple[Window, int, Plane]]:
        """Yield the features that need surroundings, by block and position."""
        halo = self.feature_set.halo
        around: dict[str, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
        bases: dict[str, Base] = {}
        for position, feature in enumerate(self.feature_set.features):
            if feature.operation in STATISTICS and feature.base is not None:
                bases[feature.base.name] = feature.base
                around[feature.base.name][feature.radius][feature.operation] = position
        for name, radii in around.items():
            plane = _evaluate(bases[name], planes)
            for block in blocks:
                surroundings = Surroundings(plane[block.grow(halo).within(held)], halo)
                for radius, positions in radii.items():
                    for statistic, values in local_statistics(surroundings, radius, positions).items():
                        yield block, positions[statistic], values


class OpenBlock:
    """A block whose features are computed: bit for bit those of the scene that it is a part of.

    Parameters
    ----------
    whole : OpenScene
    place : Window
        Of the block in it.
    """

    def __init__(self, whole: OpenScene, place: Window) -> None:
        self.whole, self.place = whole, place

    @property
    def facts(self) -> SceneFacts:
        """What the features need to know of the scene as a whole."""
        return self.whole.facts

    def compute(self, window: Window | None = None) -> Plane:
        """Compute the features of a window, which may reach over the block; see `OpenScene.compute`."""
        area, scene = self._shift(window), self.whole.scene
        if not self.whole.feature_set.halo:
            return self.whole.compute(area)
        out = np.full((len(self.whole.feature_set), area.height, area.width), np.nan, np.float32)
        inner = area.meet(scene.grid.window)
        for block in self.whole.blocks(inner) if inner.height and inner.width else []:
            both = block.meet(inner)
            out[:, *both.within(area)] = self.whole.keep(block)[:, *both.within(block)]
        return out

    def gather(self, window: Window, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Plane:
        """Compute the features of some pixels of a window; see `OpenScene.gather`."""
        if not self.whole.feature_set.halo:
            return self.whole.gather(self._shift(window), rows + self.place.row, cols + self.place.col)
        return np.ascontiguousarray(self.compute(window)[:, rows - window.row, cols - window.col])

    def valid(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return where a window has data, (height, width) bool."""
        return self.whole.valid(self._shift(window))

    def _shift(self, window: Window | None) -> Window:
        return self.place if window is None else window.shift(self.place)


Opened = OpenScene | OpenBlock
"""A scene or a block of one, ready to have its features computed."""


@lru_cache(maxsize=8)
def _feature_set(
    bands: tuple[str, ...], names: tuple[str, ...], formulas: tuple[tuple[str, str], ...], block: int, pixels: int
) -> FeatureSet:
    return FeatureSet(bands, names, dict(formulas), block=block, window_pixels=pixels)


def _inside(window: Window, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> NDArray[np.bool_]:
    below, beside = rows - window.row, cols - window.col
    inside: NDArray[np.bool_] = (below >= 0) & (below < window.height) & (beside >= 0) & (beside < window.width)
    return inside


def _evaluate(base: Base, planes: Mapping[str, Plane]) -> Plane:
    return planes[base.name] if base.kind == "band" else base.formula(planes)


def _rank(values: Plane, quantiles: Plane) -> Plane:
    if np.isnan(quantiles[0]):
        return np.full_like(values, np.nan)
    return np.interp(values, quantiles, np.linspace(0, 1, len(quantiles))).astype(np.float32)


def _coordinate(
    scene: Scene, feature: Feature, rows: NDArray[np.integer], cols: NDArray[np.integer]
) -> NDArray[np.floating]:
    if feature.operation == "row":
        return np.asarray(rows, np.float32)
    if feature.operation == "col":
        return np.asarray(cols, np.float32)
    if scene.grid.transform is None:
        return np.array(np.nan, np.float32)
    a, b, c, d, e, f = scene.grid.transform
    x, y = cols + 0.5, rows + 0.5
    return np.asarray(a * x + b * y + c if feature.operation == "x" else d * x + e * y + f, np.float32)
