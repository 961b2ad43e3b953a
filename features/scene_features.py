"""Named features of whole scenes: aggregates of the features of their pixels.

``NDVI_mean`` is an aggregate of the index over the scene's pixels, see `features.aggregates`, and so is
``NDVI_std_r3_mean`` of a statistic of the pixels' surroundings: whatever is a feature of pixels can be aggregated, see
`features.feature`. ``water_share`` and ``valid_share`` are of the scene to begin with.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data.errors import FeatureError
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene
from data.scenes.windows import tile_windows
from features.aggregates import Aggregate, Sample, find_aggregate, split_name
from features.bases import Bases
from features.feature import Feature, parse_feature
from features.feature_set import FeatureSet
from features.scene_facts import MOST_PIXELS, lattice_of

__all__ = ["SceneFeature", "SceneFeatureSet", "compute_lattice"]


@dataclass(frozen=True)
class SceneFeature:
    """One column of the table of scenes.

    Parameters
    ----------
    name : str
    pixel : Feature
        What is looked at in each pixel.
    aggregate : Aggregate or None
        What becomes of its values; None of a share, which is of the scene already.
    """

    name: str
    pixel: Feature
    aggregate: Aggregate | None

    def describe(self) -> dict[str, str | int]:
        """Return name, kind, definition, halo, reference and unit."""
        told = self.pixel.describe()
        if self.aggregate is None:
            return told
        definition = self.aggregate.meaning.format(of=self.pixel.name)
        if told["kind"] != "band":
            definition += f"; {self.pixel.name}: {told['definition']}"
        unit = told["unit"] if self.aggregate.has_unit else ""
        return {**told, "name": self.name, "kind": "scene", "definition": definition, "unit": unit}


class SceneFeatureSet:
    """Features of scenes found by name.

    Parameters
    ----------
    scene_bands : sequence of str
        Bands of the scenes.
    names : sequence of str
        Features wanted, in the order wanted.
    formulas : mapping of str to str, optional
        The user's own, by name.
    window : int
        Pixels on a side of the windows in which the features of pixels are held.
    most_pixels : int
        Pixels that are looked at, see `features.scene_facts.lattice_of`.

    Attributes
    ----------
    names : tuple of str

    Raises
    ------
    FeatureError
        If a name is no feature of a scene, or a formula is none.
    """

    def __init__(
        self,
        scene_bands: Sequence[str],
        names: Sequence[str],
        formulas: Mapping[str, str] | None = None,
        *,
        window: int = 512,
        most_pixels: int = MOST_PIXELS,
    ) -> None:
        bases = Bases(scene_bands, formulas or {})
        self.scene_bands, self.names, self.formulas = bases.bands, tuple(names), bases.formulas
        self.features = tuple(_parse(name, bases) for name in names)
        self.window, self.most_pixels = window, most_pixels
        # Each feature of the pixels once, however many aggregates there are of it.
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, feature in enumerate(self.features):
            self._places[feature.pixel.name].append(place)
        self._pixels = FeatureSet(scene_bands, tuple(self._places), formulas)

    def __len__(self) -> int:
        return len(self.names)

    def __reduce__(self) -> tuple[Callable[..., "SceneFeatureSet"], tuple[object, ...]]:
        # Compiled formulas cannot be sent to a worker; it compiles them once.
        formulas = tuple(self.formulas.items())
        return _scene_feature_set, (self.scene_bands, self.names, formulas, self.window, self.most_pixels)

    def compute(self, scene: Scene) -> NDArray[np.float32]:
        """Compute the features of a scene.

        Returns
        -------
        features : (F,) float32
            NaN where a feature has no value, and all of them where no pixel of the scene is valid; never infinite.
        """
        values = compute_lattice(scene, self._pixels, self.window, self.most_pixels)
        found = np.full(len(self), np.nan)
        if values.size:
            for pixels, places in zip(values, self._places.values(), strict=True):
                sample = Sample(pixels)
                for place in places:
                    aggregate = self.features[place].aggregate
                    found[place] = pixels[0] if aggregate is None else aggregate(sample)
        with np.errstate(over="ignore"):
            features = found.astype(np.float32)
        features[~np.isfinite(features)] = np.nan
        return features

    def describe(self) -> list[dict[str, str | int]]:
        """Return name, kind, definition, halo, reference and unit of each feature."""
        return [feature.describe() for feature in self.features]


def compute_lattice(
    scene: Scene, feature_set: FeatureSet, side: int = 512, most_pixels: int = MOST_PIXELS
) -> NDArray[np.float32]:
    """Compute the features (F, n) of a scene's valid pixels, or of a lattice of a large scene's.

    Parameters
    ----------
    scene : Scene
    feature_set : FeatureSet
    side : int
        Pixels on a side of the windows that are held at a time.
    most_pixels : int
        See `features.scene_facts.lattice_of`.
    """
    opened, parts = feature_set.open(scene), []
    with keep_open():
        for window in tile_windows(scene.grid.height, scene.grid.width, side):
            lattice = lattice_of(scene.grid, window, most_pixels)
            parts.append(opened.compute(window)[:, *lattice][:, opened.valid(window)[lattice]])
    return np.concatenate(parts, axis=1)


@lru_cache(maxsize=8)
def _scene_feature_set(
    bands: tuple[str, ...], names: tuple[str, ...], formulas: tuple[tuple[str, str], ...], window: int, pixels: int
) -> SceneFeatureSet:
    return SceneFeatureSet(bands, names, dict(formulas), window=window, most_pixels=pixels)


def _parse(name: str, bases: Bases) -> SceneFeature:
    parts = split_name(name)
    if parts is not None:
        pixel, aggregate = parts
        return SceneFeature(name, parse_feature(pixel, bases), find_aggregate(aggregate))
    feature = parse_feature(name, bases)
    if feature.operation != "share":
        raise FeatureError(
            f"feature {name}: expected a feature of the scene as a whole, got one of its pixels. "
            f"Aggregate it: {name}_mean."
        )
    return SceneFeature(name, feature, None)
